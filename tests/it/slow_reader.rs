//! Readers that do not keep up hurt nobody but themselves.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::harness::{ChatClient, Cluster, Dialect, Layout, Pace, Payload, SOON};

on_both_backplanes!(
    readers_that_never_read_cost_bounded_memory_and_nobody_elses_time,
    a_stream_beside_a_stalled_one_on_its_connection_is_not_cut,
    a_reader_that_pauses_for_a_thousand_tiny_messages_misses_none,
    a_reader_that_says_goodbye_still_gets_what_came_before,
);

/// HTTP/2 windows of a client with modest memory: a stream's, and its connection's. They
/// also bound how many small frames such a client's HTTP/2 bears before it cuts the connection.
const MODEST: (u32, u32) = (128 * 1024, 256 * 1024);

/// What a replica's memory may grow by, with eight such readers.
const GROWTH: u64 = 40 * 1024 * 1024;

/// Says so many messages of one size; answers when each was sent.
async fn say_many(
    client: &ChatClient,
    numbers: std::ops::Range<usize>,
    size: usize,
    pace: &Pace,
) -> Vec<Instant> {
    let mut sent = Vec::with_capacity(numbers.len());
    for number in numbers {
        pace.keep(client.name(), number).await;
        sent.push(Instant::now());
        client.send(Payload::message("", &format!("{number:0size$}"), "")).await;
    }
    sent
}

/// Everything up to `total` has come, each message once and in order.
async fn assert_complete(client: &ChatClient, from: &str, total: usize) {
    let all = client.record().wait(Duration::from_secs(20), |state| {
        let heard = state.counts.get(from).copied().unwrap_or_default();
        (heard >= total || state.ended.is_some()).then_some(())
    });
    assert!(all.await.is_some(), "{client:?}");
    client.assert_open();
    let state = client.record().state();
    let said = state.heard.iter().filter(|heard| heard.username == from);
    let numbers: Vec<usize> = said.map(|heard| heard.content.parse().expect("a number")).collect();
    assert!(numbers.iter().copied().eq(0..total), "{} heard {}", client.name(), numbers.len());
}

/// The middle one of the delays between sending and hearing, and the longest.
fn delays(client: &ChatClient, from: &str, first: usize, sent: &[Instant]) -> (Duration, Duration) {
    let state = client.record().state();
    let heard = state.heard.iter().filter(|heard| heard.username == from).skip(first);
    let mut delays: Vec<_> =
        heard.zip(sent).map(|(heard, sent)| heard.at.saturating_duration_since(*sent)).collect();
    delays.sort_unstable();
    (delays[delays.len() / 2], *delays.last().expect("some"))
}

async fn readers_that_never_read_cost_bounded_memory_and_nobody_elses_time(layout: Layout) {
    const BEFORE: usize = 5_000;
    const TOTAL: usize = 50_000;
    // What the log keeps has nothing to do with readers.
    let plan = layout.plan().with("ROOMCAST_HISTORY__LENGTH", "5000");
    let cluster = plan.alone().start().await;
    // The stalled ones are all on the last replica, one listener beside them.
    let mut near = cluster.endpoint(2).enter("near").await;
    let mut far = cluster.endpoint(1).enter_seen_by("far", &mut [&mut near]).await;
    let sender = cluster.endpoint(0).enter_seen_by("sender", &mut [&mut near, &mut far]).await;
    let pace = Pace::of([&near, &far], 200);
    let sent = say_many(&sender, 0..BEFORE, 1024, &pace).await;
    assert_complete(&near, "sender", BEFORE).await;
    let usual = delays(&near, "sender", 0, &sent);

    let replica = cluster.replicas.last().expect("replicas");
    let before = replica.resident_bytes();
    let mut stalled = Vec::new();
    for number in 0..8 {
        let endpoint = cluster.endpoint(2).speaking([Dialect::Typed, Dialect::Struct][number % 2]);
        stalled.push(endpoint.join_without_reading(&format!("stalled {number}")).await);
    }
    for number in 0..8 {
        near.until_heard(&format!("stalled {number} joined")).await;
    }
    let sent = say_many(&sender, BEFORE..TOTAL, 1024, &pace).await;
    let grown = replica.resident_bytes().saturating_sub(before);
    assert_complete(&near, "sender", TOTAL).await;
    assert_complete(&far, "sender", TOTAL).await;
    let (middle, longest) = delays(&near, "sender", BEFORE, &sent);
    println!(
        "memory grew by {} KiB; delays before {usual:?}, with stalled readers {middle:?} \
              and at most {longest:?}",
        grown / 1024
    );
    assert!(grown < GROWTH, "the replica grew by {grown} bytes");
    assert!(middle < usual.0 * 4 + Duration::from_millis(25), "{middle:?}, usually {usual:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    // When they do read, they are told that they were too slow.
    for client in &stalled {
        client.drain();
        client.expect_end(Code::ResourceExhausted).await;
        let left = format!("{} left", client.name());
        near.until_heard(&left).await;
        assert_eq!(near.times(&left), 1);
    }
}

async fn a_stream_beside_a_stalled_one_on_its_connection_is_not_cut(layout: Layout) {
    const TOTAL: usize = 4_000;
    let cluster: Cluster = layout.plan().alone().start().await;
    let sender = cluster.endpoint(0).enter("sender").await;
    let shared = cluster.endpoint(1).with_windows(MODEST.0, MODEST.1).on_one_connection().await;
    let good = shared.enter_in_sight_of("good", &sender).await;
    let stalled = shared.join_without_reading("stalled").await;
    sender.until_heard("stalled joined").await;
    say_many(&sender, 0..TOTAL, 1, &Pace::of([&good], 256)).await;
    assert_complete(&good, "sender", TOTAL).await;
    // The connection lives: it takes another stream.
    shared.enter_in_sight_of("late", &sender).await;
    drop(stalled);
}

async fn a_reader_that_pauses_for_a_thousand_tiny_messages_misses_none(layout: Layout) {
    const TOTAL: usize = 1_200;
    let cluster = layout.plan().alone().start().await;
    let sender = cluster.endpoint(0).enter("sender").await;
    let endpoint = cluster.endpoint(1).with_windows(MODEST.0, MODEST.1);
    let dozing = endpoint.join_without_reading("dozing").await;
    sender.until_heard("dozing joined").await;
    let awake = cluster.endpoint(1).enter_in_sight_of("awake", &sender).await;
    say_many(&sender, 0..TOTAL, 1, &Pace::of([&awake], 256)).await;
    assert_complete(&awake, "sender", TOTAL).await;
    dozing.drain();
    assert_complete(&dozing, "sender", TOTAL).await;
    sender.assert_open();
}

async fn a_reader_that_says_goodbye_still_gets_what_came_before(layout: Layout) {
    const TOTAL: usize = 60;
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut carol = cluster.endpoint(0).enter_seen_by("carol", &mut [&mut alice]).await;
    let mut bob =
        cluster.endpoint(1).with_windows(65_535, 65_535).join_without_reading("bob").await;
    alice.expect_system("bob joined").await;
    carol.expect_system("bob joined").await;
    let pace = Pace::of([&carol], TOTAL);
    say_many(&alice, 0..TOTAL, 8 * 1024, &pace).await;
    assert_complete(&carol, "alice", TOTAL).await;
    bob.half_close();
    alice.until_heard("bob left").await;
    // What happens then is nothing to him, and takes nothing from him.
    alice.say("after").await;
    carol.record().wait(SOON, |state| (state.counts["alice"] > TOTAL).then_some(())).await;
    bob.drain();
    bob.expect_end(Code::Ok).await;
    assert_eq!(bob.record().state().counts["alice"], TOTAL, "{bob:?}");
}
