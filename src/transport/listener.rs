//! The accept loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use super::{
    connection::{self, ConnectionConfig, ConnectionError, End},
    inbound::LargeHeads,
    proxy_protocol::{self, ProxyError},
    service::Service,
};
use crate::{
    metrics::{InGauge, Metrics, Refusal},
    tls::Certificates,
};

/// Log lines keep this target, whatever the module is called.
const TARGET: &str = "roomcast::grpc::listener";

/// How long to wait when the system has no resources for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long connections may take to end after their streams have.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the listener needs to know.
#[derive(Clone, Copy, Debug)]
pub struct ListenerConfig {
    /// The most connections.
    pub connections: usize,
    /// The most streams of one connection.
    pub streams_per_connection: usize,
    /// A balancer in front tells with each connection, by the PROXY protocol, whom it is from.
    pub proxy_protocol: bool,
    /// How long a new connection may take to begin to speak HTTP/2, by way of TLS if there is any, and the
    /// head of a request to arrive.
    pub handshake_timeout: Duration,
    /// How long a connection may have no stream.
    pub idle_timeout: Duration,
}

/// Accepts connections and serves each in a task of its own.
#[derive(Debug)]
pub struct Listener<S> {
    config: ListenerConfig,
    tls: Option<Arc<Certificates>>,
    service: Arc<S>,
    /// The large heads of requests that are coming in on all connections.
    large_heads: LargeHeads,
    metrics: Metrics,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    end: End,
}

#[expect(private_bounds, reason = "who listens for what is the crate's own affair")]
impl<S: Service> Listener<S> {
    /// A listener for this service. Where there are certificates it speaks TLS and nothing else.
    pub fn new(
        config: ListenerConfig,
        tls: Option<Arc<Certificates>>,
        service: Arc<S>,
        metrics: Metrics,
    ) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(config.connections)),
            config,
            tls,
            service,
            large_heads: LargeHeads::default(),
            metrics,
            connections: TaskTracker::new(),
            end: End { drain: CancellationToken::new(), cut: CancellationToken::new() },
        }
    }

    /// Accepts until the future is dropped.
    pub async fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => self.take(socket, peer),
                Err(error) if is_of_one_connection(&error) => {
                    debug!(target: TARGET, %error, "accept failed");
                }
                Err(error) => {
                    error!(target: TARGET, %error, "cannot accept connections; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, mut socket: TcpStream, peer: SocketAddr) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.metrics.refusals.of(Refusal::Connections).inc();
            warn!(target: TARGET, %peer, max = self.config.connections, "too many connections (limits.connections)");
            self.service.refused(peer, Refusal::Connections, &"too many connections");
            return;
        };
        // Behind a balancer it is known only once that has told whom it speaks for.
        let connected = if self.config.proxy_protocol {
            None
        } else {
            let Some(connected) = self.service.connect(peer) else { return };
            Some(connected)
        };
        if let Err(error) = socket.set_nodelay(true) {
            debug!(target: TARGET, %peer, %error, "the connection is gone already");
            return;
        }
        let config = ConnectionConfig {
            handshake_timeout: self.config.handshake_timeout,
            idle_timeout: self.config.idle_timeout,
            streams: u32::try_from(self.config.streams_per_connection).unwrap_or(u32::MAX),
        };
        let (service, metrics) = (self.service.clone(), self.metrics.clone());
        let large_heads = self.large_heads.clone();
        let end = self.end.clone();
        let tls = self.tls.as_ref().map(|certificates| certificates.acceptor());
        self.connections.spawn(async move {
            let _slot = slot;
            let _counted = InGauge::new(&metrics.connections);
            let (peer, connected) = match connected {
                Some(connected) => (peer, connected),
                None => {
                    let deadline = Instant::now() + config.handshake_timeout;
                    let read = client(&mut socket, peer, &*service, &metrics, deadline);
                    let client = end.drain.run_until_cancelled(read).await.flatten();
                    let Some(peer) = client else { return };
                    let Some(connected) = service.connect(peer) else { return };
                    (peer, connected)
                }
            };
            let (from, served) = ((peer, connected), service.clone());
            let how = (config, large_heads);
            let ended = connection::serve(socket, tls, from, served, how, &metrics, end).await;
            // A broken connection is its clients' affair; each of its streams tells of itself.
            match ended {
                Err(ConnectionError::Tls(error)) => {
                    metrics.refusals.of(Refusal::TlsHandshake).inc();
                    service.refused(peer, Refusal::TlsHandshake, &error);
                }
                Err(error @ ConnectionError::Flood) => {
                    metrics.refusals.of(Refusal::Flood).inc();
                    service.refused(peer, Refusal::Flood, &error);
                }
                Err(error) => debug!(target: TARGET, %peer, %error, "connection ended"),
                Ok(()) => debug!(target: TARGET, %peer, "connection ended"),
            }
        });
    }

    /// Asks all connections to end, and cuts those that do not in time.
    pub async fn close(&self) {
        self.end.drain.cancel();
        self.connections.close();
        if timeout(FAREWELL, self.connections.wait()).await.is_err() {
            self.end.cut.cancel();
            self.connections.wait().await;
        }
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.connections.len()
    }
}

/// Whom a balancer speaks for; itself where it says so. Nothing when nobody knows.
async fn client(
    socket: &mut TcpStream,
    peer: SocketAddr,
    service: &impl Service,
    metrics: &Metrics,
    deadline: Instant,
) -> Option<SocketAddr> {
    let read = if service.may_speak_for_others(peer.ip()) {
        proxy_protocol::read(socket, deadline).await
    } else {
        Err(ProxyError::Stranger)
    };
    match read {
        Ok(client) => Some(client.unwrap_or(peer)),
        Err(ProxyError::Silent) => None,
        Err(error) => {
            metrics.refusals.of(Refusal::ProxyHeader).inc();
            service.refused(peer, Refusal::ProxyHeader, &error);
            None
        }
    }
}

/// Whether a failed accept concerns only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
