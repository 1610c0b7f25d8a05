//! What a client wants.

use std::time::Duration;

/// What a client wants. Begin with [`Options::new`] and change what has to be different.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The room, 1 to 64 characters of `A-Z a-z 0-9 . _ -`; empty for `lobby`.
    pub room: String,
    /// The name to speak under.
    pub username: String,
    /// How many past events come first, the client's own `Joined` after them. 0 (the default): only
    /// what is new comes. The server bounds it.
    pub history: u32,
    /// How long the server shall keep the session while the client is out of reach; the server bounds
    /// it. None (the default): the server's choice.
    pub linger: Option<Duration>,
    /// How long coming in is tried when the server cannot be reached, or will not have anybody now.
    /// Zero: each address once. None (the default): as long as `give_up_after` says.
    pub join_within: Option<Duration>,
    /// How long coming back is tried. None (the default): for ever.
    pub give_up_after: Option<Duration>,
}

impl Options {
    /// Of this room, under this name, with defaults for the rest.
    pub fn new(room: impl Into<String>, username: impl Into<String>) -> Self {
        Self {
            room: room.into(),
            username: username.into(),
            history: 0,
            linger: None,
            join_within: None,
            give_up_after: None,
        }
    }
}
