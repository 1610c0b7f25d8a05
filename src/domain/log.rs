//! What a room's log looks like from outside.

use std::sync::Arc;

use super::{Event, Position};

/// How many earlier epochs a log remembers. A reader that missed more changes than that is told
/// that the log is gone, and reads it anew.
pub const PAST_EPOCHS: usize = 64;

/// Where a room's log ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The position of the last event; seq 0 when there is none.
    pub position: Position,
    /// The last good positions of the epochs from which the log went on, the latest last,
    /// at most [`PAST_EPOCHS`]. Their sequence numbers do not fall.
    pub past: Vec<Position>,
}

impl Head {
    /// Where the event with this sequence number is: under the epoch in which it was written, which is what
    /// everybody is told of it, however often the log has gone over to another epoch since.
    pub fn written_at(&self, seq: u64) -> Position {
        let epoch = self.past.iter().find(|end| seq <= end.seq).unwrap_or(&self.position).epoch;
        Position::new(epoch, seq)
    }

    /// Where the last event is, under the epoch in which it was written.
    pub fn last(&self) -> Position {
        self.written_at(self.position.seq)
    }

    /// Whether an event at `position` is part of this log.
    pub fn includes(&self, position: Position) -> bool {
        let good = |end: Position| end.epoch == position.epoch && position.seq <= end.seq;
        good(self.position) || self.past.iter().copied().any(good)
    }
}

/// A part of a room's log.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<E = Arc<Event>> {
    /// Where the log ended at that moment. `None` when there is no log.
    pub head: Option<Head>,
    /// Sequence numbers and events, in order; dense, except that the log may
    /// no longer have the first ones that were asked for.
    pub events: Vec<(u64, E)>,
}
