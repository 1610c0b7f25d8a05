//! What stands beside the servers: Redis and Envoy, each a process of the bench's own.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::bench::{Error, server::Running};

/// How long a helper may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// Envoy's configuration, without the addresses.
const ENVOY: &str = include_str!("envoy.yaml");

/// A running helper; dropping it ends it.
#[derive(Debug)]
pub(super) struct Helper {
    running: Running,
    addr: SocketAddr,
}

impl Helper {
    /// Redis, which keeps nothing on disk.
    pub(super) async fn redis() -> Result<Self, Error> {
        let addr = free_addr()?;
        let mut command = tool("REDIS_SERVER_BIN", "redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &addr.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no"]);
        Self::start(command, "redis-server", addr).await
    }

    /// Envoy in front of a server.
    pub(super) async fn envoy(server: SocketAddr) -> Result<Self, Error> {
        let addr = free_addr()?;
        let config = ENVOY
            .replace("LISTENER_PORT", &addr.port().to_string())
            .replace("SERVER_PORT", &server.port().to_string());
        let mut command = tool("ENVOY_BIN", "envoy");
        command.args(["--concurrency", "1", "--log-level", "error"]);
        // With hot restart, two of them on a machine would want the same shared memory.
        command.args(["--disable-hot-restart", "--config-yaml", &config]);
        Self::start(command, "envoy", addr).await
    }

    async fn start(mut command: Command, name: &str, addr: SocketAddr) -> Result<Self, Error> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = command.spawn().map_err(|error| {
            let hint = "tests/bench installs what the scenarios need";
            Error::Start(format!("{name}: {error}; {hint}"))
        })?;
        let helper = Self { running: Running(running), addr };
        let listens = async {
            while TcpStream::connect(addr).await.is_err() {
                sleep(LOOK).await;
            }
        };
        let late = |_| Error::Start(format!("{name} does not listen on {addr}"));
        timeout(PATIENCE, listens).await.map_err(late)?;
        Ok(helper)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// The command that a variable names, or the one on the path.
fn tool(variable: &str, name: &str) -> Command {
    Command::new(env::var_os(variable).unwrap_or_else(|| name.into()))
}

/// A port that nobody uses now.
fn free_addr() -> Result<SocketAddr, Error> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    bound.map_err(|error| Error::Start(error.to_string()))
}
