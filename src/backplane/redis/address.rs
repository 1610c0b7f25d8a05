//! Where servers are, and what connections to them are opened with.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, RedisError, TlsCertificates,
    io::tcp::{TcpSettings, socket2},
};
use roomcast_tls::Contents;

/// How long a connection may take to open, and a single answer to arrive. A Redis that is slower
/// is treated as gone; what was asked is asked again.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Where a Redis listens, by the name that Sentinels or a cluster give it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Endpoint {
    /// Where a connection of this kind leads. `None`: not to a port of a host.
    pub(super) fn of(addr: &ConnectionAddr) -> Option<Self> {
        match addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self { host: host.clone(), port: *port })
            }
            _ => None,
        }
    }

    /// Its address, over TLS if `like` is.
    pub(super) fn address(&self, like: &ConnectionAddr) -> ConnectionAddr {
        let (host, port) = (self.host.clone(), self.port);
        match like {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            ConnectionAddr::Tcp(..) | _ => ConnectionAddr::Tcp(host, port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

pub(super) fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}

/// Reads a `redis://` or `rediss://` URL.
pub(super) fn parse(url: &str) -> Result<ConnectionInfo, RedisError> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(10));
    Ok(url.into_connection_info()?.set_tcp_settings(tcp))
}

/// With these certificates, where it is for TLS.
pub(super) fn with_tls(
    info: ConnectionInfo,
    tls: Option<&Contents>,
) -> Result<ConnectionInfo, RedisError> {
    let Some(contents) = tls else { return Ok(info) };
    let client_tls = contents
        .pair
        .clone()
        .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let certificates = TlsCertificates { client_tls, root_cert: contents.ca.clone() };
    Ok(Client::build_with_tls(info, certificates)?.get_connection_info().clone())
}

/// Whether credentials are wrong or missing.
pub(super) fn is_unauthenticated(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}
