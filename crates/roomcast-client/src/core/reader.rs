//! Where in the room's log the application is: each event once, in order, none missing in silence.

use roomcast_common::Position;

use super::Violation;
use crate::update::Gap;

/// How far the application has been told, over all streams and sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    /// What a new stream shall go on after. None: nothing came yet of the past that was asked for.
    last: Option<Position>,
    /// Where the room was when we first came in.
    start: Option<Position>,
    /// How many past events were asked for then.
    past: u32,
    /// Our own coming in, which the server may leave out.
    own: Option<Position>,
    /// A gap was told and no event came since.
    gap: Option<Gap>,
}

/// What to do with an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Tell,
    /// The application has it already, or never asked for it.
    Drop,
}

/// What of the past to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartFrom {
    Nothing,
    Latest(u32),
    After(Position),
}

impl Reader {
    /// A reader of a room, and of so many past events.
    pub(crate) fn new(past: u32) -> Self {
        Self { past, ..Self::default() }
    }

    /// What to ask for next.
    pub(crate) fn since(&self) -> StartFrom {
        match (self.last, self.start) {
            (Some(last), _) => StartFrom::After(last),
            // The stream broke before anything came. What was asked for ends with our coming in, at
            // `start`; asking for the latest again would miss what is new when that is more.
            (None, Some(start)) => {
                let before = start.seq.saturating_sub(u64::from(self.past) + 1);
                StartFrom::After(Position::new(start.epoch, before))
            }
            (None, None) if self.past == 0 => StartFrom::Nothing,
            (None, None) => StartFrom::Latest(self.past),
        }
    }

    /// A stream began. `latest` is the server's bound on past events.
    pub(crate) fn welcomed(&mut self, head: Position, resumed: bool, latest: u32) {
        if !resumed {
            self.own = Some(head);
        }
        if self.start.is_none() {
            self.start = Some(head);
            if self.past == 0 {
                self.last = Some(head);
            }
            if latest > 0 {
                self.past = self.past.min(latest);
            }
        }
    }

    /// Where the room was when we first came in.
    pub(crate) fn start(&self) -> Option<Position> {
        self.start
    }

    /// How far the application has been told.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last
    }

    /// An event came.
    pub(crate) fn event(&mut self, at: Position) -> Result<Verdict, Violation> {
        let Some(last) = self.last else {
            return Ok(self.accept(at));
        };
        if at.epoch == last.epoch && at.seq <= last.seq {
            return Ok(Verdict::Drop);
        }
        let next = last.seq + 1;
        let over_own = || at.seq == next + 1 && self.own.is_some_and(|own| own.seq == next);
        let after_gap = || match self.gap {
            Some(Gap::Everything) => at.epoch != last.epoch,
            Some(Gap::Range { to, .. }) => at.epoch != to.epoch || at.seq == to.seq + 1,
            None => false,
        };
        if at.seq == next || over_own() || after_gap() {
            return Ok(self.accept(at));
        }
        Err(Violation(format!("event {at} came after {last}, and no gap was told")))
    }

    fn accept(&mut self, at: Position) -> Verdict {
        self.last = Some(at);
        self.gap = None;
        Verdict::Tell
    }

    /// A gap was told.
    pub(crate) fn gap(&mut self, gap: Gap) -> Verdict {
        if self.gap == Some(gap) {
            return Verdict::Drop;
        }
        match (gap, self.last) {
            // The past that was asked for reaches further back than the log: that is no loss.
            (Gap::Range { to, .. }, None) if self.start.is_none_or(|start| to.seq <= start.seq) => {
                return Verdict::Drop;
            }
            // The log was rolled back behind what we have: it goes on from where they part.
            (Gap::Range { from, .. }, Some(last)) if from.seq <= last.seq => {
                self.last = Some(Position::new(from.epoch, from.seq.saturating_sub(1)));
            }
            (Gap::Range { to, .. }, _) => self.last = Some(to),
            (Gap::Everything, _) => {}
        }
        self.gap = Some(gap);
        Verdict::Tell
    }
}

#[cfg(test)]
mod tests {
    use roomcast_common::Epoch;

    use super::*;

    fn at(epoch: u64, seq: u64) -> Position {
        Position::new(Epoch(epoch), seq)
    }

    fn range(epoch: u64, from: u64, to: u64) -> Gap {
        Gap::Range { from: at(epoch, from), to: at(epoch, to) }
    }

    fn reader(head: u64) -> Reader {
        let mut reader = Reader::new(0);
        reader.welcomed(at(1, head), false, 500);
        reader
    }

    #[test]
    fn each_event_is_told_once_and_none_is_missing() {
        let mut reader = reader(10);
        assert_eq!(reader.event(at(1, 11)), Ok(Verdict::Tell));
        for seq in [1, 10, 11] {
            assert_eq!(reader.event(at(1, seq)), Ok(Verdict::Drop));
        }
        assert!(reader.event(at(1, 13)).is_err());
        assert_eq!(reader.since(), StartFrom::After(at(1, 11)));
        // A failover that lost nothing goes on in another epoch.
        assert_eq!(reader.event(at(2, 12)), Ok(Verdict::Tell));
        assert!(reader.event(at(3, 14)).is_err());
        assert!(reader.event(at(3, 1)).is_err());
        assert_eq!(reader.since(), StartFrom::After(at(2, 12)));
    }

    #[test]
    fn what_is_told_as_a_gap_may_be_missing() {
        let mut trimmed = reader(10);
        assert_eq!(trimmed.gap(range(1, 11, 20)), Verdict::Tell);
        assert_eq!(trimmed.since(), StartFrom::After(at(1, 20)));
        assert_eq!(trimmed.gap(range(1, 11, 20)), Verdict::Drop);
        assert!(trimmed.event(at(1, 22)).is_err());
        assert_eq!(trimmed.event(at(1, 21)), Ok(Verdict::Tell));

        // The log lost 9 and 10, which we had, and gives those places to others.
        let mut rolled_back = reader(10);
        assert_eq!(rolled_back.gap(range(1, 9, 10)), Verdict::Tell);
        assert_eq!(rolled_back.since(), StartFrom::After(at(1, 8)));
        assert_eq!(rolled_back.event(at(2, 9)), Ok(Verdict::Tell));
        assert_eq!(rolled_back.event(at(2, 10)), Ok(Verdict::Tell));
        assert_eq!(rolled_back.since(), StartFrom::After(at(2, 10)));

        let mut emptied = reader(10);
        assert_eq!(emptied.gap(Gap::Everything), Verdict::Tell);
        assert_eq!(emptied.gap(Gap::Everything), Verdict::Drop);
        assert_eq!(emptied.event(at(2, 1)), Ok(Verdict::Tell));
        assert_eq!(emptied.event(at(2, 2)), Ok(Verdict::Tell));
        assert_eq!(emptied.gap(Gap::Everything), Verdict::Tell, "it happened again");
    }

    #[test]
    fn the_past_that_was_asked_for_ends_with_our_coming_in() {
        let mut reader = Reader::new(5);
        assert_eq!(reader.since(), StartFrom::Latest(5));
        reader.welcomed(at(1, 20), false, 3);
        // Nothing came: the same again, by position.
        assert_eq!(reader.since(), StartFrom::After(at(1, 16)));
        assert_eq!(reader.gap(range(1, 17, 18)), Verdict::Drop, "older than the log");
        assert_eq!(reader.event(at(1, 19)), Ok(Verdict::Tell));
        assert_eq!(reader.event(at(1, 20)), Ok(Verdict::Tell));
        assert_eq!(reader.event(at(1, 21)), Ok(Verdict::Tell));
    }

    #[test]
    fn our_own_coming_in_may_be_left_out_after_a_lost_session() {
        let mut reader = reader(10);
        reader.welcomed(at(1, 13), false, 500);
        assert_eq!(reader.since(), StartFrom::After(at(1, 10)));
        assert_eq!(reader.event(at(1, 11)), Ok(Verdict::Tell));
        assert_eq!(reader.event(at(1, 12)), Ok(Verdict::Tell));
        let mut with = reader.clone();
        assert_eq!(with.event(at(1, 13)), Ok(Verdict::Tell));
        assert_eq!(reader.event(at(1, 14)), Ok(Verdict::Tell));
        assert_eq!(reader.event(at(1, 13)), Ok(Verdict::Drop));
        assert!(reader.event(at(1, 16)).is_err());
    }
}
