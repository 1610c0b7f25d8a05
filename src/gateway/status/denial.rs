//! What somebody has no right to, or asks for in vain.

use tonic::Code;

use crate::{
    backplane::DecideError,
    domain::{RoomName, RoomRole, Until},
    hub::PutOut,
    metrics::Refusal,
    proto::room::ErrorReason,
    session,
};

/// Why something is not done for whoever asks. All of it is final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum Denial {
    /// There is no right to this room.
    NoAccess(RoomName),
    /// The token is for this name only.
    OtherName(String),
    /// Whoever asks is banned from the room until then.
    Banned(Until),
    /// It needs this role, or a higher one, in the room.
    NeedsRole(RoomRole, RoomName),
    /// What happened in the room is shown to moderators only.
    HistoryHidden(RoomName),
    /// Somebody whose role in the room is as high is not to be moderated.
    AsHigh(String),
    /// Nobody is meant, or in the room; says whom was asked for.
    NobodyThere(String),
    /// Something in a call is not allowed; says what is.
    BadRequest(String),
    /// The room has as many bans, mutes and roles as it may have.
    TooManyDecisions,
}

impl Denial {
    /// The status that tells of it.
    pub(super) fn code_and_message(&self) -> (Code, String) {
        let denied = |message| (Code::PermissionDenied, message);
        match self {
            Self::NoAccess(room) => denied(format!("no access to room \"{room}\"")),
            Self::OtherName(name) => denied(format!("this token is for the name \"{name}\"")),
            Self::Banned(until) => banned(*until),
            Self::NeedsRole(role, room) => {
                denied(format!("this needs the role {} in room \"{room}\"", role.name()))
            }
            Self::HistoryHidden(room) => {
                denied(format!("the history of room \"{room}\" is hidden"))
            }
            Self::AsHigh(who) => denied(format!("{who} has a role that is as high as yours here")),
            Self::NobodyThere(who) => (Code::NotFound, who.clone()),
            Self::BadRequest(why) => (Code::InvalidArgument, why.clone()),
            Self::TooManyDecisions => (Code::ResourceExhausted, DecideError::Full.to_string()),
        }
    }

    /// Its reason for programs.
    pub(super) fn reason(&self) -> ErrorReason {
        match self {
            Self::NoAccess(_)
            | Self::OtherName(_)
            | Self::NeedsRole(..)
            | Self::HistoryHidden(_)
            | Self::AsHigh(_) => ErrorReason::Forbidden,
            Self::Banned(_) => ErrorReason::Banned,
            Self::NobodyThere(_) => ErrorReason::NobodyThere,
            Self::BadRequest(_) => ErrorReason::InvalidMessage,
            Self::TooManyDecisions => ErrorReason::TooManyDecisions,
        }
    }

    /// How it is counted, if it is a refusal.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NoAccess(_)
            | Self::OtherName(_)
            | Self::NeedsRole(..)
            | Self::HistoryHidden(_)
            | Self::AsHigh(_) => Some(Refusal::Forbidden),
            Self::Banned(_) => Some(Refusal::Banned),
            Self::NobodyThere(_) | Self::BadRequest(_) | Self::TooManyDecisions => None,
        }
    }
}

/// What is said to somebody who is banned.
pub(super) fn banned(until: Until) -> (Code, String) {
    let message =
        until.map_or_else(|| "banned".to_owned(), |until| format!("banned until {until:.0}"));
    (Code::PermissionDenied, message)
}

/// What is said to somebody who has no role in a room.
pub(super) fn forbidden() -> (Code, String) {
    (Code::PermissionDenied, "no access to the room".to_owned())
}

/// What is said to somebody whom a moderator has put out.
pub(super) fn put_out(put_out: &PutOut) -> (Code, String) {
    let message = match put_out {
        PutOut::Kicked(reason) if reason.is_empty() => "kicked".to_owned(),
        PutOut::Kicked(reason) => format!("kicked: {reason}"),
        PutOut::Banned(until) => return banned(*until),
        PutOut::Forbidden => return forbidden(),
    };
    (Code::PermissionDenied, message)
}

/// The same to somebody whose streams a backend has ended.
pub(super) fn dismissed(may_return: bool, reason: &str) -> (Code, String) {
    let code = if may_return { Code::Unavailable } else { Code::PermissionDenied };
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    (code, format!("disconnected{why}"))
}

/// The same to somebody who speaks and is silenced.
pub(super) fn muted(until: Until) -> (Code, String) {
    (Code::PermissionDenied, session::muted(until))
}

/// The reason for programs, and how it is counted.
pub(super) fn put_out_for(put_out: &PutOut) -> (ErrorReason, Refusal) {
    match put_out {
        PutOut::Kicked(_) => (ErrorReason::Kicked, Refusal::Kicked),
        PutOut::Banned(_) => (ErrorReason::Banned, Refusal::Banned),
        PutOut::Forbidden => (ErrorReason::Forbidden, Refusal::Forbidden),
    }
}
