//! A server that the bench starts for itself.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::Error;
use crate::health;

/// How long a server may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether a server is ready.
const LOOK: Duration = Duration::from_millis(10);

/// The variable that says where traces go.
const ENDPOINT: &str = "ROOMCAST_TELEMETRY__OTLP_ENDPOINT";

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
pub(super) struct Launch {
    pub(super) program: Program,
    /// The Redis that it shares with others; else it is on its own.
    pub(super) redis: Option<SocketAddr>,
    /// Where it sends traces, if it does.
    pub(super) collector: Option<SocketAddr>,
    /// Settings of roomcast.
    pub(super) variables: &'static [(&'static str, &'static str)],
}

impl Launch {
    /// One that is on its own, as it is by default.
    pub(super) fn alone(program: Program) -> Self {
        Self { program, redis: None, collector: None, variables: &[] }
    }

    fn command(&self) -> Result<Command, std::io::Error> {
        let mut command = Command::new(env::current_exe()?);
        let redis = self.redis.map(|addr| format!("redis://{addr}"));
        match self.program {
            Program::Roomcast => {
                command.args(["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
                for (name, _) in env::vars_os() {
                    if name.to_string_lossy().starts_with("ROOMCAST_REDIS__") {
                        command.env_remove(name);
                    }
                }
                command.env("ROOMCAST_TELEMETRY__LOG_FORMAT", "json");
                command.env_remove(ENDPOINT);
                if let Some(addr) = self.collector {
                    command.env(ENDPOINT, format!("http://{addr}"));
                }
                if let Some(url) = redis {
                    command.env("ROOMCAST_REDIS__URL", url);
                }
                command.envs(self.variables.iter().copied());
            }
            Program::Baseline => {
                command.args(["bench", "baseline", "--addr", "127.0.0.1:0"]);
                command.args(redis.iter().flat_map(|url| ["--redis", url]));
            }
        }
        Ok(command)
    }

    /// How many listeners it tells of: the baseline has none for operators.
    fn listeners(&self) -> usize {
        match self.program {
            Program::Roomcast => 2,
            Program::Baseline => 1,
        }
    }
}

/// A running server; dropping it ends it. Nothing of it outlives a run, so it is killed.
#[derive(Debug)]
pub(super) struct Server {
    running: Running,
    listeners: Listeners,
}

/// Where a server listens, by the listener's name.
type Listeners = Vec<(&'static str, SocketAddr)>;

/// A process that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts this binary as a server and waits until it listens and, on Redis, is ready.
    pub(super) async fn start(launch: Launch) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Start(error.to_string());
        let mut command = launch.command().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().map_err(failed)?);
        let log = running.0.stderr.take().expect("it is piped");
        let (found, listeners) = oneshot::channel();
        thread::Builder::new()
            .name("server-log".to_owned())
            .spawn(move || follow(log, launch.listeners(), found))
            .map_err(failed)?;
        let listeners = match timeout(START_PATIENCE, listeners).await {
            Ok(Ok(found)) => found.map_err(Error::Start)?,
            _ => return Err(Error::Start("it does not say where it listens".to_owned())),
        };
        let server = Self { running, listeners };
        server.until_ready().await?;
        Ok(server)
    }

    async fn until_ready(&self) -> Result<(), Error> {
        let Some(admin) = self.listener("admin") else { return Ok(()) };
        let ready = async {
            while !health::check(&admin.to_string()).await.is_ok_and(|answer| answer.ready) {
                sleep(LOOK).await;
            }
        };
        let late = |_| Error::Start("it does not become ready".to_owned());
        timeout(START_PATIENCE, ready).await.map_err(late)
    }

    /// Where it serves clients.
    pub(super) fn addr(&self) -> SocketAddr {
        self.listener("grpc").expect("it was waited for")
    }

    /// Where it serves operators, if it does.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.listener("admin")
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|it| it.0 == name).map(|it| it.1)
    }
}

fn follow(log: impl Read, wanted: usize, found: oneshot::Sender<Result<Listeners, String>>) {
    let mut found = Some(found);
    let mut listeners = Listeners::new();
    let mut last = String::new();
    // To its end: a full pipe would stop the server.
    for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if found.is_none() {
            // What is no log line is the last word of a server that ends.
            if line.contains(r#""level":"ERROR""#) || !line.starts_with('{') {
                eprintln!("{line}");
            }
            continue;
        }
        listeners.extend(listener(&line));
        if listeners.len() == wanted {
            let _ = found.take().map(|found| found.send(Ok(std::mem::take(&mut listeners))));
        }
        last = line;
    }
    let _ = found.map(|found| found.send(Err(format!("it ended with: {last}"))));
}

/// A listener and its address, if this JSON log line tells of one.
fn listener(line: &str) -> Option<(&'static str, SocketAddr)> {
    let mut names = ["grpc", "admin"].into_iter();
    let name = names.find(|name| line.contains(&format!(r#""listener":"{name}""#)))?;
    let (_, rest) = line.split_once(r#""addr":""#)?;
    Some((name, rest.split_once('"')?.0.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_where_it_listens() {
        let line = r#"{"level":"INFO","fields":{"message":"listening","listener":"grpc","addr":"127.0.0.1:41234"}}"#;
        let addr = "127.0.0.1:41234".parse().unwrap();
        assert_eq!(listener(line), Some(("grpc", addr)));
        assert_eq!(listener(&line.replace("grpc", "admin")), Some(("admin", addr)));
        assert_eq!(listener("listening on 127.0.0.1:41234"), None);
    }

    #[test]
    fn a_server_that_ends_is_quoted() {
        let (found, mut addr) = oneshot::channel();
        follow("starting\nthe port is in use\n".as_bytes(), 1, found);
        assert_eq!(addr.try_recv().unwrap(), Err("it ended with: the port is in use".to_owned()));
    }
}
