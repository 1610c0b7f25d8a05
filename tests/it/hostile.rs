//! Input that no client sends: the server lives, serves the others, and forgets it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tonic::Code;

use crate::harness::{
    ChatClient, Cluster, Dialect, Endpoint, Layout, PREFACE, Payload, RawCall, SOON, frame, quiet,
};

on_both_backplanes!(
    ten_thousand_mutated_payloads_leave_the_server_serving,
    bytes_that_are_no_http2_leave_the_server_serving,
    broken_grpc_frames_leave_the_server_serving,
);

/// What all that may add to a replica's memory.
const GROWTH: u64 = 64 * 1024 * 1024;

/// From the variable `IT_SEED`, or a fresh one; printed, so that a failure can be run again.
fn seeded() -> StdRng {
    let given = std::env::var("IT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("IT_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Two who chat before, during and after, and the memory at the beginning.
struct Bystanders {
    cluster: Cluster,
    alice: ChatClient,
    bob: ChatClient,
    memory: u64,
}

impl Bystanders {
    async fn gather(layout: Layout) -> Self {
        let cluster = layout.plan().start().await;
        let mut alice = cluster.endpoint(0).enter("alice").await;
        let bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
        let memory = cluster.replicas[0].resident_bytes();
        Self { cluster, alice, bob, memory }
    }

    fn victim(&self) -> SocketAddr {
        self.cluster.replicas[0].grpc()
    }

    /// They never noticed, newcomers are served, and the server is in good health.
    async fn assert_undisturbed(mut self) {
        quiet(&self.alice, &mut [&mut self.bob]).await;
        quiet(&self.bob, &mut [&mut self.alice]).await;
        let mut both = [&mut self.alice, &mut self.bob];
        let mut carol = self.cluster.endpoint(0).enter_seen_by("carol", &mut both).await;
        quiet(&carol, &mut both).await;
        quiet(&self.bob, &mut [&mut self.alice, &mut carol]).await;
        self.cluster.until_ready(SOON).await;
        self.cluster.assert_no_errors();
        let grown = self.cluster.replicas[0].resident_bytes().saturating_sub(self.memory);
        assert!(grown < GROWTH, "the replica grew by {grown} bytes");
    }
}

/// A payload that is nearly right, or not at all.
fn payload(random: &mut StdRng) -> Bytes {
    let names = ["bob", "zoë", "\u{202e}x", "", "🦀", "System", "a\nb"];
    let name = names.choose(random).expect("some");
    let dialect = if random.random() { Dialect::Typed } else { Dialect::Struct };
    let content = "c".repeat(random.random_range(0..200));
    let mut bytes = Payload::message(name, &content, "now").encode(dialect).to_vec();
    match random.random_range(0..6) {
        0 => {
            bytes = vec![0; random.random_range(0..300)];
            random.fill_bytes(&mut bytes);
        }
        1 => bytes.truncate(random.random_range(0..=bytes.len())),
        2 => bytes.extend((0..random.random_range(1..50)).map(|_| random.random::<u8>())),
        3 => {
            // Structs in structs, as deep as the bytes go.
            for _ in 0..random.random_range(1..200) {
                let length = u8::try_from(bytes.len().min(127)).expect("at most 127");
                bytes.splice(0..0, [0x0a, length]);
            }
        }
        _ => {
            for _ in 0..random.random_range(1..8) {
                if let Some(byte) = (!bytes.is_empty()).then(|| random.random_range(0..bytes.len()))
                {
                    bytes[byte] = random.random();
                }
            }
        }
    }
    bytes.into()
}

/// One stream that sends these and says that no more comes; it must end, and not as the server's
/// own failure.
async fn pour(endpoint: Endpoint, payloads: Vec<Bytes>) {
    let shown = format!("{payloads:?}");
    let dialect = Dialect::of(&payloads[0]);
    let mut payloads = payloads.into_iter().map(Payload::Raw);
    let mut client = endpoint.speaking(dialect).open("hostile", payloads.next()).await;
    for payload in payloads {
        if !client.offer(payload).await {
            break;
        }
    }
    client.half_close();
    let ended = client.ended(SOON).await;
    let allowed = [Code::Ok, Code::InvalidArgument, Code::AlreadyExists, Code::ResourceExhausted];
    assert!(allowed.contains(&ended.code), "{ended:?} for {shown}");
}

async fn ten_thousand_mutated_payloads_leave_the_server_serving(layout: Layout) {
    const PAYLOADS: usize = 10_000;
    let mut random = seeded();
    let bystanders = Bystanders::gather(layout).await;
    // Another room, so that whoever gets in among them is not heard.
    let endpoint = Endpoint::at(bystanders.victim(), Dialect::Typed).into_room("fuzz");
    let endpoints =
        [endpoint.clone().on_one_connection().await, endpoint.on_one_connection().await];
    let at_once = Arc::new(Semaphore::new(32));
    let mut streams = JoinSet::new();
    let mut made = 0;
    while made < PAYLOADS {
        let payloads: Vec<_> =
            (0..random.random_range(1..6)).map(|_| payload(&mut random)).collect();
        made += payloads.len();
        let endpoint = endpoints.choose(&mut random).expect("two").clone();
        let permit = Arc::clone(&at_once).acquire_owned().await.expect("never closed");
        streams.spawn(async move {
            pour(endpoint, payloads).await;
            drop(permit);
        });
        while let Some(done) = streams.try_join_next() {
            done.expect("every stream ends well");
        }
    }
    while let Some(done) = streams.join_next().await {
        done.expect("every stream ends well");
    }
    bystanders.assert_undisturbed().await;
}

/// Writes these bytes and reads whatever comes back, for a moment; the server may close at any time.
async fn throw(addr: SocketAddr, bytes: Vec<u8>, wait: Duration) {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    let _ = stream.write_all(&bytes).await;
    let mut answer = vec![0; 4096];
    let drain = async { while stream.read(&mut answer).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(wait, drain).await;
}

fn opening(random: &mut StdRng) -> Vec<u8> {
    let mut noise = vec![0; random.random_range(0..500)];
    random.fill_bytes(&mut noise);
    let settings = frame(4, 0, 0, &[]);
    let with = |rest: &[u8]| [PREFACE, &settings, rest].concat();
    match random.random_range(0..12) {
        0 => noise,
        1 => PREFACE[..random.random_range(0..PREFACE.len())].to_vec(),
        2 => [PREFACE, &noise].concat(),
        3 => with(&noise),
        4 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        5 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        // A headers frame that is no HPACK.
        6 => with(&frame(1, 4, 1, &noise)),
        // Data on a stream that was never opened, and on stream 0.
        7 => with(&frame(0, 0, random.random_range(0..9), &noise)),
        // Continuations without an end.
        8 => with(&[frame(1, 0, 1, &[0x82]), frame(9, 0, 1, &[0x84]).repeat(500)].concat()),
        // Resets in great number.
        9 => with(&(0..200).flat_map(|n| frame(3, 0, n * 2 + 1, &[0; 4])).collect::<Vec<_>>()),
        // Settings and pings in great number, none of them awaited.
        10 => with(&[settings.repeat(2_000), frame(6, 0, 0, &[7; 8]).repeat(2_000)].concat()),
        // A frame that claims 16 MiB.
        _ => with(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
    }
}

async fn bytes_that_are_no_http2_leave_the_server_serving(layout: Layout) {
    let mut random = seeded();
    let bystanders = Bystanders::gather(layout).await;
    let addr = bystanders.victim();
    // These say nothing, or half of something, until the test is over.
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.write_all(&PREFACE[..number % PREFACE.len()]).await.expect("write");
        silent.push(stream);
    }
    let mut throws = JoinSet::new();
    for _ in 0..600 {
        throws.spawn(throw(addr, opening(&mut random), Duration::from_millis(100)));
        if throws.len() >= 16 {
            throws.join_next().await.expect("some").expect("no panic");
        }
    }
    throws.join_all().await;
    for _ in 0..50 {
        let bytes = opening(&mut random);
        throw(bystanders.cluster.replicas[0].admin(), bytes, Duration::from_millis(20)).await;
    }
    bystanders.assert_undisturbed().await;
    drop(silent);
}

/// One call whose request body is these bytes, gRPC or not; what it comes to does not matter, but
/// when the body has an end, it must come to something.
async fn call(addr: SocketAddr, [method, path, kind]: [&str; 3], body: Bytes, end: bool) {
    let mut call = RawCall::begin(addr, method, path, kind).await;
    call.write(body, end);
    let patience = if end { SOON } else { Duration::from_millis(50) };
    let done = timeout(patience, call.read_to_end()).await;
    assert!(done.is_ok() || !end, "no end to {method} {path} {kind}");
}

async fn broken_grpc_frames_leave_the_server_serving(layout: Layout) {
    const PATH: &str = "/chat.ChatService/ChatStream";
    const GRPC: &str = "application/grpc";
    const CHAT: [&str; 3] = ["POST", PATH, GRPC];
    let mut random = seeded();
    let bystanders = Bystanders::gather(layout).await;
    let addr = bystanders.victim();
    let message = Payload::registration("hostile").encode(Dialect::Typed);
    let framed = |flag: u8, length: u32| {
        Bytes::from([&[flag], &length.to_be_bytes()[..], &message].concat())
    };
    let right = u32::try_from(message.len()).expect("short");
    let bodies = [
        Bytes::new(),
        Bytes::from_static(&[0, 0]),
        framed(1, right),
        framed(2, right),
        framed(255, right),
        framed(0, right + 10),
        framed(0, right - 3),
        framed(0, u32::MAX),
        framed(0, 0),
    ];
    for body in &bodies {
        for end in [true, false] {
            call(addr, CHAT, body.clone(), end).await;
        }
    }
    for head in [
        ["GET", PATH, GRPC],
        ["PUT", PATH, GRPC],
        ["OPTIONS", PATH, GRPC],
        ["POST", PATH, "text/plain"],
        ["POST", PATH, "application/grpc-web"],
        ["POST", "/", GRPC],
        ["POST", "/chat.ChatService/%00", GRPC],
    ] {
        call(addr, head, bodies[6].clone(), true).await;
    }
    for _ in 0..200 {
        let mut noise = vec![0; random.random_range(0..2_000)];
        random.fill_bytes(&mut noise);
        call(addr, CHAT, noise.into(), random.random()).await;
    }
    bystanders.assert_undisturbed().await;
}
