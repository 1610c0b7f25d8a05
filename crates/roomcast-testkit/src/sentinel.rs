//! A Redis that Sentinels watch, of a test's own.

use std::{collections::HashMap, env, fs, net::SocketAddr, process::Command, time::Duration};

use nix::sys::signal::Signal;
use redis::FromRedisValue;
use tempfile::TempDir;

use crate::{
    Redis, SOON, answered, eventually,
    process::{Process, free_port},
};

/// What the Sentinels call their master.
const NAME: &str = "chat";

/// How long a master may be silent.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// Three Sentinels with the servers that they watch. All are killed when dropped.
#[derive(Debug)]
pub struct Sentinels {
    /// The one that was the master at first, then its replicas.
    pub servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    // Ends before its directory does.
    process: Process,
    _dir: TempDir,
    addr: SocketAddr,
}

impl Sentinels {
    /// A master with two replicas, all of which were started with these arguments. Returns when the Sentinels know of
    /// the replicas and of each other: from then on they replace a master that fails.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let this = Self::naming(arguments, &[]).await;
        for sentinel in 0..this.sentinels.len() {
            eventually(3 * SOON, "the Sentinels know each other", async || {
                let about = this.about(sentinel).await.ok()?;
                let known = about["num-slaves"] == "2" && about["num-other-sentinels"] == "2";
                (known && about["flags"] == "master").then_some(())
            })
            .await;
        }
        this
    }

    /// The same; returns as soon as they name the master. The Sentinels' files end with these lines.
    pub async fn naming(arguments: &[&str], lines: &[&str]) -> Self {
        // Replicas have their data at once.
        let arguments = [arguments, &["--repl-diskless-sync-delay", "0"]].concat();
        let master = Redis::start_with(&arguments).await;
        let mut this = Self { servers: vec![master], sentinels: Vec::new() };
        for _ in 0..2 {
            let replica = this.servers[0].followed_by(&arguments).await;
            this.servers.push(replica);
        }
        for _ in 0..3 {
            this.sentinels.push(Sentinel::start(this.servers[0].addr(), lines).await);
        }
        this
    }

    /// The URL to give to a replica of roomcast.
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The URL of a master with this name.
    pub fn url_of(&self, name: &str) -> String {
        format!("redis+sentinel://{}/{name}", self.hosts().join(","))
    }

    /// Where each Sentinel is.
    pub fn hosts(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| sentinel.addr.to_string()).collect()
    }

    /// Which server all Sentinels say is the master, by its index.
    pub async fn master(&self) -> Option<usize> {
        let mut named = Vec::new();
        for sentinel in &self.sentinels {
            let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            let (_, port): (String, u16) = sentinel.command(&words).await.ok()?;
            named.push(port);
        }
        named.dedup();
        let [port] = named[..] else { return None };
        self.servers.iter().position(|server| server.port() == port)
    }

    /// Waits until all of them name another server, which takes writes; returns its index.
    pub async fn until_replaced(&self, former: usize) -> usize {
        eventually(3 * SOON, "the Sentinels name another master", async || {
            let master = self.master().await.filter(|master| *master != former)?;
            let role: String = self.servers[master].command(&["INFO", "replication"]).await.ok()?;
            role.contains("role:master").then_some(master)
        })
        .await
    }

    /// Waits until all servers follow one master, and the Sentinels see that: they would replace it again. It need not
    /// be the one that they named first.
    pub async fn until_settled(&self) {
        let mut missing = String::new();
        // A master that comes back is told to follow when it has been looked at for a while.
        let settled = answered(12 * SOON, async || {
            missing = self.unsettled().await?;
            missing.is_empty().then_some(())
        });
        assert!(settled.await.is_some(), "not all follow the new master: {missing}");
    }

    /// What keeps the servers from following the master that all Sentinels name, or a Sentinel from seeing it; nothing
    /// if all do.
    async fn unsettled(&self) -> Option<String> {
        let master = self.master().await?;
        let port = format!("master_port:{}\r", self.servers[master].port());
        for (index, server) in self.servers.iter().enumerate() {
            let about: String = server.command(&["INFO", "replication"]).await.ok()?;
            let follows = about.contains(&port) && about.contains("master_link_status:up");
            if index != master && !follows {
                return Some(format!("server {index}, which should have {port}: {about}"));
            }
        }
        for sentinel in 0..self.sentinels.len() {
            let about = self.about(sentinel).await.ok()?;
            let replicas: Vec<HashMap<String, String>> =
                self.sentinels[sentinel].command(&["SENTINEL", "REPLICAS", NAME]).await.ok()?;
            let up = replicas.iter().all(|it| it["flags"] == "slave");
            if about["flags"] != "master" || replicas.len() != 2 || !up {
                return Some(format!("Sentinel {sentinel}: {about:#?} {replicas:#?}"));
            }
        }
        Some(String::new())
    }

    /// Waits until the replicas have all that the first server has.
    pub async fn in_step(&self) {
        let offset = self.servers[0].replication_offset().await;
        for replica in &self.servers[1..] {
            eventually(SOON, "a replica of Redis has everything", async || {
                (replica.replication_offset().await >= offset).then_some(())
            })
            .await;
        }
    }

    /// Has the replicas get nothing more, until the Sentinels put that right, many seconds later.
    pub async fn cut_replicas(&self) {
        for replica in &self.servers[1..] {
            let nowhere = ["REPLICAOF", "127.0.0.1", "1"];
            replica.command::<String>(&nowhere).await.expect("REPLICAOF");
        }
    }

    /// Stops one of the Sentinels without closing its connections.
    pub fn pause_one(&mut self) {
        self.sentinels[2].process.signal(Signal::SIGSTOP);
    }

    /// Has them replace the master although nothing is wrong with it.
    pub async fn fail_over(&self) {
        let words = ["SENTINEL", "FAILOVER", NAME];
        self.sentinels[0].command::<String>(&words).await.expect("SENTINEL FAILOVER");
    }

    async fn about(&self, sentinel: usize) -> redis::RedisResult<HashMap<String, String>> {
        self.sentinels[sentinel].command(&["SENTINEL", "MASTER", NAME]).await
    }
}

impl Sentinel {
    async fn start(master: SocketAddr, lines: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for a Sentinel");
        let (port, down_after) = (free_port(), DOWN_AFTER.as_millis());
        // It rewrites its file.
        let file = dir.path().join("sentinel.conf");
        let monitor = format!("{NAME} {} {} 2", master.ip(), master.port());
        let lines = lines.join("\n");
        let content = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {monitor}\n\
             sentinel down-after-milliseconds {NAME} {down_after}\n\
             sentinel failover-timeout {NAME} 10000\nsentinel parallel-syncs {NAME} 2\n{lines}\n",
            dir.path().display()
        );
        fs::write(&file, content).expect("write a Sentinel's file");
        let program = env::var_os("REDIS_SERVER_BIN").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command.arg(&file).arg("--sentinel");
        let process = Process::start(command).expect("redis-server 7 is installed");
        let addr = ([127, 0, 0, 1], port).into();
        let mut this = Self { process, _dir: dir, addr };
        this.process.until_listening(addr).await.expect("a Sentinel listens");
        this
    }

    async fn command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://{}", self.addr))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
    }
}
