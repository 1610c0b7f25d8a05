//! Who asks, and what that allows.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use roomcast_auth::Role;
use tokio::time::Instant;

use super::status::{AdminRefusal, Denial, Outcome};
use crate::{
    backplane::Standing,
    domain::{Identity, RoomName, RoomRole, Username},
    session::Rights,
};

/// What is said to whoever calls what only backends and admins may, without being anybody.
const NO_CREDENTIALS: &str = "this takes the key of backends (api.key), or the token of an admin";

/// Whoever a stream or a call is from. What it may in a room is judged by the backplane when it
/// joins, and by [`Principal::may`] for calls.
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

impl Bearer {
    fn identity(&self) -> Identity {
        Identity::Subject(Arc::from(&*self.token.sub))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Who the members are.
    ListMembers,
    /// What happened.
    ListEvents,
    /// To put somebody out, and the like.
    Moderate,
    /// To make moderators.
    SetRole,
}

impl Principal {
    /// Whether this may be done in a room by somebody who stands so there.
    pub(super) fn may(
        &self,
        action: Action,
        room: &RoomName,
        standing: &Standing,
    ) -> Result<(), Outcome> {
        if let Some(until) = standing.banned {
            return Err(Outcome::Denied(Denial::Banned(until)));
        }
        let role = standing.role.unwrap_or_else(|| self.role(room));
        let needed = match action {
            Action::ListMembers | Action::ListEvents => RoomRole::Reader,
            Action::Moderate => RoomRole::Moderator,
            Action::SetRole => RoomRole::Owner,
        };
        if role == RoomRole::None {
            return Err(Outcome::Denied(Denial::NoAccess(room.clone())));
        }
        if role < needed {
            return Err(Outcome::Denied(Denial::NeedsRole(needed, room.clone())));
        }
        let hidden = action == Action::ListEvents && standing.settings.history_hidden;
        if hidden && role < RoomRole::Moderator {
            return Err(Outcome::Denied(Denial::HistoryHidden(room.clone())));
        }
        Ok(())
    }

    /// Of whom moderators decide something that concerns it, under this name; nobody's for backends.
    pub(super) fn identity(&self, name: &Username) -> Option<Identity> {
        match self {
            Self::Anonymous => Some(Identity::Name(name.skeleton().into())),
            Self::Bearer(bearer) => Some(bearer.identity()),
            Self::Backend => None,
        }
    }

    /// The same where no name is given.
    pub(super) fn nameless_identity(&self) -> Option<Identity> {
        match self {
            Self::Bearer(bearer) => Some(bearer.identity()),
            Self::Anonymous | Self::Backend => None,
        }
    }

    /// When its token was issued, if it says so.
    pub(super) fn issued_at(&self) -> Option<Timestamp> {
        match self {
            Self::Bearer(bearer) => bearer.token.issued_at,
            Self::Anonymous | Self::Backend => None,
        }
    }

    /// What others are told of who did something.
    pub(super) fn shown_as(&self) -> &str {
        match self {
            Self::Backend => Username::SYSTEM,
            Self::Bearer(bearer) => bearer.token.name.as_deref().unwrap_or("a moderator"),
            Self::Anonymous => "",
        }
    }

    /// Whether it may do what concerns all rooms, or is no member's to do.
    pub(super) fn may_administer(&self) -> Result<(), Outcome> {
        match self {
            Self::Backend => Ok(()),
            Self::Bearer(bearer) if bearer.token.admin => Ok(()),
            Self::Bearer(_) => Err(Outcome::Admin(AdminRefusal::NotAdmin)),
            Self::Anonymous => Err(Outcome::Unauthenticated(NO_CREDENTIALS.to_owned())),
        }
    }

    /// Whether it may go by this name.
    pub(super) fn may_be_called(&self, name: &Username) -> Result<(), Outcome> {
        match self {
            Self::Bearer(bearer) => match &bearer.token.name {
                Some(own) if own != name.display().as_str() => {
                    Err(Outcome::Denied(Denial::OtherName(own.clone())))
                }
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
        let role = self.role(room);
        Rights { sees: role > RoomRole::None, speaks: role >= RoomRole::Member, expires }
    }

    /// Who it is, wherever it comes from.
    pub(super) fn subject(&self) -> Option<&str> {
        match self {
            Self::Bearer(bearer) => Some(&bearer.token.sub),
            Self::Anonymous | Self::Backend => None,
        }
    }

    /// The role in a room, unless another was set for it there.
    pub(super) fn role(&self, room: &RoomName) -> RoomRole {
        match self {
            Self::Bearer(bearer) => {
                match bearer.token.role_in(room.as_str(), bearer.default_role) {
                    None => RoomRole::None,
                    Some(Role::Reader) => RoomRole::Reader,
                    Some(Role::Member) => RoomRole::Member,
                    Some(Role::Moderator) => RoomRole::Moderator,
                    Some(Role::Owner) => RoomRole::Owner,
                }
            }
            Self::Anonymous => RoomRole::Member,
            Self::Backend => RoomRole::Owner,
        }
    }
}
