//! A server that the bench starts for itself.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use super::Error;

/// How long a server may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// The variable that says where traces go.
const ENDPOINT: &str = "ROOMCAST_TELEMETRY__OTLP_ENDPOINT";

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// This binary's own, on the memory backplane. `ROOMCAST_` variables other than Redis's
    /// reach it.
    Roomcast {
        /// Where it sends traces, if it does.
        collector: Option<SocketAddr>,
    },
    /// The baseline.
    Baseline,
}

/// A running server; dropping it ends it. Nothing of it outlives a run, so it is killed.
#[derive(Debug)]
pub(super) struct Server {
    running: Running,
    addr: SocketAddr,
}

#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts this binary as a server and waits until it listens.
    pub(super) async fn start(kind: Kind) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Start(error.to_string());
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        match kind {
            Kind::Roomcast { collector } => {
                command.args(["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
                for (name, _) in env::vars_os() {
                    if name.to_string_lossy().starts_with("ROOMCAST_REDIS__") {
                        command.env_remove(name);
                    }
                }
                command.env("ROOMCAST_TELEMETRY__LOG_FORMAT", "json");
                command.env_remove(ENDPOINT);
                if let Some(addr) = collector {
                    command.env(ENDPOINT, format!("http://{addr}"));
                }
            }
            Kind::Baseline => {
                command.args(["bench", "baseline", "--addr", "127.0.0.1:0"]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().map_err(failed)?);
        let log = running.0.stderr.take().expect("it is piped");
        let (found, addr) = oneshot::channel();
        thread::Builder::new()
            .name("server-log".to_owned())
            .spawn(move || follow(log, found))
            .map_err(failed)?;
        let addr = match timeout(START_PATIENCE, addr).await {
            Ok(Ok(found)) => found.map_err(Error::Start)?,
            _ => return Err(Error::Start("it does not say where it listens".to_owned())),
        };
        Ok(Self { running, addr })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.0.id()
    }
}

fn follow(log: impl Read, found: oneshot::Sender<Result<SocketAddr, String>>) {
    let mut found = Some(found);
    let mut last = String::new();
    // To its end: a full pipe would stop the server.
    for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
        if found.is_none() {
            continue;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(addr) = listener(&line) {
            let _ = found.take().map(|found| found.send(Ok(addr)));
        }
        last = line;
    }
    let _ = found.map(|found| found.send(Err(format!("it ended with: {last}"))));
}

/// The gRPC listener's address, if this JSON log line tells it.
fn listener(line: &str) -> Option<SocketAddr> {
    line.contains(r#""listener":"grpc""#).then_some(())?;
    let (_, rest) = line.split_once(r#""addr":""#)?;
    rest.split_once('"')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_where_it_listens() {
        let line = r#"{"level":"INFO","fields":{"message":"listening","listener":"grpc","addr":"127.0.0.1:41234"}}"#;
        assert_eq!(listener(line), "127.0.0.1:41234".parse().ok());
        assert_eq!(listener(&line.replace("grpc", "admin")), None);
        assert_eq!(listener("listening on 127.0.0.1:41234"), None);
    }

    #[test]
    fn a_server_that_ends_is_quoted() {
        let (found, mut addr) = oneshot::channel();
        follow("starting\nthe port is in use\n".as_bytes(), found);
        assert_eq!(addr.try_recv().unwrap(), Err("it ended with: the port is in use".to_owned()));
    }
}
