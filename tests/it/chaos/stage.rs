//! Replicas behind a proxy, and what can be done to them.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::{RngExt, rngs::StdRng, seq::SliceRandom};
use tokio::time::sleep;

use super::{
    crowd::Crowd,
    diary::Clock,
    record::{At, Fault},
};
use crate::harness::{Cluster, FaultProxy, Proxy, SOON};

/// How long a replica that drains goes on, and how long its streams may take to end.
const DELAY: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(4);
/// From the last stream's end to the end of the process, on a busy machine.
const EXIT: Duration = Duration::from_secs(3);
/// How long Redis is out of reach.
const CUT: Duration = Duration::from_secs(3);
/// How soon after a fault everything is ready again.
const HEALED: Duration = Duration::from_secs(20);

/// Each once, in the order of their declaration.
const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::Pause,
    Fault::Drain,
    Fault::CutClients,
    Fault::KillSubscribers,
    Fault::CutRedis,
];

/// What faults are done to.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) proxy: Proxy,
    pub(super) random: StdRng,
    pub(super) clock: Clock,
    pub(super) done: Vec<(At, Fault)>,
    /// What of this round is still to be done.
    to_do: Vec<Fault>,
}

impl Stage {
    pub(super) async fn set(random: StdRng, clock: Clock) -> Self {
        let cluster = Cluster::redis(3)
            .proxied()
            .alone()
            .with("ROOMCAST_NAMES__LEASE", "15s")
            .with("ROOMCAST_NAMES__LINGER", "10s")
            .with("ROOMCAST_SERVER__PING_INTERVAL", "1s")
            .with("ROOMCAST_DRAIN__DELAY", &format!("{}s", DELAY.as_secs()))
            .with("ROOMCAST_DRAIN__DEADLINE", &format!("{}s", DEADLINE.as_secs()))
            // So that in the end the log has everything that happened.
            .with("ROOMCAST_HISTORY__LENGTH", "1000000")
            .start()
            .await;
        let proxy = Proxy::start(&cluster).await;
        Self { cluster, proxy, random, clock, done: vec![], to_do: vec![] }
    }

    /// Does what is next: all kinds in a random order, then all in another one.
    pub(super) async fn next_fault(&mut self, crowd: &Crowd) {
        if self.to_do.is_empty() {
            self.to_do = FAULTS.to_vec();
            self.to_do.shuffle(&mut self.random);
        }
        let fault = self.to_do.pop().expect("it was filled");
        self.done.push((self.clock.now(), fault));
        let number = self.random.random_range(0..self.cluster.replicas.len());
        match fault {
            Fault::Kill => {
                self.cluster.replicas[number].assert_no_errors();
                self.cluster.replicas[number].kill();
                self.replace(number).await;
            }
            Fault::Pause => {
                let long = Duration::from_millis(self.random.random_range(1000..6000));
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
            Fault::CutRedis => {
                self.cluster.proxies.iter().for_each(FaultProxy::cut);
                sleep(CUT).await;
                self.cluster.proxies.iter().for_each(FaultProxy::restore);
            }
        }
        self.heal().await;
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
