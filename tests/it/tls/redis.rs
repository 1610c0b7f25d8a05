//! Replicas reach Redis over TLS.

use tonic::Code;

use crate::harness::{
    Authority, ChatClient, Cluster, Finished, PairFiles, Redis, Replica, SOON, eventually,
    free_port, quiet, roomcast, run,
};

const URL: &str = "ROOMCAST_REDIS__URL";
const CA: &str = "ROOMCAST_REDIS__TLS__CA_FILE";
const CERT: &str = "ROOMCAST_REDIS__TLS__CERT_FILE";
const KEY: &str = "ROOMCAST_REDIS__TLS__KEY_FILE";

/// A Redis that speaks TLS on a port of its own, beside the plain one that the test itself uses, and
/// the URL of the TLS port. It has every write on disk before it answers.
async fn redis(authority: &Authority, files: &PairFiles, clients: &str) -> (Redis, String) {
    let (port, ca) = (free_port().to_string(), authority.ca_file());
    let mut redis = Redis::stopped(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--tls-port",
        &port,
        "--tls-cert-file",
        &files.cert,
        "--tls-key-file",
        &files.key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        clients,
    ]);
    redis.restart().await;
    (redis, format!("rediss://127.0.0.1:{port}"))
}

async fn serve(variables: &[(&str, &str)]) -> Finished {
    let mut command = roomcast(&["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    command.env("ROOMCAST_TELEMETRY__LOG_FORMAT", "text").envs(variables.iter().copied());
    run(command, SOON).await
}

fn assert_ended(finished: &Finished, said: &str) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let errors: Vec<_> =
        finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{finished:?}");
    assert!(errors[0].contains(said), "{said:?}: {finished:?}");
}

/// Waits for the warning of a replica that never reaches Redis.
async fn assert_warned(url: &str, ca: &str, said: &str) {
    let mut settings = vec![(URL.to_owned(), url.to_owned())];
    if url.starts_with("rediss:") {
        settings.push((CA.to_owned(), ca.to_owned()));
    }
    let replica = Replica::start("A", &settings).await;
    eventually(SOON, &format!("a warning with {said:?}"), async || {
        let warned = replica.log().with("redis is away");
        warned.iter().any(|line| line.contains(said)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_of_the_other_kind_is_guessed() {
    let authority = Authority::new("redis");
    let (redis, tls) = redis(&authority, &authority.issue_files("redis"), "no").await;
    let plain = redis.url().replace("redis://", "rediss://");
    let hint = "redis.url has to say rediss:// where Redis speaks TLS";
    assert_warned(&plain, &authority.ca_file(), hint).await;
    assert_warned(&tls.replace("rediss://", "redis://"), "", hint).await;
}

async fn assert_room_works(cluster: &Cluster) -> (ChatClient, ChatClient) {
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut bob]).await;
    quiet(&bob, &mut [&mut alice]).await;
    (alice, bob)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_heals_as_it_does_without_tls() {
    let authority = Authority::new("redis");
    let (redis, url) = redis(&authority, &authority.issue_files("redis"), "no").await;
    let mut cluster = Cluster::on(redis, &url, 2).with(CA, &authority.ca_file()).start().await;
    let (mut alice, mut bob) = assert_room_works(&cluster).await;
    // Killed and back with its data.
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    alice.say("said into the void").await;
    cluster.shared().restart().await;
    cluster.until_ready(SOON).await;
    bob.expect_said("alice", "said into the void").await;
    quiet(&alice, &mut [&mut bob]).await;
    quiet(&bob, &mut [&mut alice]).await;
    // It hangs: nothing is closed, and the timeouts hold all the same.
    cluster.shared().pause();
    cluster.until_unready(SOON).await;
    cluster.shared().resume();
    cluster.until_ready(SOON).await;
    quiet(&alice, &mut [&mut bob]).await;
    // Only what is subscribed is cut.
    cluster.shared().kill_subscribers().await;
    alice.say("the log has it").await;
    bob.expect_said("alice", "the log has it").await;
    for name in ["alice", "bob"] {
        let claim = cluster.endpoint(0).join(name).await;
        claim.expect_end(Code::AlreadyExists).await;
    }
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_asks_for_a_certificate_gets_one() {
    let authority = Authority::new("redis");
    let (redis, url) = redis(&authority, &authority.issue_files("redis"), "yes").await;
    let (ca, pair) = (authority.ca_file(), authority.issue_files("replica"));
    let said = "redis cannot be reached over TLS";
    let finished = serve(&[(URL, &url), (CA, &ca)]).await;
    assert_ended(&finished, said);
    let others = Authority::new("others");
    let stranger = others.issue_files("stranger");
    let finished =
        serve(&[(URL, &url), (CA, &ca), (CERT, &stranger.cert), (KEY, &stranger.key)]).await;
    assert_ended(&finished, said);
    let plan = Cluster::on(redis, &url, 2).with(CA, &ca);
    let cluster = plan.with(CERT, &pair.cert).with(KEY, &pair.key).start().await;
    assert_room_works(&cluster).await;
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_cannot_be_trusted_ends_it_at_the_start() {
    let (authority, other) = (Authority::new("redis"), Authority::new("others"));
    let (_redis, url) = redis(&authority, &authority.issue_files("redis"), "no").await;
    let finished = serve(&[(URL, &url), (CA, &other.ca_file())]).await;
    assert_ended(&finished, "its certificate is not from a CA that is trusted here");
    // The system's roots are the default; OpenSSL's variable says where those are.
    let finished =
        serve(&[(URL, &url), ("SSL_CERT_FILE", &other.ca_file()), ("SSL_CERT_DIR", "")]).await;
    assert_ended(&finished, "its certificate is not from a CA that is trusted here");

    let ca = authority.ca_file();
    let elsewhere = authority.write("elsewhere", &authority.issue("cache.example"));
    let (_named, url) = self::redis(&authority, &elsewhere, "no").await;
    let finished = serve(&[(URL, &url), (CA, &ca)]).await;
    assert_ended(&finished, "its certificate is not for 127.0.0.1, but for ");
    let expired = authority.write("expired", &authority.issue_expired("127.0.0.1"));
    let (_expired, url) = self::redis(&authority, &expired, "no").await;
    let finished = serve(&[(URL, &url), (CA, &ca)]).await;
    assert_ended(&finished, "its certificate has expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_worked_a_certificate_that_cannot_be_trusted_is_an_outage() {
    let authority = Authority::new("redis");
    let files = authority.issue_files("redis");
    let (redis, url) = redis(&authority, &files, "no").await;
    let ca = authority.path("trusted");
    std::fs::copy(authority.ca_file(), &ca).expect("copy");
    let mut cluster = Cluster::on(redis, &url, 2).with(CA, &ca).start().await;
    let (mut alice, mut bob) = assert_room_works(&cluster).await;
    // Redis comes back with a certificate of another CA.
    let successor = Authority::new("successor");
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    authority.write("redis", &successor.issue("127.0.0.1"));
    cluster.shared().restart().await;
    let log = cluster.replicas[0].log().clone();
    eventually(SOON, "it says that redis is away", async || {
        (!log.with("redis is away").is_empty()).then_some(())
    })
    .await;
    assert!(cluster.replicas.iter_mut().all(crate::harness::Replica::lives));
    // The new CA is read when the next connection is opened; nobody restarts anything.
    std::fs::write(&ca, successor.pem()).expect("write");
    cluster.until_ready(SOON).await;
    quiet(&alice, &mut [&mut bob]).await;
    quiet(&bob, &mut [&mut alice]).await;
    cluster.assert_no_errors();
}
