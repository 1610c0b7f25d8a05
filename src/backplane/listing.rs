//! Which rooms there are, and how they stand.

use jiff::Timestamp;

use super::Unavailable;
use crate::domain::{Head, RoomName};

/// The most rooms in one call of [`super::Backplane::room_names`], and of [`super::Backplane::summaries`].
pub const LIST_BATCH: usize = 1000;

/// Which rooms to list.
#[derive(Clone, Copy, Debug)]
pub struct ListPage<'a> {
    /// What their names begin with.
    pub prefix: &'a str,
    /// Where to go on: [`RoomNames::next`]. `None`: from the beginning. Anything may come back from a client.
    pub from: Option<&'a str>,
    /// How many at the most; at least 1, and no more than [`LIST_BATCH`].
    pub limit: usize,
}

/// Names of rooms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomNames {
    /// Some names, in no order. Some may be of rooms that were forgotten.
    pub names: Vec<RoomName>,
    /// Where the next page begins, in printable ASCII; `None` when this is the last one.
    pub next: Option<String>,
}

/// Why nothing was listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListError {
    /// What came as [`ListPage::from`] is none that a page gave.
    #[error("no place in a list")]
    Place,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// How a room stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomSummary {
    /// How many members it has; those whose replica is lost count until they are told to have left.
    pub members: usize,
    /// Where its log ends.
    pub head: Head,
    /// When the last event was appended, if the log still has it.
    pub last_activity: Option<Timestamp>,
}

/// What the deletion of a room came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletion {
    /// It is gone, with its log.
    Deleted,
    /// It is not there.
    NotThere,
    /// It has so many members, and nothing was changed.
    Occupied(usize),
}
