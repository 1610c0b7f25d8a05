//! The backplane that the configuration asks for.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};

use super::tls_files;
use crate::{
    backplane::{
        Backplane, LogBounds, Signals,
        memory::{Memory, MemoryConfig},
        redis::{Redis, RedisConfig, RedisConfigError, RedisRefusal, Topology},
    },
    config::{Config, Durability, RedisKind, TlsKeys},
    domain::ReplicaId,
    metrics::Metrics,
};

/// The most signals that wait for the hub. A thousand messages a second fill it in some seconds.
const SIGNAL_QUEUE: usize = 8192;

/// What the replicas share.
pub(super) struct Shared {
    pub(super) backplane: Arc<dyn Backplane>,
    pub(super) signals: Signals,
    /// Resolves when it turns out that it can never work.
    pub(super) refusal: BoxFuture<'static, RedisRefusal>,
}

impl Shared {
    pub(super) fn start(
        config: &Config,
        replica: ReplicaId,
        metrics: Metrics,
    ) -> Result<Self, RedisConfigError> {
        let Some(redis) = redis(config) else {
            let (log, lease) = (log_bounds(config), config.names.lease);
            let members_per_room = config.limits.members_per_room;
            let signal_queue = SIGNAL_QUEUE;
            let bytes = config.history.memory_bytes.max(2 * log.bytes);
            let memory =
                Memory::new(MemoryConfig { lease, log, bytes, members_per_room, signal_queue });
            let (backplane, signals) = memory.attach(replica);
            let refusal = std::future::pending().boxed();
            return Ok(Self { backplane, signals, refusal });
        };
        let (backplane, signals) = Redis::start(&redis, replica, metrics)?;
        let watched = backplane.clone();
        let refusal = async move { watched.refusal().await }.boxed();
        Ok(Self { backplane, signals, refusal })
    }
}

/// Finds what no Redis could be reached with, without asking anybody.
pub(super) fn check(config: &Config) -> Result<(), RedisConfigError> {
    redis(config).map_or(Ok(()), |redis| Redis::check(&redis))
}

/// How to reach Redis, if there is one.
fn redis(config: &Config) -> Option<RedisConfig> {
    let redis = &config.redis;
    let url = redis.url.as_ref()?;
    let servers: Vec<String> = url.servers().map(str::to_owned).collect();
    let topology = match url.kind() {
        RedisKind::Cluster => Topology::Cluster(servers),
        RedisKind::Sentinels(master) => Topology::Sentinels {
            servers,
            master: master.clone(),
            username: redis.sentinel.username.clone(),
            password: redis.sentinel.password.as_ref().map(|it| it.expose().to_owned()),
        },
        RedisKind::One => Topology::One(servers.concat()),
    };
    Some(RedisConfig {
        topology,
        prefix: redis.prefix.as_str().to_owned(),
        partitions: redis.partitions,
        tls: tls_files(&redis.tls, TlsKeys::REDIS),
        password: redis.password.as_ref().map(|secret| secret.expose().to_owned()),
        timeout: redis.timeout,
        // They wait again on the way out, where it saves more.
        gather: config.limits.gather / 2,
        connections: redis.connections,
        replicated: redis.durability == Durability::Replicated,
        lease: config.names.lease,
        log: log_bounds(config),
        members_per_room: config.limits.members_per_room,
        signal_queue: SIGNAL_QUEUE,
    })
}

fn log_bounds(config: &Config) -> LogBounds {
    LogBounds {
        length: config.history.length,
        // Some messages of the largest kind have to fit.
        bytes: config.history.bytes.max(32 * config.limits.content_bytes),
        age: config.history.age,
    }
}
