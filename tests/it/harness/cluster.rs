//! Replicas and what they share.

use std::time::{Duration, Instant};

use tonic::Code;

use super::{
    ChatClient, Dialect, Endpoint, FaultProxy, LEASE, Redis, RedisCluster, Replica, SOON,
    Sentinels, Shared, eventually, machine::Machine, undisturbed,
};

const REDIS_URL: &str = "ROOMCAST_REDIS__URL";

/// Replicas on one Redis, or one on the memory backplane.
///
/// Replicas are dropped before the Redis that they use.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// In order of start.
    pub(crate) replicas: Vec<Replica>,
    /// One for each replica, its own way to Redis; empty unless asked for.
    pub(crate) proxies: Vec<FaultProxy>,
    shared: Option<Shared>,
    _machine: Machine,
}

/// What a [`Cluster`] is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    replicas: usize,
    redis: Backing,
    proxied: bool,
    on_one: bool,
    alone: bool,
    descriptors: Option<u32>,
    settings: Vec<(String, String)>,
}

/// What replicas share.
#[derive(Debug)]
enum Backing {
    /// Each replica its own memory, or what the test has started.
    Memory,
    Forgetful,
    Durable,
    Given(Shared),
}

impl Cluster {
    /// One replica on the memory backplane.
    pub(crate) fn memory() -> Plan {
        Plan::of(1, Backing::Memory)
    }

    /// Replicas on a Redis that keeps nothing on disk: one, or what the switch says.
    pub(crate) fn redis(replicas: usize) -> Plan {
        Plan::of(replicas, Backing::Forgetful)
    }

    /// Replicas on a Redis that loses nothing when it is killed: one, or what the switch says.
    pub(crate) fn durable_redis(replicas: usize) -> Plan {
        Plan::of(replicas, Backing::Durable)
    }

    /// Replicas on a Redis of the test's own that runs already; its URL is a setting.
    pub(crate) fn on(redis: Redis, url: &str, replicas: usize) -> Plan {
        Plan::of(replicas, Backing::Given(Shared::One(redis))).with(REDIS_URL, url)
    }

    /// Replicas on the master that these Sentinels name.
    pub(crate) fn on_sentinels(sentinels: Sentinels, replicas: usize) -> Plan {
        Plan::of(replicas, Backing::Given(Shared::Sentinels(sentinels)))
    }

    /// Replicas on this Redis Cluster.
    pub(crate) fn on_redis_cluster(cluster: RedisCluster, replicas: usize) -> Plan {
        Plan::of(replicas, Backing::Given(Shared::Cluster(cluster)))
    }

    /// The way in to a replica, counted round so that a test written for three also runs on one.
    pub(crate) fn endpoint(&self, replica: usize) -> Endpoint {
        Endpoint::at(self.replicas[replica % self.replicas.len()].grpc(), Dialect::Typed)
    }

    /// What the replicas share, where that is Redis.
    pub(crate) fn shared(&mut self) -> &mut Shared {
        self.shared.as_mut().expect("a cluster on Redis")
    }

    /// The one Redis that they share.
    pub(crate) fn redis_server(&mut self) -> &mut Redis {
        self.shared().one()
    }

    /// Waits until all replicas say that they are ready.
    pub(crate) async fn until_ready(&self, within: Duration) {
        for replica in &self.replicas {
            replica.until_ready(within).await;
        }
    }

    /// Waits until all replicas say that they are not ready.
    pub(crate) async fn until_unready(&self, within: Duration) {
        for replica in &self.replicas {
            replica.until_unready(within).await;
        }
    }

    /// Loses the last replica, with a member on it that all of these see come: its going is the next
    /// thing that they hear. By then a whole lease has passed, and whoever had not renewed a name
    /// would have been heard to leave as well.
    pub(crate) async fn lose_the_last(&mut self, listeners: &mut [&mut ChatClient]) {
        let mut last = self.replicas.pop().expect("a replica to lose");
        let endpoint = Endpoint::at(last.grpc(), Dialect::Typed);
        let _lost = endpoint.enter_seen_by("lost one", listeners).await;
        last.kill();
        for listener in listeners {
            listener.expect_system("lost one left").await;
        }
    }

    /// Fails the test if these two lost their names, or anybody is heard to go, also once every lease would have ended
    /// that was not renewed after the failover. `heard` is when they heard each other again.
    pub(crate) async fn expect_names_kept(
        &self,
        heard: Instant,
        alice: &mut ChatClient,
        bob: &mut ChatClient,
    ) {
        self.until_ready(SOON).await;
        for name in [alice.name(), bob.name()] {
            let claim = self.endpoint(1).join(name).await;
            claim.expect_end(Code::AlreadyExists).await;
        }
        let later = async || (heard.elapsed() > 2 * LEASE).then_some(());
        eventually(3 * LEASE + SOON, "two leases have passed", later).await;
        undisturbed(alice, bob).await;
        self.assert_no_errors();
    }

    /// Fails the test if a replica logged an error or panicked.
    pub(crate) fn assert_no_errors(&self) {
        self.replicas.iter().for_each(Replica::assert_no_errors);
    }
}

impl Plan {
    fn of(replicas: usize, redis: Backing) -> Self {
        let lease = ("ROOMCAST_NAMES__LEASE".to_owned(), format!("{}s", LEASE.as_secs()));
        // The whole suite comes from one address; what the cap does has tests of its own.
        let cap = ("ROOMCAST_LIMITS__STREAMS_PER_PEER".to_owned(), "10000".to_owned());
        Self {
            replicas,
            redis,
            proxied: false,
            on_one: false,
            alone: false,
            descriptors: None,
            settings: vec![lease, cap],
        }
    }

    /// With no settings but those that are given from here on.
    pub(crate) fn with_default_limits(mut self) -> Self {
        self.settings.clear();
        self
    }

    /// Replicas that may have so many descriptors.
    pub(crate) fn with_descriptors(mut self, descriptors: u32) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// Each replica reaches Redis through a [`FaultProxy`] of its own. That is one Redis, whatever the switch says:
    /// the nodes of a cluster tell their own addresses.
    pub(crate) fn proxied(mut self) -> Self {
        self.proxied = true;
        self.on_one()
    }

    /// On one Redis, whatever the switch says.
    pub(crate) fn on_one(mut self) -> Self {
        self.on_one = true;
        self
    }

    /// No other test runs meanwhile.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// A setting as its environment variable; the last one counts.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything and waits until all replicas are ready.
    pub(crate) async fn start(self) -> Cluster {
        let machine = if self.alone { Machine::alone().await } else { Machine::shared().await };
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let shared = match self.redis {
            Backing::Memory => None,
            Backing::Forgetful => Some(Shared::start(self.on_one, &["--appendonly", "no"]).await),
            Backing::Durable => Some(Shared::start(self.on_one, &durable).await),
            Backing::Given(shared) => Some(shared),
        };
        let mut cluster =
            Cluster { replicas: Vec::new(), proxies: Vec::new(), shared, _machine: machine };
        for number in 0..self.replicas {
            let mut settings = self.settings.clone();
            let given = settings.iter().any(|(name, _)| name == REDIS_URL);
            if let (Some(shared), false) = (&mut cluster.shared, given) {
                let mut url = shared.url();
                if self.proxied {
                    let proxy = FaultProxy::to(shared.one().addr()).await;
                    url = format!("redis://{}", proxy.addr());
                    cluster.proxies.push(proxy);
                }
                settings.push((REDIS_URL.to_owned(), url));
            }
            let label = char::from(b'A' + u8::try_from(number).expect("few replicas")).to_string();
            let replica = Replica::start_with(&label, &settings, self.descriptors).await;
            cluster.replicas.push(replica);
        }
        cluster.until_ready(SOON).await;
        cluster
    }
}
