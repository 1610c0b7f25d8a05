//! The client against a small server of the protocol that does what each test tells it.

mod server;
mod tokens;

use std::time::Duration;

use roomcast_proto::room::{
    self as proto, connect_request::Frame as Asked, connect_response::Frame,
};
use tokio::{net::TcpListener, time::timeout};
use tonic::Code;

use self::server::{SOON, Stage, at, text};
use super::*;

async fn next(events: &mut Events) -> Update {
    let next = timeout(SOON, events.next()).await.expect("nothing is told");
    next.expect("an end").expect("an update")
}

/// The next update is this text, at this position.
async fn hears(events: &mut Events, seq: u64, content: &str) {
    match next(events).await {
        Update::Event(event) => {
            assert_eq!(event.position.seq, seq);
            assert_eq!(event.what, EventKind::Said(content.to_owned()));
        }
        other => panic!("{other:?}"),
    }
}

async fn comes_back(events: &mut Events, resumed: bool) {
    assert!(matches!(next(events).await, Update::Disconnected { .. }));
    assert_eq!(next(events).await, Update::Reconnected { resumed });
}

#[tokio::test]
async fn says_and_hears_and_leaves() {
    let mut stage = Stage::open().await;
    let (bob, mut events, mut line) = stage.bob().await;
    assert_eq!((bob.username(), bob.entered_at()), ("bob", Position::new(Epoch(1), 10)));
    let (said, ()) = tokio::join!(bob.say("hello"), async {
        assert_eq!(line.hears_say().await, (1, "hello".to_owned()));
        line.tells(11, "bob", text("hello")).await;
        line.acks(1, 11, false).await;
    });
    let position = Some(Position::new(Epoch(1), 11));
    assert_eq!(said, Ok(Said { position, duplicate: false }));
    hears(&mut events, 11, "hello").await;
    let long = "x".repeat(101);
    assert!(matches!(bob.say(long).await, Err(SayError::TooLarge(_))));
    let (left, ()) = tokio::join!(bob.leave(), async {
        assert!(matches!(line.hears().await, Asked::Leave(_)));
        drop(line);
    });
    assert_eq!(left, Ok(()));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn many_are_said_in_order_before_leaving() {
    let mut stage = Stage::open().await;
    let (bob, events, mut line) = stage.bob().await;
    let says = (1..=300).map(|number| {
        let bob = bob.clone();
        async move { bob.say(number.to_string()).await }
    });
    let says = futures_util::future::join_all(says);
    let serving = async {
        for number in 1..=300 {
            assert_eq!(line.hears_say().await, (number, number.to_string()));
            line.acks(number, 10 + number, false).await;
        }
        assert!(matches!(line.hears().await, Asked::Leave(_)));
        drop(line);
    };
    let leaving = async {
        tokio::task::yield_now().await;
        bob.clone().leave().await
    };
    let (said, left, ()) = tokio::join!(says, leaving, serving);
    assert!(said.iter().all(Result::is_ok), "{said:?}");
    assert_eq!(left, Ok(()));
    drop(events);
}

#[tokio::test]
async fn a_lost_stream_is_resumed_and_what_was_unanswered_sent_again() {
    let mut stage = Stage::open().await;
    let (bob, mut events, mut line) = stage.bob().await;
    line.tells(11, "eve", text("one")).await;
    hears(&mut events, 11, "one").await;
    let (said, line) = tokio::join!(bob.say("mine"), async {
        assert_eq!(line.hears_say().await, (1, "mine".to_owned()));
        line.ends(Code::Unavailable, "away").await;
        let mut line = stage.line().await;
        let join = line.hears_join().await;
        assert_eq!(join.session_token, b"secret");
        assert_eq!(join.since, Some(proto::join::Since::After(at(11))));
        // It did arrive.
        line.welcomes(12, true, 1).await;
        line.tells(11, "eve", text("one")).await;
        line.tells(12, "bob", text("mine")).await;
        assert_eq!(line.hears_say().await, (1, "mine".to_owned()));
        line.acks(1, 12, true).await;
        line
    });
    assert_eq!(said.map(|said| said.duplicate), Ok(true));
    comes_back(&mut events, true).await;
    hears(&mut events, 12, "mine").await;
    drop(line);
}

#[tokio::test]
async fn after_a_lost_session_the_room_tells_what_arrived() {
    let mut stage = Stage::open().await;
    let (bob, mut events, mut line) = stage.bob().await;
    let (first, second, line) = tokio::join!(bob.say("first"), bob.say("second"), async {
        assert_eq!(line.hears_say().await.0, 1);
        assert_eq!(line.hears_say().await.0, 2);
        drop(line);
        let mut line = stage.line().await;
        line.hears_join().await;
        line.ends(Code::NotFound, "no such session").await;
        let mut line = stage.line().await;
        let join = line.hears_join().await;
        assert!(join.session_token.is_empty());
        assert_eq!(join.since, Some(proto::join::Since::After(at(10))));
        line.welcomes(13, false, 0).await;
        line.tells(11, "bob", text("first")).await;
        let cause = proto::LeftCause::TimedOut.into();
        line.tells(12, "bob", proto::event::What::Left(proto::Left { cause })).await;
        // The second one did not arrive: it is the new session's first.
        assert_eq!(line.hears_say().await, (1, "second".to_owned()));
        line.tells(14, "bob", text("second")).await;
        line.acks(1, 14, false).await;
        line
    });
    assert_eq!(first.map(|said| said.position.map(|it| it.seq)), Ok(Some(11)));
    assert_eq!(second.map(|said| said.position.map(|it| it.seq)), Ok(Some(14)));
    comes_back(&mut events, false).await;
    hears(&mut events, 11, "first").await;
    assert!(matches!(next(&mut events).await, Update::Event(_)));
    hears(&mut events, 14, "second").await;
    drop(line);
}

#[tokio::test]
async fn a_hole_without_a_gap_is_asked_for_again() {
    let mut stage = Stage::open().await;
    let (_bob, mut events, line) = stage.bob().await;
    line.tells(12, "eve", text("two")).await;
    let mut line = stage.line().await;
    assert_eq!(line.hears_join().await.since, Some(proto::join::Since::After(at(10))));
    line.welcomes(12, true, 0).await;
    line.says(Frame::Gap(proto::Gap { from: Some(at(11)), to: Some(at(11)) })).await;
    line.tells(12, "eve", text("two")).await;
    comes_back(&mut events, true).await;
    assert!(matches!(next(&mut events).await, Update::Gap(Gap::Range { .. })));
    hears(&mut events, 12, "two").await;
}

#[tokio::test]
async fn goes_on_elsewhere_when_it_is_asked_to_without_a_word() {
    let mut stage = Stage::open().await;
    let (bob, mut events, line) = stage.bob().await;
    let after = Some(Duration::from_millis(10).try_into().unwrap());
    line.says(Frame::Reconnect(proto::Reconnect { after, reason: 1 })).await;
    // The first one will not have it; the old stream goes on.
    let mut refusing = stage.line().await;
    refusing.hears_join().await;
    refusing.ends(Code::Unavailable, "server is shutting down").await;
    line.tells(11, "eve", text("one")).await;
    hears(&mut events, 11, "one").await;
    let mut next_line = stage.line().await;
    let since = next_line.hears_join().await.since;
    assert_eq!(since, Some(proto::join::Since::After(at(11))));
    next_line.welcomes(11, true, 0).await;
    next_line.tells(12, "eve", text("two")).await;
    hears(&mut events, 12, "two").await;
    timeout(SOON, line.frames.closed()).await.expect("the old stream is dropped");
    drop(bob);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let mut stage = Stage::open().await;
    let (_bob, mut events, _line) = stage.bob().await;
    let mut line = stage.line().await;
    assert_eq!(line.hears_join().await.session_token, b"secret");
    line.welcomes(10, true, 0).await;
    let away = next(&mut events).await;
    assert!(matches!(away, Update::Disconnected { reason: Reason::Silent { .. } }), "{away:?}");
    assert_eq!(next(&mut events).await, Update::Reconnected { resumed: true });
}

#[tokio::test]
async fn who_does_not_read_holds_up_the_stream_and_loses_nothing() {
    let mut stage = Stage::open().await;
    let (_bob, mut events, line) = stage.bob().await;
    let content = "x".repeat(1000);
    let telling = async {
        for seq in 11..1011 {
            line.tells(seq, "eve", text(&content)).await;
        }
    };
    let mut telling = std::pin::pin!(telling);
    let held = timeout(Duration::from_secs(1), &mut telling).await;
    assert!(held.is_err(), "a megabyte went to somebody who reads nothing");
    let reading = async {
        for seq in 11..1011 {
            hears(&mut events, seq, &content).await;
        }
    };
    tokio::join!(telling, reading);
}

#[tokio::test]
async fn refusals_are_final() {
    let mut stage = Stage::open().await;
    let joining = stage.joins(Options::new("lobby", "bob"));
    let refusing = async {
        let mut line = stage.line().await;
        line.hears_join().await;
        line.ends(Code::AlreadyExists, "taken").await;
    };
    let (joined, ()) = tokio::join!(joining, refusing);
    let refused = Error::Refused { code: Code::AlreadyExists, message: "taken".to_owned() };
    assert_eq!(joined.unwrap_err(), refused);

    let (bob, mut events, line) = stage.bob().await;
    line.ends(Code::PermissionDenied, "told to go").await;
    let refused = Error::Refused { code: Code::PermissionDenied, message: "told to go".into() };
    assert_eq!(timeout(SOON, events.next()).await.unwrap(), Some(Err(refused)));
    assert_eq!(events.next().await, None);
    assert_eq!(bob.say("hello").await, Err(SayError::NotSent));
    assert_eq!(bob.members(0).await, Err(CallError::Ended));
    assert_eq!(bob.leave().await, Ok(()));
}

#[tokio::test]
async fn time_that_is_bounded_ends() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = Address::parse(&nobody.local_addr().unwrap().to_string()).unwrap();
    drop(nobody);
    let mut options = Options::new("lobby", "bob");
    options.join_within = Some(Duration::ZERO);
    let error = Client::join(Connector::new(addr.clone()), options).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot reach {addr}: ")), "{error}");
}

#[tokio::test]
async fn asks_about_the_room() {
    let mut stage = Stage::open().await;
    let (bob, _events, _line) = stage.bob().await;
    let names = |members: Members| -> Vec<_> {
        members.members.into_iter().map(|member| member.username).collect()
    };
    let all = bob.members(0).await.unwrap();
    assert_eq!(all.total, 5);
    assert_eq!(names(all), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(names(bob.members(3).await.unwrap()), ["m0", "m1", "m2"]);
    let before = Position::new(Epoch(1), 5);
    let page = bob.history(Range::Before(before), 1).await.unwrap();
    assert_eq!(page.events[0].position.seq, 4);
    assert_eq!((page.head, page.gap), (Some(Position::new(Epoch(1), 9)), None));
    assert!(matches!(bob.history(Range::Latest, 1).await, Err(CallError::Failed { .. })));
}

#[tokio::test]
async fn dropped_handles_end_the_stream() {
    let mut stage = Stage::open().await;
    let (bob, events, mut line) = stage.bob().await;
    drop(events);
    line.tells(11, "eve", text("unheard")).await;
    let (said, ()) = tokio::join!(bob.say("still here"), async {
        assert_eq!(line.hears_say().await.0, 1);
        line.acks(1, 12, false).await;
    });
    assert!(said.is_ok(), "{said:?}");
    drop(bob);
    timeout(SOON, line.frames.closed()).await.expect("the stream ends");
}

#[test]
fn the_token_does_not_show() {
    assert_eq!(format!("{:?}", stream::SessionToken(b"secret".to_vec())), "SessionToken(..)");
}
