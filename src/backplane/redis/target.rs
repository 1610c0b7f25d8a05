//! Where connections lead, and the certificates that they are opened with.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use deadpool_redis::{Manager, Pool, Runtime};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisError, TlsCertificates,
    io::tcp::{TcpSettings, socket2},
};
use roomcast_tls::{Contents, TlsError, TlsFiles};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tracing::warn;

use super::{RedisConfig, RedisConfigError};

/// How long a connection may take to open, and a single answer to arrive. A Redis that is slower
/// is treated as gone; what was asked is asked again.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long an unasked answer may take and be.
const GREETING_WITHIN: Duration = Duration::from_millis(500);
const GREETING: usize = 512;

/// Where connections lead, for as long as no certificate changes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) pool: Pool,
    pub(super) info: ConnectionInfo,
}

/// Makes targets of what the certificate files hold now.
#[derive(Debug)]
pub(super) struct Targets {
    info: ConnectionInfo,
    connections: usize,
    /// Where Redis speaks TLS.
    files: Option<TlsFiles>,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    target: Target,
    contents: Contents,
    /// Why the files are of no use now, if that was said.
    warned: Option<String>,
}

impl Targets {
    /// Fails on an address that cannot be one, and on certificates that cannot be used.
    pub(super) fn new(config: &RedisConfig, connections: usize) -> Result<Self, RedisConfigError> {
        let info = connection_info(config).map_err(RedisConfigError::Url)?;
        let files =
            matches!(info.addr(), ConnectionAddr::TcpTls { .. }).then(|| config.tls.clone());
        let contents = match &files {
            Some(files) => {
                // The `redis` crate takes the process's default; rustls would choose the same one.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let contents = read(files)?;
                // The crate reads these even where a file names others, and fails if it cannot.
                let roots = roomcast_tls::system_roots()?;
                if files.ca.is_none() && roots.is_empty() {
                    return Err(TlsError::NoSystemRoots("redis.tls.ca_file").into());
                }
                contents
            }
            None => Contents::default(),
        };
        let target = target(&info, files.is_some().then_some(&contents), connections)
            .map_err(RedisConfigError::Url)?;
        let latest = Mutex::new(Latest { target, contents, warned: None });
        Ok(Self { info, connections, files, latest })
    }

    /// What Redis says to whoever connects, before it is asked anything: nothing, unless it is about to hang
    /// up. Asked over plain text only.
    pub(super) async fn greeting(&self) -> Option<String> {
        let ConnectionAddr::Tcp(host, port) = self.info.addr() else { return None };
        let mut said = vec![0; GREETING];
        let listen = async {
            let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.read(&mut said).await
        };
        let read = timeout(GREETING_WITHIN, listen).await.ok()?.ok()?;
        let line = String::from_utf8_lossy(&said[..read]).lines().next()?.to_owned();
        line.strip_prefix('-').map(str::to_owned)
    }

    /// The user as which connections are opened.
    pub(super) fn user(&self) -> &str {
        self.info.redis_settings().username().unwrap_or("default")
    }

    pub(super) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// For a connection that is opened now. Files that cannot be used any more are said once, and
    /// what they held before counts.
    pub(super) async fn current(&self) -> Result<Target, RedisError> {
        let Some(files) = self.files.clone() else { return Ok(self.lock().target.clone()) };
        // A file on a network that hangs shall not hold up anything else.
        let found = tokio::task::spawn_blocking(move || read(&files)).await;
        let mut latest = self.lock();
        match found.map_err(io::Error::other)? {
            Ok(contents) => {
                latest.warned = None;
                if contents != latest.contents {
                    latest.target = target(&self.info, Some(&contents), self.connections)?;
                    latest.contents = contents;
                }
            }
            Err(error) => {
                let said = error.to_string();
                if latest.warned.as_ref() != Some(&said) {
                    warn!(%error, "the TLS files for redis cannot be used; the old ones are");
                    latest.warned = Some(said);
                }
            }
        }
        Ok(latest.target.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
    let contents = files.read()?;
    files.check(&contents, SystemTime::now())?;
    Ok(contents)
}

fn target(
    info: &ConnectionInfo,
    tls: Option<&Contents>,
    connections: usize,
) -> Result<Target, RedisError> {
    let mut info = info.clone();
    if let Some(contents) = tls {
        let client_tls = contents
            .pair
            .clone()
            .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let certificates = TlsCertificates { client_tls, root_cert: contents.ca.clone() };
        info = Client::build_with_tls(info, certificates)?.get_connection_info().clone();
    }
    let manager = Manager::new_with_config(info.clone(), connection_config())?;
    let pool = Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .build()
        .map_err(|error| RedisError::from(io::Error::other(error)))?;
    Ok(Target { pool, info })
}

pub(super) fn connection_config() -> AsyncConnectionConfig {
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
