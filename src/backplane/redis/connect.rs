//! Opening connections to Redis.

use deadpool_redis::PoolError;
use redis::{
    Client, ErrorKind, ProtocolVersion, RedisError, ServerErrorKind, aio::MultiplexedConnection,
};

use super::{
    RedisConfig, RedisConfigError, RedisRefusal,
    scripts::Scripts,
    target::{Targets, connection_config},
};
use crate::tls;

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
    /// Why only a change of configuration helps, if that is so: wrong or missing credentials, or
    /// certificates that one side does not accept.
    pub(super) fn refusal(&self) -> Option<RedisRefusal> {
        let error = match self {
            Self::Pool(PoolError::Backend(error)) | Self::Redis(error) => error,
            Self::Pool(_) | Self::NotMaster | Self::NoReplicationId => return None,
        };
        if refuses(error) {
            return Some(RedisRefusal::Credentials(error.to_string()));
        }
        let fault = tls::fault(error).filter(|fault| fault.lasting)?;
        Some(RedisRefusal::Tls(fault.words))
    }
}

impl ConnectError {
    /// Whether the other side fell silent or hung up, as it does when one side speaks TLS and the
    /// other does not.
    pub(super) fn is_cut_short(&self) -> bool {
        match self {
            Self::Pool(PoolError::Timeout(_)) => true,
            Self::Pool(PoolError::Backend(error)) | Self::Redis(error) => {
                error.is_timeout() || error.is_connection_dropped()
            }
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
    targets: Targets,
}

/// An open connection for commands; it is held for as long as it works.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) connection: MultiplexedConnection,
    /// The replication id of the Redis at the other end, as far as is known.
    pub(super) replid: String,
    /// By what policy it drops keys when it is full, if it does.
    pub(super) evicts: Option<String>,
}

impl Connector {
    /// Nothing is opened yet. Fails on an address that cannot be one, and on certificates that
    /// cannot be used.
    pub(super) fn new(config: &RedisConfig, connections: usize) -> Result<Self, RedisConfigError> {
        Ok(Self { targets: Targets::new(config, connections)? })
    }

    /// The number of the database that connections lead to.
    pub(super) fn database(&self) -> i64 {
        self.targets.database()
    }

    /// Opens a connection that knows all scripts.
    pub(super) async fn commands(&self) -> Result<Commands, ConnectError> {
        let mut connection =
            deadpool_redis::Connection::take(self.targets.current().await?.pool.get().await?);
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .arg("memory")
            .query_async(&mut connection)
            .await?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        if field("role:").is_some_and(|role| role.trim() != "master") {
            return Err(ConnectError::NotMaster);
        }
        let replid =
            field("master_replid:").ok_or(ConnectError::NoReplicationId)?.trim().to_owned();
        let evicts = field("maxmemory_policy:").map(|policy| policy.trim().to_owned());
        Scripts::load().query_async::<()>(&mut connection).await?;
        Ok(Commands { connection, replid, evicts: evicts.filter(|policy| policy != "noeviction") })
    }

    /// Opens a connection for subscriptions, whose messages go to `on_push`.
    pub(super) async fn subscriber(
        &self,
        on_push: impl redis::aio::AsyncPushSender,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let info = self.targets.current().await?.info;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        let config = connection_config().set_push_sender(on_push);
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
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
}
