//! The table from outcomes to statuses, as it is promised.

use std::time::Duration;

use super::{super::*, Row, Said};
use crate::{
    backplane::Unavailable,
    domain::{RoomName, RoomRole},
    hub::{PutOut, WatchError},
};

/// All rows.
pub(super) fn rows() -> Vec<Row> {
    let who = [token_rows(), moderation_rows(), admin_rows()].concat();
    [session_rows(), first_message_rows(), entry_rows(), other_rows(), request_rows(), who].concat()
}

fn session_rows() -> Vec<Row> {
    let ended = Outcome::Ended;
    vec![
        (ended(Ending::HalfClosed), Code::Ok, "", None, None),
        (ended(Ending::Left), Code::Ok, "", None, None),
        (
            ended(Ending::LeaveNotStored),
            Code::Unavailable,
            "leave again",
            Some(("LEAVE_NOT_STORED", Said::Again)),
            Some(Refusal::Unavailable),
        ),
        (ended(Ending::Disconnected), Code::Cancelled, "went away", None, None),
        (
            ended(Ending::Unreadable("why".into())),
            Code::InvalidArgument,
            "failed to receive message: why",
            Some(("INVALID_MESSAGE", Said::Final)),
            Some(Refusal::Unreadable),
        ),
        (
            ended(Ending::ContentTooLong { got: 20_000, max: 16_384 }),
            Code::InvalidArgument,
            "content has 20000 bytes; at most 16384 bytes are allowed",
            Some(("CONTENT_TOO_LARGE", Said::Final)),
            Some(Refusal::ContentTooLarge),
        ),
        (
            ended(Ending::Unavailable),
            Code::Unavailable,
            "the message could not be stored in time; it may or may not be delivered",
            Some(("MESSAGE_NOT_STORED", Said::Again)),
            Some(Refusal::Unavailable),
        ),
        (
            ended(Ending::TooSlow),
            Code::ResourceExhausted,
            "the client does not read fast enough; messages were missed",
            Some(("READER_TOO_SLOW", Said::Again)),
            Some(Refusal::SlowReader),
        ),
        (
            ended(Ending::Stalled(Duration::from_secs(75))),
            Code::ResourceExhausted,
            "took nothing for 75 s; resume",
            Some(("CLIENT_STALLED", Said::Again)),
            Some(Refusal::SlowReader),
        ),
        (
            ended(Ending::Silent(Duration::from_secs(75))),
            Code::DeadlineExceeded,
            "sent nothing for 75 s; resume",
            Some(("CLIENT_SILENT", Said::Again)),
            Some(Refusal::Silent),
        ),
        (
            ended(Ending::NameLost),
            Code::Aborted,
            "the replica was cut off and somebody else has taken the name",
            Some(("NAME_LOST", Said::Again)),
            Some(Refusal::NameLost),
        ),
        (
            ended(Ending::Superseded),
            Code::Aborted,
            "superseded",
            Some(("SUPERSEDED", Said::Final)),
            Some(Refusal::Superseded),
        ),
        (
            ended(Ending::ShuttingDown),
            Code::Unavailable,
            "server is shutting down",
            Some(("SHUTTING_DOWN", Said::Elsewhere)),
            Some(Refusal::ShuttingDown),
        ),
        (
            ended(Ending::TooOld),
            Code::Unavailable,
            "as long as streams may be; connect again",
            Some(("STREAM_TOO_OLD", Said::Elsewhere)),
            None,
        ),
    ]
}

fn first_message_rows() -> Vec<Row> {
    let room = || RoomNameError::Character { got: ' ' };
    let invalid_room = Some(("INVALID_ROOM", Said::Final));
    vec![
        (
            Outcome::NoRegistration("why".into()),
            Code::InvalidArgument,
            "failed to receive registration: why",
            Some(("INVALID_MESSAGE", Said::Final)),
            Some(Refusal::Unreadable),
        ),
        (
            Outcome::NoJoin("why".into()),
            Code::InvalidArgument,
            "has to be a join: why",
            Some(("INVALID_MESSAGE", Said::Final)),
            Some(Refusal::Unreadable),
        ),
        (
            Outcome::NoToken,
            Code::PermissionDenied,
            "session_token",
            Some(("INVALID_SESSION_TOKEN", Said::Final)),
            Some(Refusal::TokenInvalid),
        ),
        (
            Outcome::Name(UsernameError::Empty),
            Code::InvalidArgument,
            "username cannot be empty",
            Some(("INVALID_USERNAME", Said::Final)),
            Some(Refusal::NameInvalid),
        ),
        (
            Outcome::Room(room()),
            Code::InvalidArgument,
            "chat-room: room name contains ' '",
            invalid_room,
            Some(Refusal::RoomInvalid),
        ),
        (
            Outcome::JoinRoom(room()),
            Code::InvalidArgument,
            "room: room name contains ' '",
            invalid_room,
            Some(Refusal::RoomInvalid),
        ),
        (
            Outcome::RoomNotText,
            Code::InvalidArgument,
            "chat-room: not plain text",
            invalid_room,
            Some(Refusal::RoomInvalid),
        ),
    ]
}

fn entry_rows() -> Vec<Row> {
    let not_entered = |error| Outcome::NotEntered(error, "bob".to_owned());
    vec![
        (
            not_entered(EnterError::Draining),
            Code::Unavailable,
            "server is shutting down",
            Some(("SHUTTING_DOWN", Said::Elsewhere)),
            Some(Refusal::ShuttingDown),
        ),
        (
            not_entered(EnterError::Taken { at_most: Duration::from_secs(100) }),
            Code::AlreadyExists,
            "username \"bob\" is already taken",
            Some(("NAME_TAKEN", Said::Final)),
            Some(Refusal::NameTaken),
        ),
        (
            not_entered(EnterError::NoSession),
            Code::NotFound,
            "does not hold \"bob\" here, or no more; join without a token",
            Some(("SESSION_NOT_FOUND", Said::Again)),
            Some(Refusal::SessionEnded),
        ),
        (
            not_entered(EnterError::WrongSecret),
            Code::PermissionDenied,
            "the session of \"bob\" has another token",
            Some(("INVALID_SESSION_TOKEN", Said::Final)),
            Some(Refusal::TokenInvalid),
        ),
        (
            not_entered(EnterError::Moved),
            Code::Unavailable,
            "another stream has resumed the session meanwhile",
            Some(("SESSION_MOVED", Said::Again)),
            Some(Refusal::Superseded),
        ),
        (
            not_entered(EnterError::StaleAttempt),
            Code::Aborted,
            "a later attempt",
            Some(("STALE_ATTEMPT", Said::Final)),
            Some(Refusal::Superseded),
        ),
        (
            not_entered(EnterError::Full { max: 3 }),
            Code::ResourceExhausted,
            "3 members, its limit (limits.members_per_room)",
            Some(("ROOM_FULL", Said::Final)),
            Some(Refusal::RoomFull),
        ),
        (
            not_entered(EnterError::TooManyRooms { max: 3 }),
            Code::ResourceExhausted,
            "limits.rooms",
            Some(("TOO_MANY_ROOMS", Said::Elsewhere)),
            Some(Refusal::Rooms),
        ),
        (
            not_entered(EnterError::Unavailable(Unavailable)),
            Code::Unavailable,
            "the room cannot be reached; try again",
            Some(("STORE_UNAVAILABLE", Said::Again)),
            Some(Refusal::Unavailable),
        ),
    ]
}

fn other_rows() -> Vec<Row> {
    vec![
        (
            Outcome::Full(Full::Streams { max: 3 }),
            Code::ResourceExhausted,
            "limits.streams)",
            Some(("TOO_MANY_STREAMS", Said::Elsewhere)),
            Some(Refusal::Streams),
        ),
        (
            Outcome::Full(Full::TooOften {
                limit: "limits.new_room_interval",
                wait: Duration::from_millis(1500),
            }),
            Code::ResourceExhausted,
            "your address comes too often (limits.new_room_interval); try again in 1500 ms",
            Some(("TOO_OFTEN", Said::Again)),
            Some(Refusal::TooOften),
        ),
        (
            Outcome::Full(Full::StreamsPerPeer { max: 3 }),
            Code::ResourceExhausted,
            "limits.streams_per_peer",
            Some(("TOO_MANY_STREAMS_PER_ADDRESS", Said::Elsewhere)),
            Some(Refusal::StreamsPerPeer),
        ),
        (
            Outcome::Unreachable,
            Code::Unavailable,
            "the room cannot be reached; try again",
            Some(("STORE_UNAVAILABLE", Said::Again)),
            None,
        ),
        (
            Outcome::PageToken,
            Code::InvalidArgument,
            "page_token",
            Some(("INVALID_PAGE_TOKEN", Said::Final)),
            None,
        ),
        (Outcome::NoMethod, Code::Unimplemented, "", Some(("UNKNOWN_METHOD", Said::Final)), None),
        (
            Outcome::TooManyCalls(Duration::from_millis(20)),
            Code::ResourceExhausted,
            "limits.query_interval",
            Some(("TOO_MANY_CALLS", Said::Again)),
            Some(Refusal::Queries),
        ),
        (
            Outcome::CallsWait(Duration::from_secs(10)),
            Code::ResourceExhausted,
            "turn did not come within 10 s",
            Some(("TOO_MANY_CALLS", Said::Elsewhere)),
            Some(Refusal::Queries),
        ),
        (
            Outcome::Ended(Ending::Crowded),
            Code::ResourceExhausted,
            "limits.input_bytes",
            Some(("TOO_MUCH_INPUT", Said::Again)),
            Some(Refusal::InputBytes),
        ),
        (
            Outcome::Full(Full::ConnectionsPerPeer { max: 3 }),
            Code::ResourceExhausted,
            "limits.connections_per_peer",
            Some(("TOO_MANY_STREAMS_PER_ADDRESS", Said::Elsewhere)),
            Some(Refusal::ConnectionsPerPeer),
        ),
        (
            Outcome::Full(Full::RoomsPerPeer { max: 3 }),
            Code::ResourceExhausted,
            "limits.rooms_per_peer",
            Some(("TOO_MANY_ROOMS_PER_ADDRESS", Said::Elsewhere)),
            Some(Refusal::RoomsPerPeer),
        ),
        (
            Outcome::Full(Full::RoomMembersPerPeer { max: 3 }),
            Code::ResourceExhausted,
            "limits.room_members_per_peer",
            Some(("TOO_MANY_MEMBERS_PER_ADDRESS", Said::Elsewhere)),
            Some(Refusal::RoomMembersPerPeer),
        ),
    ]
}

fn request_rows() -> Vec<Row> {
    vec![
        (
            Outcome::Encoding("zstd".into()),
            Code::Unimplemented,
            "\"zstd\"",
            Some(("UNKNOWN_ENCODING", Said::Final)),
            Some(Refusal::Unreadable),
        ),
        (
            Outcome::HeadersTooLarge { max: 100 },
            Code::ResourceExhausted,
            "headers have more than 100 bytes",
            Some(("INVALID_MESSAGE", Said::Final)),
            Some(Refusal::Unreadable),
        ),
        (
            Outcome::RequestTooLarge { max: 100 },
            Code::ResourceExhausted,
            "more than 100 bytes",
            Some(("INVALID_MESSAGE", Said::Final)),
            Some(Refusal::Unreadable),
        ),
        (
            Outcome::RequestLate(Duration::from_secs(30)),
            Code::DeadlineExceeded,
            "within 30 s",
            Some(("INVALID_MESSAGE", Said::Final)),
            Some(Refusal::Unreadable),
        ),
    ]
}

fn token_rows() -> Vec<Row> {
    let (bad, forbidden) = (Some(("INVALID_TOKEN", Said::Final)), Some(("FORBIDDEN", Said::Final)));
    let (unauthenticated, refused) = (Some(Refusal::Unauthenticated), Some(Refusal::Forbidden));
    vec![
        (
            Outcome::Unauthenticated("no token".into()),
            Code::Unauthenticated,
            "no token",
            bad,
            unauthenticated,
        ),
        (
            Outcome::Ended(Ending::Unauthenticated("no token".into())),
            Code::Unauthenticated,
            "no token",
            bad,
            unauthenticated,
        ),
        (
            Outcome::UnknownKey,
            Code::Unauthenticated,
            "key id is not known",
            Some(("INVALID_TOKEN", Said::Again)),
            unauthenticated,
        ),
        (
            Outcome::KeysUnavailable,
            Code::Unavailable,
            "not known here yet; try another replica",
            Some(("KEYS_UNAVAILABLE", Said::Elsewhere)),
            Some(Refusal::KeysUnavailable),
        ),
        (
            Outcome::Denied(Denial::NoAccess(RoomName::lobby())),
            Code::PermissionDenied,
            "no access to room \"lobby\"",
            forbidden,
            refused,
        ),
        (
            Outcome::Denied(Denial::OtherName("bob".into())),
            Code::PermissionDenied,
            "this token is for the name \"bob\"",
            forbidden,
            refused,
        ),
        (
            Outcome::Ended(Ending::Denied("why".into())),
            Code::PermissionDenied,
            "why",
            forbidden,
            refused,
        ),
        (
            Outcome::Ended(Ending::TokenExpired),
            Code::Unauthenticated,
            "token expired",
            Some(("TOKEN_EXPIRED", Said::Again)),
            Some(Refusal::TokenExpired),
        ),
    ]
}

fn moderation_rows() -> Vec<Row> {
    let denied = Code::PermissionDenied;
    let row = |outcome, words, reason, refusal| -> Row {
        (outcome, denied, words, Some((reason, Said::Final)), Some(refusal))
    };
    let forbidden = |outcome, words| row(outcome, words, "FORBIDDEN", Refusal::Forbidden);
    let banned = |outcome, words| row(outcome, words, "BANNED", Refusal::Banned);
    let put_out = |it| Outcome::Ended(Ending::PutOut(it));
    let until = Some("2026-11-24T11:22:33.123456789Z".parse().unwrap());
    let (lobby, no_name) = (RoomName::lobby, String::new);
    vec![
        banned(Outcome::Denied(Denial::Banned(until)), "banned until 2026-11-24T11:22:33Z"),
        banned(put_out(PutOut::Banned(None)), "banned"),
        banned(Outcome::NotEntered(EnterError::Banned(until), no_name()), "banned until 2026"),
        forbidden(Outcome::NotEntered(EnterError::Forbidden, no_name()), "no access"),
        forbidden(put_out(PutOut::Forbidden), "no access"),
        forbidden(
            Outcome::Denied(Denial::NeedsRole(RoomRole::Moderator, lobby())),
            "the role moderator in room \"lobby\"",
        ),
        forbidden(
            Outcome::Denied(Denial::HistoryHidden(lobby())),
            "history of room \"lobby\" is hidden",
        ),
        forbidden(
            Outcome::Denied(Denial::AsHigh("\"bob\"".into())),
            "\"bob\" has a role that is as high",
        ),
        row(put_out(PutOut::Kicked("spam".into())), "kicked: spam", "KICKED", Refusal::Kicked),
        row(Outcome::Ended(Ending::Muted(until)), "muted until 2026", "MUTED", Refusal::Muted),
        (
            Outcome::Denied(Denial::NobodyThere("nobody".into())),
            Code::NotFound,
            "nobody",
            Some(("NOBODY_THERE", Said::Final)),
            None,
        ),
        (
            Outcome::Denied(Denial::BadRequest("whom?".into())),
            Code::InvalidArgument,
            "whom?",
            Some(("INVALID_MESSAGE", Said::Final)),
            None,
        ),
        (
            Outcome::Denied(Denial::TooManyDecisions),
            Code::ResourceExhausted,
            "10000 bans, mutes and roles already",
            Some(("TOO_MANY_DECISIONS", Said::Final)),
            None,
        ),
    ]
}

fn admin_rows() -> Vec<Row> {
    let dismissed =
        |may_return| Outcome::Ended(Ending::Dismissed { may_return, reason: "x".into() });
    vec![
        (
            dismissed(true),
            Code::Unavailable,
            "disconnected: x",
            Some(("DISCONNECTED", Said::Again)),
            Some(Refusal::Disconnected),
        ),
        (
            dismissed(false),
            Code::PermissionDenied,
            "disconnected: x",
            Some(("DISCONNECTED", Said::Final)),
            Some(Refusal::Disconnected),
        ),
        (
            Outcome::Full(Full::StreamsPerUser { max: 2 }),
            Code::ResourceExhausted,
            "limits.streams_per_user",
            Some(("TOO_MANY_STREAMS_PER_USER", Said::Elsewhere)),
            Some(Refusal::StreamsPerUser),
        ),
        (
            Outcome::Admin(AdminRefusal::TooManyDirectives),
            Code::ResourceExhausted,
            "100000 revocations already",
            Some(("TOO_MANY_DECISIONS", Said::Final)),
            None,
        ),
        (
            Outcome::Admin(AdminRefusal::NotAdmin),
            Code::PermissionDenied,
            "only backends and admins",
            Some(("FORBIDDEN", Said::Final)),
            Some(Refusal::Forbidden),
        ),
        (
            Outcome::Admin(AdminRefusal::Invalid("why".into())),
            Code::InvalidArgument,
            "why",
            Some(("INVALID_MESSAGE", Said::Final)),
            None,
        ),
        (
            Outcome::Admin(AdminRefusal::NameOfMember("bob".into())),
            Code::AlreadyExists,
            "a member of the room has the name \"bob\"",
            Some(("NAME_TAKEN", Said::Final)),
            None,
        ),
        (
            Outcome::Admin(AdminRefusal::KeyReused),
            Code::InvalidArgument,
            "another message in this room",
            Some(("IDEMPOTENCY_KEY_REUSED", Said::Final)),
            None,
        ),
        (
            Outcome::Admin(AdminRefusal::NoRoom(RoomName::lobby())),
            Code::NotFound,
            "there is no room \"lobby\"",
            Some(("ROOM_NOT_FOUND", Said::Final)),
            None,
        ),
        (
            Outcome::Admin(AdminRefusal::NotEmpty(3)),
            Code::FailedPrecondition,
            "the room has 3 members",
            Some(("ROOM_NOT_EMPTY", Said::Again)),
            None,
        ),
        (
            Outcome::Admin(AdminRefusal::Watch(WatchError::TooManyWatchers { max: 2 })),
            Code::ResourceExhausted,
            "2 watchers (limits.watchers)",
            Some(("TOO_MANY_STREAMS", Said::Elsewhere)),
            Some(Refusal::Streams),
        ),
        (
            Outcome::Admin(AdminRefusal::Watch(WatchError::TooManyRooms { max: 2 })),
            Code::ResourceExhausted,
            "limits.watched_rooms",
            Some(("TOO_MANY_ROOMS", Said::Elsewhere)),
            Some(Refusal::Rooms),
        ),
    ]
}
