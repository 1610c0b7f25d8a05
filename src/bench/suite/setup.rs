//! The processes that a load is put on.

use std::net::SocketAddr;

use super::{helper::Helper, scenario::Stage};
use crate::bench::{
    Error,
    process_table::{Process, Usage},
    server::{Launch, Program, Server},
};

/// Running servers and what stands beside them; dropping it ends them all.
#[derive(Debug)]
pub(super) struct Setup {
    servers: Vec<Server>,
    envoy: Option<Helper>,
    redis: Option<Helper>,
}

impl Setup {
    /// Starts them.
    pub(super) async fn start(stage: &Stage, program: Program) -> Result<Self, Error> {
        let redis = if stage.redis { Some(Helper::redis().await?) } else { None };
        let addr = redis.as_ref().map(Helper::addr);
        let variables = stage.variables;
        let launch = Launch { redis: addr, variables, ..Launch::alone(program) };
        let mut servers = Vec::new();
        for _ in 0..stage.replicas {
            servers.push(Server::start(launch).await?);
        }
        let envoy = if stage.envoy { Some(Helper::envoy(servers[0].addr()).await?) } else { None };
        Ok(Self { servers, envoy, redis })
    }

    /// Where clients connect.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        match &self.envoy {
            Some(envoy) => vec![envoy.addr()],
            None => self.servers.iter().map(Server::addr).collect(),
        }
    }

    /// Where the first server serves operators, if it does.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.servers[0].admin()
    }

    /// What is measured: the servers first.
    pub(super) fn processes(&self) -> Result<Vec<Process>, Error> {
        let helpers = self.redis.iter().chain(&self.envoy).map(Helper::pid);
        self.servers.iter().map(Server::pid).chain(helpers).map(Process::find).collect()
    }

    /// What they have cost so far.
    pub(super) fn usages(&self) -> Result<Vec<Usage>, Error> {
        self.processes()?.iter().map(Process::usage).collect()
    }
}
