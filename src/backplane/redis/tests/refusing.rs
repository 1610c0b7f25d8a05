//! A Redis that answers, and does not do what it is asked: it is asked again, in its own time.

use std::{collections::HashMap, time::Duration};

use roomcast_testkit as testkit;

use super::{RedisConfig, SETUP, Server};
use crate::{
    backplane::{
        Unavailable, Verdict,
        conformance::{Replica, props},
    },
    domain::ReplicaId,
};

/// What a Redis has counted.
#[derive(Debug)]
struct Counts {
    connections: u64,
    /// Calls of each command.
    calls: HashMap<String, u64>,
}

impl Server {
    async fn counts(&self) -> Counts {
        let info: String = self.command(&["INFO", "all"]).await;
        let number = |text: &str| text.trim().parse().expect("a number");
        let connections =
            info.lines().find_map(|it| it.strip_prefix("total_connections_received:"));
        let calls = info.lines().filter_map(|line| {
            let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((command.to_owned(), number(rest.split_once(',')?.0)))
        });
        Counts { connections: number(connections.expect("connections")), calls: calls.collect() }
    }

    async fn set(&self, key: &str, value: &str) {
        let () = self.command(&["CONFIG", "SET", key, value]).await;
    }

    /// Waits until so many connections for commands have been tried out: nothing else uses this command here.
    async fn until_tried_out(&self, connections: u64) {
        testkit::eventually(testkit::SOON, "all connections are open", async || {
            let tried = self.counts().await.calls.get("hscan").copied();
            (tried >= Some(connections)).then_some(())
        })
        .await;
    }

    /// Lets it fail to save.
    async fn fail_to_save(&self) {
        // The way there ends: even root cannot write into a directory that is gone.
        let gone = self.0.dir().join("gone");
        std::fs::create_dir(&gone).expect("a directory");
        self.set("dir", gone.to_str().expect("UTF-8")).await;
        std::fs::remove_dir(&gone).expect("it is empty");
        self.set("save", "3600 1").await;
        let _: redis::Value = self.command(&["BGSAVE"]).await;
        testkit::eventually(testkit::SOON, "it fails to save", async || {
            let info: String = self.command(&["INFO", "persistence"]).await;
            info.contains("rdb_last_bgsave_status:err").then_some(())
        })
        .await;
    }
}

/// A replica whose operations are given up soon.
fn impatient(server: &Server) -> Replica {
    let config = RedisConfig { timeout: Duration::from_millis(1500), ..server.config(SETUP) };
    Server::attach_to(&config, ReplicaId::from_bytes(rand::random()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_writes_is_not_hammered() {
    let kinds = [("OOM", "maxmemory", "1", "0"), ("NOREPLICAS", "min-replicas-to-write", "1", "0")];
    for (kind, key, bad, good) in kinds.into_iter().chain([("MISCONF", "save", "", "")]) {
        let server = Server::start_with(&["--enable-protected-configs", "yes"]).await;
        let a = impatient(&server);
        let room = props::some_room();
        let bob = a.join(&room, "bob").await;
        a.say(&bob, 1, "before").await;
        server.until_tried_out(4).await;
        let before = server.counts().await;
        if bad.is_empty() {
            server.fail_to_save().await;
        } else {
            server.set(key, bad).await;
        }
        let refused = a.try_say(&bob, 2, "during").await;
        assert_eq!(refused, Err(Unavailable.into()), "{kind}");
        assert_eq!(a.backplane.canary(1).await, Err(Unavailable), "{kind}: the way in is closed");
        let words = a.backplane.write_error().unwrap_or_default();
        assert!(words.contains(kind), "{kind}: {words}");

        // Those who speak while it ends are stored, in their order, and once.
        let speak = (3..6).map(|seq| a.try_say(&bob, seq - 1, "still"));
        let speaking = futures_util::future::join_all(speak);
        let (said, ()) = tokio::join!(speaking, server.set(key, good));
        let positions: Vec<_> = said.into_iter().map(|it| it.expect(kind).position.seq).collect();
        assert_eq!(positions, [3, 4, 5], "{kind}: after joined and what came before");
        a.backplane.canary(2).await.expect(kind);

        let after = server.counts().await;
        let connections = after.connections - before.connections;
        let calls = |counts: &Counts, of: &str| counts.calls.get(of).copied().unwrap_or(0);
        let more = |of: &str| calls(&after, of) - calls(&before, of);
        // Those of this test; the replica has opened none, and loaded nothing.
        assert!(connections < 40, "{kind}: {connections} connections");
        assert_eq!(more("script|load"), 0, "{kind}");
        assert_eq!(more("info"), connections - more("config|set") - more("bgsave"), "{kind}");
        assert!(more("evalsha") < 60, "{kind}: {after:?}");
    }
}

#[tokio::test]
async fn a_full_redis_is_still_read() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "before").await;
    server.set("maxmemory", "1").await;
    let b = impatient(&server);
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob: before"]);
    b.is_refused(&b.hold(&room, "bob"), "the name is bob's").await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
}

/// A right that is taken away while a script is at work: what it has appended by then is in the log.
#[tokio::test]
async fn what_cannot_be_told_holds_up_nothing_that_follows() {
    let server = Server::start().await;
    let a = impatient(&server);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "before").await;
    server.until_tried_out(4).await;
    let () = server.command(&["ACL", "SETUSER", "roomcast", "-spublish"]).await;
    assert_eq!(a.try_say(&bob, 2, "during").await, Err(Unavailable.into()));
    let () = server.command(&["ACL", "SETUSER", "roomcast", "+spublish"]).await;
    a.say(&bob, 2, "during").await;
    assert_eq!(a.say(&bob, 3, "after").await.position.seq, 4);
    let story = ["1 bob joined", "2 bob: before", "3 bob: during", "4 bob: after"];
    assert_eq!(a.story(&room).await, story);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_loaded_once_for_all_connections() {
    let server = Server::start().await;
    for _ in 0..3 {
        let a = server.attach(SETUP);
        a.join(&props::some_room(), "bob").await;
    }
    let loaded = server.counts().await.calls["script|load"];
    let scripts = super::super::scripts::SOURCES.len() as u64;
    assert!(
        loaded <= 4 * scripts,
        "at most once for each of the first one's connections: {loaded}"
    );
}
