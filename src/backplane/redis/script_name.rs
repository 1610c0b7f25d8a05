//! Which Lua script is meant.

/// One of the scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ScriptName {
    Append,
    Join,
    Leave,
    Extend,
    Renew,
    Overdue,
    Reap,
    Linger,
    Read,
    Lookup,
    Members,
    Owe,
    Contact,
    Canary,
    Trial,
}

impl ScriptName {
    /// The keys that it takes first, where these are not the common ones: it leaves the log alone, and its
    /// reply does not begin with where that stands.
    pub(super) fn own_keys(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Read => Some(&["meta", "log"]),
            Self::Lookup | Self::Members => Some(&["roster"]),
            Self::Owe => Some(&[]),
            Self::Append
            | Self::Join
            | Self::Leave
            | Self::Extend
            | Self::Renew
            | Self::Overdue
            | Self::Reap
            | Self::Linger
            | Self::Contact
            | Self::Canary
            | Self::Trial => None,
        }
    }

    /// Whether it leaves the log alone.
    pub(super) fn is_apart(self) -> bool {
        self.own_keys().is_some()
    }
}
