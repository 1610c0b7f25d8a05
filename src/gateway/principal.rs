//! Who asks, and what that allows.

use http::HeaderMap;

use super::status::Outcome;
use crate::domain::RoomName;

/// Whoever a stream or a call is from. Every join and every unary call about a room passes through [`Principal::may`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Principal {
    /// Somebody who shows nothing, as all do: what is served, anybody may ask for.
    Anonymous,
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
    /// Of a request with these headers.
    pub(super) fn of(_: &HeaderMap) -> Self {
        Self::Anonymous
    }

    /// Whether this may be done in a room.
    #[expect(clippy::unnecessary_wraps, reason = "that anonymous clients may do all is no promise")]
    pub(super) fn may(self, action: Action, _: &RoomName) -> Result<(), Outcome> {
        match (self, action) {
            (Self::Anonymous, Action::Join | Action::ListMembers | Action::ListEvents) => Ok(()),
        }
    }
}
