//! A Redis Cluster: what clients feel when its masters fail and its slots move.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::harness::{
    Cluster, Endpoint, Redis, RedisCluster, RichClient, SOON, eventually, get, roomcast, run,
};

/// A room whose slot the first master of three has, and one of the second's.
const FIRST: &str = "lobby";
const SECOND: &str = "kitchen";

async fn on(masters: usize, replicas: usize) -> Cluster {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let redis = RedisCluster::start(masters, replicas, &durable).await;
    Cluster::on_redis_cluster(redis, 2).start().await
}

async fn enter(endpoint: &Endpoint, room: &str, name: &str) -> RichClient {
    let mut client = RichClient::open(endpoint, RichClient::asking(room, name)).await;
    client.welcome().await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_costs_clients_nothing_but_a_pause() {
    let mut cluster = on(3, 1).await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut cook = enter(&cluster.endpoint(0), SECOND, "cook").await;
    let mut guest = enter(&cluster.endpoint(1), SECOND, "guest").await;
    cook.expect_joined("guest").await;
    cluster.shared().cluster().nodes[0].kill();
    let killed = Instant::now();
    // Whoever is on another node does not notice.
    for number in 1..=10 {
        cook.say_and_wait(number, "soup").await;
        cook.expect_said("cook", "soup").await;
        guest.expect_said("cook", "soup").await;
    }
    let unnoticed = killed.elapsed();
    assert!(unnoticed < Duration::from_secs(2), "it took {unnoticed:?}");
    alice.say("said into the void").await;
    bob.expect_said("alice", "said into the void").await;
    let pause = killed.elapsed();
    println!("heard {pause:?} after the master was killed");
    cluster.expect_names_kept(Instant::now(), &mut alice, &mut bob).await;
}

/// Messages that the promoted replica never had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_loses_is_told_exactly() {
    let mut cluster = on(3, 1).await;
    let mut alice = enter(&cluster.endpoint(0), FIRST, "alice").await;
    let mut bob = enter(&cluster.endpoint(1), FIRST, "bob").await;
    alice.expect_joined("bob").await;
    let kept = alice.say_and_wait(1, "kept").await;
    let nodes = &cluster.shared().cluster().nodes;
    let offset = nodes[0].replication_offset().await;
    eventually(SOON, "the replica has everything", async || {
        (nodes[3].replication_offset().await >= offset).then_some(())
    })
    .await;
    // It knows nothing of what is said now.
    let denied = ["CLIENT", "KILL", "TYPE", "replica"];
    nodes[3].pause();
    nodes[0].command::<u32>(&denied).await.expect("CLIENT KILL");
    let mut lost = kept;
    for number in 2..=4 {
        lost = alice.say_and_wait(number, "lost").await;
    }
    bob.expect_said("alice", "kept").await;
    for _ in 2..=4 {
        bob.expect_said("alice", "lost").await;
    }
    let servers = cluster.shared().cluster();
    servers.nodes[0].kill();
    servers.nodes[3].resume();
    servers.until_replaced(0).await;
    cluster.until_ready(2 * SOON).await;
    let after = alice.say_through(5, "after").await;
    assert_eq!((after.seq, after.epoch != kept.epoch), (kept.seq + 1, true));
    let gap = bob.next_gap().await;
    let first = gap.from.expect("what is lost begins somewhere");
    assert_eq!((first.epoch, first.seq), (kept.epoch, kept.seq + 1));
    assert_eq!(gap.to, Some(lost));
    assert_eq!(bob.expect_said("alice", "after").await, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_gone_takes_no_replica_out() {
    let mut cluster = on(3, 0).await;
    let mut alice = enter(&cluster.endpoint(0), FIRST, "alice").await;
    let mut cook = enter(&cluster.endpoint(0), SECOND, "cook").await;
    cluster.shared().cluster().nodes[0].kill();
    let node =
        format!("roomcast_redis_node_up{{node=\"{}\"}} 0", cluster.shared().cluster().hosts()[0]);
    let admin = cluster.replicas[0].admin();
    eventually(SOON, "the metrics tell which node is gone", async || {
        get(admin, "/metrics").await.ok()?.1.contains(&node).then_some(())
    })
    .await;
    assert_eq!(get(admin, "/readyz").await.expect("an answer").0, 200);
    for number in 1..=10 {
        cook.say_and_wait(number, "soup").await;
        cook.expect_said("cook", "soup").await;
    }
    let late = RichClient::open(&cluster.endpoint(1), RichClient::asking(FIRST, "late")).await;
    late.expect_end(Code::Unavailable).await;
    // Its clients stay, and go on once it is back.
    cluster.shared().cluster().nodes[0].restart().await;
    cluster.shared().cluster().until_whole().await;
    let said = alice.say_through(1, "still here").await;
    assert_eq!(alice.expect_said("alice", "still here").await, said);
}

#[tokio::test]
async fn a_url_of_another_kind_of_redis_ends_the_start() {
    let single = Redis::start().await;
    let cluster = RedisCluster::start(3, 0, &[]).await;
    let addr = ["--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    for (url, said) in [
        (
            single.url().replace("redis://", "redis+cluster://"),
            "is not part of a cluster; say redis:// instead of redis+cluster://",
        ),
        (
            cluster.nodes[1].url(),
            "redis.url leads to a Redis Cluster; say redis+cluster:// instead of redis://",
        ),
    ] {
        let arguments = [&["serve", "--redis-url", &url][..], &addr].concat();
        let finished = run(roomcast(&arguments), 2 * SOON).await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(said), "{finished:?}");
    }
}
