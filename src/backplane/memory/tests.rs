//! The conformance suite over memory, and what only memory promises.

use std::time::Duration;

use futures_util::FutureExt;

use super::{Memory, MemoryConfig};
use crate::{
    backplane::{
        LogBounds, Signal, Unavailable,
        conformance::{self, Fixture, Replica, Setup, props},
    },
    domain::ReplicaId,
};

struct InMemory;

impl Fixture for InMemory {
    async fn attach(&self, replicas: usize, setup: Setup) -> Vec<Replica> {
        let Setup { lease, log, members_per_room, signal_queue } = setup;
        let memory = Memory::new(MemoryConfig {
            lease,
            log,
            bytes: usize::MAX,
            members_per_room,
            signal_queue,
        });
        (0..replicas).map(|_| attach(&memory)).collect()
    }
}

conformance::suite!(tokio::test(start_paused = true), InMemory);

fn attach(memory: &Memory) -> Replica {
    let id = ReplicaId::from_bytes(rand::random());
    let (backplane, signals) = memory.attach(id);
    Replica { id, backplane, signals }
}

fn memory(signal_queue: usize) -> Memory {
    Memory::new(MemoryConfig {
        lease: Duration::from_secs(15),
        log: LogBounds { length: 100, bytes: usize::MAX, age: Duration::from_secs(60) },
        bytes: usize::MAX,
        members_per_room: 100,
        signal_queue,
    })
}

/// What waits in the queue, in words.
fn waiting(replica: &mut Replica) -> Vec<String> {
    std::iter::from_fn(|| replica.signals.try_recv().ok())
        .map(|signal| match signal {
            Signal::Live(live) => format!("event {}", live.first),
            Signal::Canary(number) => format!("canary {number}"),
            Signal::Resumed(_) => "resumed".to_owned(),
            Signal::Moved(_) => "moved".to_owned(),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_overflow_is_announced_without_anything_else_happening() {
    let memory = memory(3);
    let (a, mut b) = (attach(&memory), attach(&memory));
    let room = props::some_room();
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    for i in 1..=9 {
        a.say(&bob, i, "hi").await;
    }
    b.backplane.canary(1).await.unwrap();
    assert_eq!(waiting(&mut b), ["event 1", "event 2", "event 3", "resumed"]);

    a.say(&bob, 10, "hi").await;
    b.backplane.canary(2).await.unwrap();
    assert_eq!(waiting(&mut b), ["event 11", "canary 2"], "drained, all goes on");
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_a_pending_interruption() {
    let memory = memory(2);
    let (a, mut b) = (attach(&memory), attach(&memory));
    let room = props::some_room();
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "hi").await;
    a.say(&bob, 2, "dropped").await;
    assert!(matches!(b.signals.recv().await, Some(Signal::Live(_))), "there is room again");
    b.backplane.canary(1).await.unwrap();
    a.say(&bob, 3, "dropped").await;
    assert_eq!(waiting(&mut b), ["event 2", "resumed"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_place_has_one() {
    let memory = memory(0);
    let mut a = attach(&memory);
    a.backplane.canary(1).await.unwrap();
    a.backplane.canary(2).await.unwrap();
    assert_eq!(waiting(&mut a), ["canary 1", "resumed"]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_hinders_nobody() {
    let memory = memory(1);
    let (a, b, mut c) = (attach(&memory), attach(&memory), attach(&memory));
    let room = props::some_room();
    b.subscribe(&room).await;
    c.subscribe(&room).await;
    drop(b.signals);
    a.join(&room, "bob").await;
    assert_eq!(waiting(&mut c), ["event 1"]);
}

#[tokio::test(start_paused = true)]
async fn operations_take_effect_when_they_are_first_polled_and_never_wait() {
    let memory = memory(8);
    let a = attach(&memory);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let second = a.backplane.append(&bob, 2, props::said(&bob, "second"));
    let first = a.backplane.append(&bob, 1, props::said(&bob, "first"));
    let first = first.now_or_never().expect("memory does not wait").unwrap();
    let second = second.now_or_never().expect("memory does not wait").unwrap();
    assert_eq!((first.position.seq, second.position.seq), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_closed_end_answers_nothing_and_leaves_nothing() {
    let memory = memory(8);
    let (a, mut b) = (attach(&memory), attach(&memory));
    let room = props::some_room();
    a.subscribe(&room).await;
    b.subscribe(&room).await;
    b.backplane.close().await;
    assert!(b.signals.recv().await.is_none(), "its signals end");
    assert_eq!(b.backplane.subscribe(&room).await, Err(Unavailable));
    assert_eq!(b.backplane.canary(1).await, Err(Unavailable));
    drop(a);
    assert!(memory.lock().outlets.is_empty(), "who is dropped leaves nothing either");
}

#[tokio::test(start_paused = true)]
async fn rooms_are_forgotten_however_many_there_were() {
    let memory = memory(8);
    let a = attach(&memory);
    for _ in 0..100 {
        let bob = a.join(&props::some_room(), "bob").await;
        a.leave(&bob).await;
    }
    let kept = props::some_room();
    let bob = a.join(&kept, "bob").await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        a.renew_one(&bob).await;
    }
    for _ in 0..25 {
        a.renew_one(&bob).await;
    }
    assert_eq!(memory.lock().rooms.len(), (1, 1), "only the room with somebody in it is kept");
    assert_eq!(a.head(&kept).await.position.seq, 1);
}

#[test]
fn a_memory_survives_a_panic_under_its_lock() {
    let memory = memory(8);
    let other = memory.clone();
    let outcome = std::thread::spawn(move || {
        let _guard = other.lock();
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    let a = attach(&memory);
    assert_eq!(a.backplane.canary(1).now_or_never(), Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn durations_beyond_the_clock_mean_never() {
    let memory = Memory::new(MemoryConfig {
        lease: Duration::MAX,
        log: LogBounds { length: 10, bytes: usize::MAX, age: Duration::MAX },
        bytes: usize::MAX,
        members_per_room: usize::MAX,
        signal_queue: 8,
    });
    let a = attach(&memory);
    let bob = a.join(&props::some_room(), "bob").await;
    tokio::time::sleep(Duration::from_secs(365 * 24 * 60 * 60)).await;
    a.say(&bob, 1, "still here").await;
}

#[tokio::test(start_paused = true)]
async fn all_rooms_together_take_no_more_than_they_may() {
    const BYTES: usize = 1 << 20;
    let memory = Memory::new(MemoryConfig {
        lease: Duration::from_secs(15),
        log: LogBounds { length: 1000, bytes: usize::MAX, age: Duration::from_secs(3600) },
        bytes: BYTES,
        members_per_room: 100,
        signal_queue: 8,
    });
    let a = attach(&memory);
    let quiet = props::some_room();
    let alice = a.join(&quiet, "alice").await;
    a.say(&alice, 1, "remember me").await;
    let large = "x".repeat(1000);
    for _ in 0..50 {
        let room = props::some_room();
        let bob = a.join(&room, "bob").await;
        for seq in 1..=100 {
            a.say(&bob, seq, &large).await;
            let (told, bytes) = {
                let state = memory.lock();
                (state.rooms.bytes(), state.rooms.counted())
            };
            assert!(told == bytes && bytes <= BYTES, "{told}, {bytes}");
        }
        a.leave(&bob).await;
    }
    assert!(a.story(&quiet).await.contains(&"2 alice: remember me".to_owned()));
    // More rooms than fit, however little is in them.
    for _ in 0..5000 {
        let room = props::some_room();
        let bob = a.join(&room, "bob").await;
        a.say(&bob, 1, "x").await;
        a.leave(&bob).await;
    }
    assert!(memory.lock().rooms.counted() <= BYTES);
    assert_eq!(a.say(&alice, 2, "still here").await.position.seq, 3);
}
