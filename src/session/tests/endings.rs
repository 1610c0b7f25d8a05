//! How a session's stream ends, what the room hears of it, and what its reader still gets.

use std::{
    future::{pending, ready},
    sync::atomic::AtomicBool,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::sleep;

use super::{answers::Taker, *};
use crate::{
    backplane::Overdue,
    domain::{Event, EventKind, LeftCause, Position, SecretHash, SessionId},
    hub::{Encoder, Membership, PutOut, Reader},
    room::Lost,
};

const LINGER: Duration = Duration::from_secs(10);

/// A claim of a name in a room, by a session that lingers for so long if its client was told of it.
fn lingering(room: &RoomName, name: &str, linger: Duration, told: bool) -> Claim {
    let session = SessionId::from_bytes(rand::random());
    let claim = claim(room, SessionClaim::New(session, SecretHash::of(&[7; 32])));
    let name = Username::parse(name, UsernameLimits { max_chars: 64 }).unwrap();
    Claim { name, linger, told: Arc::new(AtomicBool::new(told)), ..claim }
}

/// Why bob left, as the room has heard within a minute of his stream's end, or hears from whoever reaps then.
async fn heard(end: Ending, linger: Duration, told: bool) -> Option<LeftCause> {
    let memory = memory();
    let here = attach(&memory);
    let (backplane, reader) = (here.backplane.clone(), attach(&memory));
    let hub =
        Hub::start(backplane, here.signals, here.id, hub_config(), Metrics::new(), Sampler::off());
    let room = props::some_room();
    // Of a room that nobody is in nothing stays.
    let alice = hub.enter(lingering(&room, "alice", linger, true), nobody()).await.unwrap();
    let bob = hub.enter(lingering(&room, "bob", linger, told), nobody()).await.unwrap();
    let session = bob.membership.member().session();
    let input = match end.clone() {
        Ending::HalfClosed => stream::empty().boxed(),
        Ending::Left => stream::once(ready(Ok(Input::Leave))).boxed(),
        end => stream::once(ready(Err(end))).boxed(),
    };
    let limits = SessionLimits {
        content_bytes: 1024,
        inflight: 4,
        rate: UNLIMITED,
        max_age: Duration::ZERO,
    };
    let taker = Taker::new();
    let link = taker.link(bob.head);
    let ended =
        run(&hub, bob.membership, input, pending(), allowed(&limits), &Uncounted, Some(&link))
            .await;
    assert_eq!(ended, end);
    sleep(Duration::from_secs(60)).await;
    let page = reader.read(&room, 0, 100).await;
    let left = page.events.iter().filter(|(_, event)| event.member.session == session);
    let causes = left.filter_map(|(_, event)| match event.what {
        EventKind::Left { cause } => Some(cause),
        _ => None,
    });
    // What is given up ends with the replica.
    hub.stop().await;
    sleep(2 * LEASE + linger).await;
    let overdue = reader.overdue(&room).await;
    let overdue = overdue.iter().filter(|it| it.member.session == session);
    let causes: Vec<_> = causes.chain(overdue.map(Overdue::cause)).collect();
    assert!(causes.len() < 2, "{end:?}: {causes:?}");
    drop(alice);
    causes.first().copied()
}

/// What the room hears, without lingering and with it; and what when the end came before the client took
/// its welcome.
type Row = (Option<LeftCause>, Option<LeftCause>, Option<LeftCause>);

fn row(end: &Ending) -> Row {
    use LeftCause::{Asked, Disconnected, Ended, Shutdown, TimedOut};
    let lingers = |cause| (Some(cause), Some(TimedOut), Some(TimedOut));
    match end {
        Ending::Left => (Some(Asked), Some(Asked), Some(Asked)),
        Ending::HalfClosed => lingers(Asked),
        Ending::ShuttingDown => lingers(Shutdown),
        Ending::Unreadable(_)
        | Ending::ContentTooLong { .. }
        | Ending::Silent(_)
        | Ending::Crowded
        | Ending::TooOld
        | Ending::TokenExpired
        | Ending::Unauthenticated(_)
        | Ending::Denied(_)
        | Ending::Dismissed { may_return: true, .. }
        | Ending::Muted(_) => lingers(Ended),
        // Nobody has the token.
        Ending::Disconnected => (Some(Disconnected), Some(TimedOut), Some(Disconnected)),
        Ending::Stalled(_) => (Some(Ended), Some(TimedOut), Some(Ended)),
        // Only of the chat protocol, which has no sessions.
        // And nobody is to come back to the last one.
        Ending::Unavailable | Ending::TooSlow | Ending::Dismissed { may_return: false, .. } => {
            (Some(Ended), Some(Ended), Some(Ended))
        }
        // The room has heard all of it, and another stream or somebody else has the name: here, nobody has, and it
        // ends with the replica.
        Ending::NameLost | Ending::Superseded | Ending::PutOut(_) => {
            lingers(LeftCause::ReplicaLost)
        }
        // What becomes of a leave; no end of a stream by itself.
        Ending::LeaveNotStored => (Some(Asked), Some(TimedOut), Some(TimedOut)),
    }
}

#[tokio::test(start_paused = true)]
async fn the_room_hears_what_the_table_says() {
    for end in [
        Ending::HalfClosed,
        Ending::Left,
        Ending::Disconnected,
        Ending::Unreadable("x".to_owned()),
        Ending::ContentTooLong { got: 2, max: 1 },
        Ending::Unavailable,
        Ending::Crowded,
        Ending::TooSlow,
        Ending::Stalled(LINGER),
        Ending::Silent(LINGER),
        Ending::NameLost,
        Ending::Superseded,
        Ending::ShuttingDown,
        Ending::LeaveNotStored,
        Ending::TooOld,
        Ending::TokenExpired,
        Ending::Unauthenticated("x".to_owned()),
        Ending::Denied("x".to_owned()),
        Ending::PutOut(PutOut::Forbidden),
        Ending::Muted(None),
        Ending::Dismissed { may_return: true, reason: "x".into() },
        Ending::Dismissed { may_return: false, reason: "x".into() },
    ] {
        let (without, with, untold) = row(&end);
        assert_eq!(heard(end.clone(), Duration::ZERO, true).await, without, "{end:?}, no linger");
        assert_eq!(heard(end.clone(), LINGER, true).await, with, "{end:?}, linger");
        assert_eq!(heard(end.clone(), LINGER, false).await, untold, "{end:?} at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leave_that_is_not_stored_is_not_confirmed_and_told_later() {
    let memory = memory();
    let (here, there) = (attach(&memory), attach(&memory));
    let odd = Odd::new(here.backplane, Oddity::AwayOnce);
    let hub = Hub::start(odd, here.signals, here.id, hub_config(), Metrics::new(), Sampler::off());
    let room = props::some_room();
    let bob = hub.enter(lingering(&room, "bob", LINGER, true), nobody()).await.unwrap();
    let taker = Taker::new();
    let link = taker.link(bob.head);
    let limits = SessionLimits {
        content_bytes: 1024,
        inflight: 4,
        rate: UNLIMITED,
        max_age: Duration::ZERO,
    };
    let input = stream::once(ready(Ok(Input::Leave)));
    let ended =
        run(&hub, bob.membership, input, pending(), allowed(&limits), &Uncounted, Some(&link))
            .await;
    assert_eq!(ended, Ending::LeaveNotStored);
    sleep(Duration::from_secs(5)).await;
    let page = there.read(&room, 0, 100).await;
    let last = page.events.last().map(|(_, event)| event.what.clone());
    assert_eq!(last, Some(EventKind::Left { cause: LeftCause::Asked }));
    hub.stop().await;
}

/// Writes what is said, and who went.
#[derive(Debug)]
struct Writer;

impl Encoder for Writer {
    fn index(&self) -> usize {
        2
    }

    fn encode(&self, _: Position, event: &Event) -> Bytes {
        match &event.what {
            EventKind::Said { content } => content.to_string().into(),
            EventKind::Left { .. } => "!".into(),
            EventKind::Joined | EventKind::Moderated(_) | EventKind::Unknown => Bytes::new(),
        }
    }

    fn encode_lost(&self, _: &Lost) -> Bytes {
        "?".into()
    }
}

/// All that a reader takes by the time that everything has come in.
async fn taken(reader: &Reader) -> String {
    let mut all = Vec::new();
    loop {
        // The log of a follower is read beside it; here it stays at the window.
        sleep(Duration::from_secs(1)).await;
        let chunk = reader.take(&Writer, u64::MAX, 1024, None).unwrap();
        if chunk.events == 0 {
            return String::from_utf8(all).unwrap();
        }
        all.extend_from_slice(&chunk.bytes);
    }
}

/// Bob leaves in this way while alice talks; what he gets.
async fn got_around_a_leave<F: Future<Output = ()>>(
    numbered: bool,
    leave: impl Fn(Membership) -> F,
) -> (String, bool) {
    let memory = memory();
    let (here, there) = (attach(&memory), attach(&memory));
    let hub = Hub::start(
        here.backplane,
        here.signals,
        here.id,
        hub_config(),
        Metrics::new(),
        Sampler::off(),
    );
    let room = props::some_room();
    let alice = there.join(&room, "alice").await;
    there.say(&alice, 1, "-").await;
    let claim = if numbered {
        lingering(&room, "bob", Duration::ZERO, true)
    } else {
        claim(&room, SessionClaim::Plain)
    };
    let bob = hub.enter(claim, nobody()).await.unwrap().membership;
    let reader = bob.reader().clone();
    assert_eq!(taken(&reader).await, "");
    there.say(&alice, 2, "a").await;
    there.say(&alice, 3, "b").await;
    leave(bob).await;
    there.say(&alice, 4, "c").await;
    let got = taken(&reader).await;
    there.say(&alice, 5, "d").await;
    assert_eq!(taken(&reader).await, "");
    let ended = (got, reader.is_at_end() && reader.goes_on_to_its_end());
    hub.stop().await;
    ended
}

#[tokio::test(start_paused = true)]
async fn a_member_gets_what_stands_before_its_own_left_and_nothing_else() {
    for numbered in [false, true] {
        let released = got_around_a_leave(numbered, |bob| bob.release(LeftCause::Asked));
        assert_eq!(released.await, ("ab".to_owned(), true), "{numbered}");
        let left = got_around_a_leave(numbered, async |bob| bob.leave().await.unwrap());
        assert_eq!(left.await, ("ab".to_owned(), true), "{numbered}");
        // Nobody waits for this one, so nobody knows where it is, but that it is.
        let departed = got_around_a_leave(numbered, async |bob| {
            bob.release_later(LeftCause::Ended);
            sleep(Duration::from_secs(1)).await;
        });
        assert_eq!(departed.await, ("ab".to_owned(), false), "{numbered}");
    }
}
