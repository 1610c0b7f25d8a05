//! The processes that a load is put on.

use std::net::SocketAddr;

use roomcast_testkit::{Envoy, Redis, free_port};

use super::scenario::Stage;
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
    redis: Option<Redis>,
}

impl Setup {
    /// Starts them.
    pub(super) async fn start(stage: &Stage, program: Program) -> Result<Self, Error> {
        let redis = if stage.redis { Some(redis().await?) } else { None };
        let addr = redis.as_ref().map(Redis::addr);
        let variables = stage.variables;
        let launch = Launch { redis: addr, variables, ..Launch::alone(program) };
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

/// Redis, which keeps nothing on disk.
pub(super) async fn redis() -> Result<Redis, Error> {
    Redis::try_start(&["--appendonly", "no"]).await.map_err(Error::Helper)
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
