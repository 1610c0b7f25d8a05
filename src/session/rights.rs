//! What a stream's client may do, and for how long.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::SessionLimits;
use crate::room::RateLimiter;

/// How long before its token expires a client is told.
const NOTICE: Duration = Duration::from_secs(60);

/// How long after that its stream ends.
const GRACE: Duration = Duration::from_secs(25);

/// What is said to a client whose newer token gives it no right to its room.
pub(super) const NO_ACCESS: &str = "the newer token gives no access to the room";

/// What a stream's client may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// It may be in its room, unless a moderator has said otherwise.
    pub sees: bool,
    /// It may say something, unless a moderator has said otherwise.
    pub speaks: bool,
    /// When its token expires, if it has one.
    pub expires: Option<Instant>,
}

/// What a stream may do, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// What any session may.
    pub limits: &'a SessionLimits,
    /// What its client may.
    pub rights: Rights,
    /// How much all streams of its client's subject may say together on this replica.
    pub user_rate: Option<&'a Mutex<RateLimiter>>,
}

impl Rights {
    /// Of a client that may do all, and for as long as it likes.
    pub const FULL: Self = Self { sees: true, speaks: true, expires: None };

    /// When its client is to be told that its time ends.
    pub(super) fn notice(&self) -> Option<Instant> {
        let expires = self.expires?;
        Some(expires.checked_sub(NOTICE).unwrap_or(expires))
    }

    /// When its stream ends.
    pub(super) fn end(&self) -> Option<Instant> {
        self.expires.map(|expires| expires + GRACE)
    }
}
