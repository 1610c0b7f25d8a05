//! A reader that falls behind is served from the log, and hurts nobody.

use std::time::{Duration, Instant};

use roomcast_proto::room::{Event, connect_request::Frame, event::What};

use crate::harness::{Cluster, Dialect, News, Proxy, Replica, RichClient, SOON};

/// How many messages, and how large: several times what a window of two megabytes keeps.
const MESSAGES: u64 = 5_000;
const SIZE: usize = 1024;

/// What a replica's memory may grow by meanwhile.
const GROWTH: u64 = 40 * 1024 * 1024;

fn number(event: &Event) -> u64 {
    let Some(What::Said(said)) = &event.what else { panic!("not said: {event:?}") };
    said.content.parse().expect("a number")
}

/// The next `MESSAGES` are all there, in order.
async fn expect_all(client: &mut RichClient) {
    let mut next = 0;
    while next < MESSAGES {
        match client.next_news(SOON).await {
            Some(News::Event(event)) => assert_eq!(number(&event), next, "{client:?}"),
            other => panic!("{other:?} instead of message {next}: {client:?}"),
        }
        next += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_sleeps_gets_everything_when_it_wakes() {
    for plan in [Cluster::memory(), Cluster::redis(2)] {
        let cluster = plan.with("ROOMCAST_LIMITS__WINDOW_BYTES", "2MiB").start().await;
        let proxy = Proxy::start(&cluster).await;
        let endpoint = proxy.endpoint(Dialect::Typed);
        let join = |name| RichClient::asking("den", name);
        let mut alice = RichClient::open(&endpoint, join("alice")).await;
        alice.welcome().await;
        let mut awake = RichClient::open(&endpoint, join("awake")).await;
        awake.welcome().await;
        alice.expect_joined("awake").await;
        let mut asleep = RichClient::open_stalled(&endpoint, Frame::Join(join("asleep"))).await;
        awake.expect_joined("asleep").await;
        alice.expect_joined("asleep").await;
        let resident = || cluster.replicas.iter().map(Replica::resident_bytes).sum::<u64>();
        let before = resident();
        let mut longest = Duration::ZERO;
        for number in 0..MESSAGES {
            let (said, content) = (Instant::now(), format!("{number:0SIZE$}"));
            alice.say(number + 1, &content).await;
            awake.expect_said("alice", &content).await;
            alice.expect_ack(number + 1).await;
            longest = longest.max(said.elapsed());
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < GROWTH, "grew by {grown} bytes");
        assert!(longest < Duration::from_secs(5), "the others waited for {longest:?}");
        asleep.drain();
        asleep.welcome().await;
        expect_all(&mut asleep).await;
        // It is back among the others.
        let last = alice.say_and_wait(MESSAGES + 1, "last").await;
        assert_eq!(asleep.expect_said("alice", "last").await, last);
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_for_long_is_dropped_and_its_session_lingers() {
    let cluster = Cluster::redis(1)
        .with("ROOMCAST_SERVER__PING_INTERVAL", "200ms")
        .with("ROOMCAST_SERVER__IDLE_TIMEOUT", "2s")
        .start()
        .await;
    let mut alice =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let stuck = Frame::Join(RichClient::asking("den", "stuck"));
    let stuck = RichClient::open_stalled(&cluster.endpoint(0), stuck).await;
    alice.expect_joined("stuck").await;
    let began = Instant::now();
    let mut number = 0;
    // It pings all the time, and takes nothing.
    let left = loop {
        number += 1;
        alice.say_and_wait(number, &"x".repeat(8192)).await;
        let _ = stuck.offer(Frame::Ping(roomcast_proto::room::Ping { nonce: number })).await;
        match alice.next_event().await {
            Event { what: Some(What::Left(left)), username, .. } if username == "stuck" => {
                break left;
            }
            _ => assert!(began.elapsed() < 3 * SOON, "nobody was dropped"),
        }
    };
    assert_eq!(left.cause(), roomcast_proto::room::LeftCause::TimedOut);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_dropped_and_one_that_pings_is_not() {
    let cluster = Cluster::memory()
        .with("ROOMCAST_SERVER__PING_INTERVAL", "200ms")
        .with("ROOMCAST_SERVER__IDLE_TIMEOUT", "1s")
        .with("ROOMCAST_NAMES__LINGER", "1s")
        .start()
        .await;
    let mut alice =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let mut mute = RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "mute")).await;
    mute.welcome().await;
    alice.expect_joined("mute").await;
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    let mut nonce = 0;
    while alice.next_news(Duration::ZERO).await.is_none() {
        pace.tick().await;
        nonce += 1;
        alice.ping(nonce).await;
        alice.expect_pong(nonce).await;
        assert!(nonce < 100, "nobody was dropped");
    }
    mute.expect_end(tonic::Code::DeadlineExceeded).await;
    // The server was not silent either.
    let pongs = mute.inbox().state().told.len();
    assert!(pongs >= 4, "{pongs} frames");
}

/// The figures of `docs/benchmarks.md`: `cargo test --test it rich::slow::a_minute -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn a_minute_of_sleep_at_five_hundred_messages_a_second() {
    const RATE: u64 = 500;
    const TOTAL: u64 = 60 * RATE;
    let cluster = Cluster::redis(2).alone().start().await;
    let join = |name| RichClient::asking("den", name);
    let mut alice = RichClient::open(&cluster.endpoint(0), join("alice")).await;
    alice.welcome().await;
    let mut awake = RichClient::open(&cluster.endpoint(1), join("awake")).await;
    awake.welcome().await;
    let (mut alone, mut beside) = (vec![], vec![]);
    let mut asleep = None;
    let mut before = 0;
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    // Ten seconds without a sleeper first.
    for number in 0..TOTAL + 10 * RATE {
        if number == 10 * RATE {
            before = cluster.replicas[1].resident_bytes();
            let join = Frame::Join(join("asleep"));
            // With tonic's own windows its HTTP/2 would give up the connection: see `docs/guarantees.md`.
            let endpoint = cluster.endpoint(1).with_windows(64 * 1024, 1024 * 1024);
            asleep = Some(RichClient::open_stalled(&endpoint, join).await);
            awake.expect_joined("asleep").await;
        }
        pace.tick().await;
        let said = Instant::now();
        alice.say(number + 1, &format!("{number}")).await;
        awake.expect_said("alice", &format!("{number}")).await;
        let delays = if asleep.is_some() { &mut beside } else { &mut alone };
        delays.push(said.elapsed());
        alice.expect_ack(number + 1).await;
    }
    alone.sort_unstable();
    beside.sort_unstable();
    let at = |delays: &[Duration], percent: usize| delays[delays.len() * percent / 100];
    let grown = cluster.replicas[1].resident_bytes().saturating_sub(before);
    let mut asleep = asleep.expect("it came");
    let woke = Instant::now();
    asleep.drain();
    asleep.welcome().await;
    let mut seen = 0;
    while seen < TOTAL {
        match asleep.next_news(SOON).await {
            Some(News::Event(event)) => assert_eq!(number(&event), 10 * RATE + seen),
            other => panic!("{other:?} after {seen} messages"),
        }
        seen += 1;
    }
    println!(
        "{seen} events caught up within {:?}; the replica grew by {} KiB; delay p50 and p99 before \
         {:?} {:?}, beside the sleeper {:?} {:?}",
        woke.elapsed(),
        grown / 1024,
        at(&alone, 50),
        at(&alone, 99),
        at(&beside, 50),
        at(&beside, 99),
    );
}
