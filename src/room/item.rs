//! What a room's readers are given, in order.

use crate::domain::Position;

/// One step of a room's sequence.
#[derive(Clone, PartialEq, Debug)]
pub enum Item<E> {
    /// An event.
    Event(Position, E),
    /// Events that were, and are gone.
    Lost(Lost),
}

/// What is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Positions of one epoch, both ends included: fallen out of the log before
    /// they could be read, or seen here but rolled back by a failover.
    Range {
        /// The first lost one.
        from: Position,
        /// The last lost one.
        to: Position,
    },
    /// The whole log, and with it whatever may have come after this position.
    Log {
        /// The last position that was passed on.
        after: Position,
    },
}
