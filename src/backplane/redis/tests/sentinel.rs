//! The conformance suite over a master that Sentinels name, and what happens when they name another one.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use roomcast_testkit::{Sentinels, eventually};
use tokio::sync::Mutex;

use super::{
    super::{RedisConfig, RedisRefusal, Topology},
    SETUP, Server, arguments, arguments_for, config, own_prefix, share,
};
use crate::{
    backplane::{
        Hold, Signal,
        conformance::{self, Fixture, Replica, Setup, props},
    },
    domain::ReplicaId,
};

/// Long enough for any failover.
const FAILOVER: Duration = Duration::from_secs(30);

/// A master that the tests of this process that run at the same time share. Each has a prefix of its own.
struct Watched {
    sentinels: Arc<Sentinels>,
    prefix: String,
}

impl Watched {
    async fn start() -> Self {
        static RUNNING: Mutex<Weak<Sentinels>> = Mutex::const_new(Weak::new());
        let start = async || Sentinels::naming(&arguments_for("rc*"), &[]).await;
        let sentinels = share(&RUNNING, start()).await;
        Self { sentinels, prefix: own_prefix() }
    }

    fn config(&self, setup: Setup) -> RedisConfig {
        let prefix = self.prefix.clone();
        RedisConfig { prefix, ..config(named(&self.sentinels, "chat"), setup) }
    }
}

/// The master of this name, as documented: with no more rights than needed.
fn named(sentinels: &Sentinels, master: &str) -> Topology {
    let server = |host: &String| format!("redis://roomcast:secret@{host}");
    Topology::Sentinels {
        servers: sentinels.hosts().iter().map(server).collect(),
        master: master.to_owned(),
        username: None,
        password: None,
    }
}

impl Fixture for Watched {
    async fn attach(&self, replicas: usize, setup: Setup) -> Vec<Replica> {
        let attach =
            |_| Server::attach_to(&self.config(setup), ReplicaId::from_bytes(rand::random()));
        (0..replicas).map(attach).collect()
    }
}

conformance::suite!(
    tokio::test(flavor = "multi_thread", worker_threads = 2),
    Watched::start().await
);

/// Two replicas on a master that would be replaced, and which may take long.
async fn watched() -> (Sentinels, [Replica; 2]) {
    let sentinels = Sentinels::start_with(&arguments(&[])).await;
    let patient = RedisConfig { timeout: FAILOVER, ..config(named(&sentinels, "chat"), SETUP) };
    let attach = || Server::attach_to(&patient, ReplicaId::from_bytes(rand::random()));
    let replicas = [attach(), attach()];
    (sentinels, replicas)
}

/// Says more, from this client sequence on, until some of it is live elsewhere: what was said before a subscription
/// was back is in the log only.
async fn until_live(speaker: &Replica, bob: &Hold, mut next: u64, listener: &mut Replica) {
    eventually(FAILOVER, "what is said is live", async || {
        let said = speaker.say(bob, next, "more").await.position;
        next += 1;
        let heard = async {
            while let Some(signal) = listener.signals.recv().await {
                if let Signal::Live(live) = signal
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

/// How many of their connections lead to this server.
async fn connections(sentinels: &Sentinels, server: usize) -> usize {
    let words = ["CLIENT", "LIST"];
    let clients: String = sentinels.servers[server].command(&words).await.expect("CLIENT LIST");
    clients.lines().filter(|line| line.contains("user=roomcast")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_is_replaced_without_a_word() {
    let (mut sentinels, [a, mut b]) = watched().await;
    let room = props::some_room();
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    let before = a.say(&bob, 1, "before").await.position;
    sentinels.in_step().await;
    sentinels.servers[0].kill();
    let after = a.say(&bob, 2, "after").await.position;
    assert_eq!(after.seq, before.seq + 1, "nothing was lost");
    sentinels.until_replaced(0).await;
    let head = a.check(&room, std::slice::from_ref(&bob)).await.head.log;
    assert!(head.includes(before), "{head:?}");
    until_live(&a, &bob, 3, &mut b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_replaced_is_left_at_once() {
    let (sentinels, [a, b]) = watched().await;
    let room = props::some_room();
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "before").await;
    sentinels.fail_over().await;
    sentinels.until_replaced(0).await;
    eventually(Duration::from_secs(1), "nobody speaks with the old one", async || {
        (connections(&sentinels, 0).await == 0).then_some(())
    })
    .await;
    a.say(&bob, 2, "after").await;
}

/// One that stood still believes that it is the master, and answers everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_master_that_comes_back_is_not_asked() {
    let (sentinels, [a, mut b]) = watched().await;
    let room = props::some_room();
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    let before = a.say(&bob, 1, "before").await.position;
    sentinels.in_step().await;
    sentinels.servers[0].pause();
    let said = a.say(&bob, 2, "meanwhile").await.position;
    assert_eq!(said.seq, before.seq + 1);
    until_live(&a, &bob, 3, &mut b).await;
    sentinels.servers[0].resume();
    let role: String =
        sentinels.servers[0].command(&["INFO", "replication"]).await.expect("it answers");
    assert!(role.contains("role:master"), "{role}");
    let carol = a.join(&room, "carol").await;
    for seq in 1..100 {
        a.say(&carol, seq, "x").await;
    }
    assert_eq!(connections(&sentinels, 0).await, 0);
    let master = sentinels.until_replaced(0).await;
    assert!(connections(&sentinels, master).await > 0);
}

#[tokio::test]
async fn sentinels_that_are_not_as_the_url_says_are_told_of() {
    let sentinels = Sentinels::naming(&arguments(&[]), &["requirepass secret"]).await;
    let id = ReplicaId::from_bytes(rand::random());
    let refusal = async |topology| {
        let (redis, _signals) =
            super::Redis::start(&config(topology, SETUP), id, crate::metrics::Metrics::new())
                .expect("addresses");
        let refused = tokio::time::timeout(Duration::from_secs(10), redis.refusal()).await;
        let RedisRefusal::Sentinel(words) = refused.expect("it is refused") else {
            panic!("for another reason")
        };
        words
    };
    let with = |master: &str, secret: Option<&str>| match named(&sentinels, master) {
        Topology::Sentinels { servers, master, username, .. } => {
            let password = secret.map(str::to_owned);
            Topology::Sentinels { servers, master, username, password }
        }
        Topology::One(_) | Topology::Cluster(_) => unreachable!("these are Sentinels"),
    };
    let words = refusal(with("caht", Some("secret"))).await;
    assert_eq!(words, "the Sentinels know no master by the name \"caht\"; they know: chat");
    for secret in [None, Some("wrong")] {
        let words = refusal(with("chat", secret)).await;
        assert!(words.contains("refuses the credentials of redis.sentinel: "), "{words}");
    }
    let servers = vec![sentinels.servers[0].url()];
    let (master, username, password) = ("chat".to_owned(), None, None);
    let plain = Topology::Sentinels { servers, master, username, password };
    let words = refusal(plain).await;
    assert!(words.contains("is no Sentinel: "), "{words}");
    let there = Topology::One(format!("redis://:secret@{}", sentinels.hosts()[0]));
    let words = refusal(there).await;
    assert!(words.starts_with("redis:// leads to a Sentinel; say redis+sentinel://"), "{words}");
}
