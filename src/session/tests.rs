//! Sessions against a hub on memory.

mod answers;
mod endings;

use std::{sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream};

use super::*;
use crate::{
    backplane::{
        LogBounds, Unavailable, Verdict,
        conformance::{
            Replica,
            odd::{Odd, Oddity, TIMEOUT},
            props,
        },
        memory::{Memory, MemoryConfig},
    },
    domain::{Page, ReplicaId, RoomName, RoomRole, Username, UsernameLimits},
    hub::{
        Claim, EnterError, HubConfig, SessionClaim, StartFrom,
        testing::{self, nobody},
    },
    metrics::Metrics,
    trace::Sampler,
};

const UNLIMITED: Rate = Rate { interval: Duration::ZERO, burst: 1 };

/// Counts nothing.
struct Uncounted;

impl Unstored for Uncounted {
    fn add(&self, _: usize) {}
    fn sub(&self, _: usize) {}
    fn is_busy(&self) -> bool {
        false
    }
}

/// Has nothing wait.
struct Unbounded;

impl Repeats for Unbounded {
    fn count(&self) -> Duration {
        Duration::ZERO
    }

    fn read<'a>(
        &'a self,
        page: BoxFuture<'a, Result<Page, Unavailable>>,
    ) -> BoxFuture<'a, Result<Page, Unavailable>> {
        page
    }
}

/// What a session may whose client may do everything.
fn allowed(limits: &SessionLimits) -> Allowed<'_> {
    Allowed { limits, rights: Rights::FULL, user_rate: None }
}

const LEASE: Duration = Duration::from_secs(15);

fn attach(memory: &Memory) -> Replica {
    let id = ReplicaId::from_bytes(rand::random());
    let (backplane, signals) = memory.attach(id);
    Replica { id, backplane, signals }
}

fn memory() -> Memory {
    Memory::new(MemoryConfig {
        lease: LEASE,
        log: LogBounds { length: 100, bytes: usize::MAX, age: Duration::from_secs(600) },
        bytes: usize::MAX,
        members_per_room: 100,
        signal_queue: 64,
    })
}

fn hub_config() -> HubConfig {
    let (window_events, window_bytes) = (64, 1 << 20);
    HubConfig { lease: LEASE, window_events, window_bytes, rooms: 8, ..testing::config() }
}

fn claim(room: &RoomName, session: SessionClaim) -> Claim {
    let name = Username::parse("bob", UsernameLimits { max_chars: 64 }).unwrap();
    let (since, linger) = (StartFrom::Now, Duration::ZERO);
    let (attempt, told) = (0, Arc::default());
    let (room, identity, role) = (room.clone(), None, RoomRole::Member);
    Claim { room, name, identity, role, session, since, linger, attempt, told }
}

/// Bob is on one replica, and another one carries his session on. Returns how his old stream ends.
async fn end_of_a_superseded_stream(signals_arrive: bool) -> Ending {
    let memory = memory();
    let (here, there) = (attach(&memory), attach(&memory));
    let config = hub_config();
    let (lost, nothing) = tokio::sync::mpsc::channel(1);
    let signals = if signals_arrive { here.signals } else { nothing };
    let (backplane, metrics) = (here.backplane, Metrics::new());
    let hub = Hub::start(backplane, signals, here.id, config, metrics, Sampler::off());
    let room = props::some_room();
    let membership =
        hub.enter(claim(&room, SessionClaim::Plain), nobody()).await.unwrap().membership;
    let hold = membership.member().hold();
    let (next, joined) = there.take_over(&hold).await;
    assert!(!joined.told);

    let began = tokio::time::Instant::now();
    let limits = SessionLimits {
        content_bytes: 1024,
        inflight: 4,
        rate: UNLIMITED,
        max_age: Duration::ZERO,
    };
    let ending = run(
        &hub,
        membership,
        stream::pending(),
        std::future::pending(),
        allowed(&limits),
        &Uncounted,
        None,
    )
    .await;
    if signals_arrive {
        assert!(began.elapsed() < Duration::from_secs(1), "it hears of it at once");
    } else {
        assert!(began.elapsed() < LEASE, "the head of its room tells it");
    }
    assert_eq!(there.renew_one(&next).await, Verdict::Held, "the new stream is left alone");
    assert_eq!(there.story(&room).await, ["1 bob joined"], "the room hears nothing");
    drop(lost);
    hub.stop().await;
    ending
}

#[tokio::test(start_paused = true)]
async fn a_superseded_stream_ends_at_once() {
    assert_eq!(end_of_a_superseded_stream(true).await, Ending::Superseded);
}

#[tokio::test(start_paused = true)]
async fn a_superseded_stream_that_hears_nothing_ends_with_the_next_look() {
    assert_eq!(end_of_a_superseded_stream(false).await, Ending::Superseded);
}

#[tokio::test(start_paused = true)]
async fn with_the_backplane_away_everybody_who_comes_is_told_so_after_one_try() {
    let here = attach(&memory());
    let odd = Odd::new(here.backplane, Oddity::Away);
    let hub = Hub::start(odd, here.signals, here.id, hub_config(), Metrics::new(), Sampler::off());
    let (room, began) = (props::some_room(), tokio::time::Instant::now());
    let enter = async |_| {
        let entered = hub.enter(claim(&room, SessionClaim::Plain), nobody()).await;
        assert!(matches!(entered, Err(EnterError::Unavailable(_))), "{entered:?}");
        began.elapsed()
    };
    let waited = futures_util::future::join_all((0..10).map(enter)).await;
    assert!(waited.iter().all(|it| it.as_secs() == TIMEOUT.as_secs()), "{waited:?}");
    // Whoever comes later tries anew.
    assert_eq!(enter(10).await.as_secs(), 2 * TIMEOUT.as_secs());
    hub.stop().await;
}
