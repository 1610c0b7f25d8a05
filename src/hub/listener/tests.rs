use std::future::poll_fn;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::*;
use crate::{
    backplane::{
        LogBounds,
        conformance::{Replica, props},
        memory::{Memory, MemoryConfig},
    },
    domain::{ReplicaId, Username, UsernameLimits},
    hub::{Claim, HubConfig, Membership, SessionClaim, StartFrom},
    metrics::Metrics,
    room::Rate,
    trace::Sampler,
    wakers::{ReaderWaker, Wakers},
};

/// Readers that never come to take anything.
#[derive(Debug)]
struct Stalled;

impl Wakers for Stalled {
    fn wake(&self, _: &[usize]) {}
}

const EVENTS: usize = 4096;

fn config() -> HubConfig {
    HubConfig {
        lease: Duration::from_secs(600),
        held_at_most: Duration::from_secs(100),
        window_events: EVENTS,
        window_bytes: 1 << 30,
        unread_bytes: 1 << 30,
        gather: Duration::ZERO,
        room_rate: Rate { interval: Duration::ZERO, burst: 1 },
        rooms: 1000,
        release_timeout: Duration::from_secs(1),
    }
}

/// A hub, and another replica that shares the backplane with it.
fn start(config: HubConfig) -> (Arc<Hub>, Replica) {
    let memory = Memory::new(MemoryConfig {
        lease: Duration::from_secs(600),
        log: LogBounds { length: 1_000_000, bytes: usize::MAX, age: Duration::from_secs(3600) },
        bytes: usize::MAX,
        members_per_room: 10,
        signal_queue: 1_000_000,
    });
    let id = ReplicaId::from_bytes([1; 16]);
    let (backplane, signals) = memory.attach(id);
    let hub = Hub::start(backplane, signals, id, config, Metrics::new(), Sampler::off());
    let id = ReplicaId::from_bytes([2; 16]);
    let (backplane, signals) = memory.attach(id);
    (hub, Replica { id, backplane, signals })
}

async fn stalled(hub: &Arc<Hub>, room: &RoomName) -> Membership {
    let name = Username::parse("reader", UsernameLimits { max_chars: 64 }).unwrap();
    let (session, since) = (SessionClaim::Plain, StartFrom::Now);
    let linger = Duration::ZERO;
    let claim = Claim {
        room: room.clone(),
        name,
        session,
        since,
        linger,
        attempt: 0,
        told: Arc::default(),
    };
    hub.enter(claim, ReaderWaker::new(Arc::new(Stalled), 0)).await.unwrap().membership
}

/// The clock of these tests stands still while anything can be done: it tells how long something was
/// waited for, and nothing else.
#[tokio::test(start_paused = true)]
async fn rooms_do_not_wait_for_each_others_readers() {
    let (hub, other) = start(config());
    let mut memberships = Vec::new();
    for _ in 0..50 {
        memberships.push(stalled(&hub, &props::some_room()).await);
    }
    // What the first canary came to tells nothing then.
    sleep(Duration::from_millis(200)).await;
    for membership in &memberships {
        let room = membership.member().hold().room;
        let speaker = other.join(&room, "speaker").await;
        let said: Vec<_> = (1..=EVENTS as u64 / 2 + 10)
            .map(|seq| other.backplane.append(&speaker, seq, props::said(&speaker, "x")))
            .collect();
        futures_util::future::join_all(said).await;
    }
    let began = Instant::now();
    hub.prove_delivery().await.expect("a canary comes through");
    assert!(began.elapsed() < PAUSE, "{:?} for one canary", began.elapsed());
    for membership in &memberships {
        let room = hub.room(&membership.member().hold().room).expect("it is here");
        assert!(room.is_crowded(), "that is what it is about");
    }
    // Nothing is kept back for long.
    for membership in &memberships {
        while membership.reader().head() < EVENTS as u64 / 2 + 11 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(began.elapsed() < PAUSE * 4, "{:?} until all was passed on", began.elapsed());
}

/// Rooms with readers that take nothing hold so much together, and those that hold little lose nothing.
#[tokio::test(start_paused = true)]
async fn the_windows_of_all_rooms_have_a_bound_together() {
    const MOST: usize = 4 << 20;
    let (hub, other) = start(HubConfig { unread_bytes: MOST, ..config() });
    let mut memberships = Vec::new();
    for _ in 0..50 {
        memberships.push(stalled(&hub, &props::some_room()).await);
    }
    let (modest, greedy) = memberships.split_first().expect("there are some");
    let held = || usize::try_from(hub.metrics.window_bytes.get()).unwrap();
    let content = "x".repeat(8_000);
    for (membership, messages) in
        std::iter::once((modest, 1)).chain(greedy.iter().map(|it| (it, 40)))
    {
        let room = membership.member().hold().room;
        let speaker = other.join(&room, "speaker").await;
        for seq in 1..=messages {
            let said = props::said(&speaker, &content);
            other.backplane.append(&speaker, seq, said).await.unwrap();
        }
        sleep(2 * RELIEF).await;
        assert!(held() <= MOST, "{} bytes", held());
    }
    let is_too_slow = |membership: &Membership| {
        let notice = poll_fn(|cx| membership.member().poll_notice(cx)).now_or_never();
        notice == Some(crate::hub::Notice::TooSlow)
    };
    assert!(!is_too_slow(modest));
    assert!(greedy.iter().filter(|it| is_too_slow(it)).count() > 40);
    drop(memberships);
}
