//! Opening connections to Redis.

use std::{io, time::Duration};

use deadpool_redis::{Manager, Pool, PoolError, Runtime};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2},
};

use super::{RedisConfig, scripts::Scripts};

/// How long a connection may take to open, and a single answer to arrive. A Redis that is slower
/// is treated as gone; what was asked is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

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
}

impl ConnectError {
    /// Whether only a change of configuration helps: wrong or missing credentials.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Pool(PoolError::Backend(error)) | Self::Redis(error) => refuses(error),
            Self::Pool(_) | Self::NotMaster | Self::NoReplicationId => false,
        }
    }
}

fn refuses(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
}

/// Opens connections for commands, by way of a pool, and for the subscriber, beside it.
#[derive(Debug)]
pub(super) struct Connector {
    pool: Pool,
    info: ConnectionInfo,
}

/// An open connection for commands; it is held for as long as it works.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) connection: MultiplexedConnection,
    /// The replication id of the Redis at the other end, as far as is known.
    pub(super) replid: String,
}

impl Connector {
    /// Nothing is opened yet. Fails on an address that cannot be one.
    pub(super) fn new(config: &RedisConfig, connections: usize) -> Result<Self, RedisError> {
        let info = connection_info(config)?;
        let manager = Manager::new_with_config(info.clone(), connection_config())?;
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| RedisError::from(io::Error::other(error)))?;
        Ok(Self { pool, info })
    }

    /// Opens a connection that knows all scripts.
    pub(super) async fn commands(&self) -> Result<Commands, ConnectError> {
        let mut connection = deadpool_redis::Connection::take(self.pool.get().await?);
        let info: String =
            redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        if field("role:").is_some_and(|role| role.trim() != "master") {
            return Err(ConnectError::NotMaster);
        }
        let replid =
            field("master_replid:").ok_or(ConnectError::NoReplicationId)?.trim().to_owned();
        Scripts::load().query_async::<()>(&mut connection).await?;
        Ok(Commands { connection, replid })
    }

    /// Opens a connection for subscriptions, whose messages go to `on_push`.
    pub(super) async fn subscriber(
        &self,
        on_push: impl redis::aio::AsyncPushSender,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let settings = self.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(self.info.clone().set_redis_settings(settings))?;
        let config = connection_config().set_push_sender(on_push);
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}

fn connection_info(config: &RedisConfig) -> Result<ConnectionInfo, RedisError> {
    let info = config.url.as_str().into_connection_info()?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(10));
    let mut settings = info.redis_settings().clone();
    if let Some(password) = &config.password {
        settings = settings.set_password(password);
    }
    Ok(info.set_tcp_settings(tcp).set_redis_settings(settings))
}
