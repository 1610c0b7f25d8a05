//! Our own messages as the room hears them: a proof of what the log has that needs no answer.
//!
//! The n-th message that the room hears from us in a session is the session's n-th, as long as no gap
//! hides one: the numbers are dense and nobody else speaks under our name meanwhile. So when a session
//! is lost, the events up to its end tell which of its unanswered messages arrived.

use roomcast_common::Position;

use crate::update::{Event, EventKind};

/// Counts our own messages among the events.
#[derive(Clone, Debug)]
pub(crate) struct SentTracker {
    phase: Phase,
    /// How many of this session's messages were heard. None: a gap may have hidden some.
    heard: Option<u64>,
    /// Where the last one was heard.
    last: Option<Position>,
    /// The last message that was acknowledged, and where it is.
    acked: Option<(u64, Position)>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// What comes is older than the session, which began here.
    Before(Position),
    /// What comes is of the time of the session.
    Within,
    /// The session is lost; another one began here. What was ours has ended if `closed`.
    After { end: Position, closed: bool },
}

impl SentTracker {
    /// For a client that is in no room yet.
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Within, heard: Some(0), last: None, acked: None }
    }

    /// A new session began at `head`. `in_doubt`: the old one has messages without an answer.
    pub(crate) fn began(&mut self, head: Position, in_doubt: bool) {
        match self.phase {
            // Two sessions lost in a row: nothing was sent in the second one.
            Phase::After { .. } if in_doubt => {}
            _ if in_doubt => self.phase = Phase::After { end: head, closed: false },
            _ => *self = Self { phase: Phase::Before(head), ..Self::new() },
        }
    }

    /// A message is in the log.
    pub(crate) fn acked(&mut self, number: u64, position: Option<Position>) {
        let Some(position) = position else { return };
        self.acked = Some((number, position));
        if self.last == Some(position) {
            self.heard = Some(number);
        }
    }

    /// An event came. The answer is the number of the message of ours that it is, if that is known.
    pub(crate) fn event(&mut self, event: &Event, own_name: &str) -> Option<u64> {
        let at = event.position;
        match self.phase {
            Phase::Before(head) if at.seq < head.seq => return None,
            Phase::Before(_) => self.phase = Phase::Within,
            Phase::After { end, closed } if closed || at.seq >= end.seq => return None,
            Phase::Within | Phase::After { .. } => {}
        }
        if event.username != own_name {
            return None;
        }
        match (&event.what, &mut self.phase) {
            (EventKind::Said(_), _) => {}
            (EventKind::Left(_), Phase::After { closed, .. }) => {
                *closed = true;
                return None;
            }
            _ => return None,
        }
        self.last = Some(at);
        self.heard = match (self.heard, self.acked) {
            (Some(heard), _) => Some(heard + 1),
            (None, Some((number, position))) if position == at => Some(number),
            (None, _) => None,
        };
        self.heard
    }

    /// Events are gone, maybe our own among them.
    pub(crate) fn gap(&mut self) {
        self.lose_count();
    }

    /// What was heard does not fit.
    pub(crate) fn lose_count(&mut self) {
        self.heard = None;
        self.last = None;
    }

    /// Whether a lost session's end has been passed; true once. `last`: how far the application has
    /// been told; `gone`: the log that it was in is gone.
    pub(crate) fn settles(&mut self, last: Option<Position>, gone: bool) -> bool {
        let Phase::After { end, .. } = self.phase else { return false };
        let passed = last.is_some_and(|last| {
            last.seq + 1 == end.seq || (last.epoch == end.epoch && last.seq >= end.seq)
        });
        if passed || gone {
            *self = Self { phase: Phase::Before(end), ..Self::new() };
        }
        passed || gone
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use roomcast_common::Epoch;

    use super::*;
    use crate::update::LeftCause;

    fn at(seq: u64) -> Position {
        Position::new(Epoch(1), seq)
    }

    fn said(seq: u64, who: &str) -> Event {
        let what = EventKind::Said(format!("{seq}"));
        Event { position: at(seq), time: SystemTime::UNIX_EPOCH, username: who.to_owned(), what }
    }

    #[test]
    fn counts_our_own_within_the_session() {
        let mut tracker = SentTracker::new();
        tracker.began(at(10), false);
        let heard = [(8, "bob"), (11, "bob"), (12, "eve"), (13, "bob")]
            .map(|(seq, who)| tracker.event(&said(seq, who), "bob"));
        assert_eq!(heard, [None, Some(1), None, Some(2)]);
        tracker.gap();
        assert_eq!(tracker.event(&said(20, "bob"), "bob"), None);
        // Answers say where we are, whether they come before or after the event.
        tracker.acked(7, Some(at(20)));
        assert_eq!(tracker.event(&said(21, "bob"), "bob"), Some(8));
        tracker.gap();
        tracker.acked(12, Some(at(30)));
        assert_eq!(tracker.event(&said(29, "bob"), "bob"), None);
        assert_eq!(tracker.event(&said(30, "bob"), "bob"), Some(12));
        assert!(!tracker.settles(Some(at(30)), false));
    }

    #[test]
    fn a_lost_session_is_settled_when_its_end_has_been_passed() {
        let mut tracker = SentTracker::new();
        tracker.began(at(10), false);
        assert_eq!(tracker.event(&said(11, "bob"), "bob"), Some(1));
        tracker.began(at(20), true);
        assert!(!tracker.settles(Some(at(11)), false));
        assert_eq!(tracker.event(&said(12, "bob"), "bob"), Some(2));
        let left = Event { what: EventKind::Left(LeftCause::TimedOut), ..said(13, "bob") };
        assert_eq!(tracker.event(&left, "bob"), None);
        assert_eq!(tracker.event(&said(14, "bob"), "bob"), None, "somebody else of that name");
        tracker.began(at(25), true);
        assert!(!tracker.settles(Some(at(18)), false));
        assert!(tracker.settles(Some(at(19)), false));
        assert!(!tracker.settles(Some(at(19)), false), "once");
        assert_eq!(tracker.event(&said(21, "bob"), "bob"), Some(1), "of the new session");
    }

    #[test]
    fn a_log_that_is_gone_settles_nothing_more() {
        let mut tracker = SentTracker::new();
        tracker.began(at(10), false);
        tracker.began(Position::new(Epoch(2), 1), true);
        assert!(!tracker.settles(Some(at(10)), false));
        assert!(tracker.settles(Some(at(10)), true));
    }
}
