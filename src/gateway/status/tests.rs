mod rows;

use std::{collections::BTreeSet, time::Duration};

use tonic_types::{ErrorInfo, StatusExt as _};

use self::rows::rows;
use super::*;
use crate::hub::{PutOut, WatchError};

/// What a client can do, as the details say it: whether it is final, and whether another replica helps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Final,
    Again,
    Elsewhere,
}

/// An outcome, its code, what its message has to say, its reason with what to do, and how it is counted.
type Row = (Outcome, Code, &'static str, Option<(&'static str, Said)>, Option<Refusal>);

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
        Outcome::UnknownKey => 53,
        Outcome::Denied(Denial::NoAccess(_)) => 48,
        Outcome::Denied(Denial::OtherName(_)) => 49,
        Outcome::Ended(Ending::TokenExpired) => 50,
        Outcome::Ended(Ending::Unauthenticated(_)) => 51,
        Outcome::Ended(Ending::Denied(_)) => 52,
        Outcome::Denied(Denial::Banned(_)) => 54,
        Outcome::Denied(Denial::NeedsRole(..)) => 55,
        Outcome::Denied(Denial::HistoryHidden(_)) => 56,
        Outcome::Denied(Denial::AsHigh(_)) => 57,
        Outcome::Denied(Denial::NobodyThere(_)) => 58,
        Outcome::Denied(Denial::BadRequest(_)) => 59,
        Outcome::Denied(Denial::TooManyDecisions) => 60,
        Outcome::Ended(Ending::PutOut(PutOut::Kicked(_))) => 61,
        Outcome::Ended(Ending::PutOut(PutOut::Banned(_))) => 62,
        Outcome::Ended(Ending::PutOut(PutOut::Forbidden)) => 63,
        Outcome::Ended(Ending::Muted(_)) => 64,
        Outcome::NotEntered(EnterError::Banned(_), _) => 65,
        Outcome::NotEntered(EnterError::Forbidden, _) => 66,
        Outcome::Admin(AdminRefusal::NotAdmin) => 67,
        Outcome::Admin(AdminRefusal::Invalid(_)) => 68,
        Outcome::Admin(AdminRefusal::NameOfMember(_)) => 69,
        Outcome::Admin(AdminRefusal::KeyReused) => 70,
        Outcome::Admin(AdminRefusal::NoRoom(_)) => 71,
        Outcome::Admin(AdminRefusal::NotEmpty(_)) => 72,
        Outcome::Admin(AdminRefusal::TooManyDirectives) => 73,
        Outcome::Ended(Ending::Dismissed { may_return: true, .. }) => 74,
        Outcome::Ended(Ending::Dismissed { may_return: false, .. }) => 75,
        Outcome::Full(Full::StreamsPerUser { .. }) => 76,
        Outcome::Admin(AdminRefusal::Watch(WatchError::TooManyWatchers { .. })) => 77,
        Outcome::Admin(AdminRefusal::Watch(WatchError::TooManyRooms { .. })) => 78,
    }
}

/// How many numbers there are.
const ROWS: usize = 79;

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
        include_str!("../../../docs/protocol-chat.md"),
        include_str!("../../../docs/backends.md")
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
