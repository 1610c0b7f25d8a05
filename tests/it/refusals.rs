//! A Redis that answers and does not do what it is asked: for now, or because it may not be asked.

use std::time::{Duration, Instant};

use crate::harness::{
    Cluster, Finished, Redis, Replica, SOON, eventually, free_port, get, quiet, roomcast, run,
};

const URL: &str = "ROOMCAST_REDIS__URL";

/// All that a user may need, as the documentation has it.
fn documented_rights() -> Vec<String> {
    let text = include_str!("../../docs/operations.md").replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("ACL SETUSER roomcast on "));
    line.expect("the line").split_whitespace().skip(1).map(str::to_owned).collect()
}

/// A Redis with a user of these rights, and the URL for it.
async fn with_user(rights: &[&str]) -> (Redis, String) {
    let redis = Redis::start().await;
    let mut words = vec!["ACL", "SETUSER", "roomcast", "on", ">secret"];
    words.extend(rights);
    redis.command::<String>(&words).await.expect("ACL SETUSER");
    let url = format!("redis://roomcast:secret@127.0.0.1:{}", redis.port());
    (redis, url)
}

async fn serve(url: &str, more: &[(&str, &str)]) -> Finished {
    let mut command = roomcast(&["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    command.env(URL, url).envs(more.iter().copied());
    run(command, SOON).await
}

fn assert_ended(finished: &Finished, mentions: &[&str], case: &str) {
    assert_eq!(finished.code, Some(1), "{case}: {finished:?}");
    let error = finished.stderr.lines().find(|line| line.starts_with("error: "));
    let error = error.unwrap_or_else(|| panic!("{case}: {finished:?}"));
    for text in mentions {
        assert!(error.contains(text), "{case} says {text:?}: {error}");
    }
    assert!(!finished.stderr.contains("secret@"), "{case}: {finished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_rights_end_the_start_with_what_to_do() {
    let rights = documented_rights();
    // One Redis is asked nothing about its cluster.
    let is_for_clusters = |right: &&str| right.starts_with("+cluster|") || *right == "+asking";
    let all: Vec<&str> =
        rights.iter().map(String::as_str).filter(|it| !is_for_clusters(it)).collect();
    let line = "ACL SETUSER roomcast ~rc:* &rc:* +evalsha";
    for without in &all {
        let mut left: Vec<&str> = all.iter().copied().filter(|right| right != without).collect();
        let word = match *without {
            "~rc:*" => "key",
            "&rc:*" => "channel",
            "+sunsubscribe" => "sunsubscribe",
            right => right.trim_start_matches('+').split('|').next().expect("a word"),
        };
        // Of databases there is only the one that one gets, and nobody is waited for, unless asked to.
        let more: &[(&str, &str)] =
            if *without == "+wait" { &[("ROOMCAST_REDIS__DURABILITY", "replicated")] } else { &[] };
        left.retain(|right| !right.is_empty());
        let (_redis, mut url) = with_user(&left).await;
        if *without == "+select" {
            url.push_str("/1");
        }
        let finished = serve(&url, more).await;
        let said = finished.stderr.to_lowercase();
        assert!(said.contains(word), "{without}: {finished:?}");
        assert_ended(&finished, &[line], without);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_will_never_do_ends_the_start() {
    let renamed = Redis::stopped(&["--rename-command", "EVALSHA", "EVALSHA-x"]).started().await;
    assert_ended(&serve(&renamed.url(), &[]).await, &["EVALSHA", "rename-command"], "renamed");
    let hidden = Redis::stopped(&["--rename-command", "XTRIM", ""]).started().await;
    assert_ended(&serve(&hidden.url(), &[]).await, &["XTRIM", "rename-command"], "hidden");
    // Unless it is told, the port of its bus is among those that the kernel gives to outgoing connections.
    let bus = free_port().to_string();
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let cluster = Redis::stopped(&cluster).started().await;
    for path in ["", "/1"] {
        let url = format!("{}{path}", cluster.url());
        assert_ended(
            &serve(&url, &[]).await,
            &["Redis Cluster", "say redis+cluster://"],
            "cluster",
        );
    }
    let plain = Redis::start().await;
    let database = format!("{}/99", plain.url());
    assert_ended(&serve(&database, &[]).await, &["redis.url", "DB index is out of range"], "99");
    let (_redis, other) = with_user(&["~rc:*", "&rc:*", "+@all"]).await;
    let prefix = [("ROOMCAST_REDIS__PREFIX", "team")];
    assert_ended(&serve(&other, &prefix).await, &["~team:* &team:*"], "a prefix of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_is_waited_for_and_told_in_redis_words() {
    let redis = Redis::start().await;
    // The only one there may be.
    let client = ::redis::Client::open(redis.url()).expect("a URL");
    let mut only = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut set = async |most: &str| {
        let mut set = ::redis::cmd("CONFIG");
        set.arg("SET").arg("maxclients").arg(most);
        set.query_async::<String>(&mut only).await.expect("CONFIG SET");
    };
    set("1").await;
    let mut replica = Replica::start("A", &[(URL.to_owned(), redis.url())]).await;
    eventually(SOON, "it says why", async || {
        let said = replica.log().with("redis is away");
        said.iter().any(|line| line.contains("max number of clients reached")).then_some(())
    })
    .await;
    assert!(replica.lives());
    assert_eq!(get(replica.admin(), "/readyz").await.expect("readyz").0, 503);
    set("100").await;
    replica.until_ready(SOON).await;
}

/// Rights that go while it runs are an outage that is told, and heals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_lost_later_are_an_outage() {
    let mut cluster = Cluster::redis(1).on_one().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    let redis = cluster.redis_server();
    redis.command::<String>(&["ACL", "SETUSER", "default", "-xadd"]).await.expect("ACL");
    cluster.until_unready(SOON).await;
    let log = cluster.replicas[0].log().clone();
    eventually(SOON, "it says which", async || {
        log.with("\"WARN\"").iter().any(|line| line.contains("XADD")).then_some(())
    })
    .await;
    cluster
        .redis_server()
        .command::<String>(&["ACL", "SETUSER", "default", "+@all"])
        .await
        .expect("ACL");
    cluster.until_ready(SOON).await;
    quiet(&bob, &mut [&mut alice]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_is_told_once_and_makes_nobody_ready() {
    let mut cluster = Cluster::redis(2).on_one().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let set = ["CONFIG", "SET", "maxmemory", "1"];
    cluster.redis_server().command::<String>(&set).await.expect("CONFIG SET");
    cluster.until_unready(SOON).await;
    let before = cluster.redis_server().counted("total_connections_received").await;
    let written = |cluster: &Cluster| {
        cluster.replicas.iter().map(|replica| replica.log().lines().len()).sum::<usize>()
    };
    let lines = written(&cluster);
    alice.say("waits").await;
    // As long as it would take to notice a storm, and longer than its message waits for Redis.
    let began = Instant::now();
    alice.expect_end(tonic::Code::Unavailable).await;
    assert!(began.elapsed() > Duration::from_secs(2), "it was not waited for");
    for replica in &cluster.replicas {
        let (status, text) = get(replica.admin(), "/readyz").await.expect("readyz");
        assert_eq!(status, 503, "{text}");
        assert!(text.contains("redis refuses: OOM"), "{text}");
        assert_eq!(get(replica.admin(), "/livez").await.expect("livez").0, 200);
        assert_eq!(replica.log().with("redis refuses commands").len(), 1);
    }
    let connections = cluster.redis_server().counted("total_connections_received").await - before;
    assert!(connections < 10, "{connections} connections");
    assert!(written(&cluster) - lines < 20, "{:?}", cluster.replicas[0].log().lines());
    bob.assert_open();

    let set = ["CONFIG", "SET", "maxmemory", "0"];
    cluster.redis_server().command::<String>(&set).await.expect("CONFIG SET");
    cluster.until_ready(SOON).await;
    bob.until_heard("alice left").await;
    for replica in &cluster.replicas {
        eventually(SOON, "it says that it is over", async || {
            (replica.log().with("redis takes commands again").len() == 1).then_some(())
        })
        .await;
        assert_eq!(replica.log().with("redis refuses commands").len(), 1);
    }
    bob.forget();
    let carol = cluster.endpoint(0).enter_seen_by("carol", &mut [&mut bob]).await;
    quiet(&carol, &mut [&mut bob]).await;
    cluster.assert_no_errors();
}
