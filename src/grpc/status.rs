//! The one table from errors to gRPC status.

use tonic::{Code, Status};

use super::admission::Full;
use crate::{
    domain::{RoomNameError, UsernameError},
    hub::EnterError,
    metrics::Refusal,
    session::Ending,
};

/// Why a stream ends.
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
}

/// The status that tells a client of it.
pub(super) fn status(outcome: &Outcome) -> Status {
    let (code, message) = match outcome {
        Outcome::Ended(Ending::HalfClosed | Ending::Left) => (Code::Ok, String::new()),
        Outcome::Ended(Ending::Stalled(time)) => (
            Code::ResourceExhausted,
            format!("the client took nothing for {} s; resume the session", time.as_secs_f32()),
        ),
        Outcome::Ended(Ending::Silent(time)) => (
            Code::DeadlineExceeded,
            format!("the client sent nothing for {} s; resume the session", time.as_secs_f32()),
        ),
        Outcome::Ended(Ending::Disconnected) => (Code::Cancelled, "the client went away".into()),
        Outcome::Ended(Ending::Unreadable(why)) => {
            (Code::InvalidArgument, format!("failed to receive message: {why}"))
        }
        Outcome::Ended(Ending::ContentTooLong { got, max }) => (
            Code::InvalidArgument,
            format!("content has {got} bytes; at most {max} bytes are allowed"),
        ),
        Outcome::Ended(Ending::Unavailable) => (
            Code::Unavailable,
            "the message could not be stored in time; it may or may not be delivered".into(),
        ),
        Outcome::Ended(Ending::TooSlow) => (
            Code::ResourceExhausted,
            "the client does not read fast enough; messages were missed".into(),
        ),
        Outcome::Ended(Ending::NameLost) => {
            (Code::Aborted, "the replica was cut off and somebody else has taken the name".into())
        }
        Outcome::Ended(Ending::Superseded) => {
            (Code::Aborted, "superseded by a newer stream of the same session".into())
        }
        Outcome::Ended(Ending::ShuttingDown) | Outcome::NotEntered(EnterError::Draining, _) => {
            (Code::Unavailable, "server is shutting down".into())
        }
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
        Outcome::NotEntered(EnterError::Taken, name) => {
            (Code::AlreadyExists, format!("username \"{name}\" is already taken"))
        }
        Outcome::NotEntered(EnterError::NoSession, name) => (
            Code::NotFound,
            format!(
                "there is no such session of \"{name}\" here, or no more; join without a token"
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
        Outcome::NotEntered(EnterError::Unavailable(_), _) => {
            (Code::Unavailable, "the room cannot be reached; try again".into())
        }
        Outcome::Full(full) => (Code::ResourceExhausted, full.to_string()),
    };
    Status::new(code, message)
}

/// How it is counted, if it is a refusal.
pub(super) fn refusal(outcome: &Outcome) -> Option<Refusal> {
    Some(match outcome {
        Outcome::Ended(Ending::HalfClosed | Ending::Left | Ending::Disconnected) => return None,
        Outcome::Ended(Ending::Unreadable(_)) | Outcome::NoRegistration(_) | Outcome::NoJoin(_) => {
            Refusal::Unreadable
        }
        Outcome::Ended(Ending::Silent(_)) => Refusal::Silent,
        Outcome::NoToken | Outcome::NotEntered(EnterError::WrongSecret, _) => Refusal::TokenInvalid,
        Outcome::NotEntered(EnterError::NoSession, _) => Refusal::SessionEnded,
        Outcome::Ended(Ending::ContentTooLong { .. }) => Refusal::ContentTooLarge,
        Outcome::Ended(Ending::Unavailable)
        | Outcome::NotEntered(EnterError::Unavailable(_), _) => Refusal::Unavailable,
        Outcome::Ended(Ending::TooSlow | Ending::Stalled(_)) => Refusal::SlowReader,
        Outcome::Ended(Ending::NameLost) => Refusal::NameLost,
        Outcome::Ended(Ending::Superseded) => Refusal::Superseded,
        Outcome::Ended(Ending::ShuttingDown) | Outcome::NotEntered(EnterError::Draining, _) => {
            Refusal::ShuttingDown
        }
        Outcome::Name(_) => Refusal::NameInvalid,
        Outcome::Room(_) | Outcome::RoomNotText | Outcome::JoinRoom(_) => Refusal::RoomInvalid,
        Outcome::NotEntered(EnterError::Taken, _) => Refusal::NameTaken,
        Outcome::NotEntered(EnterError::Full { .. }, _) => Refusal::RoomFull,
        Outcome::NotEntered(EnterError::TooManyRooms { .. }, _) => Refusal::Rooms,
        Outcome::Full(Full::Streams { .. }) => Refusal::Streams,
        Outcome::Full(Full::StreamsPerPeer { .. }) => Refusal::StreamsPerPeer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::Unavailable;

    /// An outcome, its code, what its message has to say, and how it is counted.
    type Row = (Outcome, Code, &'static str, Option<Refusal>);

    fn check(rows: &[Row]) {
        for (outcome, code, said, counted) in rows {
            let status = status(outcome);
            assert_eq!(status.code(), *code, "{outcome:?}");
            assert!(status.message().contains(said), "{outcome:?}: {}", status.message());
            assert_eq!(refusal(outcome), *counted, "{outcome:?}");
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let rows = [
            (Outcome::Ended(Ending::HalfClosed), Code::Ok, "", None),
            (Outcome::Ended(Ending::Disconnected), Code::Cancelled, "went away", None),
            (
                Outcome::Ended(Ending::Unreadable("why".into())),
                Code::InvalidArgument,
                "failed to receive message: why",
                Some(Refusal::Unreadable),
            ),
            (
                Outcome::Ended(Ending::ContentTooLong { got: 20_000, max: 16_384 }),
                Code::InvalidArgument,
                "content has 20000 bytes; at most 16384 bytes are allowed",
                Some(Refusal::ContentTooLarge),
            ),
            (
                Outcome::Ended(Ending::Unavailable),
                Code::Unavailable,
                "in time",
                Some(Refusal::Unavailable),
            ),
            (
                Outcome::Ended(Ending::TooSlow),
                Code::ResourceExhausted,
                "fast enough",
                Some(Refusal::SlowReader),
            ),
            (Outcome::Ended(Ending::NameLost), Code::Aborted, "taken", Some(Refusal::NameLost)),
            (
                Outcome::Ended(Ending::Superseded),
                Code::Aborted,
                "superseded",
                Some(Refusal::Superseded),
            ),
            (
                Outcome::Ended(Ending::ShuttingDown),
                Code::Unavailable,
                "server is shutting down",
                Some(Refusal::ShuttingDown),
            ),
            (
                Outcome::NoRegistration("why".into()),
                Code::InvalidArgument,
                "failed to receive registration: why",
                Some(Refusal::Unreadable),
            ),
            (
                Outcome::Name(UsernameError::Empty),
                Code::InvalidArgument,
                "username cannot be empty",
                Some(Refusal::NameInvalid),
            ),
            (
                Outcome::Room(RoomNameError::Character { got: ' ' }),
                Code::InvalidArgument,
                "chat-room: room name contains ' '",
                Some(Refusal::RoomInvalid),
            ),
            (Outcome::RoomNotText, Code::InvalidArgument, "chat-room", Some(Refusal::RoomInvalid)),
            (
                Outcome::Full(Full::Streams { max: 3 }),
                Code::ResourceExhausted,
                "limits.streams",
                Some(Refusal::Streams),
            ),
            (
                Outcome::Full(Full::StreamsPerPeer { max: 3 }),
                Code::ResourceExhausted,
                "limits.streams_per_peer",
                Some(Refusal::StreamsPerPeer),
            ),
        ];
        check(&rows);
    }

    #[test]
    fn every_row_of_who_does_not_get_in() {
        let bob = || "bob".to_owned();
        check(&[
            (
                Outcome::NotEntered(EnterError::Draining, bob()),
                Code::Unavailable,
                "server is shutting down",
                Some(Refusal::ShuttingDown),
            ),
            (
                Outcome::NotEntered(EnterError::Taken, bob()),
                Code::AlreadyExists,
                "username \"bob\" is already taken",
                Some(Refusal::NameTaken),
            ),
            (
                Outcome::NotEntered(EnterError::Full { max: 3 }, bob()),
                Code::ResourceExhausted,
                "3 members, its limit (limits.members_per_room)",
                Some(Refusal::RoomFull),
            ),
            (
                Outcome::NotEntered(EnterError::TooManyRooms { max: 3 }, bob()),
                Code::ResourceExhausted,
                "limits.rooms",
                Some(Refusal::Rooms),
            ),
            (
                Outcome::NotEntered(EnterError::Unavailable(Unavailable), bob()),
                Code::Unavailable,
                "try again",
                Some(Refusal::Unavailable),
            ),
        ]);
    }
}
