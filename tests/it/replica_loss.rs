//! Replicas that die, stop, or lose their way to Redis.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant as Due, sleep_until, timeout},
};
use tonic::Code;

use crate::harness::{ChatClient, Cluster, Dialect, LEASE, Redis, SOON, quiet};

/// How long after a replica falls silent the room has been told.
const TOLD: Duration = Duration::from_secs(4);

async fn expect_left_within(witness: &mut ChatClient, name: &str, since: Instant) {
    let heard = witness.expect_system(&format!("{name} left")).await;
    let took = heard.at.saturating_duration_since(since);
    assert!(took <= TOLD, "{name} left only after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_a_killed_replica_leave_once_within_the_lease() {
    let mut cluster = Cluster::redis(4).start().await;
    let mut alice = cluster.endpoint(1).enter("alice").await;
    let mut carol = cluster.endpoint(2).enter_seen_by("carol", &mut [&mut alice]).await;
    let typed = cluster.endpoint(0);
    let bob = typed.enter_seen_by("bob", &mut [&mut alice, &mut carol]).await;
    let other = typed.into_room("elsewhere").speaking(Dialect::Struct).enter("bob").await;
    let elsewhere = cluster.endpoint(1).into_room("elsewhere");
    let mut dora = elsewhere.join("dora").await;
    other.until_heard("dora joined").await;
    cluster.replicas[0].kill();
    let killed = Instant::now();
    // The name is held until the lease has ended.
    let early = cluster.endpoint(1).join("bob").await.expect_end(Code::AlreadyExists).await;
    assert_eq!(early, "username \"bob\" is already taken");
    expect_left_within(&mut alice, "bob", killed).await;
    expect_left_within(&mut carol, "bob", killed).await;
    expect_left_within(&mut dora, "bob", killed).await;
    assert_ne!(bob.ended(SOON).await.code, Code::Ok);
    // Free now, and nobody is told twice, whichever replica reaps.
    let mut again = cluster.endpoint(2).enter_seen_by("bob", &mut [&mut alice, &mut carol]).await;
    cluster.lose_the_last(&mut [&mut alice, &mut carol, &mut again]).await;
    quiet(&again, &mut [&mut alice, &mut carol]).await;
    quiet(&alice, &mut [&mut carol]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_whose_members_all_died_is_clean_for_the_next_who_comes() {
    let mut cluster = Cluster::redis(2).start().await;
    let bob = cluster.endpoint(0).enter("bob").await;
    let carol = cluster.endpoint(0).join("carol").await;
    bob.until_heard("carol joined").await;
    cluster.replicas[0].kill();
    drop((bob, carol));
    let mut alice = cluster.endpoint(1).join("alice").await;
    // Their leases end while she is there, or have ended: she may hear them leave, once.
    let deadline = Instant::now() + TOLD + LEASE;
    let mut bob = loop {
        let bob = cluster.endpoint(1).join("bob").await;
        if alice.hears("bob joined", Duration::from_millis(300)).await {
            break bob;
        }
        assert!(Instant::now() < deadline, "bob's name is never free: {alice:?}");
    };
    assert!(alice.times("bob left") <= 1 && alice.times("carol left") <= 1, "{alice:?}");
    alice.forget();
    quiet(&alice, &mut [&mut bob]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_replicas_client_goes_on_when_its_name_is_still_free() {
    let cluster = Cluster::redis(3).start().await;
    let mut alice = cluster.endpoint(1).enter("alice").await;
    let mut bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.replicas[0].signal(Signal::SIGSTOP);
    expect_left_within(&mut alice, "bob", Instant::now()).await;
    alice.say("he is away").await;
    cluster.replicas[0].signal(Signal::SIGCONT);
    alice.expect_system("bob joined").await;
    bob.say("back").await;
    alice.expect_said("bob", "back").await;
    // Whether he hears what he missed is not promised; that he hears what comes now is.
    alice.say("welcome back").await;
    assert!(hears_said(&mut bob, "alice", "welcome back").await, "{bob:?}");
    bob.assert_open();
    let taken = cluster.endpoint(2).join("bob").await.expect_end(Code::AlreadyExists).await;
    assert_eq!(taken, "username \"bob\" is already taken");
}

/// The preface of HTTP/2, and settings that change nothing.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_greets_a_paused_replica_in_time_is_served_when_it_goes_on() {
    let cluster = Cluster::memory().with("ROOMCAST_SERVER__HANDSHAKE_TIMEOUT", "3s").start().await;
    let replica = &cluster.replicas[0];
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(TcpStream::connect(replica.grpc()).await.expect("connect"));
    }
    replica.until_at_least("roomcast_connections", 20.0).await;
    replica.signal(Signal::SIGSTOP);
    let due = Due::now() + Duration::from_millis(3_100);
    for stream in &mut streams {
        stream.write_all(GREETING).await.expect("greet");
    }
    // The time that they have passes meanwhile.
    sleep_until(due).await;
    replica.signal(Signal::SIGCONT);
    for stream in streams {
        timeout(SOON, settings_acknowledged(stream)).await.expect("an answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_of_a_lost_replica_may_come_to_another_one_at_once() {
    let cluster = Cluster::memory().start().await;
    let replica = &cluster.replicas[0];
    // It accepts none of them meanwhile: they wait in the kernel, and none is turned away.
    replica.signal(Signal::SIGSTOP);
    let mut streams = Vec::new();
    for number in 0..somaxconn().min(500) {
        let connect = timeout(SOON, TcpStream::connect(replica.grpc())).await;
        let connect = connect.unwrap_or_else(|_| panic!("only {number} may wait"));
        let mut stream = connect.expect("connect");
        stream.write_all(GREETING).await.expect("greet");
        streams.push(stream);
    }
    replica.signal(Signal::SIGCONT);
    for stream in streams {
        timeout(SOON, settings_acknowledged(stream)).await.expect("an answer");
    }
}

/// How many connections to one listener the kernel lets wait.
fn somaxconn() -> usize {
    let said = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("somaxconn");
    said.trim().parse().expect("a number")
}

/// Reads HTTP/2 frames until the one that acknowledges the settings.
async fn settings_acknowledged(mut stream: TcpStream) {
    let mut head = [0; 9];
    while (head[3], head[4]) != (4, 1) {
        stream.read_exact(&mut head).await.expect("the connection stays");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.expect("the rest of a frame");
    }
}

async fn hears_said(client: &mut ChatClient, from: &str, content: &str) -> bool {
    while let Some(heard) = client.next(SOON).await {
        assert!(!heard.content.starts_with(client.name()), "told of itself: {heard:?}");
        if heard.username == from && heard.content == content {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_paused_replicas_stale_holder_is_ever_delivered() {
    let mut cluster = Cluster::redis(4).start().await;
    let mut alice = cluster.endpoint(1).enter("alice").await;
    let mut carol = cluster.endpoint(2).enter_seen_by("carol", &mut [&mut alice]).await;
    let mut stale = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice, &mut carol]).await;
    // His replica knows that he is in.
    quiet(&alice, &mut [&mut stale, &mut carol]).await;
    cluster.replicas[0].signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    // These wait in the stopped process's socket and are read when it goes on.
    for number in 0..10 {
        stale.say(&format!("stale {number}")).await;
    }
    expect_left_within(&mut alice, "bob", stopped).await;
    expect_left_within(&mut carol, "bob", stopped).await;
    let mut bob = cluster.endpoint(2).enter_seen_by("bob", &mut [&mut alice, &mut carol]).await;
    cluster.replicas[0].signal(Signal::SIGCONT);
    let message = stale.expect_end(Code::Aborted).await;
    assert!(!message.is_empty(), "says why");
    // The stale stream is closed, so what it could bring has been brought.
    quiet(&bob, &mut [&mut alice, &mut carol]).await;
    quiet(&alice, &mut [&mut bob, &mut carol]).await;
    // And the new holder keeps the name.
    cluster.lose_the_last(&mut [&mut alice, &mut bob, &mut carol]).await;
    quiet(&bob, &mut [&mut alice, &mut carol]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_replicas_client_goes_on_when_its_name_is_still_free() {
    let cluster = Cluster::redis(2).proxied().start().await;
    let mut alice = cluster.endpoint(1).enter("alice").await;
    let mut bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.proxies[0].cut();
    expect_left_within(&mut alice, "bob", Instant::now()).await;
    cluster.replicas[0].until_unready(SOON).await;
    cluster.proxies[0].restore();
    alice.expect_system("bob joined").await;
    bob.say("back").await;
    alice.expect_said("bob", "back").await;
    alice.say("welcome back").await;
    assert!(hears_said(&mut bob, "alice", "welcome back").await, "{bob:?}");
    cluster.replicas[0].until_ready(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_replicas_client_is_ended_when_its_name_is_taken() {
    let cluster = Cluster::redis(2).proxied().start().await;
    let mut alice = cluster.endpoint(1).enter("alice").await;
    let stale = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.proxies[0].freeze();
    expect_left_within(&mut alice, "bob", Instant::now()).await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.proxies[0].restore();
    let message = stale.expect_end(Code::Aborted).await;
    assert!(!message.is_empty(), "says why");
    quiet(&bob, &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut bob]).await;
    cluster.replicas[0].until_ready(SOON).await;
}

/// Redis loses everything while one replica cannot reach it; somebody else takes a name of that
/// replica's meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loser_of_two_claims_after_lost_data_is_ended() {
    let mut cluster = Cluster::redis(2).proxied().start().await;
    let mut alice = cluster.endpoint(1).enter("alice").await;
    let stale = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut dave = cluster.endpoint(0).enter_seen_by("dave", &mut [&mut alice]).await;
    cluster.proxies[0].cut();
    let redis: &mut Redis = cluster.redis_server();
    redis.kill();
    redis.restart_empty().await;
    cluster.replicas[1].until_ready(SOON).await;
    // Nobody knows of the first bob any more.
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.proxies[0].restore();
    stale.expect_end(Code::Aborted).await;
    cluster.replicas[0].until_ready(SOON).await;
    quiet(&bob, &mut [&mut alice]).await;
    // The other client of that replica lost nothing but time.
    alice.say("all well?").await;
    assert!(hears_said(&mut dave, "alice", "all well?").await, "{dave:?}");
    bob.expect_said("alice", "all well?").await;
    dave.say("all well").await;
    assert!(hears_said(&mut alice, "dave", "all well").await, "{alice:?}");
}
