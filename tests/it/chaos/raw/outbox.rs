//! Messages on their way.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How many messages wait for their answers.
const INFLIGHT: usize = 16;

/// Messages without an ack, in order, dense from `first`.
#[derive(Default)]
pub(super) struct Outbox {
    /// How many messages of this session are done with.
    done: u64,
    waiting: VecDeque<String>,
    /// How many of them are sent on this stream and not answered.
    sent: usize,
    /// How many more answers come before anything can be sent again, after a nack.
    refused: usize,
    /// Until when nothing is sent, after a nack.
    held: Option<Instant>,
}

impl Outbox {
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < INFLIGHT
    }

    pub(super) fn push(&mut self, content: String) {
        self.waiting.push_back(content);
    }

    /// The next message to send, with its number.
    pub(super) fn to_send(&self) -> Option<(u64, String)> {
        if self.held.is_some() || self.refused > 0 {
            return None;
        }
        let content = self.waiting.get(self.sent)?.clone();
        Some((self.done + self.sent as u64 + 1, content))
    }

    /// It was sent.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// The answer to the first one is that it is in the log; answers what it was.
    pub(super) fn acked(&mut self, client_seq: u64) -> Option<String> {
        if client_seq != self.done + 1 || self.sent == 0 || self.refused > 0 {
            return None;
        }
        self.sent -= 1;
        self.done += 1;
        self.waiting.pop_front()
    }

    /// The answer is that it is not: it and all behind it are sent again when all answers are there.
    /// Whether an answer was awaited.
    pub(super) fn nacked(&mut self, client_seq: u64, retry_after: Option<Duration>) -> bool {
        if self.refused > 0 {
            // Of those behind it.
            self.refused -= 1;
            return true;
        }
        if client_seq != self.done + 1 || self.sent == 0 {
            return false;
        }
        self.refused = self.sent - 1;
        self.sent = 0;
        self.held = Some(Instant::now() + retry_after.unwrap_or(Duration::from_millis(100)));
        true
    }

    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held
    }

    /// The time is over.
    pub(super) fn go_on(&mut self) {
        self.held = None;
    }

    /// On a new stream of the session; so much is in the log. Answers what that is.
    pub(super) fn resume(&mut self, last_client_seq: u64) -> Vec<String> {
        (self.sent, self.refused, self.held) = (0, 0, None);
        let arrived = last_client_seq.saturating_sub(self.done);
        let arrived = usize::try_from(arrived).unwrap_or(usize::MAX).min(self.waiting.len());
        self.done += arrived as u64;
        self.waiting.drain(..arrived).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With these in it, all sent.
    fn outbox(contents: &[&str]) -> Outbox {
        let mut outbox = Outbox::default();
        for content in contents {
            outbox.push((*content).to_owned());
            assert!(outbox.to_send().is_some());
            outbox.sent();
        }
        assert_eq!(outbox.to_send(), None);
        outbox
    }

    #[test]
    fn acks_come_in_order() {
        let mut outbox = outbox(&["a", "b"]);
        assert_eq!(outbox.acked(2), None);
        assert_eq!(outbox.acked(1).as_deref(), Some("a"));
        assert_eq!(outbox.acked(2).as_deref(), Some("b"));
        assert_eq!(outbox.acked(3), None);
    }

    #[test]
    fn what_was_refused_is_sent_again_when_all_answers_are_there() {
        let mut outbox = outbox(&["a", "b", "c"]);
        assert_eq!(outbox.acked(1).as_deref(), Some("a"));
        assert!(outbox.nacked(2, None));
        outbox.go_on();
        assert_eq!(outbox.to_send(), None, "an answer is missing");
        assert_eq!(outbox.acked(2), None, "nothing but a nack may follow");
        assert!(outbox.nacked(3, None));
        assert!(!outbox.nacked(4, None));
        assert_eq!(outbox.to_send(), Some((2, "b".to_owned())));
    }

    #[test]
    fn a_new_stream_begins_behind_what_is_in_the_log() {
        let mut outbox = outbox(&["a", "b", "c"]);
        assert_eq!(outbox.resume(2), ["a", "b"]);
        assert_eq!(outbox.to_send(), Some((3, "c".to_owned())));
        assert_eq!(outbox.resume(2), [""; 0]);
    }
}
