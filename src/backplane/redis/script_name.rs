//! Which Lua script is meant.

use super::keys::Keys;
use crate::domain::RoomName;

/// One of the scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ScriptName {
    Append,
    Join,
    Leave,
    Linger,
    Check,
    Heads,
    Renew,
    Overdue,
    Survey,
    Reap,
    Bury,
    Read,
    Lookup,
    Members,
    Owe,
    Decide,
    Enforce,
    Standing,
    Bans,
    Direct,
    Directives,
    Contact,
    Canary,
    Trial,
    Partitions,
    Publish,
    Rooms,
    Summaries,
    Delete,
}

impl ScriptName {
    /// The keys that it takes first, where these are not the common ones: then its reply does not begin with
    /// where the log stands.
    pub(super) fn own_keys(self, keys: &Keys, room: &RoomName) -> Option<Vec<String>> {
        match self {
            Self::Read => Some(vec![keys.room(room), keys.log(room)]),
            Self::Lookup | Self::Members => Some(vec![keys.room(room)]),
            Self::Owe => Some(Vec::new()),
            Self::Decide | Self::Standing | Self::Bans => Some(vec![keys.decided(room)]),
            Self::Delete => {
                Some(vec![keys.rooms(keys.partition(room)), keys.room(room), keys.log(room)])
            }
            Self::Append
            | Self::Join
            | Self::Leave
            | Self::Linger
            | Self::Check
            | Self::Heads
            | Self::Renew
            | Self::Overdue
            | Self::Survey
            | Self::Reap
            | Self::Bury
            | Self::Enforce
            | Self::Direct
            | Self::Directives
            | Self::Contact
            | Self::Canary
            | Self::Trial
            | Self::Partitions
            | Self::Publish
            | Self::Rooms
            | Self::Summaries => None,
        }
    }

    /// Whether it is about a partition and takes what `log.lua` needs.
    pub(super) fn changes_logs(self) -> bool {
        matches!(self, Self::Heads | Self::Reap)
    }

    /// Whether its reply does not begin with where the log stands.
    pub(super) fn is_apart(self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::Lookup
                | Self::Members
                | Self::Owe
                | Self::Decide
                | Self::Standing
                | Self::Bans
                | Self::Delete
        )
    }
}
