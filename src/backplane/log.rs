//! How much of a room's log is kept, and read at once.

use std::time::Duration;

/// How much of a log is read at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLimit {
    /// The most events.
    pub events: usize,
    /// About the most bytes of encoded events; at least one event is read.
    pub bytes: usize,
}

/// The bounds of a room's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// About how many events it keeps.
    pub length: usize,
    /// About how many bytes of events.
    pub bytes: usize,
    /// About how long it keeps them; also how long an empty room is remembered, unless nothing was said in it.
    pub age: Duration,
}
