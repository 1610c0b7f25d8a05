//! One connection, one task: its streams, HTTP/2, then one write. What speaks HTTP/1.1 goes its own way.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    buffered_socket::{Flusher, Look, wire},
    executor::Executor,
    http1,
    http1_socket::Times,
    http2::Http2,
    inbound::{LargeHeads, PREFACE},
    patience::{GRACE, Overdue, Patience, Waited},
    peer::{Peer, Remote},
    service::{Cycle, Service},
    socket::{HandshakeError, Socket, Version},
};
use crate::metrics::Metrics;

/// How often the streams and the connection take turns before other tasks may run.
const ROUNDS: usize = 32;

/// How long they do at the longest: others wait meanwhile, one for each core.
const SLICE: Duration = Duration::from_micros(500);

/// How long a socket may take nothing of what waits to be sent. A client that only reads slowly takes
/// something now and then, and one that stalls a stream holds up that stream's window, not the socket.
const STALLED: Duration = Duration::from_secs(30);

/// What a connection needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionConfig {
    /// How long TLS, if there is any, and the preface may take together, and then the head of each request.
    pub(super) handshake_timeout: Duration,
    /// How long there may be no stream.
    pub(super) idle_timeout: Duration,
    /// The most streams at a time.
    pub(super) streams: u32,
}

/// How a connection comes to its end with the replica.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// It is asked to.
    pub(super) drain: CancellationToken,
    /// It is cut. Not before it was asked.
    pub(super) cut: CancellationToken,
}

/// Why a connection ended otherwise than by agreement.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("it did not begin to speak HTTP within {} ms", .0.as_millis())]
    Handshake(Duration),
    #[error("{0}")]
    Tls(#[from] HandshakeError),
    #[error("the head of a request did not arrive within {} ms", .0.as_millis())]
    Request(Duration),
    #[error("it had no stream, and did not end the connection when it was asked to")]
    Lingers,
    #[error(
        "it sent far more resets, pings, settings or the like than it can have had a reason for"
    )]
    Flood,
    #[error("it took nothing for {} s", STALLED.as_secs())]
    Stalled,
    #[error("it sent nothing, and did not answer a ping")]
    Silent,
    #[error("{0}")]
    Http(#[from] h2::Error),
    #[error("{0}")]
    Http1(#[from] hyper::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves a connection until it ends, or the replica does.
pub(super) async fn serve<S: Service>(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    (addr, connected): (SocketAddr, S::Connected),
    service: Arc<S>,
    (config, large_heads): (ConnectionConfig, LargeHeads),
    metrics: &Metrics,
    end: End,
) -> Result<(), ConnectionError> {
    let began = Instant::now();
    let deadline = began + config.handshake_timeout;
    let mut socket = match tls {
        None => Socket::plain(socket),
        Some(tls) => {
            let accept = Box::pin(Socket::accept(socket, tls, deadline));
            let Some(accepted) = end.drain.run_until_cancelled(accept).await else { return Ok(()) };
            match accepted {
                Err(HandshakeError::Silent) => return Ok(()),
                accepted => accepted?,
            }
        }
    };
    let spoken = Box::pin(spoken(&mut socket, deadline));
    let Some(spoken) = end.drain.run_until_cancelled(spoken).await else { return Ok(()) };
    let version = match spoken {
        None => return Err(ConnectionError::Handshake(config.handshake_timeout)),
        Some(spoken) => spoken?,
    };
    let remote = Remote { addr, certificate: socket.peer_name(), connected };
    match version {
        // As a probe of a load balancer does.
        None => return Ok(()),
        Some(Version::Http1) => {
            let times = Times { head: config.handshake_timeout, idle: config.idle_timeout };
            let end = (end.drain, end.cut);
            return Ok(Box::pin(http1::serve(socket, remote, service, times, end)).await?);
        }
        Some(Version::Http2) => {}
    }
    let retire = end.drain.child_token();
    let (tasks, cycle) = (Executor::new(), Arc::new(service.cycle(retire.clone())));
    let peer = Arc::new(Peer { remote, spawner: tasks.spawner(), cycle: cycle.clone() });
    let (wire, flusher) = wire(socket, large_heads);
    let http2 = Http2::new(wire, config.streams, service, peer, tasks.answers());
    let (told, cut) = (pin!(retire.cancelled_owned()), Some(end.cut));
    let timer = pin!(sleep_until(deadline));
    let (handshake, idle) = (config.handshake_timeout, config.idle_timeout);
    let patience = Patience::new(began, handshake, idle, timer);
    let stalled = pin!(sleep(STALLED));
    let flooded = false;
    Served { http2, tasks, cycle, flusher, told, cut, patience, stalled, flooded, config, metrics }
        .await
}

/// What a client speaks. `None` when it does not say so in time; what is in it is nothing when the client closes the
/// connection.
async fn spoken(socket: &mut Socket, deadline: Instant) -> Option<io::Result<Option<Version>>> {
    let mut version = pin!(socket.version());
    match timeout_at(deadline, &mut version).await {
        Ok(version) => Some(version),
        Err(_) => timeout(GRACE, version).await.ok(),
    }
}

struct Served<'a, S: Service> {
    http2: Http2<S>,
    tasks: Executor<S>,
    cycle: Arc<S::Cycle>,
    flusher: Flusher<Socket>,
    /// What is said next: that the connection is to end, by the replica or because a stream of it is too old,
    /// and then that it is cut.
    told: Pin<&'a mut WaitForCancellationFutureOwned>,
    cut: Option<CancellationToken>,
    patience: Patience<'a>,
    stalled: Pin<&'a mut Sleep>,
    /// It is told why it is to end.
    flooded: bool,
    config: ConnectionConfig,
    metrics: &'a Metrics,
}

impl<S: Service> Served<'_, S> {
    /// The connection and its streams, until nobody is ready. `Ready` when the connection is over.
    fn poll_all(
        &mut self,
        began: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        let until = began.into_std() + SLICE;
        for round in 0..ROUNDS {
            // Most turns have two rounds: in the second one nobody is ready, and all is written.
            if round > 1 && std::time::Instant::now() >= until {
                break;
            }
            self.cycle.go_on();
            let http2 = &mut self.http2;
            match self.tasks.poll_ready(until, |cx| http2.poll(cx)) {
                Some(Poll::Ready(ended)) => {
                    self.flusher.flush(cx)?;
                    return Poll::Ready(if self.flooded {
                        Err(ConnectionError::Flood)
                    } else {
                        ended.map_err(Into::into)
                    });
                }
                Some(Poll::Pending) => {}
                // Everybody had their say: one write for all of it.
                None if self.flusher.flush(cx)? => self.tasks.wake_connection(),
                None => return Poll::Pending,
            }
        }
        if self.flusher.flush(cx)? {
            self.tasks.wake_connection();
        }
        Poll::Pending
    }

    /// Asks the peer to end when the replica wants to. `Ready` when the connection is cut.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.told.as_mut().poll(cx));
        let Some(cut) = self.cut.take() else { return Poll::Ready(()) };
        self.told.set(cut.cancelled_owned());
        self.http2.graceful_shutdown();
        self.tasks.wake_connection();
        self.told.as_mut().poll(cx)
    }

    /// Ends a connection on which more comes in than there can be a reason for.
    fn look_for_flood(&mut self, look: &Look) {
        if look.flooded && !std::mem::replace(&mut self.flooded, true) {
            self.http2.calm_down();
            self.tasks.wake_connection();
        }
    }

    /// Gives up a peer that does not begin, or does not end a request's head, and asks one that has no
    /// stream to end. Not before all that has arrived was read.
    fn poll_patience(
        &mut self,
        look: &Look,
        began: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), ConnectionError> {
        let waited = if look.received < PREFACE {
            Waited::Preface
        } else if let Some(since) = look.request {
            Waited::Request(since)
        } else if self.tasks.is_empty() {
            Waited::Stream
        } else {
            Waited::Nothing
        };
        let Poll::Ready(overdue) = self.patience.poll(waited, began, cx) else {
            return Ok(());
        };
        let time = self.config.handshake_timeout;
        match overdue {
            Overdue::Preface => Err(ConnectionError::Handshake(time)),
            Overdue::Request => Err(ConnectionError::Request(time)),
            Overdue::Lingers => Err(ConnectionError::Lingers),
            Overdue::Idle => {
                self.http2.graceful_shutdown();
                self.tasks.wake_connection();
                // It sets its next timer.
                self.poll_patience(look, began, cx)
            }
        }
    }

    /// Gives up a peer that says nothing, once all that has arrived was read.
    fn poll_alive(
        &mut self,
        look: &Look,
        began: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), ConnectionError> {
        match self.http2.poll_alive(look.received, began, cx) {
            Poll::Ready(()) => Err(ConnectionError::Silent),
            Poll::Pending => Ok(()),
        }
    }

    /// Gives up a socket that takes nothing, as that of a host that is gone without a word. The timer
    /// runs only while something waits to be sent.
    fn poll_stalled(&mut self, look: &Look, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        let Some(since) = look.stalled else { return Ok(()) };
        let until = since + STALLED;
        if self.stalled.deadline() != until {
            self.stalled.as_mut().reset(until);
        }
        match self.stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Err(ConnectionError::Stalled),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: Service> Future for Served<'_, S> {
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.tasks.begin(cx);
        let began = this.cycle.begin();
        if this.poll_told(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let ended = this.poll_all(began, cx);
        this.cycle.end(this.metrics);
        let ended = ended?;
        let look = this.flusher.look();
        this.look_for_flood(&look);
        this.poll_patience(&look, began, cx)?;
        this.poll_alive(&look, began, cx)?;
        this.poll_stalled(&look, cx)?;
        if ended.is_pending() && !this.tasks.end() {
            // Others shall have their turn first.
            cx.waker().wake_by_ref();
        }
        ended.map(Ok)
    }
}
