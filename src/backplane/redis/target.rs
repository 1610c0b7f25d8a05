//! Where connections lead, and the certificates that they are opened with.

use std::{
    collections::HashMap,
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
    address::{self, Endpoint, PATIENCE},
    cluster::{self, Cluster},
    connect_error::ConnectError,
    location::{Changes, Location, Tenure},
    sentinel::Sentinels,
};

/// How long an unasked answer may take and be.
const GREETING_WITHIN: Duration = Duration::from_millis(500);
const GREETING: usize = 512;

/// How long a Sentinel that does not answer is left alone.
const SENTINEL_AGAIN: Duration = Duration::from_secs(1);

/// Where connections lead, for as long as no certificate changes and the data is there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) pool: Pool,
    pub(super) info: ConnectionInfo,
}

/// Who says where the data is.
#[derive(Debug)]
enum Guide {
    /// The URL.
    Url,
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// Makes targets of what the certificate files hold now, and of what Sentinels or the nodes of a cluster say.
#[derive(Debug)]
pub(super) struct Targets {
    /// Of the one Redis; or of any server, but for its address.
    info: ConnectionInfo,
    guide: Guide,
    connections: usize,
    /// Where Redis speaks TLS.
    files: Option<TlsFiles>,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    /// With what was in the files when they were made.
    targets: HashMap<Option<Endpoint>, (Target, Contents)>,
    /// The one that was asked for last.
    last: ConnectionAddr,
    contents: Contents,
    /// Why the files are of no use now, if that was said.
    warned: Option<String>,
}

impl Targets {
    /// Fails on an address that cannot be one, and on certificates that cannot be used.
    pub(super) fn new(config: &RedisConfig, connections: usize) -> Result<Self, RedisConfigError> {
        let (info, guide) = guide(config).map_err(RedisConfigError::Url)?;
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
        let (targets, last) = (HashMap::new(), info.addr().clone());
        let latest = Mutex::new(Latest { targets, last, contents, warned: None });
        Ok(Self { info, guide, connections, files, latest })
    }

    /// What Redis says to whoever connects, before it is asked anything: nothing, unless it is about to hang
    /// up. Asked over plain text only.
    pub(super) async fn greeting(&self) -> Option<String> {
        let addr = self.lock().last.clone();
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

    /// The cluster, if it is one.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        match &self.guide {
            Guide::Cluster(cluster) => Some(cluster),
            Guide::Url | Guide::Sentinels(_) => None,
        }
    }

    /// Where the data is, now and later, unless it cannot move.
    pub(super) fn location(&self) -> Option<watch::Receiver<Location>> {
        match &self.guide {
            Guide::Url => None,
            Guide::Sentinels(sentinels) => Some(sentinels.location()),
            Guide::Cluster(cluster) => Some(cluster.location()),
        }
    }

    /// Every change of where the data is from now on.
    pub(super) fn changes(&self) -> Changes {
        Changes::new(self.location())
    }

    /// Keeps up with where the data is for as long as it is polled; at once over where it cannot move.
    pub(super) async fn watch(&self) {
        let sentinels = match &self.guide {
            Guide::Url => return,
            Guide::Sentinels(sentinels) => sentinels,
            Guide::Cluster(cluster) => {
                let mut pause = Cluster::pause();
                loop {
                    let tls = self.certificates().await;
                    cluster.watch_once(tls.as_ref(), &mut pause).await;
                }
            }
        };
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

    /// Which server keeps a slot, if there are several, and for how long it does.
    pub(super) async fn keeper(
        &self,
        slot: u16,
    ) -> Result<(Option<Endpoint>, Tenure), ConnectError> {
        let tls = self.certificates().await;
        let endpoint = match &self.guide {
            Guide::Url => return Ok((None, Tenure::for_ever())),
            Guide::Sentinels(sentinels) => sentinels.resolve(tls.as_ref()).await?,
            Guide::Cluster(cluster) => cluster.owner(slot, tls.as_ref()).await?,
        };
        let known = self.location().map(|known| Tenure::of(known, slot, endpoint.clone()));
        Ok((Some(endpoint), known.unwrap_or_else(Tenure::for_ever)))
    }

    /// For a connection to a server that is opened now.
    pub(super) async fn target(&self, server: Option<&Endpoint>) -> Result<Target, RedisError> {
        let tls = self.certificates().await;
        let contents = tls.clone().unwrap_or_default();
        let mut latest = self.lock();
        let target = match latest.targets.get(&server.cloned()) {
            Some((target, of)) if *of == contents => target.clone(),
            Some(_) | None => self.new_target(tls.as_ref(), server)?,
        };
        if let Guide::Sentinels(_) = self.guide {
            latest.targets.clear();
        }
        if let Some(known) = self.cluster().map(Cluster::location) {
            let known = known.borrow();
            latest.targets.retain(|server, _| {
                server.as_ref().is_some_and(|server| known.is_anywhere(server))
            });
        }
        latest.last = target.info.addr().clone();
        latest.targets.insert(server.cloned(), (target.clone(), contents));
        Ok(target)
    }

    fn new_target(
        &self,
        tls: Option<&Contents>,
        server: Option<&Endpoint>,
    ) -> Result<Target, RedisError> {
        let info = match server {
            Some(server) => cluster::at(&self.info, server),
            None => self.info.clone(),
        };
        let info = address::with_tls(info, tls)?;
        let manager = Manager::new_with_config(info.clone(), address::connection_config())?;
        let pool = Pool::builder(manager)
            .max_size(self.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| RedisError::from(io::Error::other(error)))?;
        Ok(Target { pool, info })
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
fn guide(config: &RedisConfig) -> Result<(ConnectionInfo, Guide), RedisError> {
    let with_password = |info: ConnectionInfo, password: Option<&String>| match password {
        Some(password) => {
            let settings = info.redis_settings().clone().set_password(password);
            info.set_redis_settings(settings)
        }
        None => info,
    };
    let password = config.password.as_ref();
    match &config.topology {
        Topology::One(url) => Ok((with_password(address::parse(url)?, password), Guide::Url)),
        Topology::Cluster(nodes) => {
            let node = |url: &String| Ok(with_password(address::parse(url)?, password));
            let nodes: Vec<_> = nodes.iter().map(node).collect::<Result<_, RedisError>>()?;
            let first = nodes.first().cloned().ok_or_else(|| io::Error::other("no node"))?;
            Ok((first, Guide::Cluster(Cluster::new(nodes))))
        }
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
            Ok((with_password(first, password), Guide::Sentinels(sentinels)))
        }
    }
}

fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
    let contents = files.read()?;
    files.check(&contents, SystemTime::now())?;
    Ok(contents)
}
