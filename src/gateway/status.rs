//! The one table from errors to gRPC status: code and text, and the details by which programs decide. `denial` has the
//! rows of those who have no right.

mod admin;
mod denial;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(super) use self::{admin::AdminRefusal, denial::Denial};
use super::admission::Full;
use crate::{
    domain::{RoomNameError, UsernameError},
    hub::EnterError,
    metrics::Refusal,
    proto::room::ErrorReason,
    session::Ending,
};

/// Who tells the reason, in a [`google.rpc.ErrorInfo`][ErrorReason].
const DOMAIN: &str = "roomcast";

/// In about how long a key may be known that is not.
const KEYS_COME: Duration = Duration::from_secs(2);

/// What is said while no token can be verified.
const NO_KEYS: &str = "the keys that verify tokens are not known here yet; try another replica";

/// What is said of a stream that is as old as streams may be.
const TOO_OLD: &str = "the stream has been open for as long as streams may be; connect again";

/// Why a stream ends, or a call fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The session ran and ended.
    Ended(Ending),
    /// The first message did not come, or cannot be read; says why.
    NoRegistration(String),
    /// The first frame is not a join; says why.
    NoJoin(String),
    /// What came as a session's token is none.
    NoToken,
    /// The name is not allowed.
    Name(UsernameError),
    /// The room's name is not allowed.
    Room(RoomNameError),
    /// The same, where it comes with the join.
    JoinRoom(RoomNameError),
    /// The room's name is no text.
    RoomNotText,
    /// Nobody got in: the name as it was asked for.
    NotEntered(EnterError, String),
    /// There are too many streams.
    Full(Full),
    /// The backplane did not answer a call.
    Unreachable,
    /// What came as a page's token is none.
    PageToken,
    /// There is no such method.
    NoMethod,
    /// One address asks too often: when it may ask again.
    TooManyCalls(Duration),
    /// A call's turn did not come within this time.
    CallsWait(Duration),
    /// Messages in an encoding that cannot be unpacked.
    Encoding(String),
    /// The headers of a request are too large.
    HeadersTooLarge {
        /// The bytes allowed.
        max: usize,
    },
    /// The request of a call is too large.
    RequestTooLarge {
        /// The bytes allowed.
        max: usize,
    },
    /// The request of a call did not arrive within this time.
    RequestLate(Duration),
    /// There is no token, or it is not good; says why.
    Unauthenticated(String),
    /// The token names a key that is not known, and may be in a moment.
    UnknownKey,
    /// The keys that verify tokens are not known yet.
    KeysUnavailable,
    /// Whoever asks has no right to it, or asks in vain.
    Denied(Denial),
    /// A call of `AdminService` is refused.
    Admin(AdminRefusal),
}

/// The status that tells a client of it.
pub(super) fn status(outcome: &Outcome) -> Status {
    let (code, message) = code_and_message(outcome);
    let mut status = match detail(outcome) {
        Some(detail) => Status::with_error_details(code, message, detail.into_proto()),
        None => Status::new(code, message),
    };
    if matches!(outcome, Outcome::Encoding(_)) {
        let accepted = MetadataValue::from_static("identity,gzip");
        status.metadata_mut().insert("grpc-accept-encoding", accepted);
    }
    status
}

/// The code of that status.
pub(super) fn code(outcome: &Outcome) -> Code {
    code_and_message(outcome).0
}

fn code_and_message(outcome: &Outcome) -> (Code, String) {
    match outcome {
        Outcome::Ended(ending) => ended(ending),
        Outcome::NotEntered(EnterError::Draining, _) => ended(&Ending::ShuttingDown),
        Outcome::NoRegistration(why) => {
            (Code::InvalidArgument, format!("failed to receive registration: {why}"))
        }
        Outcome::NoJoin(why) => {
            (Code::InvalidArgument, format!("the first frame has to be a join: {why}"))
        }
        Outcome::NoToken => (
            Code::PermissionDenied,
            "session_token is none that a welcome has given; join without one".into(),
        ),
        Outcome::JoinRoom(error) => (Code::InvalidArgument, format!("room: {error}")),
        Outcome::Name(error) => (Code::InvalidArgument, error.to_string()),
        Outcome::Room(error) => (Code::InvalidArgument, format!("chat-room: {error}")),
        Outcome::RoomNotText => (
            Code::InvalidArgument,
            "chat-room: not plain text; allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -".into(),
        ),
        Outcome::NotEntered(EnterError::Taken { .. }, name) => {
            (Code::AlreadyExists, format!("username \"{name}\" is already taken"))
        }
        Outcome::NotEntered(EnterError::Banned(until), _) => denial::banned(*until),
        Outcome::NotEntered(EnterError::Forbidden, _) => denial::forbidden(),
        Outcome::NotEntered(EnterError::NoSession, name) => (
            Code::NotFound,
            format!(
                "the session of this token does not hold \"{name}\" here, or no more; join without a token"
            ),
        ),
        Outcome::NotEntered(EnterError::WrongSecret, name) => {
            (Code::PermissionDenied, format!("the session of \"{name}\" has another token"))
        }
        Outcome::NotEntered(EnterError::Full { max }, _) => (
            Code::ResourceExhausted,
            format!("the room has {max} members, its limit (limits.members_per_room)"),
        ),
        Outcome::NotEntered(EnterError::TooManyRooms { max }, _) => (
            Code::ResourceExhausted,
            format!("this replica has {max} rooms, its limit (limits.rooms); try another one"),
        ),
        Outcome::NotEntered(EnterError::Moved, _) => (
            Code::Unavailable,
            "another stream has resumed the session meanwhile; try again".into(),
        ),
        Outcome::NotEntered(EnterError::StaleAttempt, _) => (
            Code::Aborted,
            "the session has seen a later attempt to join than this one".into(),
        ),
        Outcome::NotEntered(EnterError::Unavailable(_), _) | Outcome::Unreachable => {
            (Code::Unavailable, "the room cannot be reached; try again".into())
        }
        Outcome::Full(full) => (Code::ResourceExhausted, full.to_string()),
        Outcome::PageToken => (
            Code::InvalidArgument,
            "page_token: not a next_page_token; pass on the one of the page before, or none to begin"
                .into(),
        ),
        Outcome::NoMethod => (Code::Unimplemented, String::new()),
        Outcome::TooManyCalls(wait) => (
            Code::ResourceExhausted,
            format!(
                "your address asks too often (limits.query_interval); ask again in {} ms",
                wait.as_millis() + 1
            ),
        ),
        Outcome::CallsWait(time) => (
            Code::ResourceExhausted,
            format!(
                "the call's turn did not come within {} s; ask again, or another replica",
                time.as_secs()
            ),
        ),
        Outcome::Encoding(encoding) => (
            Code::Unimplemented,
            format!(
                "messages in the encoding \"{encoding}\" cannot be read; send gzip or identity"
            ),
        ),
        Outcome::HeadersTooLarge { max } => (
            Code::ResourceExhausted,
            format!("the request's headers have more than {max} bytes, 32 for each included"),
        ),
        Outcome::RequestTooLarge { max } => {
            (Code::ResourceExhausted, format!("the request has more than {max} bytes"))
        }
        Outcome::RequestLate(time) => (
            Code::DeadlineExceeded,
            format!("the request did not arrive within {} s", time.as_secs()),
        ),
        Outcome::Unauthenticated(why) => (Code::Unauthenticated, why.clone()),
        Outcome::UnknownKey => (Code::Unauthenticated, "the token's key id is not known".into()),
        Outcome::KeysUnavailable => (Code::Unavailable, NO_KEYS.into()),
        Outcome::Denied(denial) => denial.code_and_message(),
        Outcome::Admin(refusal) => refusal.code_and_message(),
    }
}

/// The same of a session that ran.
fn ended(ending: &Ending) -> (Code, String) {
    match ending {
        Ending::HalfClosed | Ending::Left => (Code::Ok, String::new()),
        Ending::LeaveNotStored => (
            Code::Unavailable,
            "the leave could not be stored in time; resume the session and leave again".into(),
        ),
        Ending::Stalled(time) => (
            Code::ResourceExhausted,
            format!("the client took nothing for {} s; resume the session", time.as_secs_f32()),
        ),
        Ending::Silent(time) => (
            Code::DeadlineExceeded,
            format!("the client sent nothing for {} s; resume the session", time.as_secs_f32()),
        ),
        Ending::Disconnected => (Code::Cancelled, "the client went away".into()),
        Ending::Unreadable(why) => {
            (Code::InvalidArgument, format!("failed to receive message: {why}"))
        }
        Ending::ContentTooLong { got, max } => (
            Code::InvalidArgument,
            format!("content has {got} bytes; at most {max} bytes are allowed"),
        ),
        Ending::Unavailable => (
            Code::Unavailable,
            "the message could not be stored in time; it may or may not be delivered".into(),
        ),
        Ending::Crowded => (
            Code::ResourceExhausted,
            "too much of what clients have sent is not stored yet (limits.input_bytes); try again"
                .into(),
        ),
        Ending::TooSlow => (
            Code::ResourceExhausted,
            "the client does not read fast enough; messages were missed".into(),
        ),
        Ending::NameLost => {
            (Code::Aborted, "the replica was cut off and somebody else has taken the name".into())
        }
        Ending::Superseded => {
            (Code::Aborted, "superseded by a newer stream of the same session".into())
        }
        Ending::ShuttingDown => (Code::Unavailable, "server is shutting down".into()),
        Ending::TooOld => (Code::Unavailable, TOO_OLD.into()),
        Ending::TokenExpired => (Code::Unauthenticated, "token expired".into()),
        Ending::Unauthenticated(why) => (Code::Unauthenticated, why.clone()),
        Ending::Denied(why) => (Code::PermissionDenied, why.clone()),
        Ending::PutOut(put_out) => denial::put_out(put_out),
        Ending::Muted(until) => denial::muted(*until),
        Ending::Dismissed { may_return, reason } => denial::dismissed(*may_return, reason),
    }
}

/// The same as fields of an answer that has several: code, text, reason, and whether to try again helps.
pub(super) fn failure(outcome: &Outcome) -> (Code, String, ErrorReason, bool) {
    let (code, message) = code_and_message(outcome);
    let detail = detail(outcome);
    let reason = detail.map_or(ErrorReason::Unspecified, |it| it.reason);
    (code, message, reason, detail.is_some_and(|it| it.remedy != Remedy::Stop))
}

/// What else programs are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Detail {
    reason: ErrorReason,
    remedy: Remedy,
    /// When to try again, where that is known.
    retry_after: Option<Duration>,
}

/// What a client can do about it by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Remedy {
    /// Nothing.
    Stop,
    /// Try again, as the reason says.
    TryAgain,
    /// Try again; another replica may well be able to.
    TryAnother,
}

impl Detail {
    fn into_proto(self) -> ErrorDetails {
        let is_final = self.remedy == Remedy::Stop;
        let mut metadata = HashMap::from([("final".to_owned(), is_final.to_string())]);
        if self.remedy == Remedy::TryAnother {
            metadata.insert("try_another".to_owned(), true.to_string());
        }
        let mut details =
            ErrorDetails::with_error_info(self.reason.as_str_name(), DOMAIN, metadata);
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        details
    }
}

/// The reason, and what to do. None for an end that is in order, or that nobody is told.
fn detail(outcome: &Outcome) -> Option<Detail> {
    use Remedy::{Stop, TryAgain, TryAnother};
    let (reason, remedy) = match outcome {
        Outcome::Ended(Ending::HalfClosed | Ending::Left | Ending::Disconnected) => return None,
        Outcome::Ended(Ending::LeaveNotStored) => (ErrorReason::LeaveNotStored, TryAgain),
        Outcome::Ended(Ending::Stalled(_)) => (ErrorReason::ClientStalled, TryAgain),
        Outcome::Ended(Ending::Silent(_)) => (ErrorReason::ClientSilent, TryAgain),
        Outcome::Ended(Ending::Unreadable(_))
        | Outcome::NoRegistration(_)
        | Outcome::NoJoin(_)
        | Outcome::HeadersTooLarge { .. }
        | Outcome::RequestTooLarge { .. }
        | Outcome::RequestLate(_) => (ErrorReason::InvalidMessage, Stop),
        Outcome::Ended(Ending::ContentTooLong { .. }) => (ErrorReason::ContentTooLarge, Stop),
        Outcome::Ended(Ending::Unavailable) => (ErrorReason::MessageNotStored, TryAgain),
        Outcome::Ended(Ending::Crowded) => (ErrorReason::TooMuchInput, TryAgain),
        Outcome::Ended(Ending::TooSlow) => (ErrorReason::ReaderTooSlow, TryAgain),
        Outcome::Ended(Ending::NameLost) => (ErrorReason::NameLost, TryAgain),
        Outcome::Ended(Ending::Superseded) => (ErrorReason::Superseded, Stop),
        Outcome::Ended(Ending::ShuttingDown) | Outcome::NotEntered(EnterError::Draining, _) => {
            (ErrorReason::ShuttingDown, TryAnother)
        }
        Outcome::Ended(Ending::TooOld) => (ErrorReason::StreamTooOld, TryAnother),
        Outcome::NoToken | Outcome::NotEntered(EnterError::WrongSecret, _) => {
            (ErrorReason::InvalidSessionToken, Stop)
        }
        Outcome::Unauthenticated(_) | Outcome::Ended(Ending::Unauthenticated(_)) => {
            (ErrorReason::InvalidToken, Stop)
        }
        Outcome::UnknownKey => (ErrorReason::InvalidToken, TryAgain),
        Outcome::Ended(Ending::TokenExpired) => (ErrorReason::TokenExpired, TryAgain),
        Outcome::Denied(denial) => (denial.reason(), Stop),
        Outcome::Ended(Ending::Denied(_)) | Outcome::NotEntered(EnterError::Forbidden, _) => {
            (ErrorReason::Forbidden, Stop)
        }
        Outcome::NotEntered(EnterError::Banned(_), _) => (ErrorReason::Banned, Stop),
        Outcome::Ended(Ending::PutOut(put_out)) => (denial::put_out_for(put_out).0, Stop),
        Outcome::Ended(Ending::Muted(_)) => (ErrorReason::Muted, Stop),
        Outcome::Ended(Ending::Dismissed { may_return: true, .. }) => {
            (ErrorReason::Disconnected, TryAgain)
        }
        Outcome::Ended(Ending::Dismissed { may_return: false, .. }) => {
            (ErrorReason::Disconnected, Stop)
        }
        Outcome::Admin(refusal) => refusal.reason(),
        Outcome::KeysUnavailable => (ErrorReason::KeysUnavailable, TryAnother),
        Outcome::Name(_) => (ErrorReason::InvalidUsername, Stop),
        Outcome::Room(_) | Outcome::JoinRoom(_) | Outcome::RoomNotText => {
            (ErrorReason::InvalidRoom, Stop)
        }
        Outcome::NotEntered(EnterError::Taken { .. }, _) => (ErrorReason::NameTaken, Stop),
        Outcome::NotEntered(EnterError::NoSession, _) => (ErrorReason::SessionNotFound, TryAgain),
        Outcome::NotEntered(EnterError::Moved, _) => (ErrorReason::SessionMoved, TryAgain),
        Outcome::NotEntered(EnterError::StaleAttempt, _) => (ErrorReason::StaleAttempt, Stop),
        Outcome::NotEntered(EnterError::Full { .. }, _) => (ErrorReason::RoomFull, Stop),
        Outcome::NotEntered(EnterError::TooManyRooms { .. }, _) => {
            (ErrorReason::TooManyRooms, TryAnother)
        }
        Outcome::Full(Full::Streams { .. }) => (ErrorReason::TooManyStreams, TryAnother),
        Outcome::Full(Full::TooOften { .. }) => (ErrorReason::TooOften, TryAgain),
        Outcome::Full(Full::StreamsPerPeer { .. } | Full::ConnectionsPerPeer { .. }) => {
            (ErrorReason::TooManyStreamsPerAddress, TryAnother)
        }
        Outcome::Full(Full::StreamsPerUser { .. }) => {
            (ErrorReason::TooManyStreamsPerUser, TryAnother)
        }
        Outcome::Full(Full::RoomsPerPeer { .. }) => {
            (ErrorReason::TooManyRoomsPerAddress, TryAnother)
        }
        Outcome::Full(Full::RoomMembersPerPeer { .. }) => {
            (ErrorReason::TooManyMembersPerAddress, TryAnother)
        }
        Outcome::NotEntered(EnterError::Unavailable(_), _) | Outcome::Unreachable => {
            (ErrorReason::StoreUnavailable, TryAgain)
        }
        Outcome::PageToken => (ErrorReason::InvalidPageToken, Stop),
        Outcome::NoMethod => (ErrorReason::UnknownMethod, Stop),
        Outcome::TooManyCalls(_) => (ErrorReason::TooManyCalls, TryAgain),
        Outcome::CallsWait(_) => (ErrorReason::TooManyCalls, TryAnother),
        Outcome::Encoding(_) => (ErrorReason::UnknownEncoding, Stop),
    };
    let mut retry_after = (*outcome == Outcome::UnknownKey).then_some(KEYS_COME);
    if let Outcome::TooManyCalls(wait)
    | Outcome::Full(Full::TooOften { wait, .. })
    | Outcome::NotEntered(EnterError::Taken { at_most: wait }, _) = outcome
    {
        retry_after = Some(*wait);
    }
    Some(Detail { reason, remedy, retry_after })
}

/// The name of a code, as gRPC writes it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// How it is counted, if it is a refusal.
pub(super) fn refusal(outcome: &Outcome) -> Option<Refusal> {
    Some(match outcome {
        Outcome::Ended(
            Ending::HalfClosed | Ending::Left | Ending::Disconnected | Ending::TooOld,
        )
        // Calls are not counted as streams are.
        | Outcome::Unreachable
        | Outcome::PageToken
        | Outcome::NoMethod => return None,
        Outcome::Admin(refused) => return refused.refusal(),
        Outcome::Ended(Ending::Unreadable(_))
        | Outcome::NoRegistration(_)
        | Outcome::NoJoin(_)
        | Outcome::Encoding(_)
        | Outcome::HeadersTooLarge { .. }
        | Outcome::RequestTooLarge { .. }
        | Outcome::RequestLate(_) => Refusal::Unreadable,
        Outcome::Ended(Ending::Crowded) => Refusal::InputBytes,
        Outcome::TooManyCalls(_) | Outcome::CallsWait(_) => Refusal::Queries,
        Outcome::Ended(Ending::Silent(_)) => Refusal::Silent,
        Outcome::NoToken | Outcome::NotEntered(EnterError::WrongSecret, _) => Refusal::TokenInvalid,
        Outcome::UnknownKey
        | Outcome::Unauthenticated(_)
        | Outcome::Ended(Ending::Unauthenticated(_)) => Refusal::Unauthenticated,
        Outcome::Ended(Ending::TokenExpired) => Refusal::TokenExpired,
        Outcome::Denied(denial) => return denial.refusal(),
        Outcome::Ended(Ending::Denied(_)) | Outcome::NotEntered(EnterError::Forbidden, _) => {
            Refusal::Forbidden
        }
        Outcome::NotEntered(EnterError::Banned(_), _) => Refusal::Banned,
        Outcome::Ended(Ending::PutOut(put_out)) => denial::put_out_for(put_out).1,
        Outcome::Ended(Ending::Muted(_)) => Refusal::Muted,
        Outcome::Ended(Ending::Dismissed { .. }) => Refusal::Disconnected,
        Outcome::KeysUnavailable => Refusal::KeysUnavailable,
        Outcome::NotEntered(EnterError::NoSession, _) => Refusal::SessionEnded,
        Outcome::Ended(Ending::ContentTooLong { .. }) => Refusal::ContentTooLarge,
        Outcome::Ended(Ending::Unavailable | Ending::LeaveNotStored)
        | Outcome::NotEntered(EnterError::Unavailable(_), _) => Refusal::Unavailable,
        Outcome::Ended(Ending::TooSlow | Ending::Stalled(_)) => Refusal::SlowReader,
        Outcome::Ended(Ending::NameLost) => Refusal::NameLost,
        Outcome::Ended(Ending::Superseded)
        | Outcome::NotEntered(EnterError::Moved | EnterError::StaleAttempt, _) => {
            Refusal::Superseded
        }
        Outcome::Ended(Ending::ShuttingDown) | Outcome::NotEntered(EnterError::Draining, _) => {
            Refusal::ShuttingDown
        }
        Outcome::Name(_) => Refusal::NameInvalid,
        Outcome::Room(_) | Outcome::RoomNotText | Outcome::JoinRoom(_) => Refusal::RoomInvalid,
        Outcome::NotEntered(EnterError::Taken { .. }, _) => Refusal::NameTaken,
        Outcome::NotEntered(EnterError::Full { .. }, _) => Refusal::RoomFull,
        Outcome::NotEntered(EnterError::TooManyRooms { .. }, _) => Refusal::Rooms,
        Outcome::Full(Full::Streams { .. }) => Refusal::Streams,
        Outcome::Full(Full::StreamsPerPeer { .. }) => Refusal::StreamsPerPeer,
        Outcome::Full(Full::StreamsPerUser { .. }) => Refusal::StreamsPerUser,
        Outcome::Full(Full::ConnectionsPerPeer { .. }) => Refusal::ConnectionsPerPeer,
        Outcome::Full(Full::RoomsPerPeer { .. }) => Refusal::RoomsPerPeer,
        Outcome::Full(Full::RoomMembersPerPeer { .. }) => Refusal::RoomMembersPerPeer,
        Outcome::Full(Full::TooOften { .. }) => Refusal::TooOften,
    })
}

#[cfg(test)]
mod tests;
