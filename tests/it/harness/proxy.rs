//! A real Envoy with the configuration that `deploy/` ships.

use std::{net::SocketAddr, time::Duration};

use roomcast_testkit::Envoy;
use serde_json::Value;

use super::{Cluster, Dialect, Endpoint, eventually, free_port, get};
use crate::deploy::envoy::local_config;

/// A running Envoy in front of a cluster. Killed when dropped.
pub(crate) struct Proxy {
    addr: SocketAddr,
    admin: SocketAddr,
    _envoy: Envoy,
}

impl Proxy {
    /// Starts it and waits until it finds all replicas healthy.
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        Self::start_with(cluster, |_| ()).await
    }

    /// The same with something changed in the configuration of its listener for clients.
    pub(crate) async fn start_with(cluster: &Cluster, change: impl FnOnce(&mut Value)) -> Self {
        Self::launch(cluster, 1, change).await
    }

    /// The same with a worker thread for each of two cores, which is what operators are handed.
    pub(crate) async fn start_with_two_workers(cluster: &Cluster) -> Self {
        Self::launch(cluster, 2, |_| ()).await
    }

    async fn launch(cluster: &Cluster, workers: u32, change: impl FnOnce(&mut Value)) -> Self {
        let (port, admin) = (free_port(), free_port());
        let replicas: Vec<u16> = cluster.replicas.iter().map(|it| it.grpc().port()).collect();
        let config = local_config(port, admin, &replicas, change);
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let envoy = Envoy::start(&config, workers, local(port)).await.expect("Envoy is installed");
        let proxy = Self { addr: local(port), admin: local(admin), _envoy: envoy };
        proxy.until_healthy(replicas.len()).await;
        proxy
    }

    /// Waits until so many replicas are healthy in its eyes.
    pub(crate) async fn until_healthy(&self, expected: usize) {
        eventually(Duration::from_secs(20), "Envoy finds them healthy", async || {
            let (_, clusters) = get(self.admin, "/clusters").await.ok()?;
            let replicas = clusters.lines().filter(|it| it.starts_with("roomcast::"));
            let healthy = replicas.filter(|it| it.ends_with("health_flags::healthy"));
            (healthy.count() == expected).then_some(())
        })
        .await;
    }

    /// One of its counters, as its admin port names it.
    pub(crate) async fn counter(&self, name: &str) -> Option<u64> {
        let (_, stats) = get(self.admin, "/stats").await.ok()?;
        let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        value.parse().ok()
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The way in for clients.
    pub(crate) fn endpoint(&self, dialect: Dialect) -> Endpoint {
        Endpoint::at(self.addr(), dialect)
    }
}
