//! A server that the bench starts for itself.

use std::{env, net::SocketAddr, process::Command, time::Duration};

use roomcast_testkit::{self as testkit, Log, Replica, StartError, answered};

use super::Error;

/// How long a server may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Program {
    /// This binary's own. `ROOMCAST_` variables other than Redis's reach it.
    Roomcast,
    /// The baseline.
    Baseline,
}

/// How a server is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Launch<'a> {
    pub(super) program: Program,
    /// The URL of the Redis that it shares with others; else it is on its own.
    pub(super) redis: Option<&'a str>,
    /// Settings of roomcast.
    pub(super) variables: &'static [(&'static str, &'static str)],
}

impl Launch<'_> {
    /// One that is on its own, as it is by default.
    pub(super) fn alone(program: Program) -> Self {
        Self { program, redis: None, variables: &[] }
    }

    fn command(&self) -> Result<Command, std::io::Error> {
        let mut command = Command::new(env::current_exe()?);
        match self.program {
            Program::Roomcast => {
                command.args(["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
                for (name, _) in env::vars_os() {
                    if name.to_string_lossy().starts_with("ROOMCAST_REDIS__") {
                        command.env_remove(name);
                    }
                }
                command.env("ROOMCAST_TELEMETRY__LOG_FORMAT", "json");
                command.env_remove("ROOMCAST_TELEMETRY__OTLP_ENDPOINT");
                if let Some(url) = self.redis {
                    command.env("ROOMCAST_REDIS__URL", url);
                }
                command.envs(self.variables.iter().copied());
            }
            Program::Baseline => {
                command.args(["bench", "baseline", "--addr", "127.0.0.1:0"]);
                command.args(self.redis.iter().flat_map(|url| ["--redis", url]));
            }
        }
        Ok(command)
    }
}

/// A running server; dropping it ends it. Nothing of it outlives a run, so it is killed.
#[derive(Debug)]
pub(super) enum Server {
    Roomcast(Replica),
    Baseline { process: testkit::Process, addr: SocketAddr },
}

impl Server {
    /// Starts this binary as a server and waits until it listens and, on Redis, is ready.
    pub(super) async fn start(launch: Launch<'_>) -> Result<Self, Error> {
        let failed = |error: StartError| Error::Start(error.to_string());
        let command = launch.command().map_err(|error| Error::Start(error.to_string()))?;
        match launch.program {
            Program::Roomcast => {
                let replica = Replica::launch(command).await.map_err(failed)?;
                let ready = async || (replica.readiness().await == Some(200)).then_some(());
                let late = || Error::Start("it does not become ready".to_owned());
                answered(START_PATIENCE, ready).await.ok_or_else(late)?;
                Ok(Self::Roomcast(replica))
            }
            Program::Baseline => {
                let mut process = testkit::Process::start(command).map_err(failed)?;
                let listening = async |log: &Log| log.listening("grpc");
                let addr = process.until(START_PATIENCE, listening).await.map_err(failed)?;
                Ok(Self::Baseline { process, addr })
            }
        }
    }

    /// Where it serves clients.
    pub(super) fn addr(&self) -> SocketAddr {
        match self {
            Self::Roomcast(replica) => replica.grpc(),
            Self::Baseline { addr, .. } => *addr,
        }
    }

    /// Where it serves operators, if it does.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        match self {
            Self::Roomcast(replica) => Some(replica.admin()),
            Self::Baseline { .. } => None,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Roomcast(replica) => replica.pid(),
            Self::Baseline { process, .. } => process.pid(),
        }
    }
}

impl Drop for Server {
    /// Shows what went wrong in it.
    fn drop(&mut self) {
        let log = match self {
            Self::Roomcast(replica) => replica.log(),
            Self::Baseline { process, .. } => process.log(),
        };
        for line in log.lines() {
            // What is no log line is the last word of a server that ends.
            if line.contains(r#""level":"ERROR""#) || !line.starts_with('{') {
                eprintln!("{line}");
            }
        }
    }
}
