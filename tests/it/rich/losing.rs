//! Redis loses what it had, or seems to: who is told, and of what exactly. Clients come by way of Envoy.

use std::time::Duration;

use roomcast_proto::room::{Gap, Position};

use crate::harness::{
    Cluster, Dialect, Endpoint, FaultProxy, Proxy, Redis, RichClient, SOON, eventually,
};

/// How soon after an outage everything works.
const HEALED: Duration = Duration::from_secs(20);

async fn enter(endpoint: &Endpoint, name: &str) -> RichClient {
    let mut client = RichClient::open(endpoint, RichClient::asking("den", name)).await;
    client.welcome().await;
    client
}

fn gap(epoch: u64, from: u64, to: u64) -> Gap {
    let at = |seq| Some(Position { epoch, seq });
    Gap { from: at(from), to: at(to) }
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_told_once_to_everybody() {
    let mut cluster = Cluster::redis(2).start().await;
    let proxy = Proxy::start(&cluster).await;
    let endpoint = proxy.endpoint(Dialect::Typed);
    let mut alice = enter(&endpoint, "alice").await;
    let mut bob = enter(&endpoint, "bob").await;
    alice.expect_joined("bob").await;
    alice.say_and_wait(1, "before").await;
    for client in [&mut alice, &mut bob] {
        client.expect_said("alice", "before").await;
    }
    let away = enter(&endpoint, "carol").await;
    let after = away.last_position();
    drop(away);
    for client in [&mut alice, &mut bob] {
        client.expect_joined("carol").await;
    }
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    cluster.shared().restart_empty().await;
    cluster.until_ready(HEALED).await;
    proxy.until_healthy(2).await;
    let position = alice.say_through(2, "after").await;
    let again = bob.say_through(1, "me too").await;
    assert_eq!((again.epoch, again.seq), (position.epoch, position.seq + 1));
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.next_gap().await, Gap::default());
        client.expect_said("alice", "after").await;
        client.expect_said("bob", "me too").await;
    }
    // And to whoever comes from the old log.
    let mut join = RichClient::asking("den", "carol");
    join.since = after.map(roomcast_proto::room::join::Since::After);
    let mut carol = RichClient::open(&endpoint, join).await;
    carol.welcome().await;
    assert_eq!(carol.next_gap().await, Gap::default());
    carol.expect_said("alice", "after").await;
    carol.expect_said("bob", "me too").await;
    carol.expect_joined("carol").await;
}

#[tokio::test]
async fn a_redis_that_kept_everything_is_not_told_of() {
    let mut cluster = Cluster::durable_redis(2).start().await;
    let proxy = Proxy::start(&cluster).await;
    let endpoint = proxy.endpoint(Dialect::Typed);
    let mut alice = enter(&endpoint, "alice").await;
    let mut bob = enter(&endpoint, "bob").await;
    alice.expect_joined("bob").await;
    for number in 1..=10 {
        alice.say_and_wait(number, &format!("before {number}")).await;
    }
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    cluster.shared().restart().await;
    cluster.until_ready(HEALED).await;
    proxy.until_healthy(2).await;
    let position = alice.say_through(11, "after").await;
    assert_eq!(position.seq, 13);
    for client in [&mut alice, &mut bob] {
        for number in 1..=10 {
            client.expect_said("alice", &format!("before {number}")).await;
        }
        assert_eq!(client.expect_said("alice", "after").await, position);
    }
}

/// A Redis, one that follows it, and replicas that reach either by the same way.
struct Failover {
    cluster: Cluster,
    follower: Redis,
    /// From the follower to its primary.
    replication: FaultProxy,
    way: FaultProxy,
}

impl Failover {
    async fn prepare() -> Self {
        let primary = Redis::start().await;
        let replication = FaultProxy::to(primary.addr()).await;
        let follower = Redis::start_following(replication.addr()).await;
        let way = FaultProxy::to(primary.addr()).await;
        let url = format!("redis://{}", way.addr());
        let cluster = Cluster::on(primary, &url, 2).start().await;
        Self { cluster, follower, replication, way }
    }

    /// Waits until the follower has everything.
    async fn in_step(&mut self) {
        let primary = self.cluster.redis_server().replication_offset().await;
        eventually(SOON, "the follower has everything", async || {
            (self.follower.replication_offset().await >= primary).then_some(())
        })
        .await;
    }

    async fn fail_over(&mut self) {
        self.follower.promote().await;
        self.way.point_to(self.follower.addr());
        self.cluster.shared().kill();
    }
}

#[tokio::test]
async fn a_failover_tells_exactly_what_it_lost_to_those_who_had_seen_it() {
    let mut redis = Failover::prepare().await;
    let proxy = Proxy::start(&redis.cluster).await;
    let endpoint = proxy.endpoint(Dialect::Typed);
    let mut alice = enter(&endpoint, "alice").await;
    let mut bob = enter(&endpoint, "bob").await;
    let mut carol = enter(&endpoint, "carol").await;
    let kept = alice.say_and_wait(1, "kept").await;
    assert_eq!(kept.seq, 4);
    for name in ["bob", "carol"] {
        alice.expect_joined(name).await;
    }
    bob.expect_joined("carol").await;
    for client in [&mut alice, &mut bob, &mut carol] {
        client.expect_said("alice", "kept").await;
    }
    redis.in_step().await;
    // Carol goes before anything is lost, bob after it; alice stays.
    let carol_after = carol.last_position();
    carol.disconnect();
    redis.replication.freeze();
    for number in 2..=4 {
        alice.say_and_wait(number, &format!("lost {number}")).await;
    }
    for client in [&mut alice, &mut bob] {
        for number in 2..=4 {
            client.expect_said("alice", &format!("lost {number}")).await;
        }
    }
    let bob_after = bob.last_position();
    bob.disconnect();
    redis.fail_over().await;

    let lost = gap(kept.epoch, 5, 7);
    let new = alice.say_through(5, "new").await;
    assert_eq!(new.seq, 5);
    assert_ne!(new.epoch, kept.epoch);
    assert_eq!(alice.next_gap().await, lost);
    alice.expect_said("alice", "new").await;
    proxy.until_healthy(2).await;
    let mut bob = bob.resume(&endpoint, bob_after).await;
    assert!(bob.welcome().await.resumed);
    assert_eq!(bob.next_gap().await, lost);
    bob.expect_said("alice", "new").await;
    let mut carol = carol.resume(&endpoint, carol_after).await;
    assert!(carol.welcome().await.resumed);
    carol.expect_said("alice", "new").await;
    let last = alice.say_and_wait(6, "last").await;
    for client in [&mut alice, &mut bob, &mut carol] {
        assert_eq!(client.expect_said("alice", "last").await, last);
    }
}

#[tokio::test]
async fn a_failover_that_lost_nothing_is_silent() {
    let mut redis = Failover::prepare().await;
    let proxy = Proxy::start(&redis.cluster).await;
    let endpoint = proxy.endpoint(Dialect::Typed);
    let mut alice = enter(&endpoint, "alice").await;
    let mut bob = enter(&endpoint, "bob").await;
    alice.expect_joined("bob").await;
    let before = alice.say_and_wait(1, "before").await;
    redis.in_step().await;
    redis.fail_over().await;
    let after = alice.say_through(2, "after").await;
    assert_eq!(after.seq, before.seq + 1);
    for client in [&mut alice, &mut bob] {
        client.expect_said("alice", "before").await;
        assert_eq!(client.expect_said("alice", "after").await, after);
    }
}
