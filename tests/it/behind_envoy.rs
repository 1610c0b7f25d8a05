//! Three replicas behind a real Envoy with the configuration that `deploy/` ships.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tonic::Code;

use crate::{
    deploy::envoy::{envoy, local_config},
    harness::{ChatClient, Cluster, Dialect, Door, SOON, eventually, free_port, get},
};

/// A running Envoy in front of a cluster. Killed when dropped.
struct Proxy {
    child: Child,
    port: u16,
    admin: SocketAddr,
    _dir: TempDir,
}

impl Proxy {
    /// Starts it and waits until it finds all replicas healthy.
    async fn start(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (port, admin) = (free_port(), free_port());
        let replicas: Vec<u16> = cluster.replicas.iter().map(|it| it.grpc().port()).collect();
        let file = dir.path().join("envoy.json");
        fs::write(&file, local_config(port, admin, &replicas)).expect("write the configuration");
        let child = envoy()
            .args(["--concurrency", "1", "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start Envoy");
        let proxy = Self { child, port, admin: ([127, 0, 0, 1], admin).into(), _dir: dir };
        proxy.until_healthy(replicas.len()).await;
        proxy
    }

    /// Waits until so many replicas are healthy in its eyes.
    async fn until_healthy(&self, expected: usize) {
        eventually(Duration::from_secs(20), "Envoy finds them healthy", async || {
            let (_, clusters) = get(self.admin, "/clusters").await.ok()?;
            let healthy = clusters.lines().filter(|it| it.ends_with("health_flags::healthy"));
            (healthy.count() == expected).then_some(())
        })
        .await;
    }

    fn door(&self, dialect: Dialect) -> Door {
        Door::at(([127, 0, 0, 1], self.port).into(), dialect)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many streams each replica says that it has.
async fn streams(cluster: &Cluster) -> Vec<u64> {
    let mut counts = vec![];
    for replica in &cluster.replicas {
        let (_, metrics) = get(replica.admin(), "/metrics").await.expect("metrics");
        let count = metrics.lines().find_map(|line| line.strip_prefix("roomcast_streams "));
        counts.push(count.and_then(|count| count.parse().ok()).expect("a gauge of streams"));
    }
    counts
}

/// Comes in by way of the proxy; everybody who is there hears it, and nobody anything else.
async fn gather(proxy: &Proxy, size: usize) -> Vec<ChatClient> {
    // Half of them on connections of their own, half on one that they share.
    let own = proxy.door(Dialect::Typed);
    let shared = proxy.door(Dialect::Struct).on_one_connection().await;
    let mut crowd = vec![own.enter("client 0").await];
    for number in 1..size {
        let door = if number % 2 == 0 { &own } else { &shared };
        let mut there: Vec<_> = crowd.iter_mut().collect();
        let client = door.enter_seen_by(&format!("client {number}"), &mut there).await;
        crowd.push(client);
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_all_replicas_are_in_one_room() {
    let cluster = Cluster::redis(3).start().await;
    let proxy = Proxy::start(&cluster).await;
    let mut crowd = gather(&proxy, 12).await;
    let spread = streams(&cluster).await;
    assert_eq!(spread.iter().sum::<u64>(), 12, "{spread:?}");
    // Envoy compares two replicas at random, so that the smallest crowd may miss one of three.
    let used = spread.iter().filter(|&&count| count > 0).count();
    assert!(used > 1, "they are on several replicas: {spread:?}");
    for speaker in 0..crowd.len() {
        let text = format!("hello from {speaker}");
        crowd[speaker].say(&text).await;
        let name = crowd[speaker].name().to_owned();
        for (_, listener) in crowd.iter_mut().enumerate().filter(|(it, _)| *it != speaker) {
            listener.expect_said(&name, &text).await;
        }
    }
    let taken = proxy.door(Dialect::Typed).join("CLIENT 3").await;
    let message = taken.expect_end(Code::AlreadyExists).await;
    assert_eq!(message, "username \"CLIENT 3\" is already taken");
    crowd[3].half_close();
    crowd[3].expect_end(Code::Ok).await;
    crowd.remove(3);
    for client in &mut crowd {
        client.expect_system("client 3 left").await;
    }
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_leaves_turns_nobody_away_who_comes_then() {
    let mut cluster = Cluster::redis(3).with("ROOMCAST_DRAIN__DELAY", "3s").start().await;
    let proxy = Proxy::start(&cluster).await;
    let mut crowd = gather(&proxy, 9).await;
    cluster.replicas[0].signal(Signal::SIGTERM);
    // Envoy hears of it while the replica still serves.
    proxy.until_healthy(2).await;
    let code = cluster.replicas[0].exit_code(SOON).await;
    assert_eq!(code, 0);
    let mut witness = proxy.door(Dialect::Typed).enter("witness").await;
    let mut stayed = vec![];
    for client in crowd.drain(..) {
        let name = client.name().to_owned();
        let ended = client.record().wait(SOON, |state| {
            let seen = state.heard.iter().any(|heard| heard.content == "witness joined");
            (seen || state.ended.is_some()).then(|| state.ended.clone())
        });
        match ended.await.expect("it ended, or heard what came then") {
            Some(ended) => {
                assert_eq!(ended.code, Code::Unavailable, "{name}: {ended:?}");
                assert_eq!(ended.message, "server is shutting down", "{name}");
                let door = proxy.door(Dialect::Typed);
                stayed.push(door.enter_in_sight_of(&name, &witness).await);
            }
            None => stayed.push(client),
        }
    }
    witness.forget();
    for client in &mut stayed {
        client.say("still here").await;
        witness.expect_said(client.name(), "still here").await;
        client.assert_open();
    }
}
