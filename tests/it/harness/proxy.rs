//! A real Envoy with the configuration that `deploy/` ships.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Cluster, Dialect, Endpoint, eventually, free_port, get};
use crate::deploy::envoy::{envoy, local_config};

/// A running Envoy in front of a cluster. Killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    port: u16,
    admin: SocketAddr,
    _dir: TempDir,
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
        let dir = tempfile::tempdir().expect("a directory");
        let (port, admin) = (free_port(), free_port());
        let replicas: Vec<u16> = cluster.replicas.iter().map(|it| it.grpc().port()).collect();
        let file = dir.path().join("envoy.json");
        let config = local_config(port, admin, &replicas, change);
        fs::write(&file, config).expect("write the configuration");
        let child = envoy()
            .args(["--concurrency", &workers.to_string(), "-c"])
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
        ([127, 0, 0, 1], self.port).into()
    }

    /// The way in for clients.
    pub(crate) fn endpoint(&self, dialect: Dialect) -> Endpoint {
        Endpoint::at(self.addr(), dialect)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
