//! Replicas behind a proxy, and what can be done to them.

use std::{ops::Range, time::Duration};

use nix::sys::signal::Signal;
use rand::{RngExt, rngs::StdRng, seq::SliceRandom};
use tokio::time::sleep;

use super::{
    crowd::Crowd,
    diary::Clock,
    record::{At, Fault},
    servers,
};
use crate::harness::{Cluster, FaultProxy, Proxy, RedisCluster, SOON, Sentinels};

/// How long a replica that drains goes on, and how long its streams may take to end.
const DELAY: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(4);
/// From the last stream's end to the end of the process, on a busy machine.
const EXIT: Duration = Duration::from_secs(3);
/// How far away Redis is when it is slow.
const FAR: Duration = Duration::from_millis(60);
/// Longer than clients wait for a welcome, and shorter than replicas wait for Redis.
const GIVEN_UP: Duration = Duration::from_millis(2_800);
/// How soon after a fault everything is ready again.
const HEALED: Duration = Duration::from_secs(20);

/// A Redis that loses nothing when it is killed.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// What replicas share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One Redis, each replica by a way of its own.
    One,
    /// A master with two replicas, watched by three Sentinels.
    Sentinels,
    /// Three masters with a replica each.
    Cluster,
}

/// What is done, and under which promises.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) redis: Kind,
    pub(super) lease: Duration,
    pub(super) linger: Duration,
    /// Each once, then all again.
    pub(super) faults: &'static [Fault],
    /// How long replicas stand still, and Redis is away.
    pub(super) pauses: Range<Duration>,
    pub(super) outages: Range<Duration>,
}

/// What faults are done to.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) proxy: Proxy,
    pub(super) random: StdRng,
    pub(super) clock: Clock,
    pub(super) done: Vec<(At, Fault)>,
    conditions: Conditions,
    /// What of this round is still to be done.
    to_do: Vec<Fault>,
}

impl Stage {
    pub(super) async fn set(random: StdRng, clock: Clock, conditions: Conditions) -> Self {
        let plan = match conditions.redis {
            Kind::One => Cluster::durable_redis(3).proxied(),
            Kind::Sentinels => Cluster::on_sentinels(Sentinels::start_with(&DURABLE).await, 3),
            Kind::Cluster => {
                Cluster::on_redis_cluster(RedisCluster::start(3, 1, &DURABLE).await, 3)
            }
        };
        let cluster = plan
            .alone()
            .with("ROOMCAST_NAMES__LEASE", &format!("{}s", conditions.lease.as_secs()))
            .with("ROOMCAST_NAMES__LINGER", &format!("{}s", conditions.linger.as_secs()))
            .with("ROOMCAST_SERVER__PING_INTERVAL", "1s")
            .with("ROOMCAST_DRAIN__DELAY", &format!("{}s", DELAY.as_secs()))
            .with("ROOMCAST_DRAIN__DEADLINE", &format!("{}s", DEADLINE.as_secs()))
            // So that in the end the log has everything that happened.
            .with("ROOMCAST_HISTORY__LENGTH", "1000000")
            .start()
            .await;
        let proxy = Proxy::start(&cluster).await;
        Self { cluster, proxy, random, clock, done: vec![], conditions, to_do: vec![] }
    }

    /// Does what is next: all kinds in a random order, then all in another one.
    pub(super) async fn next_fault(&mut self, crowd: &Crowd) {
        if self.to_do.is_empty() {
            self.to_do = self.conditions.faults.to_vec();
            self.to_do.shuffle(&mut self.random);
        }
        let fault = self.to_do.pop().expect("it was filled");
        println!("{:?}: {fault:?}", self.clock.now());
        self.done.push((self.clock.now(), fault));
        let number = self.random.random_range(0..self.cluster.replicas.len());
        match fault {
            Fault::Kill => {
                self.cluster.replicas[number].assert_no_errors();
                self.cluster.replicas[number].kill();
                self.replace(number).await;
            }
            Fault::Pause => {
                let long = self.random.random_range(self.conditions.pauses.clone());
                self.cluster.replicas[number].signal(Signal::SIGSTOP);
                sleep(long).await;
                self.cluster.replicas[number].signal(Signal::SIGCONT);
            }
            Fault::Drain => {
                let replica = &mut self.cluster.replicas[number];
                replica.signal(Signal::SIGTERM);
                assert_eq!(replica.exit_code(DELAY + DEADLINE + EXIT).await, 0);
                replica.assert_no_errors();
                self.replace(number).await;
            }
            Fault::CutClients => self.cut_clients(crowd).await,
            Fault::KillSubscribers => {
                let killed = self.cluster.shared().kill_subscribers().await;
                assert!(killed > 0, "there was no subscriber");
            }
            Fault::CutRedis => self.break_ways(FaultProxy::cut).await,
            Fault::RedisUnheard => self.break_ways(FaultProxy::freeze_questions).await,
            Fault::RedisUnanswered => self.break_ways(FaultProxy::freeze_answers).await,
            Fault::SlowRedis => self.break_ways(|way| way.slow_down(FAR)).await,
            Fault::StopRedis => {
                self.cluster.shared().pause();
                self.wait().await;
                self.cluster.shared().resume();
            }
            Fault::RestartRedis => {
                self.cluster.shared().kill();
                self.wait().await;
                self.cluster.shared().restart().await;
            }
            Fault::LoseRedis => {
                self.cluster.shared().kill();
                self.wait().await;
                self.cluster.shared().restart_empty().await;
            }
            Fault::GivenUp => self.have_them_give_up(number, crowd).await,
            Fault::FailOver
            | Fault::KillMaster
            | Fault::MoveSlots
            | Fault::AddNode
            | Fault::RemoveNode => {
                servers::disturb(fault, self.cluster.shared(), &mut self.random).await;
            }
        }
        self.heal().await;
    }

    /// For as long as an outage takes.
    async fn wait(&mut self) {
        sleep(self.random.random_range(self.conditions.outages.clone())).await;
    }

    /// Does this to all ways to Redis, for a while.
    async fn break_ways(&mut self, how: impl Fn(&FaultProxy)) {
        self.cluster.proxies.iter().for_each(how);
        self.wait().await;
        self.cluster.proxies.iter().for_each(FaultProxy::restore);
    }

    /// Everybody comes back while one replica cannot reach Redis, and some come to it; then their ways
    /// go half open, and they give up and come again before it can.
    async fn have_them_give_up(&mut self, number: usize, crowd: &Crowd) {
        self.cluster.proxies[number].freeze();
        crowd.ways.iter().for_each(FaultProxy::cut);
        crowd.ways.iter().for_each(FaultProxy::restore);
        // Time to come.
        sleep(Duration::from_millis(700)).await;
        crowd.ways.iter().for_each(FaultProxy::strand);
        sleep(GIVEN_UP).await;
        self.cluster.proxies[number].restore();
    }

    /// Waits until all replicas are ready, and the proxy knows it.
    pub(super) async fn heal(&self) {
        self.cluster.until_ready(HEALED).await;
        self.proxy.until_healthy(self.cluster.replicas.len()).await;
    }

    async fn replace(&mut self, number: usize) {
        self.cluster.replicas[number] = self.cluster.replicas[number].successor().await;
        self.cluster.replicas[number].until_ready(SOON).await;
    }

    /// Cuts some connections or all of them, for a moment.
    async fn cut_clients(&mut self, crowd: &Crowd) {
        let all = self.random.random_ratio(1, 3);
        let first = self.random.random_range(0..crowd.ways.len());
        let mut cut = vec![];
        for (number, way) in crowd.ways.iter().enumerate() {
            if all || number == first || self.random.random_ratio(1, 3) {
                way.cut();
                cut.push(way);
            }
        }
        sleep(Duration::from_millis(self.random.random_range(100..3000))).await;
        cut.into_iter().for_each(FaultProxy::restore);
    }
}
