//! Who asks, and what that allows.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use roomcast_auth::Role;
use tokio::time::Instant;

use super::status::Outcome;
use crate::{
    domain::{RoomName, Username},
    session::Rights,
};

/// Whoever a stream or a call is from. Every join and every unary call about a room passes through [`Principal::may`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Principal {
    /// Somebody of whom nothing is asked: what is served, anybody may ask for.
    Anonymous,
    /// Who has shown a good token.
    Bearer(Arc<Bearer>),
    /// A backend, which has shown the key for everything.
    Backend,
}

/// Who has shown a token, and what it says.
#[derive(PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) token: roomcast_auth::Principal,
    /// The role in rooms that it does not name.
    pub(super) default_role: Option<Role>,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// To be a member.
    Join,
    /// Who the members are.
    ListMembers,
    /// What happened.
    ListEvents,
}

impl Principal {
    /// Whether this may be done in a room: whoever may read there may do all of it.
    pub(super) fn may(&self, action: Action, room: &RoomName) -> Result<(), Outcome> {
        match (self.role(room), action) {
            (Some(_), Action::Join | Action::ListMembers | Action::ListEvents) => Ok(()),
            (None, _) => Err(Outcome::NoAccess(room.clone())),
        }
    }

    /// Whether it may go by this name.
    pub(super) fn may_be_called(&self, name: &Username) -> Result<(), Outcome> {
        match self {
            Self::Bearer(bearer) => match &bearer.token.name {
                Some(own) if own != name.display().as_str() => Err(Outcome::OtherName(own.clone())),
                _ => Ok(()),
            },
            Self::Anonymous | Self::Backend => Ok(()),
        }
    }

    /// What its stream in a room may do, and for how long.
    pub(super) fn rights(&self, room: &RoomName) -> Rights {
        let Self::Bearer(bearer) = self else { return Rights::FULL };
        let left = bearer.token.expires_at.duration_since(Timestamp::now());
        let (now, time) = (Instant::now(), left.unsigned_abs());
        let expires = if left.is_negative() {
            // By less than clocks may differ.
            Some(now.checked_sub(time).unwrap_or(now))
        } else {
            // In many years is never.
            now.checked_add(time)
        };
        Rights { speaks: self.role(room) >= Some(Role::Member), expires }
    }

    /// Who it is, wherever it comes from.
    pub(super) fn subject(&self) -> Option<&str> {
        match self {
            Self::Bearer(bearer) => Some(&bearer.token.sub),
            Self::Anonymous | Self::Backend => None,
        }
    }

    fn role(&self, room: &RoomName) -> Option<Role> {
        match self {
            Self::Bearer(bearer) => bearer.token.role_in(room.as_str(), bearer.default_role),
            Self::Anonymous => Some(Role::Member),
            Self::Backend => Some(Role::Owner),
        }
    }
}
