//! The way out: on a signal everybody is told, every name is free, and the process ends in time.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{ChatClient, Cluster, Dialect, Layout, SOON, eventually, quiet};

on_both_backplanes!(
    sigterm_ends_streams_and_exits_zero,
    sigint_ends_streams_and_exits_zero,
    sigquit_ends_streams_and_exits_zero,
    signals_by_which_others_reload_end_nothing,
    a_second_signal_ends_it_at_once,
    while_it_waits_to_drain_it_serves_but_is_not_ready,
    idle_connections_do_not_hold_it_up,
    a_client_that_never_reads_does_not_hold_it_up,
);

async fn sigterm_ends_streams_and_exits_zero(layout: Layout) {
    ends_streams_and_exits_zero(layout, Signal::SIGTERM).await;
}

async fn sigint_ends_streams_and_exits_zero(layout: Layout) {
    ends_streams_and_exits_zero(layout, Signal::SIGINT).await;
}

async fn sigquit_ends_streams_and_exits_zero(layout: Layout) {
    ends_streams_and_exits_zero(layout, Signal::SIGQUIT).await;
}

/// Neither before nor after it was told to stop.
async fn signals_by_which_others_reload_end_nothing(layout: Layout) {
    let mut cluster = layout.plan().with("ROOMCAST_DRAIN__DELAY", "60s").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    let ignored = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
    let replica = &cluster.replicas[0];
    for (already, draining) in [(0, false), (ignored.len(), true)] {
        if draining {
            replica.signal(Signal::SIGTERM);
            replica.until_unready(SOON).await;
        }
        for signal in ignored {
            replica.signal(signal);
        }
        eventually(SOON, "it says that it ignores them", async || {
            (replica.log().with("nothing is reloaded").len() == already + ignored.len())
                .then_some(())
        })
        .await;
        quiet(&bob, &mut [&mut alice]).await;
    }
    cluster.replicas[0].signal(Signal::SIGQUIT);
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 128 + 3, "as a second signal");
}

async fn expect_shut_down(client: &ChatClient) {
    let message = client.expect_end(Code::Unavailable).await;
    assert_eq!(message, "server is shutting down", "{client:?}");
}

async fn ends_streams_and_exits_zero(layout: Layout, signal: Signal) {
    let mut cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob =
        cluster.endpoint(0).speaking(Dialect::Struct).enter_seen_by("bob", &mut [&mut alice]).await;
    // On Redis she is on a replica that stays.
    let mut carol = cluster.endpoint(1).enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    alice.say("before").await;
    bob.expect_said("alice", "before").await;
    carol.expect_said("alice", "before").await;

    cluster.replicas[0].signal(signal);
    expect_shut_down(&alice).await;
    expect_shut_down(&bob).await;
    if layout == Layout::Redis {
        // Names are released before their streams end: they are free at once.
        let endpoint = cluster.endpoint(2);
        let again = [endpoint.join("alice").await, endpoint.join("bob").await];
        for text in ["alice left", "bob left", "alice joined", "bob joined"] {
            carol.until_heard(text).await;
        }
        again.iter().for_each(ChatClient::assert_open);
        carol.forget();
        quiet(&again[0], &mut [&mut carol]).await;
        assert_eq!((carol.times("alice left"), carol.times("bob left")), (1, 1), "{carol:?}");
    } else {
        expect_shut_down(&carol).await;
    }
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    cluster.assert_no_errors();
    assert!(TcpStream::connect(cluster.replicas[0].grpc()).await.is_err(), "still listening");
}

async fn a_second_signal_ends_it_at_once(layout: Layout) {
    let mut cluster = layout.plan().with("ROOMCAST_DRAIN__DELAY", "60s").start().await;
    let alice = cluster.endpoint(0).enter("alice").await;
    cluster.replicas[0].signal(Signal::SIGTERM);
    cluster.replicas[0].until_unready(SOON).await;
    alice.assert_open();
    assert!(cluster.replicas[0].lives(), "it waits first");
    cluster.replicas[0].signal(Signal::SIGINT);
    cluster.replicas[0].exit_code(Duration::from_secs(2)).await;
}

async fn while_it_waits_to_drain_it_serves_but_is_not_ready(layout: Layout) {
    let mut cluster = layout.plan().with("ROOMCAST_DRAIN__DELAY", "2s").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.replicas[0].signal(Signal::SIGTERM);
    let signalled = Instant::now();
    cluster.replicas[0].until_unready(Duration::from_secs(1)).await;
    quiet(&alice, &mut [&mut bob]).await;
    quiet(&bob, &mut [&mut alice]).await;
    expect_shut_down(&alice).await;
    expect_shut_down(&bob).await;
    let waited = signalled.elapsed();
    assert!(waited > Duration::from_millis(1_800), "only {waited:?}");
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
}

async fn idle_connections_do_not_hold_it_up(layout: Layout) {
    let mut cluster = layout.plan().with("ROOMCAST_DRAIN__DEADLINE", "20s").start().await;
    let replica = &mut cluster.replicas[0];
    let mut silent = TcpStream::connect(replica.grpc()).await.expect("connect");
    let mut begun = TcpStream::connect(replica.grpc()).await.expect("connect");
    begun.write_all(b"PRI * HT").await.expect("half a preface");
    let mut admin = TcpStream::connect(replica.admin()).await.expect("connect");
    admin.write_all(b"GET /met").await.expect("half a request");
    let channel = cluster.endpoint(0).channel().await;
    let mut health = HealthClient::new(channel);
    let watch = health.watch(HealthCheckRequest::default()).await.expect("watch");
    let alice = cluster.endpoint(0).enter("alice").await;
    let registered = cluster.endpoint(0).open("nobody yet", None).await;

    cluster.replicas[0].signal(Signal::SIGTERM);
    expect_shut_down(&alice).await;
    expect_shut_down(&registered).await;
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    drop((watch, admin));
    let _ = (silent.shutdown().await, begun.shutdown().await);
}

async fn a_client_that_never_reads_does_not_hold_it_up(layout: Layout) {
    let mut cluster = layout.plan().with("ROOMCAST_DRAIN__DEADLINE", "3s").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let stalled =
        cluster.endpoint(0).with_windows(65_535, 65_535).join_without_reading("bob").await;
    alice.expect_system("bob joined").await;
    // More than its window takes, so that not even its end can be sent to it.
    for _ in 0..20 {
        alice.say(&"x".repeat(8 * 1024)).await;
    }
    let mut carol = cluster.endpoint(0).enter_seen_by("carol", &mut [&mut alice]).await;
    // Some of what was said before may still be on its way when carol comes in.
    alice.say("that was all").await;
    while carol.next(SOON).await.expect("more to hear").content != "that was all" {}
    cluster.replicas[0].signal(Signal::SIGTERM);
    expect_shut_down(&alice).await;
    expect_shut_down(&carol).await;
    assert_eq!(cluster.replicas[0].exit_code(Duration::from_secs(6)).await, 0);
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_while_redis_is_away_is_obeyed_in_time() {
    let mut cluster = Cluster::redis(1).with("ROOMCAST_DRAIN__DEADLINE", "3s").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.shared().pause();
    cluster.replicas[0].until_unready(SOON).await;
    cluster.replicas[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.replicas[0].exit_code(Duration::from_secs(6)).await, 0);
    for client in [&alice, &bob] {
        assert_ne!(client.ended(SOON).await.code, Code::Ok);
    }
    cluster.shared().resume();
}

/// All replicas of a room go down together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_may_go_at_once_and_leave_no_name_behind() {
    let mut cluster = Cluster::redis(3).on_one().start().await;
    let first = cluster.endpoint(0).enter("guest 0").await;
    let mut guests = vec![];
    for number in 1..9 {
        let name = format!("guest {number}");
        guests.push(cluster.endpoint(number).enter_in_sight_of(&name, &first).await);
    }
    guests.push(first);
    for replica in &cluster.replicas {
        replica.signal(Signal::SIGTERM);
    }
    for guest in &guests {
        expect_shut_down(guest).await;
    }
    for replica in &mut cluster.replicas {
        assert_eq!(replica.exit_code(SOON).await, 0);
    }
    let fields = cluster.shared().hash_fields("rc:*:room:lobby").await.expect("it answers");
    // Beside where its log stands.
    assert_eq!(fields, ["log"], "still held");
}

/// Nothing is left in Redis without a time to live, once everybody has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_that_is_left_behind_expires() {
    let mut cluster = Cluster::redis(2).on_one().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    bob.say("something to remember").await;
    alice.expect_said("bob", "something to remember").await;
    bob.half_close();
    alice.expect_system("bob left").await;
    alice.half_close();
    alice.expect_end(Code::Ok).await;
    for replica in &mut cluster.replicas {
        replica.signal(Signal::SIGTERM);
        assert_eq!(replica.exit_code(SOON).await, 0);
    }
    let redis = cluster.redis_server();
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).await.expect("KEYS");
    assert!(!keys.is_empty(), "the room's log is kept for a while");
    for key in keys {
        let time: i64 = redis.command(&["PTTL", &key]).await.expect("PTTL");
        assert!(time > 0 || time == -2, "{key} has no time to live");
    }
}
