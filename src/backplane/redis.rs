//! The backplane on Redis 7 or Valkey: scripts for every change, a stream as the log, pub/sub for
//! what happens now.
//!
//! `operations` says what each operation sends (`arguments`) and how it reads the answer (`answers`), `lane` sends
//! commands, `subscriber` listens, the `.lua` files hold what is atomic.

mod address;
mod answers;
mod arguments;
mod batch;
mod cluster;
mod codec;
mod connect;
mod connect_error;
mod directing;
mod fair;
mod incarnations;
mod info;
mod keys;
mod lane;
mod lanes;
mod link;
mod listeners;
mod listing;
mod location;
mod moderating;
mod node_connections;
mod op;
mod operations;
mod pace;
mod partitions;
mod remedy;
mod reply;
mod rights;
mod script_name;
mod scripts;
mod sentinel;
mod servers;
mod slots;
mod status;
mod subscriber;
mod subscriptions;
mod target;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use roomcast_tls::{TlsError, TlsFiles};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    connect::Connector,
    connect_error::ConnectError,
    incarnations::Incarnations,
    keys::Keys,
    lane::{Pipeline, PipelineConfig},
    lanes::Lanes,
    link::LinkKind,
    listeners::Listeners,
    scripts::Scripts,
    status::Status,
    subscriptions::Subscriptions,
    target::Targets,
};
use super::{LogBounds, Signals};
use crate::{
    backoff::Backoff,
    domain::{ReplicaId, RoomName},
    metrics::Metrics,
};

/// The most operations in one pipeline: of appends, of renewals with hundreds of names each, and of
/// pages, each of which may have a megabyte.
const APPEND_BATCH: usize = 1024;
const UPKEEP_BATCH: usize = 128;
const READ_BATCH: usize = 4;

/// The connections for commands beside those of `RedisConfig::connections`, on each server.
const MORE_CONNECTIONS: usize = 3;

/// How often the number of partitions is noted again.
const NOTED_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How to reach Redis, and what to keep in it.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where it is.
    pub topology: Topology,
    /// What every key and every channel begins with: another one is another deployment.
    pub prefix: String,
    /// Over how many partitions rooms are spread: the same for all replicas of a deployment, for ever.
    pub partitions: usize,
    /// What to trust and what to show where the URL asks for TLS.
    pub tls: TlsFiles,
    /// Overrides the password of the URL.
    pub password: Option<String>,
    /// How long an operation waits for Redis before it fails.
    pub timeout: Duration,
    /// Connections for what changes rooms. Three more are for upkeep, for reading logs and for the
    /// subscriber.
    pub connections: usize,
    /// How often at the most what changes rooms is sent while there is much of it; zero for as soon as
    /// Redis has answered.
    pub gather: Duration,
    /// Whether an append succeeds only if a replica of Redis has it too. Where none has it in time the
    /// append fails, and may or may not have taken effect.
    pub replicated: bool,
    /// The length of a lease.
    pub lease: Duration,
    /// The bounds of each room's log.
    pub log: LogBounds,
    /// The most members of a room.
    pub members_per_room: usize,
    /// The most signals that wait for the hub, and about as many messages behind them. What does
    /// not fit is dropped, and read from the log later.
    pub signal_queue: usize,
}

/// Where a Redis is. URLs are `redis://[user[:password]@]host[:port][/db]`, or `rediss://…` for TLS.
#[derive(Clone, Debug)]
pub enum Topology {
    /// At this URL.
    One(String),
    /// Where Sentinels say that their master is.
    Sentinels {
        /// The URL of each Sentinel; user, password and database are those of the master.
        servers: Vec<String>,
        /// The name by which they know it.
        master: String,
        /// The user that Sentinels themselves ask for.
        username: Option<String>,
        /// Their password.
        password: Option<String>,
    },
    /// On a cluster with nodes at these URLs, perhaps among others.
    Cluster(Vec<String>),
}

/// One replica's part of the backplane.
#[derive(Debug)]
pub struct Redis {
    /// Rooms are spread over these, so that each room has its order.
    lanes: Lanes,
    /// For what needs no order with appends: renewals.
    upkeep: Lanes,
    /// For canaries.
    canaries: Lanes,
    /// For pages of logs: large answers that hold up nothing else.
    reads: Lanes,
    hasher: RandomState,
    incarnations: Incarnations,
    connector: Arc<Connector>,
    subscriptions: Arc<Subscriptions>,
    listeners: Arc<Listeners>,
    status: Arc<Status>,
    replica: ReplicaId,
    timeout: Duration,
    lease: Duration,
    members_per_room: usize,
    close: CancellationToken,
    tasks: TaskTracker,
}

/// What no Redis can be reached with.
#[derive(Debug, thiserror::Error)]
pub enum RedisConfigError {
    /// An address that cannot be one.
    #[error("redis.url: {0}")]
    Url(redis::RedisError),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why this Redis can never be used, however often it is tried.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RedisRefusal {
    /// It does not accept the credentials; in its own words.
    #[error("redis refuses the credentials of redis.url or redis.password: {0}")]
    Credentials(String),
    /// One side does not accept the other's certificate, or there is no TLS there.
    #[error("redis cannot be reached over TLS (rediss://, redis.tls): {0}")]
    Tls(String),
    /// The user may not do all that is needed: in Redis's own words, and the line that gives it the rights.
    #[error(
        "redis does not let its user do what is needed: {words}; this line has all that may be needed: {acl}"
    )]
    Rights {
        /// What is missing.
        words: String,
        /// What to tell Redis.
        acl: String,
    },
    /// Commands have other names there, or are not there at all.
    #[error("redis does not know commands by their names (rename-command?): {0}")]
    Renamed(String),
    /// Rooms are spread over another number of partitions.
    #[error(
        "redis.partitions is {configured}, but this deployment's rooms are spread over {stored}; it has to be the same \
         for all replicas"
    )]
    Partitions {
        /// As the first replica noted it.
        stored: usize,
        /// As this one is told.
        configured: usize,
    },
    /// Sentinels are not as `redis.url` says; in their words.
    #[error("redis.url: {0}")]
    Sentinel(String),
    /// It has no such database.
    #[error("redis.url names a database that cannot be used: {0}")]
    Database(String),
    /// It is part of a cluster.
    #[error("redis.url leads to a Redis Cluster; say redis+cluster:// instead of redis://")]
    Cluster,
    /// It is not.
    #[error("redis.url: {0}")]
    NoCluster(String),
    /// It is of an earlier version than is needed.
    #[error("redis.url leads to Redis {0}; version 7 or later is needed")]
    Version(String),
}

impl Redis {
    /// Starts connecting in the background; operations wait for it. A Redis that is not there is
    /// no error: it is tried for ever.
    pub fn start(
        config: &RedisConfig,
        replica: ReplicaId,
        metrics: Metrics,
    ) -> Result<(Arc<Self>, Signals), RedisConfigError> {
        let connections = config.connections + MORE_CONNECTIONS;
        let connector = Arc::new(Connector::new(config, connections, replica)?);
        let status = Arc::new(Status::new(metrics));
        let (close, tasks) = (CancellationToken::new(), TaskTracker::new());
        let lanes = |kinds: Vec<LinkKind>, batch, yields| {
            let config = PipelineConfig { batch, replicated: config.replicated, yields };
            let (connector, status, close) = (connector.clone(), status.clone(), close.clone());
            Lanes::new(kinds, config, connector, status, tasks.clone(), close)
        };
        let (signals, receiver) = mpsc::channel(config.signal_queue);
        let subscriptions = Arc::new(Subscriptions::default());
        let listeners = Arc::new(Listeners {
            connector: connector.clone(),
            subscriptions: subscriptions.clone(),
            status: status.clone(),
            replica,
            queue: config.signal_queue,
            signals: std::sync::Mutex::new(Some(signals)),
            tasks: tasks.clone(),
            close: close.clone(),
            by_server: std::sync::Mutex::default(),
        });
        let follow = follow(connector.clone(), listeners.clone(), status.clone());
        let closed = close.clone();
        tasks.spawn(async move {
            closed.run_until_cancelled(follow).await;
        });
        let upkeep = lanes(vec![LinkKind::Upkeep], UPKEEP_BATCH, false);
        // Where they wait for a replica of Redis, renewals shall not wait behind them.
        let canaries = if config.replicated {
            lanes(vec![LinkKind::Canaries], 1, false)
        } else {
            upkeep.clone()
        };
        // The lanes of a node of a cluster send together.
        let connections = if connector.cluster().is_some() { 1 } else { config.connections };
        let appends = (0..connections).map(LinkKind::Append).collect();
        let redis = Self {
            lanes: lanes(appends, APPEND_BATCH, false),
            upkeep,
            canaries,
            reads: lanes(vec![LinkKind::Reads], READ_BATCH, true),
            hasher: RandomState::new(),
            incarnations: Incarnations::default(),
            connector,
            subscriptions,
            listeners,
            status,
            replica,
            timeout: config.timeout,
            lease: config.lease,
            members_per_room: config.members_per_room,
            close,
            tasks,
        };
        Ok((Arc::new(redis), receiver))
    }

    /// Finds what no Redis could be reached with, without opening a connection.
    pub fn check(config: &RedisConfig) -> Result<(), RedisConfigError> {
        Targets::new(config, config.connections).map(drop)
    }

    /// Resolves when it shows at the start that this Redis can never be used.
    pub async fn refusal(&self) -> RedisRefusal {
        self.status.refusal().await
    }

    fn keys(&self) -> &Keys {
        &self.scripts().keys
    }

    fn scripts(&self) -> &Scripts {
        self.connector.scripts()
    }

    fn lane(&self, room: &RoomName) -> &Pipeline {
        self.lanes.of(self.keys().partition(room), self.hasher.hash_one(room))
    }

    fn upkeep(&self, partition: usize) -> &Pipeline {
        self.upkeep.of(partition, 0)
    }

    fn reads(&self, room: &RoomName) -> &Pipeline {
        self.reads.of(self.keys().partition(room), 0)
    }
}

/// Keeps up with where the data is, for as long as it is polled.
async fn follow(connector: Arc<Connector>, listeners: Arc<Listeners>, status: Arc<Status>) {
    let mut changes = connector.changes();
    let moves = async {
        loop {
            listeners.follow();
            status.nodes(&connector.tidy());
            changes.or_after(NOTED_EVERY).await;
        }
    };
    let notes = async {
        loop {
            sleep(NOTED_EVERY).await;
            let _ = connector.note_partitions().await;
        }
    };
    tokio::join!(connector.watch(), moves, notes);
}

fn reconnect_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
}
