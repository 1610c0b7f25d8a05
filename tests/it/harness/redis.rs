//! A redis-server of a test's own.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::{FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

use super::{SOON, eventually};

/// A redis-server on a free port, with a directory of its own. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--appendonly", "no"]).await
    }

    /// Starts one that has every write on disk before it answers.
    pub(crate) async fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts one that follows another one, and waits until it has all of its data.
    pub(crate) async fn start_following(primary: SocketAddr) -> Self {
        let (host, port) = (primary.ip().to_string(), primary.port().to_string());
        // It looks for its primary again and again; the first try has to be soon.
        let redis = Self::start_with(&["--replicaof", &host, &port]).await;
        eventually(SOON, "redis-server follows its primary", async || {
            let replication: String = redis.command(&["INFO", "replication"]).await.ok()?;
            replication.contains("master_link_status:up").then_some(())
        })
        .await;
        redis
    }

    /// Ends its following: it takes writes from now on.
    pub(crate) async fn promote(&self) {
        self.command::<String>(&["REPLICAOF", "NO", "ONE"]).await.expect("REPLICAOF NO ONE");
    }

    /// How much of its data's history it has.
    pub(crate) async fn replication_offset(&self) -> u64 {
        let replication: String =
            self.command(&["INFO", "replication"]).await.expect("INFO replication");
        let mut lines = replication.lines();
        // A primary's own, or that of one that follows.
        let offset = lines.find_map(|line| line.strip_prefix("master_repl_offset:"));
        offset.expect("an offset").trim().parse().expect("a number")
    }

    /// The address to reach it at.
    pub(crate) fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts one that asks for a password.
    pub(crate) async fn start_with_password(password: &str) -> Self {
        Self::stopped(&["--requirepass", password]).started().await
    }

    async fn start_with(arguments: &[&str]) -> Self {
        let mut redis = Self::stopped(arguments);
        redis.restart().await;
        redis
    }

    /// Has a port and a directory, but does not run yet.
    pub(crate) fn stopped(arguments: &[&str]) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory for redis-server"),
            port: free_port(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            child: None,
        }
    }

    /// The port, also while it does not run.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL to reach it at.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it with SIGKILL, as a lost machine would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill redis-server");
            child.wait().expect("reap redis-server");
        }
    }

    /// Starts it again after a kill, with what it has on disk.
    pub(crate) async fn restart(&mut self) {
        self.spawn();
        eventually(SOON, "redis-server answers", async || {
            self.command::<String>(&["PING"]).await.ok()
        })
        .await;
    }

    /// Starts it again after a kill, with nothing.
    pub(crate) async fn restart_empty(&mut self) {
        self.dir = tempfile::tempdir().expect("a directory for redis-server");
        self.restart().await;
    }

    /// Stops it without closing its connections.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Closes the connections of all subscribers, and only those; answers how many.
    pub(crate) async fn kill_subscribers(&self) -> u32 {
        self.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.expect("CLIENT KILL")
    }

    /// What it has counted under this name.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let info: String = self.command(&["INFO", "all"]).await.expect("INFO");
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).expect("a number")
    }

    /// Starts it and waits until it listens, whatever it answers.
    pub(crate) async fn started(mut self) -> Self {
        self.spawn();
        self.until_listening().await;
        self
    }

    async fn until_listening(&self) {
        eventually(SOON, "redis-server listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        })
        .await;
    }

    /// Sends one command on a connection of its own.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connect().await?).await
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("redis-server runs");
        signal_process(child, signal);
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none(), "redis-server runs already");
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--dir", self.dir.path().to_str().expect("a UTF-8 path")])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server 7 is installed");
        self.child = Some(child);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The process id in nix's type.
pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a pid fits"))
}

/// Sends a process a signal. When it is SIGSTOP, waits until every thread has stopped: the kernel
/// stops them one by one, and one that still runs could still speak.
pub(crate) fn signal_process(child: &Child, signal: Signal) {
    kill(pid(child), signal).expect("signal a process of this test");
    if signal != Signal::SIGSTOP {
        return;
    }
    let deadline = Instant::now() + SOON;
    while !is_stopped(child.id()) {
        assert!(Instant::now() < deadline, "process {} does not stop", child.id());
        std::thread::yield_now();
    }
}

/// Whether all threads of a process have stopped.
fn is_stopped(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process of this test");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections, so
/// that it is still free when something that was killed is started on it again.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    (0..1000)
        .map(|_| 20_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
