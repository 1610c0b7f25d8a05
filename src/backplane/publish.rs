//! Messages of services, which are no members.

use std::{fmt, sync::Arc, time::Duration};

use super::Unavailable;
use crate::domain::{Event, Position, RoomName, Username};

/// How long an idempotency key is known, at least.
pub const KEY_LIFETIME: Duration = Duration::from_secs(600);

/// What [`super::Backplane::publish`] needs.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The room. One that is not there begins.
    pub room: RoomName,
    /// The name that the message comes under, refused while a member has it. `None`: the server's own.
    pub name: Option<Username>,
    /// The message, as `said`.
    pub event: Arc<Event>,
    /// By which a repetition is known.
    pub key: Option<IdempotencyKey>,
}

/// A key that stands for one message in one room: whoever publishes under it again appends nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: Arc<str>,
    digest: [u8; 16],
}

impl IdempotencyKey {
    /// A key for a message with this digest of all that its sender chose. A message with another digest is refused
    /// under it.
    pub fn new(key: &str, digest: [u8; 16]) -> Self {
        Self { key: Arc::from(key), digest }
    }

    /// The key as it was given.
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// The same, shared.
    pub fn shared(&self) -> Arc<str> {
        self.key.clone()
    }

    /// What tells messages apart.
    pub fn digest(&self) -> &[u8; 16] {
        &self.digest
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// What a publish came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Where the message is, as it was written.
    pub position: Position,
    /// It had been appended before, under the same key.
    pub duplicate: bool,
}

/// Why nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PublishError {
    /// A member has the name.
    #[error("the name is a member's")]
    NameTaken,
    /// The key stands for another message.
    #[error("the key stands for another message")]
    KeyReused,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
