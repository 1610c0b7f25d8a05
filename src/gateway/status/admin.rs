//! What calls of `AdminService` are refused for, beside what others are: a part of the table of statuses.

use tonic::Code;

use super::Remedy::{self, Stop, TryAgain, TryAnother};
use crate::{
    backplane::DirectError, domain::RoomName, hub::WatchError, metrics::Refusal,
    proto::room::ErrorReason,
};

/// Why a call of `AdminService` fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum AdminRefusal {
    /// It is for backends and admins.
    NotAdmin,
    /// A field is not allowed; says which and why.
    Invalid(String),
    /// A member of the room has the name that a service gave.
    NameOfMember(String),
    /// The idempotency key stands for another message.
    KeyReused,
    /// There is no such room.
    NoRoom(RoomName),
    /// The room has so many members.
    NotEmpty(usize),
    /// There are as many revocations as there may be.
    TooManyDirectives,
    /// There are as many watchers, or watched rooms, as may be.
    Watch(WatchError),
}

impl AdminRefusal {
    pub(super) fn code_and_message(&self) -> (Code, String) {
        match self {
            Self::NotAdmin => {
                (Code::PermissionDenied, "only backends and admins may do this".into())
            }
            Self::Invalid(why) => (Code::InvalidArgument, why.clone()),
            Self::NameOfMember(name) => {
                (Code::AlreadyExists, format!("a member of the room has the name \"{name}\""))
            }
            Self::KeyReused => (
                Code::InvalidArgument,
                "idempotency_key stands for another message in this room; take a new one".into(),
            ),
            Self::NoRoom(room) => (Code::NotFound, format!("there is no room \"{room}\"")),
            Self::Watch(WatchError::TooManyWatchers { max }) => (
                Code::ResourceExhausted,
                format!("this replica has {max} watchers (limits.watchers); try another one"),
            ),
            Self::Watch(WatchError::TooManyRooms { max }) => (
                Code::ResourceExhausted,
                format!(
                    "this replica has {max} rooms to watch (limits.watched_rooms, limits.rooms); try another one"
                ),
            ),
            Self::NotEmpty(members) => (
                Code::FailedPrecondition,
                format!("the room has {members} members; delete it once they have left"),
            ),
            Self::TooManyDirectives => (Code::ResourceExhausted, DirectError::Full.to_string()),
        }
    }

    pub(super) fn reason(&self) -> (ErrorReason, Remedy) {
        match self {
            Self::NotAdmin => (ErrorReason::Forbidden, Stop),
            Self::Invalid(_) => (ErrorReason::InvalidMessage, Stop),
            Self::NameOfMember(_) => (ErrorReason::NameTaken, Stop),
            Self::KeyReused => (ErrorReason::IdempotencyKeyReused, Stop),
            Self::NoRoom(_) => (ErrorReason::RoomNotFound, Stop),
            Self::NotEmpty(_) => (ErrorReason::RoomNotEmpty, TryAgain),
            Self::TooManyDirectives => (ErrorReason::TooManyDecisions, Stop),
            Self::Watch(WatchError::TooManyWatchers { .. }) => {
                (ErrorReason::TooManyStreams, TryAnother)
            }
            Self::Watch(WatchError::TooManyRooms { .. }) => (ErrorReason::TooManyRooms, TryAnother),
        }
    }

    /// How it is counted. What backends do wrong is not.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NotAdmin => Some(Refusal::Forbidden),
            Self::Watch(WatchError::TooManyWatchers { .. }) => Some(Refusal::Streams),
            Self::Watch(WatchError::TooManyRooms { .. }) => Some(Refusal::Rooms),
            Self::Invalid(_)
            | Self::NameOfMember(_)
            | Self::KeyReused
            | Self::NoRoom(_)
            | Self::NotEmpty(_)
            | Self::TooManyDirectives => None,
        }
    }
}
