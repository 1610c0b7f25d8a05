//! Certificates change under load, and nobody notices.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{A_LOOK, CERT, CLIENT_CA, KEY, shown};
use crate::harness::{
    Authority, ChatClient, Cluster, Pace, Pair, Payload, Replica, SOON, eventually, quiet,
};

const RELOADED: &str = "roomcast_tls_reloads_total{outcome=\"reloaded\"}";
const REFUSED: &str = "roomcast_tls_reloads_total{outcome=\"refused\"}";
const KEPT: &str = "the old ones stay in force";

/// A directory with certificate and key that are replaced in one of two ways.
struct Mounted {
    dir: TempDir,
    /// As Kubernetes does: the files are links into a directory behind a link that is swapped.
    swapped: bool,
    round: usize,
}

impl Mounted {
    fn new(swapped: bool, pair: &Pair) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mounted = Self { dir, swapped, round: 0 };
        if swapped {
            for name in ["tls.crt", "tls.key"] {
                symlink(Path::new("..data").join(name), mounted.path(name)).expect("link");
            }
        }
        mounted.put(pair);
        mounted
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn setting(&self, name: &str) -> String {
        self.path(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// Replaces both files; no reader ever finds half of one.
    fn put(&mut self, pair: &Pair) {
        self.round += 1;
        let version = self.path(&format!("..{}", self.round));
        fs::create_dir(&version).expect("a directory");
        fs::write(version.join("tls.crt"), &pair.cert).expect("write");
        fs::write(version.join("tls.key"), &pair.key).expect("write");
        if self.swapped {
            symlink(&version, self.path("..tmp")).expect("link");
            fs::rename(self.path("..tmp"), self.path("..data")).expect("swap");
        } else {
            for name in ["tls.crt", "tls.key"] {
                fs::rename(version.join(name), self.path(name)).expect("rename");
            }
        }
    }
}

/// Talks until told to stop, never far ahead of the others; answers how much was said.
async fn talk(client: ChatClient, pace: Pace, stop: CancellationToken) -> (ChatClient, usize) {
    let mut said = 0;
    while !stop.is_cancelled() {
        pace.keep(client.name(), said).await;
        client.send(Payload::message("", &said.to_string(), "")).await;
        said += 1;
        // Steady, and not more than a busy machine bears.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    (client, said)
}

/// Everybody heard all that the others said, each message once and in order, and is still there.
async fn assert_complete(talkers: &[(ChatClient, usize)]) {
    for (listener, _) in talkers {
        for (speaker, said) in talkers.iter().filter(|(it, _)| it.name() != listener.name()) {
            let all = listener.record().wait(SOON, |state| {
                let heard = state.counts.get(speaker.name()).copied().unwrap_or_default();
                (heard >= *said).then_some(())
            });
            assert!(all.await.is_some(), "{said} of {}: {listener:?}", speaker.name());
            let state = listener.record().state();
            let heard = state.heard.iter().filter(|heard| heard.username == speaker.name());
            let numbers = heard.map(|heard| heard.content.parse::<usize>().expect("a number"));
            assert!(numbers.eq(0..*said), "{} heard {}", listener.name(), speaker.name());
        }
        listener.assert_open();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_drops_nobody() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    for swapped in [false, true] {
        let mut mounted = Mounted::new(swapped, &first.issue("127.0.0.1"));
        let plan = Cluster::redis(2).with(CERT, &mounted.setting("tls.crt"));
        let cluster = plan.with(KEY, &mounted.setting("tls.key")).start().await;
        let mut talkers =
            vec![cluster.endpoint(0).over_tls(first.trusted()).enter("talker 0").await];
        for number in 1..8 {
            let endpoint = cluster.endpoint(number).over_tls(first.trusted());
            let name = format!("talker {number}");
            talkers.push(endpoint.enter_in_sight_of(&name, &talkers[0]).await);
        }
        let stop = CancellationToken::new();
        // Nobody hears what they say themselves.
        let pace_of = |talker: &ChatClient| {
            Pace::of(talkers.iter().filter(|other| other.name() != talker.name()), 32)
        };
        let paces: Vec<_> = talkers.iter().map(pace_of).collect();
        let mut talking = JoinSet::new();
        for (talker, pace) in talkers.into_iter().zip(paces) {
            talking.spawn(talk(talker, pace, stop.clone()));
        }
        let mut reloads = 0.0;
        for (authority, next) in
            [(&first, first.issue("127.0.0.1")), (&second, second.issue("127.0.0.1"))]
        {
            mounted.put(&next);
            reloads += 1.0;
            for replica in &cluster.replicas {
                replica.until_at_least(RELOADED, reloads).await;
                assert_eq!(shown(replica, authority).await.expect("TLS"), next.der);
            }
        }
        // Who trusts the old CA only is not taken in by it any more; who is there stays.
        assert!(shown(&cluster.replicas[0], &first).await.is_err());
        stop.cancel();
        let talkers = talking.join_all().await;
        assert!(talkers.iter().all(|(_, said)| *said > 20), "they talked meanwhile");
        assert_complete(&talkers).await;
        // And those who come now are in the same room.
        let late = cluster.endpoint(1).over_tls(second.trusted());
        late.enter_in_sight_of("late", &talkers[0].0).await.assert_open();
        assert_eq!(cluster.replicas[0].log().with(KEPT), [""; 0]);
        cluster.assert_no_errors();
    }
}

/// Waits for so many warnings; a thread of the replica's writes them, in its own time.
async fn until_said(replica: &Replica, times: usize) -> Vec<String> {
    eventually(SOON, &format!("{times} warnings"), async || {
        Some(replica.log().with(KEPT)).filter(|said| said.len() >= times)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_pair_is_told_once_and_the_old_one_stays() {
    let authority = Authority::new("servers");
    let good = authority.issue("127.0.0.1");
    let mut mounted = Mounted::new(true, &good);
    let plan = Cluster::memory().with(CERT, &mounted.setting("tls.crt"));
    let cluster = plan.with(KEY, &mounted.setting("tls.key")).start().await;
    let replica = &cluster.replicas[0];
    let endpoint = cluster.endpoint(0).over_tls(authority.trusted());
    let mut alice = endpoint.enter("alice").await;

    let mut bad = authority.issue("127.0.0.1");
    bad.key.clone_from(&good.key);
    mounted.put(&bad);
    replica.until_at_least(REFUSED, 1.0).await;
    assert_eq!(shown(replica, &authority).await.expect("TLS"), good.der);
    let mut bob = endpoint.enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut bob]).await;
    // Looked at again and again, said once.
    tokio::time::sleep(2 * A_LOOK).await;
    let said = replica.log().with(KEPT);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("server.tls.key_file = ") && said[0].contains("WARN"), "{said:?}");
    assert!((replica.metric(REFUSED).await - 1.0).abs() < 0.5);

    mounted.put(&authority.issue_expired("127.0.0.1"));
    replica.until_at_least(REFUSED, 2.0).await;
    let said = until_said(replica, 2).await;
    assert!(said[1].contains("expired"), "{said:?}");
    let next = authority.issue("127.0.0.1");
    mounted.put(&next);
    replica.until_at_least(RELOADED, 1.0).await;
    assert_eq!(shown(replica, &authority).await.expect("TLS"), next.der);
    quiet(&bob, &mut [&mut alice]).await;
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ca_of_clients_is_followed_too() {
    let (servers, old, new) =
        (Authority::new("servers"), Authority::new("old"), Authority::new("new"));
    let files = servers.issue_files("server");
    let ca = servers.path("clients.crt");
    fs::write(&ca, old.pem()).expect("write");
    let plan = Cluster::memory().with(CERT, &files.cert).with(KEY, &files.key);
    let cluster = plan.with(CLIENT_CA, &ca).start().await;
    let endpoint = |client: &Authority| {
        cluster.endpoint(0).over_tls(servers.trusted_with(&client.issue("client.example")))
    };
    let mut alice = endpoint(&old).enter("alice").await;
    fs::write(&ca, new.pem()).expect("write");
    cluster.replicas[0].until_at_least(RELOADED, 1.0).await;
    let bob = endpoint(&new).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
    let refused = "roomcast_refusals_total{reason=\"tls_handshake\"}";
    let before = cluster.replicas[0].metric(refused).await;
    // With TLS 1.3 a client learns of it after its own part of the handshake.
    let _ = endpoint(&old).try_channel().await;
    eventually(SOON, "the old CA is refused", async || {
        (cluster.replicas[0].metric(refused).await > before).then_some(())
    })
    .await;
}
