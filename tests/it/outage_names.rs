//! Names and sessions through outages of Redis that are longer than a lease, and whoever wants them
//! meanwhile.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_proto::room::{Join, LeftCause};
use tokio::time::sleep;
use tonic::Code;

use crate::harness::{
    ChatClient, Cluster, FaultProxy, LEASE, Redis, RichClient, SOON, eventually, quiet,
};

/// How much later than it is due anything may be told, on a busy machine.
const LATE: Duration = Duration::from_secs(2);

/// Somebody of the `v1` protocol in the lobby.
async fn enter(cluster: &Cluster, replica: usize, name: &str) -> RichClient {
    let mut client =
        RichClient::open(&cluster.endpoint(replica), RichClient::asking("lobby", name)).await;
    client.welcome().await;
    client
}

/// Waits until somebody has said this, at any time since the beginning.
async fn until_said(listener: &ChatClient, content: &str) {
    let heard = listener
        .record()
        .wait(SOON, |state| state.heard.iter().any(|heard| heard.content == content).then_some(()));
    assert!(heard.await.is_some(), "nobody said {content:?}: {listener:?}");
}

/// Members of both protocols, of whom those of the plain one hear all.
struct Members {
    plain: [ChatClient; 2],
    rich: [RichClient; 4],
}

const NAMES: [&str; 6] = ["alice", "bob", "rick", "rita", "rosa", "rudy"];

impl Members {
    /// On the first two of three replicas.
    async fn enter(cluster: &Cluster) -> Self {
        let alice = cluster.endpoint(0).enter("alice").await;
        let bob = cluster.endpoint(1).join("bob").await;
        alice.until_heard("bob joined").await;
        let mut rich = Vec::new();
        for (replica, name) in NAMES[2..].iter().enumerate() {
            rich.push(enter(cluster, replica % 2, name).await);
            bob.until_heard(&format!("{name} joined")).await;
            alice.until_heard(&format!("{name} joined")).await;
        }
        Self { plain: [alice, bob], rich: rich.try_into().expect("four") }
    }

    /// All are there as if nothing had happened.
    async fn assert_undisturbed(&mut self) {
        for (number, rich) in self.rich.iter_mut().enumerate() {
            rich.say_and_wait(1, &format!("still here {number}")).await;
        }
        let [alice, bob] = &mut self.plain;
        for number in 0..self.rich.len() {
            let said = format!("still here {number}");
            until_said(alice, &said).await;
            until_said(bob, &said).await;
        }
        for name in NAMES {
            for told in ["left", "joined"] {
                let content = format!("{name} {told}");
                let expected = usize::from(told == "joined" && name != "alice");
                assert!(alice.times(&content) <= expected, "{content}: {alice:?}");
            }
        }
        alice.forget();
        bob.forget();
        quiet(alice, &mut [bob]).await;
        quiet(bob, &mut [alice]).await;
    }
}

/// A stranger asks for each name, and gets none. Returns how often it was told that somebody has it.
async fn strangers_are_refused(strangers: Vec<ChatClient>) -> usize {
    let mut taken = 0;
    for stranger in strangers {
        let ended = stranger.ended(SOON).await;
        match ended.code {
            Code::AlreadyExists => taken += 1,
            // Redis did not answer in time.
            Code::Unavailable => {}
            _ => panic!("{stranger:?}"),
        }
    }
    taken
}

async fn strangers(cluster: &Cluster) -> Vec<ChatClient> {
    let mut strangers = Vec::new();
    for name in NAMES {
        strangers.push(cluster.endpoint(2).join(name).await);
    }
    strangers
}

/// What strangers ask for during the outage is carried out first of all when it is over, and they go
/// on asking until all leases must have been renewed.
async fn outage(cluster: &mut Cluster, begin: impl Fn(&mut Cluster), end: impl Fn(&mut Cluster)) {
    let mut members = Members::enter(cluster).await;
    // Long enough for all replicas to have the right to reap.
    sleep(LEASE * 3 / 2).await;
    begin(cluster);
    // The outage itself: longer than every lease.
    sleep(LEASE).await;
    let first = strangers(cluster).await;
    sleep(LEASE / 2).await;
    end(cluster);
    let over = Instant::now();
    strangers_are_refused(first).await;
    let mut taken = 0;
    while over.elapsed() < LEASE || taken == 0 {
        taken += strangers_are_refused(strangers(cluster).await).await;
    }
    members.assert_undisturbed().await;
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_take_no_name_when_redis_has_stood_still() {
    let mut cluster = Cluster::redis(3).start().await;
    outage(&mut cluster, |it| it.shared().pause(), |it| it.shared().resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_take_no_name_when_nobody_has_reached_redis() {
    let mut cluster = Cluster::redis(3).proxied().start().await;
    let freeze = |it: &mut Cluster| it.proxies.iter().for_each(FaultProxy::freeze);
    let restore = |it: &mut Cluster| it.proxies.iter().for_each(FaultProxy::restore);
    outage(&mut cluster, freeze, restore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_stream_keeps_its_session_when_leases_have_ended() {
    let mut cluster = Cluster::redis(3).start().await;
    let alice = &mut enter(&cluster, 2, "alice").await;
    let bob = enter(&cluster, 0, "bob").await;
    alice.expect_joined("bob").await;
    cluster.replicas[0].signal(Signal::SIGSTOP);
    // It does not hear either that the session has another stream.
    cluster.shared().kill_subscribers().await;
    let mut back = bob.resume(&cluster.endpoint(1), None).await;
    assert!(back.welcome().await.resumed);
    // The replica of the older stream stands still until it is due to renew. It goes on first, when all
    // leases have ended.
    sleep(LEASE / 2).await;
    cluster.replicas[1].signal(Signal::SIGSTOP);
    cluster.shared().pause();
    cluster.replicas[0].signal(Signal::SIGCONT);
    sleep(LEASE * 3 / 2).await;
    cluster.shared().resume();
    let superseded = bob.expect_end(Code::Aborted).await;
    assert!(superseded.contains("superseded"), "{superseded}");
    cluster.replicas[1].signal(Signal::SIGCONT);
    back.say_and_wait(1, "still here").await;
    alice.expect_said("bob", "still here").await;
    // Until after the next renewals.
    sleep(LEASE).await;
    back.say_and_wait(2, "and here").await;
    alice.expect_said("bob", "and here").await;
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_was_given_up_takes_nothing() {
    let cluster = Cluster::redis(2).proxied().start().await;
    let alice = &mut enter(&cluster, 0, "alice").await;
    let mut bob = enter(&cluster, 1, "bob").await;
    alice.expect_joined("bob").await;
    let session_token = bob.seen_welcome().expect("it was welcomed").session_token;
    bob.disconnect();
    // It tries the first replica, which cannot reach Redis for a while, on a path that breaks unseen.
    cluster.proxies[0].freeze();
    let path = FaultProxy::to(cluster.replicas[0].grpc()).await;
    let asking = |attempt| Join {
        session_token: session_token.clone(),
        attempt,
        ..RichClient::asking("lobby", "bob")
    };
    let by_path = cluster.endpoint(0).by_way_of(path.addr());
    let given_up = RichClient::open(&by_path, asking(2)).await;
    cluster.replicas[0].until_at_least("roomcast_streams", 2.0).await;
    path.freeze();
    let mut back = RichClient::open(&cluster.endpoint(1), asking(3)).await;
    assert!(back.welcome().await.resumed);
    // The old join is carried out.
    cluster.proxies[0].restore();
    let refused = "roomcast_refusals_total{reason=\"superseded\"}";
    cluster.replicas[0].until_at_least(refused, 1.0).await;
    back.say_and_wait(1, "still here").await;
    alice.expect_said("bob", "still here").await;
    // Its client would be told so, if it was still there.
    path.restore();
    given_up.expect_end(Code::Aborted).await;
    back.say_and_wait(2, "and here").await;
    alice.expect_said("bob", "and here").await;
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_while_redis_is_away_lingers() {
    let mut cluster = Cluster::redis(2).with("ROOMCAST_NAMES__LINGER", "7s").start().await;
    let alice = &mut enter(&cluster, 1, "alice").await;
    let mut bob = enter(&cluster, 0, "bob").await;
    alice.expect_joined("bob").await;
    let mut carol = enter(&cluster, 0, "carol").await;
    alice.expect_joined("carol").await;
    cluster.shared().pause();
    bob.disconnect();
    carol.disconnect();
    let broke = Instant::now();
    // The outage itself: longer than every lease.
    sleep(LEASE * 2).await;
    cluster.shared().resume();
    let over = broke.elapsed();
    cluster.until_ready(SOON).await;
    // As late as may be, and longer than a lease after it.
    sleep(Duration::from_millis(6_500).saturating_sub(broke.elapsed())).await;
    let mut back = bob.resume(&cluster.endpoint(1), None).await;
    assert!(back.welcome().await.resumed);
    alice.expect_left("carol", LeftCause::TimedOut).await;
    // Redis could not know of it before.
    let told = broke.elapsed();
    assert!(told < over + Duration::from_secs(7) + LATE, "only after {told:?}");
    back.say_and_wait(1, "here").await;
    alice.expect_said("bob", "here").await;
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lingers_when_its_replica_is_killed() {
    let linger = Duration::from_secs(4);
    let mut cluster = Cluster::redis(2).with("ROOMCAST_NAMES__LINGER", "4s").start().await;
    let alice = &mut enter(&cluster, 1, "alice").await;
    let bob = enter(&cluster, 0, "bob").await;
    alice.expect_joined("bob").await;
    let _carol = enter(&cluster, 0, "carol").await;
    alice.expect_joined("carol").await;
    let _dave = cluster.endpoint(0).join("dave").await;
    alice.expect_joined("dave").await;
    // Long enough for the other replica to have the right to reap.
    sleep(LEASE * 3 / 2).await;
    cluster.replicas[0].kill();
    let killed = Instant::now();
    // Who cannot be resumed is gone with its lease.
    alice.expect_left("dave", LeftCause::ReplicaLost).await;
    assert!(killed.elapsed() < LEASE + LATE, "only after {:?}", killed.elapsed());
    // Its lease has ended, its session has not.
    sleep((LEASE + Duration::from_secs(1)).saturating_sub(killed.elapsed())).await;
    cluster.endpoint(1).join("bob").await.expect_end(Code::AlreadyExists).await;
    let mut back = bob.resume(&cluster.endpoint(1), None).await;
    assert!(back.welcome().await.resumed);
    alice.expect_left("carol", LeftCause::TimedOut).await;
    assert!(killed.elapsed() > linger, "after {:?} already", killed.elapsed());
    assert!(killed.elapsed() < LEASE + linger + LATE, "only after {:?}", killed.elapsed());
    back.say_and_wait(1, "here").await;
    alice.expect_said("bob", "here").await;
    cluster.assert_no_errors();
}

/// Nobody else of its replica is in the room, the replicas have just started, and its time is much shorter
/// than what is between two renewals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_resumed_in_time_is_told_in_time() {
    let plan = Cluster::redis(2).with("ROOMCAST_NAMES__LEASE", "30s");
    let cluster = plan.with("ROOMCAST_NAMES__LINGER", "1s").start().await;
    let alice = &mut enter(&cluster, 1, "alice").await;
    let mut bob = enter(&cluster, 0, "bob").await;
    alice.expect_joined("bob").await;
    bob.cancel();
    let broke = Instant::now();
    alice.expect_left("bob", LeftCause::TimedOut).await;
    assert!(broke.elapsed() < Duration::from_secs(1) + LATE, "only after {:?}", broke.elapsed());
    cluster.assert_no_errors();
}

/// A Redis that evicts keys may drop a room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_when_the_room_is_lost_goes_on() {
    let mut cluster = Cluster::redis(2).on_one().with("ROOMCAST_NAMES__LEASE", "30s").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut rita = enter(&cluster, 0, "rita").await;
    alice.expect_system("rita joined").await;
    bob.expect_system("rita joined").await;
    let redis = cluster.redis_server();
    let keys: Vec<String> = redis.command(&["KEYS", "rc:*:room:lobby"]).await.expect("KEYS");
    let [lobby] = &keys[..] else { panic!("{keys:?}") };
    let _: u64 = redis.command(&["DEL", lobby]).await.expect("DEL");
    alice.say("where was I").await;
    bob.expect_said("alice", "where was I").await;
    rita.say_and_wait(1, "here").await;
    alice.expect_said("rita", "here").await;
    bob.expect_said("rita", "here").await;
    quiet(&alice, &mut [&mut bob]).await;
    quiet(&bob, &mut [&mut alice]).await;
    cluster.endpoint(1).join("alice").await.expect_end(Code::AlreadyExists).await;
    // Nobody was thrown out, and all are in the room again, beside where its log stands.
    eventually(SOON, "all are in the room", async || {
        let there: u64 = cluster.redis_server().command(&["HLEN", lobby]).await.ok()?;
        (there == 4).then_some(())
    })
    .await;
    alice.assert_open();
    bob.assert_open();
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_evicts_is_warned_of_once() {
    for (policy, warned) in [("allkeys-lru", 1), ("noeviction", 0)] {
        let mut redis = Redis::stopped(&["--maxmemory-policy", policy]);
        redis.restart().await;
        let url = redis.url();
        let cluster = Cluster::on(redis, &url, 1).start().await;
        // All of its connections are open: it is ready, and somebody is in.
        let _alice = cluster.endpoint(0).enter("alice").await;
        let lines = cluster.replicas[0].log().with("maxmemory-policy");
        assert_eq!(lines.len(), warned, "{policy}: {lines:?}");
        assert!(
            lines.iter().all(|line| line.contains("WARN") && line.contains(policy)),
            "{lines:?}"
        );
    }
}
