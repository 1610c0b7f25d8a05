//! Opening connections to Redis, and trying what they will be needed for.

use std::sync::Arc;

use deadpool_redis::PoolError;
use redis::{Client, ProtocolVersion, RedisError, aio::MultiplexedConnection};

use super::{
    RedisConfig, RedisConfigError, RedisRefusal,
    address::{self, is_unauthenticated},
    keys::Keys,
    remedy::Remedy,
    rights::{self, Verdict},
    scripts::Scripts,
    sentinel::SentinelError,
    target::{Changes, Target, Targets, Tenure},
};
use crate::domain::ReplicaId;

/// The first version of Redis that will do.
const VERSION: u32 = 7;

/// Why Redis cannot be used right now.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The pool could not open a connection.
    #[error("{0}")]
    Pool(#[from] PoolError),
    /// A command failed.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// It is a replica and refuses writes.
    #[error("this Redis is a replica; roomcast needs the master")]
    NotMaster,
    /// It says nothing about replication.
    #[error("this Redis does not tell its replication id")]
    NoReplicationId,
    /// Sentinels do not say where it is.
    #[error("{0}")]
    NoSentinel(String),
    /// Meanwhile Sentinels named another one.
    #[error("this Redis is not the master any more")]
    Demoted,
    /// It hangs up on whoever comes, and says why.
    #[error("redis closes connections at once: {0}")]
    Closed(String),
    /// It lacks something, and time does not help.
    #[error("{0}")]
    Unfit(RedisRefusal),
}

impl ConnectError {
    /// Why only a change of configuration helps, if that is so: wrong or missing credentials,
    /// certificates that one side does not accept, or rights that are missing.
    pub(super) fn refusal(&self) -> Option<RedisRefusal> {
        let error = match self {
            Self::Unfit(refusal) => return Some(refusal.clone()),
            _ => self.error()?,
        };
        if is_unauthenticated(error) {
            return Some(RedisRefusal::Credentials(error.to_string()));
        }
        let fault = roomcast_tls::fault(error).filter(|fault| fault.lasting)?;
        Some(RedisRefusal::Tls(fault.words))
    }

    /// Whether the other side fell silent or hung up, as it does when one side speaks TLS and the
    /// other does not.
    pub(super) fn is_cut_short(&self) -> bool {
        match self {
            Self::Pool(PoolError::Timeout(_)) => true,
            _ => self.error().is_some_and(|it| it.is_timeout() || it.is_connection_dropped()),
        }
    }

    /// What Redis, or the way to it, said.
    fn error(&self) -> Option<&RedisError> {
        match self {
            Self::Pool(PoolError::Backend(error)) | Self::Redis(error) => Some(error),
            Self::Pool(_)
            | Self::NotMaster
            | Self::NoReplicationId
            | Self::NoSentinel(_)
            | Self::Demoted
            | Self::Closed(_)
            | Self::Unfit(_) => None,
        }
    }
}

impl From<SentinelError> for ConnectError {
    fn from(error: SentinelError) -> Self {
        match error {
            SentinelError::Away(_) => Self::NoSentinel(error.to_string()),
            SentinelError::Redis(error) => Self::Redis(error),
            SentinelError::Unfit(refusal) => Self::Unfit(refusal),
        }
    }
}

/// Opens connections for commands, by way of a pool, and for the subscriber, beside it.
#[derive(Debug)]
pub(super) struct Connector {
    targets: Targets,
    scripts: Arc<Scripts>,
    /// What every key begins with.
    prefix: String,
    replica: ReplicaId,
    /// Whether it will be asked to wait for a replica of Redis.
    replicated: bool,
}

/// An open connection for commands; it is held for as long as it works.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) connection: MultiplexedConnection,
    /// The replication id of the Redis at the other end, as far as is known.
    pub(super) replid: String,
    /// By what policy it drops keys when it is full, if it does.
    pub(super) evicts: Option<String>,
    /// Why nothing can be written for now, as the trial found.
    pub(super) refused: Option<String>,
    /// For how long it leads to the right Redis.
    pub(super) tenure: Tenure,
}

impl Connector {
    /// Nothing is opened yet. Fails on an address that cannot be one, and on certificates that
    /// cannot be used.
    pub(super) fn new(
        config: &RedisConfig,
        connections: usize,
        replica: ReplicaId,
    ) -> Result<Self, RedisConfigError> {
        let targets = Targets::new(config, connections)?;
        let keys = Keys::new(&config.prefix, targets.database(), config.partitions);
        let scripts = Arc::new(Scripts::new(keys, config.log, config.lease));
        let (prefix, replicated) = (config.prefix.clone(), config.replicated);
        Ok(Self { targets, scripts, prefix, replica, replicated })
    }

    /// The scripts that connections for commands know.
    pub(super) fn scripts(&self) -> &Arc<Scripts> {
        &self.scripts
    }

    /// Says when it is worth while to try again at once.
    pub(super) fn changes(&self) -> Changes {
        self.targets.changes()
    }

    /// Keeps up with where Redis is for as long as it is polled.
    pub(super) async fn watch(&self) {
        self.targets.watch().await;
    }

    /// Opens a connection that knows all scripts and may do what they do.
    pub(super) async fn commands(&self) -> Result<Commands, ConnectError> {
        self.open(|target| self.open_commands(target)).await
    }

    /// Opens something at where Redis is, for as long as it is there.
    async fn open<T, F>(&self, open: impl FnOnce(Target) -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        let opened = async {
            let target = self.targets.current().await?;
            let mut tenure = target.tenure.clone();
            tokio::select! {
                opened = open(target) => opened,
                () = tenure.over() => Err(ConnectError::Demoted),
            }
        };
        match opened.await {
            Ok(opened) => Ok(opened),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn open_commands(&self, target: Target) -> Result<Commands, ConnectError> {
        let Target { pool, tenure, .. } = target;
        let mut connection = deadpool_redis::Connection::take(pool.get().await?);
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let (replid, evicts) = look_at(&info)?;
        self.scripts.load(&mut connection).await?;
        let refused = self.try_out(&mut connection).await?;
        self.compare_partitions(&mut connection).await?;
        Ok(Commands { connection, replid, evicts, refused, tenure })
    }

    /// Tries all that will be needed. Returns why nothing can be written for now, if that is so.
    async fn try_out(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<String>, ConnectError> {
        if self.replicated {
            // For no replica and no time.
            let _: i64 = redis::cmd("WAIT").arg(0).arg(1).query_async(connection).await?;
        }
        let said: Vec<String> = match self.scripts.trial(self.replica).query_async(connection).await
        {
            Ok(said) => said,
            Err(error) if Remedy::of_error(&error) == Remedy::Wait => {
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        match rights::judge(&said) {
            Verdict::Good => Ok(None),
            Verdict::Refused(words) => Ok(Some(words)),
            Verdict::NotMaster => Err(ConnectError::NotMaster),
            Verdict::Missing(words) => Err(ConnectError::Unfit(self.refusal(words))),
        }
    }

    /// Replicas that spread rooms in different ways would not find each other.
    async fn compare_partitions(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), ConnectError> {
        let stored: usize = match self.scripts.partitions().query_async(connection).await {
            Ok(stored) => stored,
            // The trial has found the same.
            Err(error) if Remedy::of_error(&error) == Remedy::Wait => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let configured = self.scripts.keys.partitions();
        if stored == configured {
            return Ok(());
        }
        Err(ConnectError::Unfit(RedisRefusal::Partitions { stored, configured }))
    }

    /// Opens a connection for subscriptions, whose messages go to `on_push`.
    pub(super) async fn subscriber(
        &self,
        on_push: impl redis::aio::AsyncPushSender,
    ) -> Result<(MultiplexedConnection, Tenure), ConnectError> {
        self.open(|target| self.open_subscriber(target, on_push)).await
    }

    async fn open_subscriber(
        &self,
        target: Target,
        on_push: impl redis::aio::AsyncPushSender,
    ) -> Result<(MultiplexedConnection, Tenure), ConnectError> {
        let Target { info, tenure, .. } = target;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        let config = address::connection_config().set_push_sender(on_push);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let channel = self.scripts.keys.trial_channel(self.replica);
        connection.subscribe(&channel).await?;
        connection.unsubscribe(&channel).await?;
        Ok((connection, tenure))
    }

    /// Finds out more, and tells errors that need another configuration from those that time mends.
    async fn explain(&self, error: ConnectError) -> ConnectError {
        if error.error().is_some_and(RedisError::is_connection_dropped)
            && let Some(words) = self.targets.greeting().await
        {
            // "Protected mode": it has no password, and takes connections from its own machine only.
            return if words.starts_with("DENIED") {
                ConnectError::Unfit(RedisRefusal::Credentials(words))
            } else {
                ConnectError::Closed(words)
            };
        }
        let Some(said) = error.error().filter(|it| !is_unauthenticated(it)) else { return error };
        let words = said.to_string();
        let refusal = if words.contains("in cluster mode") {
            RedisRefusal::Cluster
        } else if words.contains("permissions") || Remedy::of_error(said) == Remedy::Configure {
            self.refusal(words)
        } else if words.contains("refused to switch database") {
            RedisRefusal::Database(words)
        } else {
            return error;
        };
        ConnectError::Unfit(refusal)
    }

    fn refusal(&self, words: String) -> RedisRefusal {
        rights::refusal(words, self.targets.user(), &self.prefix)
    }
}

/// Reads what Redis tells of itself, if it can be used: its replication id, and by what policy it drops keys,
/// if it does.
fn look_at(info: &str) -> Result<(String, Option<String>), ConnectError> {
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim)
    };
    if field("redis_mode") == Some("sentinel") {
        let words =
            "redis:// leads to a Sentinel; say redis+sentinel:// and the name of its master";
        return Err(ConnectError::Unfit(RedisRefusal::Sentinel(words.to_owned())));
    }
    if field("cluster_enabled") == Some("1") {
        return Err(ConnectError::Unfit(RedisRefusal::Cluster));
    }
    // One that does not say is given a try.
    if let Some(version) = field("redis_version")
        && let Some(Ok(major)) = version.split('.').next().map(str::parse::<u32>)
        && major < VERSION
    {
        return Err(ConnectError::Unfit(RedisRefusal::Version(version.to_owned())));
    }
    if field("role").is_some_and(|role| role != "master") {
        return Err(ConnectError::NotMaster);
    }
    let replid = field("master_replid").ok_or(ConnectError::NoReplicationId)?.to_owned();
    let policy = field("maxmemory_policy").filter(|policy| *policy != "noeviction");
    Ok((replid, policy.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_certificate_that_is_not_accepted_is_a_refusal() {
        let unknown = rustls::CertificateError::UnknownIssuer;
        let tls = io::Error::other(rustls::Error::InvalidCertificate(unknown));
        let error = ConnectError::Redis(RedisError::from(tls));
        let Some(RedisRefusal::Tls(words)) = error.refusal() else { panic!("{error:?}") };
        assert_eq!(words, "its certificate is not from a CA that is trusted here");
        let reset = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(ConnectError::Redis(reset).refusal().is_none());
    }

    #[test]
    fn what_redis_tells_of_itself_is_looked_at() {
        let info = |version: &str, cluster: u8, role: &str| {
            format!(
                "# Server\r\nredis_version:{version}\r\nrole:{role}\r\n\
                 master_replid:abc\r\ncluster_enabled:{cluster}\r\n"
            )
        };
        for version in ["7.0.0", "7.4.1", "8.2.0", "10.0.0", "unstable"] {
            assert_eq!(look_at(&info(version, 0, "master")).unwrap(), ("abc".to_owned(), None));
        }
        for (policy, evicts) in [("noeviction", None), ("allkeys-lru", Some("allkeys-lru"))] {
            let info = format!("{}maxmemory_policy:{policy}\r\n", info("7.0.0", 0, "master"));
            assert_eq!(look_at(&info).unwrap().1.as_deref(), evicts);
        }
        let old = look_at(&info("6.2.14", 0, "master")).unwrap_err();
        assert_eq!(old.refusal(), Some(RedisRefusal::Version("6.2.14".to_owned())));
        let cluster = look_at(&info("7.0.0", 1, "slave")).unwrap_err();
        assert_eq!(cluster.refusal(), Some(RedisRefusal::Cluster));
        let replica = look_at(&info("7.0.0", 0, "slave")).unwrap_err();
        assert!(matches!(replica, ConnectError::NotMaster) && replica.refusal().is_none());
        assert!(matches!(look_at("role:master"), Err(ConnectError::NoReplicationId)));
        let sentinel = look_at("redis_version:7.0.0\r\nredis_mode:sentinel\r\n").unwrap_err();
        assert!(matches!(sentinel.refusal(), Some(RedisRefusal::Sentinel(_))), "{sentinel}");
    }
}
