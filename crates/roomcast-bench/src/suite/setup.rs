//! The processes that a load is put on.

use std::net::SocketAddr;

use roomcast_testkit::{Envoy, Redis, RedisCluster, free_port};

use super::stage::{Stage, Store};
use crate::{
    Error,
    server::{Launch, Program, Server},
    usage::{Process, Usage},
};

/// Envoy's configuration, without the addresses.
const ENVOY: &str = include_str!("envoy.yaml");

/// Running servers and what stands beside them; dropping it ends them all.
#[derive(Debug)]
pub(super) struct Setup {
    servers: Vec<Server>,
    envoy: Option<(Envoy, SocketAddr)>,
    /// One, or the masters of a cluster.
    redis: Vec<Redis>,
}

impl Setup {
    /// Starts them.
    pub(super) async fn start(stage: &Stage, program: Program) -> Result<Self, Error> {
        let (redis, url) = match stage.store {
            Store::Memory => (Vec::new(), None),
            Store::Redis => {
                let redis = redis().await?;
                let url = redis.url();
                (vec![redis], Some(url))
            }
            Store::Cluster => {
                let cluster = RedisCluster::start(MASTERS, 0, KEEP_NOTHING).await;
                let url = cluster.url();
                (cluster.nodes, Some(url))
            }
        };
        let variables = stage.variables;
        let launch = Launch { redis: url.as_deref(), variables, ..Launch::alone(program) };
        let mut servers = Vec::new();
        for _ in 0..stage.replicas {
            servers.push(Server::start(launch).await?);
        }
        let envoy = if stage.envoy { Some(envoy(servers[0].addr()).await?) } else { None };
        Ok(Self { servers, envoy, redis })
    }

    /// Where clients connect.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        match &self.envoy {
            Some((_, addr)) => vec![*addr],
            None => self.servers.iter().map(Server::addr).collect(),
        }
    }

    /// Where the first server serves operators, if it does.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.servers[0].admin()
    }

    /// What is measured: the servers first.
    pub(super) fn processes(&self) -> Result<Vec<Process>, Error> {
        let redis = self.redis.iter().map(Redis::pid);
        let helpers = redis.chain(self.envoy.iter().map(|(envoy, _)| envoy.pid()));
        self.servers.iter().map(Server::pid).chain(helpers).map(Process::find).collect()
    }

    /// What they have cost so far.
    pub(super) fn usages(&self) -> Result<Vec<Usage>, Error> {
        self.processes()?.iter().map(Process::usage).collect()
    }
}

/// What a Redis is started with that keeps nothing on disk.
const KEEP_NOTHING: &[&str] = &["--appendonly", "no"];

/// How many masters a cluster has.
const MASTERS: usize = 3;

/// Redis, which keeps nothing on disk.
pub(super) async fn redis() -> Result<Redis, Error> {
    Redis::try_start(KEEP_NOTHING).await.map_err(Error::Helper)
}

/// Envoy in front of a server, and where it listens.
async fn envoy(server: SocketAddr) -> Result<(Envoy, SocketAddr), Error> {
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = ENVOY
        .replace("LISTENER_PORT", &addr.port().to_string())
        .replace("SERVER_PORT", &server.port().to_string());
    let envoy = Envoy::start(&config, 1, addr).await.map_err(Error::Helper)?;
    Ok((envoy, addr))
}
