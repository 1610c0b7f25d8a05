//! Where connections lead, and the certificates that they are opened with.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use deadpool_redis::{Manager, Pool, Runtime};
use futures_util::future::join_all;
use redis::{ConnectionAddr, ConnectionInfo, RedisError};
use roomcast_tls::{Contents, TlsError, TlsFiles};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    RedisConfig, RedisConfigError, Topology,
    address::{self, PATIENCE},
    sentinel::{Master, SentinelError, Sentinels},
};

/// How long an unasked answer may take and be.
const GREETING_WITHIN: Duration = Duration::from_millis(500);
const GREETING: usize = 512;

/// How long a Sentinel that does not answer is left alone.
const SENTINEL_AGAIN: Duration = Duration::from_secs(1);

/// Where connections lead, for as long as no certificate changes and the master is the same.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) pool: Pool,
    pub(super) info: ConnectionInfo,
    pub(super) tenure: Tenure,
}

/// For how long a Redis is the one that connections lead to.
#[derive(Clone, Debug)]
pub(super) struct Tenure(Option<(watch::Receiver<Option<Master>>, Master)>);

impl Tenure {
    /// Whether another one is now.
    pub(super) fn is_over(&self) -> bool {
        let Some((known, own)) = &self.0 else { return false };
        known.borrow().as_ref().is_some_and(|it| !it.is_at(own))
    }

    /// Resolves when another one is.
    pub(super) async fn over(&mut self) {
        if let Some((known, own)) = &mut self.0 {
            let other = |it: &Option<Master>| it.as_ref().is_some_and(|it| !it.is_at(own));
            if known.wait_for(other).await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Says when it is worth while to try again at once.
#[derive(Clone, Debug)]
pub(super) struct Changes(Option<watch::Receiver<Option<Master>>>);

impl Changes {
    /// Waits for so long, or until there is another master.
    pub(super) async fn or_after(&mut self, time: Duration) {
        let changed = async {
            if let Some(master) = &mut self.0
                && master.changed().await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        };
        let _ = timeout(time, changed).await;
    }
}

/// Makes targets of what the certificate files hold now, and of what Sentinels say.
#[derive(Debug)]
pub(super) struct Targets {
    /// Of the one Redis; or of the master, but for its address.
    info: ConnectionInfo,
    sentinels: Option<Sentinels>,
    connections: usize,
    /// Where Redis speaks TLS.
    files: Option<TlsFiles>,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    /// With what was in the files and who was the master when it was made.
    target: Option<(Target, Contents, Option<Master>)>,
    contents: Contents,
    /// Why the files are of no use now, if that was said.
    warned: Option<String>,
}

impl Targets {
    /// Fails on an address that cannot be one, and on certificates that cannot be used.
    pub(super) fn new(config: &RedisConfig, connections: usize) -> Result<Self, RedisConfigError> {
        let (info, sentinels) = place(config).map_err(RedisConfigError::Url)?;
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
        address::with_tls(info.clone(), files.is_some().then_some(&contents))
            .map_err(RedisConfigError::Url)?;
        let latest = Mutex::new(Latest { target: None, contents, warned: None });
        Ok(Self { info, sentinels, connections, files, latest })
    }

    /// What Redis says to whoever connects, before it is asked anything: nothing, unless it is about to hang
    /// up. Asked over plain text only.
    pub(super) async fn greeting(&self) -> Option<String> {
        let addr = match &self.lock().target {
            Some((target, ..)) => target.info.addr().clone(),
            None => self.info.addr().clone(),
        };
        let ConnectionAddr::Tcp(host, port) = addr else { return None };
        let mut said = vec![0; GREETING];
        let listen = async {
            let mut stream = TcpStream::connect((host.as_str(), port)).await?;
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

    /// Every change of the master from now on.
    pub(super) fn changes(&self) -> Changes {
        Changes(self.sentinels.as_ref().map(Sentinels::master))
    }

    /// Keeps up with the Sentinels for as long as it is polled; at once over where there are none.
    pub(super) async fn watch(&self) {
        let Some(sentinels) = &self.sentinels else { return };
        let follow = async |number| {
            loop {
                let tls = self.certificates().await;
                if let Err(error) = sentinels.listen(number, tls.as_ref()).await {
                    debug!(%error, "a Sentinel cannot be followed");
                }
                sleep(SENTINEL_AGAIN).await;
            }
        };
        join_all((0..sentinels.count()).map(follow)).await;
    }

    /// For a connection that is opened now.
    pub(super) async fn current(&self) -> Result<Target, SentinelError> {
        let tls = self.certificates().await;
        let master = match &self.sentinels {
            Some(sentinels) => Some(sentinels.resolve(tls.as_ref()).await?),
            None => None,
        };
        let contents = tls.clone().unwrap_or_default();
        let mut latest = self.lock();
        if let Some((target, of, by)) = &latest.target
            && (of, by) == (&contents, &master)
        {
            return Ok(target.clone());
        }
        let target = self.target(tls.as_ref(), master.clone())?;
        latest.target = Some((target.clone(), contents, master));
        Ok(target)
    }

    fn target(&self, tls: Option<&Contents>, master: Option<Master>) -> Result<Target, RedisError> {
        let mut info = self.info.clone();
        if let Some(master) = &master {
            let address = master.address(info.addr());
            info = info.set_addr(address);
        }
        let info = address::with_tls(info, tls)?;
        let manager = Manager::new_with_config(info.clone(), address::connection_config())?;
        let pool = Pool::builder(manager)
            .max_size(self.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| RedisError::from(io::Error::other(error)))?;
        let known = self.sentinels.as_ref().map(Sentinels::master);
        Ok(Target { pool, info, tenure: Tenure(known.zip(master)) })
    }

    /// What the files hold, where Redis speaks TLS. Files that cannot be used any more are said once, and what they
    /// held before counts.
    async fn certificates(&self) -> Option<Contents> {
        let files = self.files.clone()?;
        // A file on a network that hangs shall not hold up anything else.
        let found = tokio::task::spawn_blocking(move || read(&files)).await;
        let mut latest = self.lock();
        match found {
            Ok(Ok(contents)) => {
                latest.warned = None;
                latest.contents = contents;
            }
            Ok(Err(error)) => {
                let said = error.to_string();
                if latest.warned.as_ref() != Some(&said) {
                    warn!(%error, "the TLS files for redis cannot be used; the old ones are");
                    latest.warned = Some(said);
                }
            }
            // The runtime is going down.
            Err(_) => {}
        }
        Some(latest.contents.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What connections are opened with, and who says where to.
fn place(config: &RedisConfig) -> Result<(ConnectionInfo, Option<Sentinels>), RedisError> {
    let with_password = |info: ConnectionInfo, password: Option<&String>| match password {
        Some(password) => {
            let settings = info.redis_settings().clone().set_password(password);
            info.set_redis_settings(settings)
        }
        None => info,
    };
    let password = config.password.as_ref();
    match &config.topology {
        Topology::One(url) => Ok((with_password(address::parse(url)?, password), None)),
        Topology::Sentinels { servers, master, username, password: own } => {
            let servers: Vec<ConnectionInfo> =
                servers.iter().map(|url| address::parse(url)).collect::<Result<_, _>>()?;
            let first = servers.first().cloned().ok_or_else(|| io::Error::other("no Sentinel"))?;
            // The credentials and the database of the URL are the master's.
            let sentinel = |info: ConnectionInfo| {
                let mut settings = redis::RedisConnectionInfo::default();
                if let Some(username) = username {
                    settings = settings.set_username(username);
                }
                with_password(info.set_redis_settings(settings), own.as_ref())
            };
            let sentinels = servers.into_iter().map(sentinel).collect();
            let sentinels = Sentinels::new(master.clone(), sentinels);
            Ok((with_password(first, password), Some(sentinels)))
        }
    }
}

fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
    let contents = files.read()?;
    files.check(&contents, SystemTime::now())?;
    Ok(contents)
}
