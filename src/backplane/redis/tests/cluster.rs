//! The conformance suite over a cluster of three masters, and what happens when slots move.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use roomcast_testkit::{self as testkit, RedisCluster, SOON, eventually};
use tokio::sync::Mutex;

use super::{
    super::{Redis, RedisConfig, RedisRefusal, Topology},
    SETUP, Server, arguments_for, config, keys, own_prefix, share,
};
use crate::{
    backplane::{
        AppendError, Backplane as _, Hold, Signal, Unavailable,
        conformance::{self, Fixture, Replica, Setup, props},
    },
    domain::{ReplicaId, RoomName},
    metrics::Metrics,
};

/// Long enough for any failover.
const FAILOVER: Duration = Duration::from_secs(30);

/// Three masters, which the tests of this process that run at the same time share. Each has a prefix of its own.
struct Shared {
    cluster: Arc<RedisCluster>,
    prefix: String,
}

impl Shared {
    async fn start() -> Self {
        static RUNNING: Mutex<Weak<RedisCluster>> = Mutex::const_new(Weak::new());
        let cluster = share(&RUNNING, start(3, 0, "rc*")).await;
        Self { cluster, prefix: own_prefix() }
    }
}

/// Masters and replicas that do no more than is documented, for keys that begin like this.
async fn start(masters: usize, replicas: usize, prefix: &'static str) -> RedisCluster {
    RedisCluster::start(masters, replicas, &arguments_for(prefix)).await
}

fn topology(cluster: &RedisCluster) -> Topology {
    let node = |host: &String| format!("redis://roomcast:secret@{host}");
    Topology::Cluster(cluster.hosts().iter().map(node).collect())
}

/// A replica that knows the nodes.
async fn attach(config: &RedisConfig) -> Replica {
    let replica = Server::attach_to(config, ReplicaId::from_bytes(rand::random()));
    eventually(SOON, "the nodes are known", async || {
        (!replica.backplane.shards().is_empty()).then_some(())
    })
    .await;
    replica
}

impl Fixture for Shared {
    async fn attach(&self, replicas: usize, setup: Setup) -> Vec<Replica> {
        let config =
            RedisConfig { prefix: self.prefix.clone(), ..config(topology(&self.cluster), setup) };
        let mut attached = Vec::new();
        for _ in 0..replicas {
            attached.push(attach(&config).await);
        }
        attached
    }
}

conformance::suite!(
    tokio::test(flavor = "multi_thread", worker_threads = 2),
    Shared::start().await
);

/// Two replicas on masters that may be replaced, which may take long.
async fn replicated() -> (RedisCluster, [Replica; 2]) {
    let cluster = start(3, 1, "rc").await;
    let patient = RedisConfig { timeout: FAILOVER, ..config(topology(&cluster), SETUP) };
    let replicas = [attach(&patient).await, attach(&patient).await];
    (cluster, replicas)
}

/// A room whose slot one of the masters has, by the share of the slots that it was given.
fn room_at(master: usize, masters: usize) -> RoomName {
    loop {
        let room = props::some_room();
        if usize::from(slot(&room)) * masters / 16_384 == master {
            return room;
        }
    }
}

fn slot(room: &RoomName) -> u16 {
    let keys = keys();
    keys.slot(keys.partition(room))
}

/// Says more, from this client sequence on, until some of it is live elsewhere: what was said before a subscription
/// was back is in the log only.
async fn until_live(speaker: &Replica, bob: &Hold, next: &mut u64, listener: &mut Replica) {
    eventually(FAILOVER, "what is said is live", async || {
        let said = speaker.say(bob, *next, "more").await.position;
        *next += 1;
        let heard = async {
            while let Some(signal) = listener.signals.recv().await {
                if let Signal::Live(live) = signal
                    && live.room == bob.room
                    && (live.first..live.first + live.events.len() as u64).contains(&said.seq)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(200), heard).await.ok()
    })
    .await;
}

/// What bob said is in the log, each once and in order.
async fn is_all_there(replica: &Replica, bob: &Hold, said: u64) {
    let story = replica.story(&bob.room).await;
    assert_eq!(story.len() as u64, said + 1, "{story:?}");
    assert!(story[0].ends_with("bob joined"), "{story:?}");
    let page = replica.read(&bob.room, 0, 100_000).await;
    assert!(page.events.iter().map(|(seq, _)| *seq).eq(1..=said + 1), "{story:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_with_its_rooms() {
    let (cluster, [a, mut b]) = replicated().await;
    let room = room_at(0, 3);
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    let mut next = 1;
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        until_live(&a, &bob, &mut next, &mut b).await;
        cluster.begin_moving(slot(&room), from, to).await;
        let moving = cluster.move_keys(slot(&room), from, to, 0);
        let speaking = async {
            for _ in 0..20 {
                a.say(&bob, next, "x").await;
                next += 1;
            }
        };
        tokio::join!(moving, speaking);
        // All of the room is there, and the slot is here yet.
        a.say(&bob, next, "asked").await;
        next += 1;
        cluster.end_moving(slot(&room), from, to).await;
        until_live(&a, &bob, &mut next, &mut b).await;
    }
    is_all_there(&a, &bob, next - 1).await;
}

/// New rooms cannot be made while their slot moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_while_a_slot_moves_waits() {
    let (cluster, [a, b]) = replicated().await;
    let room = room_at(0, 3);
    let bob = a.join(&room, "bob").await;
    cluster.begin_moving(slot(&room), 0, 1).await;
    // Some of the room's keys are here, and some are there.
    cluster.move_keys(slot(&room), 0, 1, 1).await;
    let saying = a.say(&bob, 1, "hi");
    let new = loop {
        let new = props::some_room();
        if slot(&new) == slot(&room) {
            break new;
        }
    };
    let joining = b.join(&new, "carol");
    let ending = async {
        eventually(SOON, "it is tried in vain", async || {
            let words = ["INFO", "errorstats"];
            let errors: String = cluster.nodes[0].command(&words).await.ok()?;
            errors.contains("errorstat_TRYAGAIN").then_some(())
        })
        .await;
        cluster.move_keys(slot(&room), 0, 1, 0).await;
        cluster.end_moving(slot(&room), 0, 1).await;
    };
    let (appended, carol, ()) = tokio::join!(saying, joining, ending);
    assert!(!appended.duplicate);
    b.say(&carol, 1, "hello").await;
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob: hi"]);
    assert_eq!(a.story(&new).await, ["1 carol joined", "2 carol: hello"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_is_replaced_and_the_others_go_on() {
    let (mut cluster, [a, mut b]) = replicated().await;
    let (room, other) = (room_at(0, 3), room_at(1, 3));
    for room in [&room, &other] {
        b.subscribe(room).await;
    }
    let bob = a.join(&room, "bob").await;
    let carol = a.join(&other, "carol").await;
    let before = a.say(&bob, 1, "before").await.position;
    let offset = cluster.nodes[0].replication_offset().await;
    eventually(SOON, "the replica has everything", async || {
        (cluster.nodes[3].replication_offset().await >= offset).then_some(())
    })
    .await;
    cluster.nodes[0].kill();
    let others = async {
        for seq in 1..=20 {
            let patience = Duration::from_secs(2);
            tokio::time::timeout(patience, a.say(&carol, seq, "x")).await.expect("nobody waits");
        }
    };
    let (after, ()) = tokio::join!(a.say(&bob, 2, "after"), others);
    assert_eq!(after.position.seq, before.seq + 1, "nothing was lost");
    cluster.until_replaced(0).await;
    let mut next = 3;
    until_live(&a, &bob, &mut next, &mut b).await;
    is_all_there(&b, &bob, next - 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_a_shard_that_is_gone_are_unavailable_and_others_are_not() {
    let mut cluster = start(3, 0, "rc").await;
    let hasty =
        RedisConfig { timeout: Duration::from_millis(500), ..config(topology(&cluster), SETUP) };
    let a = attach(&hasty).await;
    let (room, other) = (room_at(0, 3), room_at(1, 3));
    let bob = a.join(&room, "bob").await;
    let carol = a.join(&other, "carol").await;
    cluster.nodes[0].kill();
    let gone = a.try_say(&bob, 1, "x").await;
    assert!(gone.is_err(), "{gone:?}");
    for seq in 1..=20 {
        a.say(&carol, seq, "x").await;
    }
    a.backplane.canary(1).await.expect("a node answers");
    // One that starts now, too.
    let b = attach(&hasty).await;
    b.join(&other, "dave").await;
    assert!(b.backplane.subscribe(&room).await.is_err());
    b.backplane.subscribe(&other).await.expect("it is there");
}

/// So many rooms, each in a partition of its own, and bob in each.
async fn bobs(replica: &Replica, count: usize) -> Vec<Hold> {
    let mut partitions = HashSet::new();
    let rooms = std::iter::repeat_with(props::some_room);
    let rooms: Vec<_> =
        rooms.filter(|room| partitions.insert(keys().partition(room))).take(count).collect();
    join_all(rooms.iter().map(|room| replica.join(room, "bob"))).await
}

/// A number that a server tells about itself.
async fn told(server: &testkit::Redis, section: &str, name: &str) -> usize {
    let about: String = server.command(&["INFO", section]).await.expect("INFO");
    let number = about.lines().find_map(|line| line.strip_prefix(name)).map(|rest| {
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    });
    number.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_a_node_are_written_to_together() {
    let cluster = start(1, 0, "rc").await;
    let a = attach(&config(topology(&cluster), SETUP)).await;
    let bobs = bobs(&a, 50).await;
    let reads = async || told(&cluster.nodes[0], "stats", "total_reads_processed:").await;
    let before = reads().await;
    for seq in 1..=10 {
        join_all(bobs.iter().map(|bob| a.say(bob, seq, "hi"))).await;
    }
    let read = reads().await - before;
    assert!(read < 250, "{read} times for 500 messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_a_node_wait_for_its_replica_together() {
    let cluster = start(1, 1, "rc").await;
    let stored = RedisConfig { replicated: true, ..config(topology(&cluster), SETUP) };
    let a = attach(&stored).await;
    let bobs = bobs(&a, 20).await;
    join_all(bobs.iter().map(|bob| a.say(bob, 1, "hi"))).await;
    let [master, replica] = &cluster.nodes[..] else { unreachable!("there are two") };
    let waits = async || told(master, "commandstats", "cmdstat_wait:calls=").await;
    let connections = async || told(master, "stats", "total_connections_received:").await;
    let before = (waits().await, connections().await);
    replica.pause();
    for said in join_all(bobs.iter().map(|bob| a.try_say(bob, 2, "unheard"))).await {
        assert_eq!(said, Err(AppendError::Unavailable(Unavailable)));
    }
    let waited = waits().await - before.0;
    assert!(waited <= 5, "{waited} times");
    // Only those that ask here, and those by which the slots are looked up.
    let opened = connections().await - before.1;
    assert!(opened < 10, "{opened} connections");
    replica.resume();
    for bob in &bobs {
        assert!(a.say(bob, 2, "unheard").await.duplicate, "it had taken effect");
    }
}

#[tokio::test]
async fn urls_that_lead_to_another_kind_of_redis_are_told_of() {
    let cluster = start(3, 0, "rc").await;
    let single = Server::start().await;
    let refusal = async |topology| {
        let id = ReplicaId::from_bytes(rand::random());
        let (redis, _signals) =
            Redis::start(&config(topology, SETUP), id, Metrics::new()).expect("addresses");
        tokio::time::timeout(SOON, redis.refusal()).await.expect("it is refused").to_string()
    };
    let url = |host: &str| format!("redis://roomcast:secret@{host}");
    let words = refusal(Topology::Cluster(vec![url(&single.0.addr().to_string())])).await;
    assert!(words.contains("is not part of a cluster; say redis://"), "{words}");
    let words = refusal(Topology::One(url(&cluster.hosts()[0]))).await;
    assert_eq!(words, RedisRefusal::Cluster.to_string());
    let wrong = format!("redis://roomcast:wrong@{}", cluster.hosts()[0]);
    let words = refusal(Topology::Cluster(vec![wrong])).await;
    assert!(words.starts_with("redis refuses the credentials"), "{words}");
    // Nobody has noted a number yet.
    let first = attach(&config(topology(&cluster), SETUP)).await;
    for master in 0..3 {
        first.join(&room_at(master, 3), "bob").await;
    }
    let other = RedisConfig { partitions: 16, ..config(topology(&cluster), SETUP) };
    let id = ReplicaId::from_bytes(rand::random());
    let (redis, _signals) = Redis::start(&other, id, Metrics::new()).expect("addresses");
    let asked = async {
        // Only the node that has the number knows.
        for number in 0.. {
            let _ = redis.canary(number).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        refusal = redis.refusal() => {
            assert_eq!(refusal, RedisRefusal::Partitions { stored: 256, configured: 16 });
        }
        () = asked => {}
        () = tokio::time::sleep(SOON) => panic!("another number of partitions is refused"),
    }
}
