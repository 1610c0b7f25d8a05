//! Why Redis cannot be used, and whether time or only another configuration helps.

use deadpool_redis::PoolError;
use redis::RedisError;

use super::{
    RedisRefusal, address::is_unauthenticated, cluster::ClusterError, sentinel::SentinelError,
};

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
    /// Meanwhile another one was named.
    #[error("this Redis is not the master any more")]
    Demoted,
    /// No node of the cluster does what is needed.
    #[error("{0}")]
    NoNode(String),
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
    pub(super) fn error(&self) -> Option<&RedisError> {
        match self {
            Self::Pool(PoolError::Backend(error)) | Self::Redis(error) => Some(error),
            Self::Pool(_)
            | Self::NotMaster
            | Self::NoReplicationId
            | Self::NoSentinel(_)
            | Self::Demoted
            | Self::NoNode(_)
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

impl From<ClusterError> for ConnectError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Away(_) | ClusterError::NoOwner(_) => Self::NoNode(error.to_string()),
            ClusterError::Redis(error) => Self::Redis(error),
            ClusterError::Unfit(refusal) => Self::Unfit(refusal),
        }
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
