//! Many clients on one connection, as behind a load balancer: what one of them does, or many at once
//! without meaning any harm, does not end it for the others. Floods do.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::harness::{
    ChatClient, Cluster, Dialect, Proxy, SOON, eventually,
    raw::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM,
        RawConnection, SETTINGS, WINDOW_UPDATE, chat, frame, head, message, reset,
    },
};

/// A connection on which alice chats, on stream 1, and somebody else elsewhere whom she hears.
struct Shared {
    cluster: Cluster,
    bob: ChatClient,
    connection: RawConnection,
    rounds: u8,
}

impl Shared {
    /// Opens so many streams that the server refuses, and waits until it has reset them all.
    async fn have_refused(&mut self, count: u32) -> impl Iterator<Item = u32> + Clone + use<> {
        let streams = (0..count).map(|number| 3 + 2 * number);
        let refused: Vec<u8> =
            streams.clone().flat_map(|stream| chat(stream, &[("chat-room", "n@")])).collect();
        assert!(self.connection.send(&refused).await);
        for _ in streams.clone() {
            self.connection.until("a reset", |frame| frame.kind == RST_STREAM).await;
        }
        streams
    }

    async fn start() -> Self {
        let cluster = Cluster::memory().start().await;
        let mut bob = cluster.endpoint(0).enter("bob").await;
        let mut connection = RawConnection::open(cluster.replicas[0].grpc()).await;
        assert!(connection.send(&[chat(1, &[]), message(1, "alice", "")].concat()).await);
        bob.expect_system("alice joined").await;
        Self { cluster, bob, connection, rounds: 0 }
    }

    /// Alice is heard and hears.
    async fn assert_alice_is_there(&mut self) {
        self.rounds += 1;
        let text = format!("round {}", self.rounds);
        assert!(self.connection.send(&message(1, "alice", &text)).await);
        self.bob.expect_said("alice", &text).await;
        self.bob.say(&text).await;
        self.connection.until_told(1, &text).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_and_cancel_cost_the_others_nothing() {
    let mut shared = Shared::start().await;
    let mut streams = (3..).step_by(2);
    // Few at a time, again and again; then as many as there are on a connection, all in one write.
    for size in std::iter::repeat_n(25, 80).chain([1_000]) {
        let at_once = streams.by_ref().take(size);
        let bytes: Vec<u8> =
            at_once.flat_map(|stream| [chat(stream, &[]), reset(stream)].concat()).collect();
        assert!(shared.connection.send(&bytes).await, "the connection is there");
        shared.connection.until_read(7).await;
    }
    shared.assert_alice_is_there().await;
    // And those that are answered before they cancel.
    let answered: Vec<u32> = streams.take(500).collect();
    for stream in answered {
        assert!(shared.connection.send(&chat(stream, &[])).await);
        let answer = (HEADERS, stream);
        shared.connection.until("an answer", |it| (it.kind, it.stream) == answer).await;
        assert!(shared.connection.send(&reset(stream)).await);
    }
    shared.assert_alice_is_there().await;
    shared.cluster.assert_no_errors();
}

/// Who gives up on a replica that stands still.
const GUESTS: u64 = 60;

/// A replica that stood still finds at once what many clients have begun and given up meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_gave_up_on_a_replica_that_stood_still_cost_the_others_nothing() {
    let cluster = Cluster::redis(1).start().await;
    let proxy = Proxy::start(&cluster).await;
    let den = proxy.endpoint(Dialect::Typed).into_room("den");
    let mut alice = den.enter("alice").await;
    let mut bob = den.enter_seen_by("bob", &mut [&mut alice]).await;
    let endpoint = proxy.endpoint(Dialect::Typed).on_one_connection().await;
    cluster.replicas[0].signal(Signal::SIGSTOP);
    // Soon Envoy sends nobody there any more.
    let mut guests = vec![];
    for number in 0..GUESTS {
        guests.push(endpoint.join(&format!("guest {number}")).await);
    }
    eventually(SOON, "all have been passed on", async || {
        let active = proxy.counter("cluster.roomcast.upstream_rq_active").await?;
        (active >= GUESTS + 2).then_some(())
    })
    .await;
    guests.iter_mut().for_each(ChatClient::cancel);
    eventually(SOON, "all have given up", async || {
        let reset = proxy.counter("cluster.roomcast.upstream_rq_tx_reset").await?;
        (reset >= GUESTS).then_some(())
    })
    .await;
    cluster.replicas[0].signal(Signal::SIGCONT);
    alice.say("still here").await;
    bob.expect_said("alice", "still here").await;
    bob.say("so am I").await;
    alice.expect_said("bob", "so am I").await;
    alice.assert_open();
    bob.assert_open();
}

/// Streams that the server refused, whose clients go on sending for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_is_no_offence() {
    let mut shared = Shared::start().await;
    // Their clients say nothing more for so long that the server resets them.
    let streams = shared.have_refused(400).await;
    for round in 0..10 {
        let late: Vec<u8> = streams.clone().flat_map(|it| message(it, "late", "late")).collect();
        assert!(shared.connection.send(&late).await, "in round {round}");
        shared.connection.until_read(round).await;
    }
    shared.assert_alice_is_there().await;
    shared.cluster.assert_no_errors();
}

/// All streams of a connection are refused at once, and their clients end them before they know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_come_late_are_no_offence() {
    let mut shared = Shared::start().await;
    let streams = shared.have_refused(900).await;
    let trailers = [&[0, 1], &b"x"[..], &[1], b"y"].concat();
    let ends: Vec<u8> = streams
        .flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers))
        .collect();
    assert!(shared.connection.send(&ends).await);
    shared.assert_alice_is_there().await;
    shared.cluster.assert_no_errors();
}

/// What nobody has a reason to send, as fast as it goes, and without taking what is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_end_the_connection_that_floods() {
    let mut shared = Shared::start().await;
    for (what, flags, flood) in [
        ("pings", END_HEADERS, frame(PING, 0, 0, &[7; 8])),
        ("settings", END_HEADERS, frame(SETTINGS, 0, 0, &[])),
        ("window updates", END_HEADERS, frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("empty data", END_HEADERS, frame(DATA, 0, 1, &[])),
        ("priorities", END_HEADERS, frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("frames of an unknown kind", END_HEADERS, frame(99, 0, 1, &[])),
        ("continuations", 0, frame(CONTINUATION, 0, 1, &[])),
    ] {
        let mut attacker = RawConnection::open(shared.cluster.replicas[0].grpc()).await;
        let head = head("POST", "/chat.ChatService/ChatStream", &[]);
        assert!(attacker.send(&frame(HEADERS, flags, 1, &head)).await);
        let flood = flood.repeat(5_000);
        let pour = async {
            let mut rounds = 0;
            while attacker.send(&flood).await {
                rounds += 1;
                assert!(rounds < 2_000, "{what}: ten million and no end");
            }
        };
        // What it does not take fills its socket at the latest; then it is not read, and cut.
        let ended = timeout(Duration::from_secs(120), pour).await;
        assert!(ended.is_ok(), "{what}: no end");
        shared.assert_alice_is_there().await;
    }
    shared.cluster.assert_no_errors();
}

/// A flood that is read is told why it ends, and it is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_told_to_calm_down() {
    let mut shared = Shared::start().await;
    let mut attacker = RawConnection::open(shared.cluster.replicas[0].grpc()).await;
    let flood = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(5_000);
    let mut rounds = 0;
    while attacker.send(&flood).await {
        rounds += 1;
        assert!(rounds < 2_000, "ten million and no end");
    }
    assert!(rounds >= 24, "after {rounds} rounds");
    let series = "roomcast_refusals_total{reason=\"flood\"}";
    shared.cluster.replicas[0].until_at_least(series, 1.0).await;
    shared.assert_alice_is_there().await;
}

/// Streams that end as soon as they begin, in whatever way, cost nothing that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_end_as_they_begin_leave_nothing() {
    const STREAMS: u32 = 50_000;
    type Attack = fn(u32) -> Vec<u8>;
    let mut shared = Shared::start().await;
    let before = shared.cluster.replicas[0].resident_bytes();
    let attacks: [(&str, Attack); 4] = [
        ("rapid resets", |stream| [chat(stream, &[]), reset(stream)].concat()),
        ("windows of nothing", |stream| {
            [chat(stream, &[]), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
        ("data behind the end", |stream| {
            let over = frame(DATA, END_STREAM, stream, &[]);
            [chat(stream, &[]), over.clone(), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
        ("heads that are none", |stream| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("POST", "/", &[("A", "")]))
        }),
    ];
    for (what, attack) in attacks {
        // Nothing that is answered is taken.
        let mut attacker = RawConnection::open(shared.cluster.replicas[0].grpc()).await;
        for first in (0..STREAMS).step_by(500) {
            let bytes: Vec<u8> =
                (first..first + 500).flat_map(|number| attack(1 + 2 * number)).collect();
            let sent = timeout(Duration::from_secs(5), attacker.send(&bytes)).await;
            if sent != Ok(true) {
                break;
            }
        }
        shared.assert_alice_is_there().await;
        let grown = shared.cluster.replicas[0].resident_bytes().saturating_sub(before);
        assert!(grown < 64 * 1024 * 1024, "{what}: the replica grew by {grown} bytes");
    }
    shared.cluster.assert_no_errors();
}
