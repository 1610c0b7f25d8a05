//! The composition root: binds, builds, serves, drains. The only place that names backplanes.

mod auth;
mod probes;
mod shared;
#[cfg(test)]
mod upkeep;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rand::random;
use roomcast_tls::{PemFile, TlsError, TlsFiles};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::{
    auth::Auth,
    probes::{Probes, follow_health},
    shared::Shared,
};
use crate::{
    admin,
    backplane::redis::{RedisConfigError, RedisRefusal},
    config::{Config, TlsConfig, TlsKeys},
    descriptors,
    domain::{ReplicaId, UsernameLimits},
    gateway::{
        AdminServiceConfig, ArrivalRates, Audit, Caps, ChatConfig, IntakeLimits, Router, Services,
        ServicesError, Terms, Users, V1Config,
    },
    hub::{Hub, HubConfig},
    lifecycle::Signals,
    memory,
    metrics::Metrics,
    room::Rate,
    session::SessionLimits,
    telemetry::{self, Telemetry},
    tls::Certificates,
    token::keyring::AuthError,
    trace::Sampler,
    transport::{Listener, ListenerConfig},
};

/// How long giving a name back may hold up the end of a stream.
const RELEASE: Duration = Duration::from_secs(2);

/// How long after `drain.deadline` the process ends even if nothing in it makes progress.
const LAST_RESORT: Duration = Duration::from_secs(3);

/// How many connections may wait to be accepted; the kernel allows no more than `net.core.somaxconn`,
/// which is the same by default. All clients of a replica that is gone come to the others at once.
const BACKLOG: u32 = 4096;

/// How long the last spans may hold up the end, and how long when it is to end at once.
const FAREWELL: Duration = Duration::from_secs(1);
const FORCED_FAREWELL: Duration = Duration::from_millis(100);

/// Why a replica does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that cannot be listened on.
    #[error("cannot listen on {key} = {addr}: {error}")]
    Bind {
        /// Which key of the configuration.
        key: &'static str,
        /// Its value.
        addr: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Nothing can be logged, or traced.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// The system gives no signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// Not what the listener could show to clients.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Not what tokens could be verified with.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Not an address of a Redis, or not certificates for it.
    #[error(transparent)]
    RedisConfig(#[from] RedisConfigError),
    /// Redis cannot be used with this configuration.
    #[error(transparent)]
    RedisRefuses(#[from] RedisRefusal),
    /// The descriptors cannot be served.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// A part that should run for ever ended.
    #[error("a part of the server ended unexpectedly; this is a bug, see the log")]
    Crashed,
}

/// How a replica ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// In order, or as far as that got within `drain.deadline`.
    Orderly,
    /// At once, by a second signal: the exit code that tells which.
    Forced(u8),
}

/// Runs a replica until it is told to stop.
pub async fn run(config: Config) -> Result<Ended, Error> {
    let (replica, metrics) = (ReplicaId::from_bytes(random()), Metrics::new());
    let (telemetry, sampler) = telemetry::init(&config.telemetry, replica, &metrics)?;
    let mut signals = Signals::listen().map_err(Error::Signals)?;
    let ended = serve(&config, replica, metrics, &telemetry, sampler, &mut signals).await;
    if let Ok(Ended::Forced(_)) = ended {
        telemetry.shutdown(FORCED_FAREWELL).await;
        return ended;
    }
    tokio::select! {
        code = signals.second() => Ok(Ended::Forced(code)),
        () = telemetry.shutdown(FAREWELL) => ended,
    }
}

async fn serve(
    config: &Config,
    replica: ReplicaId,
    metrics: Metrics,
    telemetry: &Telemetry,
    sampler: Sampler,
    signals: &mut Signals,
) -> Result<Ended, Error> {
    let certificates = certificates(config, &metrics)?;
    let auth = Auth::load(&config.auth, &config.api)?;
    let grpc = bind("server.addr", config.server.addr)?;
    let admin_port = bind("admin.addr", config.admin.addr)?;

    let shared = Shared::start(config, replica, metrics.clone())?;
    let hub_config = hub_config(config);
    let backplane = shared.backplane.clone();
    let hub = Hub::start(backplane, shared.signals, replica, hub_config, metrics.clone(), sampler);
    let audit = Audit::new(config.telemetry.audit_burst);
    let users = users(config, &auth);
    let terms = Terms {
        caps: caps(config),
        rates: arrivals(config),
        trusted: config.server.trusted_proxies.clone(),
        users: users.clone(),
    };
    let services = Services::new(
        hub.clone(),
        terms,
        audit.clone(),
        plain(config),
        rich(config),
        backends(config),
    )
    .await?;
    let (tls, router) = (certificates.clone(), services.router.clone());
    let listener = Listener::new(listener(config), tls, router, metrics.clone());

    let mut parts = Parts::default();
    parts.run(telemetry.tell_sums(parts.stop.clone()));
    parts.run(audit.tell_until(parts.stop.clone()));
    parts.run(memory::give_back(metrics.clone(), parts.stop.clone()));
    if let Some(certificates) = certificates {
        parts.run(certificates.watch(parts.stop.clone()));
    }
    parts.run(auth.clone().watch(metrics.clone(), parts.stop.clone()));
    if auth.asks() {
        parts.run(auth::follow_directives(hub.clone(), users, parts.stop.clone()));
    }
    let leaving = CancellationToken::new();
    let probes = Arc::new(Probes { hub: hub.clone(), auth, leaving });
    parts.run(admin::serve(admin_port, metrics, probes.clone(), parts.stop.clone()));
    let backplane = hub.backplane().name();
    auth::warn_of(config);
    info!(%replica, version = env!("CARGO_PKG_VERSION"), backplane, "started");

    let serve = async {
        tokio::join!(listener.accept(&grpc), follow_health(&hub, &services, &probes.auth));
    };
    tokio::select! {
        () = signals.first() => {}
        reason = shared.refusal => return Err(reason.into()),
        () = hub.crashed() => return Err(Error::Crashed),
        () = parts.crashed() => return Err(Error::Crashed),
        () = serve => return Err(Error::Crashed),
    }

    let time = config.drain.delay + config.drain.deadline;
    signals.end_after(time + LAST_RESORT);
    let leave = async {
        let leave = leave(config.drain.delay, &hub, &services, &listener, grpc, &probes);
        if timeout(time, leave).await.is_err() {
            let (members, names) = hub.remaining();
            warn!(members, names, connections = listener.open(), "drain.deadline has passed");
        }
        parts.end().await;
        info!("stopped");
    };
    tokio::select! {
        code = signals.second() => Ok(Ended::Forced(code)),
        () = leave => Ok(Ended::Orderly),
    }
}

/// What runs beside the listener until the very end.
#[derive(Debug, Default)]
struct Parts {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when one of them ends, on whatever path.
    ended: CancellationToken,
}

impl Parts {
    fn run(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone().drop_guard();
        self.tasks.spawn(async move {
            let _ended = ended;
            part.await;
        });
    }

    /// Resolves when one of them ended although nobody asked it to.
    async fn crashed(&self) {
        self.ended.cancelled().await;
    }

    /// Ends them, within a second.
    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = timeout(Duration::from_secs(1), self.tasks.wait()).await;
    }
}

/// Finds what would end [`run`] at once, in the files that the configuration names. Nothing is bound
/// and nobody is asked.
pub fn check(config: &Config) -> Result<(), Error> {
    certificates(config, &Metrics::new())?;
    Auth::load(&config.auth, &config.api)?;
    Ok(shared::check(config)?)
}

/// The way out: not ready, a while for load balancers to notice, streams and names, connections,
/// backplane.
async fn leave(
    delay: Duration,
    hub: &Arc<Hub>,
    services: &Services,
    listener: &Listener<Router>,
    grpc: TcpListener,
    probes: &Probes,
) {
    hub.metrics().draining.set(1);
    probes.leaving.cancel();
    services.set_serving(false).await;
    // New connections are still served: load balancers may not know yet.
    let _ = timeout(delay, listener.accept(&grpc)).await;
    info!(members = hub.remaining().0, "draining");
    hub.drain();
    // Whoever comes now is told to go elsewhere; and then finds nobody.
    tokio::select! {
        () = hub.drained() => {}
        () = listener.accept(&grpc) => {}
    }
    drop(grpc);
    listener.close().await;
    hub.stop().await;
    hub.backplane().close().await;
}

fn bind(key: &'static str, addr: SocketAddr) -> Result<TcpListener, Error> {
    let refuse = |error| Error::Bind { key, addr, error };
    let listener = listen(addr).map_err(refuse)?;
    let addr = listener.local_addr().map_err(refuse)?;
    let name = if key == "server.addr" { "grpc" } else { "admin" };
    info!(listener = name, %addr, "listening");
    Ok(listener)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the standard library does: connections of a process before it do not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn hub_config(config: &Config) -> HubConfig {
    let limits = &config.limits;
    HubConfig {
        lease: config.names.lease,
        window_events: limits.window_events,
        // Some messages of the largest kind have to fit.
        window_bytes: limits.window_bytes.max(32 * limits.content_bytes),
        unread_bytes: limits.unread_bytes,
        gather: limits.gather,
        rooms: limits.rooms,
        watchers: limits.watchers,
        watched_rooms: limits.watched_rooms,
        room_rate: rate(limits.room_interval, limits.room_burst),
        release_timeout: RELEASE,
        // A stream is given up; its session lingers, or its replica dies as well; it is reaped.
        held_at_most: config.server.idle_timeout + config.names.linger + 2 * config.names.lease,
    }
}

/// What the listener shows, if it speaks TLS.
fn certificates(config: &Config, metrics: &Metrics) -> Result<Option<Arc<Certificates>>, Error> {
    let TlsFiles { pair, ca } = tls_files(&config.server.tls, TlsKeys::SERVER);
    let Some((cert, key)) = pair else { return Ok(None) };
    Ok(Some(Arc::new(Certificates::load(cert, key, ca, metrics.clone())?)))
}

/// The files by the names that operators know.
fn tls_files(config: &TlsConfig, keys: TlsKeys) -> TlsFiles {
    let file = |name, path: &PathBuf| PemFile { name, path: path.clone() };
    TlsFiles {
        pair: config
            .pair
            .as_ref()
            .map(|(cert, key)| (file(keys.cert_file, cert), file(keys.key_file, key))),
        ca: config.ca_file.as_ref().map(|path| file(keys.ca_file, path)),
    }
}

fn users(config: &Config, auth: &Auth) -> Arc<Users> {
    let most = config.limits.streams_per_user;
    let rate = rate(config.limits.session_interval, config.limits.session_burst);
    Users::new(auth.authenticator.clone(), most, rate)
}

fn caps(config: &Config) -> Caps {
    let limits = &config.limits;
    Caps {
        streams: limits.streams,
        streams_per_peer: limits.streams_per_peer,
        connections_per_peer: limits.connections_per_peer,
        rooms_per_peer: limits.rooms_per_peer,
        room_members_per_peer: limits.room_members_per_peer,
        queries: rate(limits.query_interval, limits.query_burst),
        intake: IntakeLimits {
            replica: limits.input_bytes,
            peer: limits.input_bytes_per_peer,
            connection: limits.input_bytes_per_connection,
        },
    }
}

fn arrivals(config: &Config) -> ArrivalRates {
    let limits = &config.limits;
    ArrivalRates {
        short_sessions: rate(limits.short_session_interval, limits.short_session_burst),
        new_rooms: rate(limits.new_room_interval, limits.new_room_burst),
    }
}

fn plain(config: &Config) -> ChatConfig {
    let limits = &config.limits;
    ChatConfig {
        names: UsernameLimits { max_chars: limits.username_chars },
        session: SessionLimits {
            content_bytes: limits.content_bytes,
            inflight: limits.inflight,
            rate: rate(limits.session_interval, limits.session_burst),
            max_age: config.server.max_chat_stream_age,
        },
    }
}

fn rate(interval: Duration, burst: usize) -> Rate {
    Rate { interval, burst: u32::try_from(burst).unwrap_or(u32::MAX) }
}

fn rich(config: &Config) -> V1Config {
    let ChatConfig { names, session } = plain(config);
    let session = SessionLimits { max_age: config.server.max_stream_age, ..session };
    V1Config {
        names,
        session,
        page_size: config.limits.page_size,
        linger: config.names.linger,
        ping_interval: config.server.ping_interval,
        idle_timeout: config.server.idle_timeout,
        drain_spread: config.drain.deadline / 4,
    }
}

fn backends(config: &Config) -> AdminServiceConfig {
    let ChatConfig { names, session } = plain(config);
    let page_size = config.limits.page_size;
    AdminServiceConfig {
        names,
        content_bytes: session.content_bytes,
        page_size,
        ping_interval: config.server.ping_interval,
    }
}

fn listener(config: &Config) -> ListenerConfig {
    ListenerConfig {
        connections: connections(config),
        streams_per_connection: config.limits.streams_per_connection,
        proxy_protocol: config.server.proxy_protocol,
        handshake_timeout: config.server.handshake_timeout,
        idle_timeout: config.server.connection_idle_timeout,
    }
}

/// How many connections clients may have: what is configured, as far as this process may open files.
fn connections(config: &Config) -> usize {
    // An old connection to Redis may still be there while the new one opens.
    let redis = config.redis.url.as_ref().map_or(0, |_| 2 * (config.redis.connections + 4));
    let open_files = descriptors::raise();
    let fit = descriptors::for_clients(open_files, admin::CONNECTIONS + redis);
    let max = config.limits.connections;
    if fit < max {
        warn!(
            max,
            open_files,
            fit,
            "limits.connections does not fit the limit on open files (ulimit -n, LimitNOFILE)"
        );
    }
    max.min(fit)
}
