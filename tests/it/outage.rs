//! Redis away and back: what clients feel.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::harness::{ChatClient, Cluster, LEASE, RichClient, SOON, eventually, quiet};

/// One client on each of three replicas.
async fn three(cluster: &Cluster) -> [ChatClient; 3] {
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let carol = cluster.endpoint(2).enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    [alice, bob, carol]
}

/// The room works in every direction, and nothing was heard meanwhile.
async fn undisturbed(clients: &mut [ChatClient; 3]) {
    let [alice, bob, carol] = clients;
    quiet(alice, &mut [bob, carol]).await;
    quiet(bob, &mut [alice, carol]).await;
    quiet(carol, &mut [alice, bob]).await;
}

/// A whole lease passes after an outage, and takes nobody who was there.
async fn kept(cluster: &mut Cluster, clients: &mut [ChatClient; 3]) {
    let [alice, bob, carol] = clients;
    cluster.lose_the_last(&mut [alice, bob, carol]).await;
    undisturbed(clients).await;
}

/// All names are held, on every replica.
async fn all_taken(cluster: &Cluster) {
    for replica in 0..3 {
        for name in ["alice", "bob", "carol"] {
            let claim = cluster.endpoint(replica).join(name).await;
            let message = claim.expect_end(Code::AlreadyExists).await;
            assert_eq!(message, format!("username \"{name}\" is already taken"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_speakers_are_ended_and_listeners_stay() {
    let plan = Cluster::durable_redis(2).with("ROOMCAST_REDIS__TIMEOUT", "1s");
    let mut cluster = plan.start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut carol = cluster.endpoint(1).enter_seen_by("carol", &mut [&mut alice]).await;
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    bob.say("anybody there?").await;
    let said = Instant::now();
    let ended = bob.ended(SOON).await;
    assert_eq!(ended.code, Code::Unavailable, "{ended:?}");
    assert_ne!(ended.message, "server is shutting down");
    let waited = ended.at.saturating_duration_since(said);
    assert!(waited > Duration::from_millis(500), "gave up after {waited:?}: nothing was awaited");
    assert!(waited < Duration::from_secs(5), "only after {waited:?}");
    // Nobody can come in either, and is told why in bounded time.
    let code = cluster.endpoint(0).join("dave").await.ended(SOON).await.code;
    assert_eq!(code, Code::Unavailable);
    alice.assert_open();
    carol.assert_open();
    cluster.shared().restart().await;
    cluster.until_ready(SOON).await;
    // The speaker is gone, and the room hears of it when it can hear again.
    let told = |client: &ChatClient| client.times("bob left");
    eventually(SOON, "bob left", async || (told(&alice) == 1).then_some(())).await;
    eventually(SOON, "bob left", async || (told(&carol) == 1).then_some(())).await;
    assert_eq!(alice.times("alice left") + alice.times("carol left"), 0, "{alice:?}");
    alice.forget();
    carol.forget();
    quiet(&alice, &mut [&mut carol]).await;
    quiet(&carol, &mut [&mut alice]).await;
    assert_eq!((told(&alice), told(&carol)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_said_just_before_redis_returns_is_delivered() {
    let mut cluster = Cluster::durable_redis(3).start().await;
    let mut clients = three(&cluster).await;
    cluster.shared().kill();
    clients[0].say("said into the void").await;
    cluster.shared().restart().await;
    let [alice, bob, carol] = &mut clients;
    bob.expect_said("alice", "said into the void").await;
    carol.expect_said("alice", "said into the void").await;
    quiet(alice, &mut [bob, carol]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_with_its_data_disturbs_nobody() {
    let mut cluster = Cluster::durable_redis(4).start().await;
    let mut clients = three(&cluster).await;
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    cluster.shared().restart().await;
    cluster.until_ready(SOON).await;
    undisturbed(&mut clients).await;
    all_taken(&cluster).await;
    kept(&mut cluster, &mut clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_empty_disturbs_nobody() {
    let mut cluster = Cluster::redis(4).start().await;
    let mut clients = three(&cluster).await;
    clients[0].say("before").await;
    clients[1].expect_said("alice", "before").await;
    clients[2].expect_said("alice", "before").await;
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    cluster.shared().restart_empty().await;
    cluster.until_ready(SOON).await;
    undisturbed(&mut clients).await;
    let renewed = "the names are claimed again";
    eventually(SOON, renewed, async || {
        let fields = cluster.shared().hash_fields("rc:*:room:lobby").await?;
        // Beside where its log stands.
        (fields.len() == 4).then_some(())
    })
    .await;
    all_taken(&cluster).await;
    kept(&mut cluster, &mut clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_longer_than_the_lease_disturbs_nobody() {
    let mut cluster = Cluster::redis(4).start().await;
    let mut clients = three(&cluster).await;
    cluster.shared().kill();
    // The outage itself: longer than every lease.
    tokio::time::sleep(LEASE * 2).await;
    cluster.shared().restart_empty().await;
    cluster.until_ready(SOON).await;
    undisturbed(&mut clients).await;
    kept(&mut cluster, &mut clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_redis_disturbs_nobody() {
    let mut cluster = Cluster::redis(3).start().await;
    let mut clients = three(&cluster).await;
    cluster.shared().pause();
    cluster.until_unready(SOON).await;
    clients[0].say("said while it was paused").await;
    cluster.shared().resume();
    cluster.until_ready(SOON).await;
    let [_, bob, carol] = &mut clients;
    bob.expect_said("alice", "said while it was paused").await;
    carol.expect_said("alice", "said while it was paused").await;
    undisturbed(&mut clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_redis_is_away_has_left_when_it_is_back() {
    let mut cluster = Cluster::durable_redis(3).start().await;
    let [mut alice, mut bob, mut carol] = three(&cluster).await;
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    bob.half_close();
    let code = bob.ended(SOON).await.code;
    assert!(matches!(code, Code::Ok | Code::Unavailable), "{code:?}");
    cluster.shared().restart().await;
    cluster.until_ready(SOON).await;
    alice.expect_system("bob left").await;
    carol.expect_system("bob left").await;
    let mut bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice, &mut carol]).await;
    quiet(&carol, &mut [&mut alice, &mut bob]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_redis_loses_everything_has_left_when_it_is_back() {
    let mut cluster = Cluster::redis(3).start().await;
    let mut clients = three(&cluster).await;
    cluster.shared().kill();
    clients[1].half_close();
    clients[2].disconnect();
    clients[1].ended(SOON).await;
    // Their leases would long have ended.
    let away = Instant::now();
    let long = async || (away.elapsed() > LEASE * 5).then_some(());
    eventually(LEASE * 6, "a long outage", long).await;
    cluster.shared().restart_empty().await;
    cluster.until_ready(SOON).await;
    let alice = &mut clients[0];
    for name in ["bob", "carol"] {
        alice.until_heard(&format!("{name} left")).await;
        // And once only: what comes in comes after it.
        let again = cluster.endpoint(0).enter_in_sight_of(&format!("{name} again"), alice).await;
        again.assert_open();
        assert_eq!(alice.times(&format!("{name} left")), 1, "{alice:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_words_that_cannot_be_stored_are_not_confirmed() {
    let plan = Cluster::durable_redis(1).with("ROOMCAST_REDIS__TIMEOUT", "1s");
    let mut cluster = plan.start().await;
    let alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(0).enter_in_sight_of("bob", &alice).await;
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    bob.say("last words").await;
    bob.half_close();
    bob.expect_end(Code::Unavailable).await;
    cluster.shared().restart().await;
    alice.until_heard("bob left").await;
}

/// Whoever gives up while its join waits for Redis is gone at once, also with messages behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gives_up_while_it_comes_in_is_gone_at_once() {
    let mut cluster = Cluster::redis(1).with("ROOMCAST_REDIS__TIMEOUT", "1m").start().await;
    let alice = cluster.endpoint(0).enter("alice").await;
    cluster.shared().pause();
    let mut bob = cluster.endpoint(0).join("bob").await;
    bob.say("hello").await;
    let mut carol =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("lobby", "carol")).await;
    carol.say(1, "hello").await;
    cluster.replicas[0].until_at_least("roomcast_streams", 3.0).await;
    bob.cancel();
    carol.disconnect();
    cluster.replicas[0].until_at_most("roomcast_streams", 1.0).await;
    cluster.shared().resume();
    cluster.until_ready(SOON).await;
    let _dave = cluster.endpoint(0).enter_in_sight_of("dave", &alice).await;
    // Their joins were on their way: whoever was heard to come is heard to go, and says nothing.
    eventually(SOON, "they are gone", async || {
        let is_gone =
            |name| alice.times(&format!("{name} joined")) == alice.times(&format!("{name} left"));
        (is_gone("bob") && is_gone("carol")).then_some(())
    })
    .await;
    let heard = alice.record().state().heard.clone();
    assert!(heard.iter().all(|it| it.content != "hello"), "{heard:?}");
}
