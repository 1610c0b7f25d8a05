//! A redis-server of a test's own.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use nix::sys::signal::Signal;
use redis::{FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

use crate::{
    Log, SOON, eventually,
    process::{Process, StartError, free_port},
};

/// A redis-server on a free port, with a directory of its own. Killed when dropped.
#[derive(Debug)]
pub struct Redis {
    // Ends before its directory does.
    process: Option<Process>,
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::start_with(&["--appendonly", "no"]).await
    }

    /// Starts one that has every write on disk before it answers.
    pub async fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts one that follows another one, and waits until it has all of its data.
    pub async fn start_following(primary: SocketAddr) -> Self {
        Self::follow(primary, &[]).await
    }

    /// Starts one that follows this one with these arguments, and waits until it has all of its data.
    pub async fn followed_by(&self, arguments: &[&str]) -> Self {
        Self::follow(self.addr(), arguments).await
    }

    async fn follow(primary: SocketAddr, arguments: &[&str]) -> Self {
        let (host, port) = (primary.ip().to_string(), primary.port().to_string());
        let arguments = [arguments, &["--replicaof", &host, &port]].concat();
        // It looks for its primary again and again; the first try has to be soon.
        let redis = Self::start_with(&arguments).await;
        eventually(SOON, "redis-server follows its primary", async || {
            let replication: String = redis.command(&["INFO", "replication"]).await.ok()?;
            replication.contains("master_link_status:up").then_some(())
        })
        .await;
        redis
    }

    /// Ends its following: it takes writes from now on.
    pub async fn promote(&self) {
        self.command::<String>(&["REPLICAOF", "NO", "ONE"]).await.expect("REPLICAOF NO ONE");
    }

    /// How much of its data's history it has.
    pub async fn replication_offset(&self) -> u64 {
        let replication: String =
            self.command(&["INFO", "replication"]).await.expect("INFO replication");
        let mut lines = replication.lines();
        // A primary's own, or that of one that follows.
        let offset = lines.find_map(|line| line.strip_prefix("master_repl_offset:"));
        offset.expect("an offset").trim().parse().expect("a number")
    }

    /// The address to reach it at.
    pub fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts one that asks for a password.
    pub async fn start_with_password(password: &str) -> Self {
        Self::stopped(&["--requirepass", password]).started().await
    }

    /// Starts one with these arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::try_start(arguments).await.expect("redis-server 7 is installed")
    }

    /// The same where it may not be installed. A port that is free now may be somebody else's a moment later: then
    /// another one is tried.
    pub async fn try_start(arguments: &[&str]) -> Result<Self, StartError> {
        loop {
            let mut redis = Self::stopped(arguments);
            match redis.spawn_and_wait().await {
                Ok(()) => return Ok(redis),
                Err(StartError::Ended { .. }) if TcpListener::bind(redis.addr()).is_err() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Has a port and a directory, but does not run yet.
    pub fn stopped(arguments: &[&str]) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory for redis-server"),
            port: free_port(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            process: None,
        }
    }

    /// The port, also while it does not run.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL to reach it at.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process's id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("redis-server runs").pid()
    }

    /// Whether it runs, paused or not.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Kills it with SIGKILL, as a lost machine would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again after a kill, with what it has on disk.
    pub async fn restart(&mut self) {
        self.spawn_and_wait().await.expect("redis-server starts again");
    }

    /// Starts it and waits until it is this one that answers.
    async fn spawn_and_wait(&mut self) -> Result<(), StartError> {
        assert!(self.process.is_none(), "redis-server runs already");
        let mut process = self.spawn()?;
        let own = format!("process_id:{}\r\n", process.pid());
        let answers = async |_: &Log| {
            let info: String = self.command(&["INFO"]).await.ok()?;
            (info.contains(&own) && info.contains("loading:0\r\n")).then_some(())
        };
        process.until(2 * SOON, answers).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it again after a kill, with nothing.
    pub async fn restart_empty(&mut self) {
        self.dir = tempfile::tempdir().expect("a directory for redis-server");
        self.restart().await;
    }

    /// Has it have no data when it is started again after a kill; of a cluster it knows what it knew.
    pub fn forget(&mut self) {
        let data = self.dir.path().join("appendonlydir");
        if data.exists() {
            std::fs::remove_dir_all(data).expect("remove what redis-server has on disk");
        }
    }

    /// Stops it without closing its connections.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Closes the connections of all subscribers, and only those; answers how many.
    pub async fn kill_subscribers(&self) -> u32 {
        self.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.expect("CLIENT KILL")
    }

    /// What it has counted under this name.
    pub async fn counted(&self, name: &str) -> u64 {
        let info: String = self.command(&["INFO", "all"]).await.expect("INFO");
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).expect("a number")
    }

    /// Starts it and waits until it listens, whatever it answers.
    pub async fn started(mut self) -> Self {
        let mut process = self.spawn().expect("redis-server 7 is installed");
        process.until_listening(self.addr()).await.expect("redis-server listens");
        self.process = Some(process);
        self
    }

    /// Sends one command on a connection of its own.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connect().await?).await
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("redis-server runs").signal(signal);
    }

    fn spawn(&self) -> Result<Process, StartError> {
        let program = env::var_os("REDIS_SERVER_BIN").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            // What it says when it cannot start is told with the test's failure.
            .args(["--logfile", "/dev/stderr"])
            .args(["--dir", self.dir.path().to_str().expect("a UTF-8 path")])
            .args(&self.arguments);
        Process::start(command)
    }
}
