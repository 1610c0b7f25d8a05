use std::{collections::BTreeSet, time::Duration};

use tonic_types::{ErrorInfo, StatusExt as _};

use super::*;
use crate::backplane::Unavailable;

/// What a client can do, as the details say it: whether it is final, and whether another replica helps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Final,
    Again,
    Elsewhere,
}

/// An outcome, its code, what its message has to say, its reason with what to do, and how it is counted.
type Row = (Outcome, Code, &'static str, Option<(&'static str, Said)>, Option<Refusal>);

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
            Outcome::KeysUnavailable,
            Code::Unavailable,
            "not known here yet; try another replica",
            Some(("KEYS_UNAVAILABLE", Said::Elsewhere)),
            Some(Refusal::KeysUnavailable),
        ),
        (
            Outcome::NoAccess(RoomName::lobby()),
            Code::PermissionDenied,
            "no access to room \"lobby\"",
            forbidden,
            refused,
        ),
        (
            Outcome::OtherName("bob".into()),
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

/// Numbers the rows. Whoever adds an outcome adds a number, and a row that has it.
fn number(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Ended(Ending::HalfClosed) => 0,
        Outcome::Ended(Ending::Left) => 1,
        Outcome::Ended(Ending::Disconnected) => 2,
        Outcome::Ended(Ending::Unreadable(_)) => 3,
        Outcome::Ended(Ending::ContentTooLong { .. }) => 4,
        Outcome::Ended(Ending::Unavailable) => 5,
        Outcome::Ended(Ending::TooSlow) => 6,
        Outcome::Ended(Ending::Stalled(_)) => 7,
        Outcome::Ended(Ending::Silent(_)) => 8,
        Outcome::Ended(Ending::NameLost) => 9,
        Outcome::Ended(Ending::Superseded) => 10,
        Outcome::Ended(Ending::ShuttingDown) => 11,
        Outcome::NoRegistration(_) => 12,
        Outcome::NoJoin(_) => 13,
        Outcome::NoToken => 14,
        Outcome::Name(_) => 15,
        Outcome::Room(_) => 16,
        Outcome::JoinRoom(_) => 17,
        Outcome::RoomNotText => 18,
        Outcome::NotEntered(EnterError::Draining, _) => 19,
        Outcome::NotEntered(EnterError::Taken { .. }, _) => 20,
        Outcome::NotEntered(EnterError::NoSession, _) => 21,
        Outcome::NotEntered(EnterError::WrongSecret, _) => 22,
        Outcome::NotEntered(EnterError::Moved, _) => 23,
        Outcome::NotEntered(EnterError::StaleAttempt, _) => 24,
        Outcome::NotEntered(EnterError::Full { .. }, _) => 25,
        Outcome::NotEntered(EnterError::TooManyRooms { .. }, _) => 26,
        Outcome::NotEntered(EnterError::Unavailable(_), _) => 27,
        Outcome::Full(Full::Streams { .. }) => 28,
        Outcome::Full(Full::StreamsPerPeer { .. }) => 29,
        Outcome::Unreachable => 30,
        Outcome::PageToken => 31,
        Outcome::NoMethod => 32,
        Outcome::Encoding(_) => 33,
        Outcome::TooManyCalls(_) => 38,
        Outcome::Ended(Ending::Crowded) => 34,
        Outcome::Full(Full::ConnectionsPerPeer { .. }) => 35,
        Outcome::Full(Full::RoomsPerPeer { .. }) => 36,
        Outcome::Full(Full::RoomMembersPerPeer { .. }) => 37,
        Outcome::Ended(Ending::LeaveNotStored) => 39,
        Outcome::Full(Full::TooOften { .. }) => 40,
        Outcome::Ended(Ending::TooOld) => 41,
        Outcome::RequestTooLarge { .. } => 42,
        Outcome::RequestLate(_) => 43,
        Outcome::CallsWait(_) => 44,
        Outcome::HeadersTooLarge { .. } => 45,
        Outcome::Unauthenticated(_) => 46,
        Outcome::KeysUnavailable => 47,
        Outcome::NoAccess(_) => 48,
        Outcome::OtherName(_) => 49,
        Outcome::Ended(Ending::TokenExpired) => 50,
        Outcome::Ended(Ending::Unauthenticated(_)) => 51,
        Outcome::Ended(Ending::Denied(_)) => 52,
    }
}

/// How many numbers there are.
const ROWS: usize = 53;

fn rows() -> Vec<Row> {
    let tokens = token_rows();
    [session_rows(), first_message_rows(), entry_rows(), other_rows(), request_rows(), tokens]
        .concat()
}

/// What the details of a status say.
fn details(status: &Status) -> Option<(String, Said)> {
    // As it goes over the wire and comes back.
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    let status = Status::from_header_map(&headers).unwrap();
    let ErrorInfo { reason, domain, metadata } = status.get_details_error_info()?;
    assert_eq!(domain, "roomcast");
    let said = |key: &str| metadata.get(key).map(String::as_str);
    let what = match (said("final"), said("try_another")) {
        (Some("true"), None) => Said::Final,
        (Some("false"), None) => Said::Again,
        (Some("false"), Some("true")) => Said::Elsewhere,
        other => panic!("{reason}: {other:?}"),
    };
    Some((reason, what))
}

#[test]
fn every_row_of_the_table() {
    for (outcome, code, said, told, counted) in rows() {
        let status = status(&outcome);
        assert_eq!(status.code(), code, "{outcome:?}");
        assert!(status.message().contains(said), "{outcome:?}: {}", status.message());
        let told = told.map(|(reason, what)| (reason.to_owned(), what));
        assert_eq!(details(&status), told, "{outcome:?}");
        assert_eq!(refusal(&outcome), counted, "{outcome:?}");
    }
}

#[test]
fn a_name_that_is_taken_may_be_free_after_a_while() {
    let at_most = Duration::from_millis(100_500);
    let taken = status(&Outcome::NotEntered(EnterError::Taken { at_most }, "bob".to_owned()));
    assert_eq!(taken.get_details_retry_info().and_then(|it| it.retry_delay), Some(at_most));
    let full = status(&Outcome::Full(Full::Streams { max: 3 }));
    assert!(full.get_details_retry_info().is_none());
}

#[test]
fn no_outcome_is_without_a_row() {
    let numbers: BTreeSet<_> = rows().iter().map(|row| number(&row.0)).collect();
    assert_eq!(numbers, (0..ROWS).collect());
}

#[test]
fn every_reason_is_told_by_some_row() {
    let told: BTreeSet<_> =
        rows().iter().filter_map(|row| row.3.map(|(reason, _)| reason)).collect();
    let all = (1..).map_while(|number| ErrorReason::try_from(number).ok());
    let all: BTreeSet<_> = all.map(|reason| reason.as_str_name()).collect();
    assert_eq!(told, all);
    let documented = concat!(
        include_str!("../../../docs/protocol-v1.md"),
        include_str!("../../../docs/protocol-chat.md")
    );
    for reason in all {
        assert!(documented.contains(&format!("`{reason}`")), "{reason}");
    }
}

#[test]
fn codes_have_their_names() {
    let names = (0..17).map(|code| code_name(Code::from_i32(code)));
    let names: BTreeSet<_> = names.collect();
    assert_eq!(names.len(), 17);
    assert_eq!(code_name(Code::AlreadyExists), "ALREADY_EXISTS");
}
