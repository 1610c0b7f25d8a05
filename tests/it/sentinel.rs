//! A Redis that Sentinels watch: what clients feel when its master fails.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, Endpoint, RichClient, SOON, Sentinels, undisturbed};

/// A master with replicas, and replicas of roomcast that know the Sentinels only.
async fn watched() -> Cluster {
    Cluster::on_sentinels(Sentinels::start_with(&[]).await, 2).start().await
}

async fn enter(endpoint: &Endpoint, name: &str) -> RichClient {
    let mut client = RichClient::open(endpoint, RichClient::asking("lobby", name)).await;
    client.welcome().await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_costs_clients_nothing_but_a_pause() {
    let mut cluster = watched().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let carol = cluster.endpoint(1).enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    cluster.shared().sentinels().in_step().await;
    cluster.shared().sentinels().servers[0].kill();
    let killed = Instant::now();
    alice.say("said into the void").await;
    bob.expect_said("alice", "said into the void").await;
    let pause = killed.elapsed();
    println!("heard {pause:?} after the master was killed");
    assert!(pause < SOON, "it took {pause:?}");
    cluster.shared().sentinels().until_replaced(0).await;
    cluster.expect_names_kept(Instant::now(), &mut alice, &mut bob).await;
    carol.assert_open();
}

/// Also when the failed master is back as a replica, and is the master again in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_may_be_replaced_again_and_again() {
    let mut cluster = watched().await;
    let mut alice = enter(&cluster.endpoint(0), "alice").await;
    let mut bob = enter(&cluster.endpoint(1), "bob").await;
    alice.expect_joined("bob").await;
    let (mut master, mut epoch, mut number) = (0, None, 0);
    for _ in 0..3 {
        cluster.shared().sentinels().fail_over().await;
        master = cluster.shared().sentinels().until_replaced(master).await;
        for _ in 0..5 {
            number += 1;
            let content = format!("message {number}");
            let position = alice.say_through(number, &content).await;
            for client in [&mut alice, &mut bob] {
                assert_eq!(client.expect_said("alice", &content).await, position);
            }
            assert!(epoch != Some(position.epoch) || position.seq > number);
            epoch = Some(position.epoch);
        }
        cluster.shared().sentinels().until_settled().await;
    }
    cluster.assert_no_errors();
}

/// Messages that the promoted replica never had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_loses_is_told_exactly() {
    let mut cluster = watched().await;
    let mut alice = enter(&cluster.endpoint(0), "alice").await;
    let mut bob = enter(&cluster.endpoint(1), "bob").await;
    alice.expect_joined("bob").await;
    let kept = alice.say_and_wait(1, "kept").await;
    cluster.shared().sentinels().in_step().await;
    cluster.shared().sentinels().cut_replicas().await;
    let mut lost = kept;
    for number in 2..=4 {
        lost = alice.say_and_wait(number, "lost").await;
    }
    bob.expect_said("alice", "kept").await;
    for _ in 2..=4 {
        bob.expect_said("alice", "lost").await;
    }
    cluster.shared().sentinels().servers[0].kill();
    cluster.shared().sentinels().until_replaced(0).await;
    cluster.until_ready(2 * SOON).await;
    let after = alice.say_through(5, "after").await;
    assert_eq!((after.seq, after.epoch != kept.epoch), (kept.seq + 1, true));
    let gap = bob.next_gap().await;
    let first = gap.from.expect("what is lost begins somewhere");
    assert_eq!((first.epoch, first.seq), (kept.epoch, kept.seq + 1));
    assert_eq!(gap.to, Some(lost));
    assert_eq!(bob.expect_said("alice", "after").await, after);
}

#[tokio::test]
async fn a_name_that_sentinels_do_not_know_ends_the_start() {
    let sentinels = Sentinels::naming(&[], &[]).await;
    let url = sentinels.url_of("caht");
    let addr = ["--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let arguments = [&["serve", "--redis-url", &url][..], &addr].concat();
    let finished = roomcast_testkit::run(roomcast_testkit::roomcast(&arguments), 2 * SOON).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let said = "redis.url: the Sentinels know no master by the name \"caht\"; they know: chat";
    assert!(finished.stderr.contains(said), "{finished:?}");
}

/// A Sentinel that is away, or stands still, holds up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sentinel_of_three_may_be_away() {
    let mut cluster = watched().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    cluster.shared().sentinels().in_step().await;
    cluster.shared().sentinels().pause_one();
    cluster.shared().sentinels().servers[0].kill();
    alice.say("and on").await;
    bob.expect_said("alice", "and on").await;
    cluster.until_ready(Duration::from_secs(2)).await;
    undisturbed(&mut alice, &mut bob).await;
}
