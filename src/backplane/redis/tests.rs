//! The conformance suite over a real `redis-server`, and what only Redis can do to a room.

mod apart;
mod cluster;
mod durability;
mod refusing;
mod renewing;
mod sentinel;
mod services;

use std::{
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use roomcast_testkit as testkit;
use roomcast_tls::TlsFiles;
use tokio::sync::Mutex;

use super::{Redis, RedisConfig, RedisRefusal, Topology, keys::Keys, rights::acl_line};
use crate::{
    backplane::{
        Backplane as _, LogBounds,
        conformance::{self, Fixture, Replica, Setup, props},
    },
    domain::{ReplicaId, RoomName},
    metrics::Metrics,
};

/// A `redis-server` of its own for each test; killed with it.
struct Server(testkit::Redis);

impl Server {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        Self(testkit::Redis::start_with(&arguments(more)).await)
    }

    fn attach(&self, setup: Setup) -> Replica {
        self.attach_with(setup, false)
    }

    fn attach_with(&self, setup: Setup, replicated: bool) -> Replica {
        let config = RedisConfig { replicated, ..self.config(setup) };
        Self::attach_to(&config, ReplicaId::from_bytes(rand::random()))
    }

    fn attach_to(config: &RedisConfig, id: ReplicaId) -> Replica {
        let (redis, signals) = Redis::start(config, id, Metrics::new()).expect("an address");
        Replica { id, backplane: redis, signals }
    }

    fn config(&self, setup: Setup) -> RedisConfig {
        config(Topology::One(format!("redis://roomcast:secret@{}", self.0.addr())), setup)
    }

    async fn command<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.0.command(command).await.unwrap()
    }
}

/// Servers that the tests of this process that run at the same time share: the first one starts them, the last one ends
/// them.
async fn share<T>(running: &Mutex<Weak<T>>, start: impl Future<Output = T>) -> Arc<T> {
    let mut running = running.lock().await;
    if let Some(servers) = running.upgrade() {
        return servers;
    }
    let servers = Arc::new(start.await);
    *running = Arc::downgrade(&servers);
    servers
}

/// What the keys of one such test begin with.
fn own_prefix() -> String {
    format!("rc{:08x}", rand::random::<u32>())
}

/// What a server is started with: all that is done here is done with no more rights than documented.
fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&arguments_for("rc"), more].concat()
}

/// The same for keys that begin like this; of those tests that share servers.
fn arguments_for(prefix: &'static str) -> Vec<&'static str> {
    static USERS: LazyLock<[String; 2]> =
        LazyLock::new(|| ["rc", "rc*"].map(|prefix| acl_line("roomcast on >secret", prefix)));
    let user = &USERS[usize::from(prefix == "rc*")];
    ["--appendonly", "no", "--user"].into_iter().chain(user.split(' ').skip(2)).collect()
}

fn config(topology: Topology, setup: Setup) -> RedisConfig {
    RedisConfig {
        topology,
        replicated: false,
        gather: Duration::from_millis(2),
        prefix: "rc".to_owned(),
        partitions: 256,
        tls: TlsFiles::default(),
        password: None,
        timeout: Duration::from_secs(5),
        connections: 2,
        lease: setup.lease,
        log: setup.log,
        members_per_room: setup.members_per_room,
        signal_queue: setup.signal_queue,
    }
}

impl Fixture for Server {
    async fn attach(&self, replicas: usize, setup: Setup) -> Vec<Replica> {
        (0..replicas).map(|_| Self::attach(self, setup)).collect()
    }
}

conformance::suite!(
    tokio::test(flavor = "multi_thread", worker_threads = 2),
    Server::start().await
);

const SETUP: Setup = Setup {
    lease: Duration::from_secs(60),
    log: LogBounds { length: 1000, bytes: usize::MAX, age: Duration::from_secs(60) },
    members_per_room: 1000,
    signal_queue: 1024,
};

/// The names of keys as replicas have them.
fn keys() -> Keys {
    Keys::new("rc", 0, 256)
}

/// Where a room's log stands, as `log.lua` packs it.
async fn standing(server: &Server, room: &RoomName) -> Vec<u8> {
    server.command(&["HGET", &keys().room(room), "log"]).await
}

/// Has the room say that another Redis wrote it, and that its log ends earlier: what a
/// promoted replica that lacks the tail looks like.
async fn roll_back(server: &Server, room: &RoomName, seq: u64) {
    let mut packed = standing(server, room).await;
    packed[16..56].fill(b'f');
    let number = u32::try_from(seq).map(f64::from).expect("a few events");
    packed[56..64].copy_from_slice(&number.to_be_bytes());
    let mut set = redis::cmd("HSET");
    set.arg(keys().room(room)).arg("log").arg(packed);
    let client = redis::Client::open(server.0.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: u64 = set.query_async(&mut connection).await.unwrap();
    let (log, after) = (keys().log(room), format!("({seq}-18446744073709551615"));
    let lost: Vec<(String, Vec<Vec<u8>>)> = server.command(&["XRANGE", &log, &after, "+"]).await;
    for (id, _) in lost {
        let _: u64 = server.command(&["XDEL", &log, &id]).await;
    }
    let _: () = server.command(&["XSETID", &log, &format!("{seq}-0")]).await;
}

#[tokio::test]
async fn a_failover_begins_an_epoch_that_goes_on_from_the_last() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let mut last = Vec::new();
    for seq in 1..=5 {
        last.push(a.say(&bob, seq, "x").await.position);
    }
    // Two failovers, each of which loses the last event.
    roll_back(&server, &room, 5).await;
    let next = a.say(&bob, 6, "again").await.position;
    assert_eq!(next.seq, 6, "numbers go on from where the log ends now");
    assert_ne!(next.epoch, last[0].epoch, "a number given out twice means two positions");
    roll_back(&server, &room, 5).await;

    let head = a.check(&room, std::slice::from_ref(&bob)).await.head.log;
    assert_eq!(head.past.len(), 2, "{head:?}");
    for position in &last[..4] {
        assert!(head.includes(*position), "{position} was not lost");
    }
    assert!(!head.includes(last[4]), "{} was lost by the first failover", last[4]);
    assert!(!head.includes(next), "{next} was lost by the second one");
}

#[tokio::test]
async fn an_event_is_told_where_it_was_written_for_ever() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let mut told = vec![a.head(&room).await.position];
    for seq in 1..=6 {
        told.push(a.say(&bob, seq, "x").await.position);
        if seq % 2 == 0 {
            // Another Redis, which has everything.
            roll_back(&server, &room, seq + 1).await;
            let again = a.say(&bob, seq, "x").await;
            assert_eq!((again.position, again.duplicate), (told[told.len() - 1], true));
        }
    }
    let epochs: std::collections::HashSet<_> = told.iter().map(|position| position.epoch).collect();
    assert_eq!(epochs.len(), 3);
    let page = a.read(&room, 0, 100).await;
    let head = page.head.expect("there is a log");
    let read: Vec<_> = page.events.iter().map(|(seq, _)| head.written_at(*seq)).collect();
    assert_eq!(read, told);
}

#[tokio::test]
async fn a_redis_that_only_renames_itself_changes_nothing() {
    let server = Server::start().await;
    let (a, b) = (server.attach(SETUP), server.attach(SETUP));
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let before = a.say(&bob, 1, "x").await.position;
    // Connections that believe in another id than the room's meta, though it is the same Redis.
    let digits = standing(&server, &room).await[16..56].to_vec();
    assert!(digits.iter().all(u8::is_ascii_hexdigit), "the id of a Redis: {digits:?}");
    let carol = b.join(&room, "carol").await;
    let after = b.say(&carol, 1, "y").await.position;
    assert_eq!((after.epoch, after.seq), (before.epoch, before.seq + 2));
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let _: () = server.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(a.say(&bob, 1, "x").await.position.seq, 2);
    a.say(&bob, 2, "y").await;
}

#[tokio::test]
async fn nothing_is_left_without_a_time_to_live() {
    let server = Server::start().await;
    let (a, b) = (server.attach(SETUP), server.attach(SETUP));
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "x").await;
    assert!(a.linger(&a.join(&room, "carol").await, SETUP.lease).await);
    a.leave(&a.join(&room, "dave").await).await;
    // One that nothing is known of.
    let forgotten = b.join(&room, "eve").await;
    let _: u64 = server.command(&["DEL", &keys().replicas(keys().partition(&room))]).await;
    a.is_refused(&a.hold(&room, "eve"), "for as long as it may come back").await;
    assert!(!a.renew(&room).await.held);
    a.take(&props::again(&bob, a.head(&room).await.position)).await;
    b.leave(&forgotten).await;
    let all: Vec<String> = server.command(&["KEYS", "*"]).await;
    let kinds = ["room:", "log:", "rooms", "replicas", "dead", "lingering", "ended:", "partitions"];
    for kind in kinds {
        assert!(all.iter().any(|key| key.contains(&format!(":{kind}"))), "{kind}: {all:?}");
    }
    let of_room = keys().room(&room);
    let tag = &of_room[..=of_room.find('}').expect("there is a tag")];
    for key in all {
        let ttl: i64 = server.command(&["PTTL", &key]).await;
        assert!(ttl > 0, "{key} lives for ever");
        assert!(
            key.starts_with(tag) || key == keys().partition_count(),
            "{key} is in another slot"
        );
    }
}

/// Members come back in silence, and the first message makes the log.
#[tokio::test]
async fn a_log_that_is_made_anew_has_a_time_to_live() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let before = a.say(&bob, 1, "before").await.position;
    let _: () = server.command(&["FLUSHALL"]).await;
    let back = props::again(&bob, before);
    assert!(!a.take(&back).await.told);
    a.say(&back, 1, "after").await;
    let partition = keys().partition(&room);
    let of_partition = [keys().rooms(partition), keys().replicas(partition)];
    for key in [keys().room(&room), keys().log(&room)].into_iter().chain(of_partition) {
        let ttl: i64 = server.command(&["PTTL", &key]).await;
        assert!(ttl > 0, "{key}: {ttl}");
    }
}

#[tokio::test]
async fn a_replica_that_spreads_rooms_in_another_way_is_refused() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    a.join(&props::some_room(), "bob").await;
    let other = RedisConfig { partitions: 16, ..server.config(SETUP) };
    let id = ReplicaId::from_bytes(rand::random());
    let (redis, _signals) = Redis::start(&other, id, Metrics::new()).unwrap();
    let refusal = tokio::time::timeout(testkit::SOON, redis.refusal()).await.expect("refused");
    assert_eq!(refusal, RedisRefusal::Partitions { stored: 256, configured: 16 });
    let elsewhere = RedisConfig { prefix: "other".to_owned(), ..other };
    let (there, _signals) = Redis::start(&elsewhere, id, Metrics::new()).unwrap();
    assert_eq!(there.keys().partitions(), 16, "which is another deployment's affair");
}

/// Whoever takes its signals too slowly is late. Its subscription works.
#[tokio::test]
async fn a_full_queue_makes_nobody_deaf() {
    let server = Server::start().await;
    let config = RedisConfig { signal_queue: 1, ..server.config(SETUP) };
    let (id, metrics) = (ReplicaId::from_bytes(rand::random()), Metrics::new());
    let (redis, _nobody_takes_them) = Redis::start(&config, id, metrics.clone()).unwrap();
    let a = server.attach(SETUP);
    let room = props::some_room();
    redis.subscribe(&room).await.unwrap();
    let bob = a.join(&room, "bob").await;
    for seq in 1..=10 {
        a.say(&bob, seq, "x").await;
    }
    redis.canary(7).await.unwrap();
    testkit::eventually(2 * testkit::SOON, "the canary comes in", async || {
        let (_, heard) = redis.listeners.at(None)?.canaries();
        (heard >= 7).then_some(())
    })
    .await;
    assert_eq!(metrics.subscriber_reconnects.get(), 0, "and the connection is the same");
}

#[tokio::test]
async fn wrong_credentials_are_told_from_a_redis_that_is_away() {
    let server = Server::start().await;
    let config = |password: Option<&str>, port| RedisConfig {
        topology: Topology::One(format!("redis://127.0.0.1:{port}")),
        password: password.map(str::to_owned),
        timeout: Duration::from_millis(500),
        ..server.config(SETUP)
    };
    let id = ReplicaId::from_bytes(rand::random());
    let start = |config: &RedisConfig| Redis::start(config, id, Metrics::new()).unwrap().0;
    let _: () = server.command(&["CONFIG", "SET", "requirepass", "right"]).await;

    let wrong = start(&config(Some("wrong"), server.0.port()));
    let said = tokio::time::timeout(Duration::from_secs(5), wrong.refusal()).await.unwrap();
    assert!(matches!(said, RedisRefusal::Credentials(_)), "{said}");
    let away: Arc<Redis> = start(&config(None, 1));
    let refused = tokio::time::timeout(Duration::from_millis(300), away.refusal()).await;
    assert!(refused.is_err(), "a Redis that is away refuses nothing");
}
