//! One connection, one task: its streams, HTTP/2, then one write.

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
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    admission::Connected,
    http2::Http2,
    services::Entrance,
    socket::{HandshakeError, Socket},
    tasks::{Spawner, Tasks},
    turn::Turn,
    wire::{Flusher, wire},
};
use crate::metrics::Metrics;

/// The bytes with which every HTTP/2 client begins.
const PREFACE: usize = 24;

/// How often the streams and the connection take turns before other tasks may run.
const ROUNDS: usize = 32;

/// How long they do at the longest: others wait meanwhile, one for each core.
const SLICE: Duration = Duration::from_micros(500);

/// How long after its time was up a greeting may still come: timers fire before sockets are read when
/// this process goes on after a pause.
const GRACE: Duration = Duration::from_millis(100);

/// How long a socket may take nothing of what waits to be sent. A client that only reads slowly takes
/// something now and then, and one that stalls a stream holds up that stream's window, not the socket.
const STALLED: Duration = Duration::from_secs(30);

/// Who is at the other end, and where a stream's session runs.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// Whom its certificate names, if it had to show one.
    pub(super) certificate: Option<Arc<str>>,
    pub(super) spawner: Spawner,
    pub(super) turn: Arc<Turn>,
    /// It is counted among those of its address.
    pub(super) connected: Arc<Connected>,
}

/// What a connection needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionConfig {
    /// How long TLS, if there is any, and the preface may take together.
    pub(super) handshake_timeout: Duration,
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
    #[error("it did not begin to speak HTTP/2 within {} ms", .0.as_millis())]
    Handshake(Duration),
    #[error("{0}")]
    Tls(#[from] HandshakeError),
    #[error("it took nothing for {} s", STALLED.as_secs())]
    Stalled,
    #[error("it sent nothing, and did not answer a ping")]
    Silent,
    #[error("{0}")]
    Http(#[from] h2::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves a connection until it ends, or the replica does.
pub(super) async fn serve(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    (addr, connected): (SocketAddr, Connected),
    entrance: Arc<Entrance>,
    config: ConnectionConfig,
    metrics: &Metrics,
    end: End,
) -> Result<(), ConnectionError> {
    let deadline = Instant::now() + config.handshake_timeout;
    let socket = match tls {
        None => Socket::Plain(socket),
        Some(tls) => {
            let accept = Box::pin(Socket::accept(socket, tls, deadline));
            let Some(accepted) = end.drain.run_until_cancelled(accept).await else { return Ok(()) };
            match accepted {
                Err(HandshakeError::Silent) => return Ok(()),
                accepted => accepted?,
            }
        }
    };
    let retire = end.drain.child_token();
    let (tasks, turn) = (Tasks::new(), Arc::new(Turn::new(retire.clone())));
    let (certificate, spawner) = (socket.peer_name(), tasks.spawner());
    let connected = Arc::new(connected);
    let peer = Arc::new(Peer { addr, certificate, spawner, turn: turn.clone(), connected });
    let (wire, flusher) = wire(socket);
    let http2 = Http2::new(wire, config.streams, entrance, peer);
    let (told, cut) = (pin!(retire.cancelled_owned()), Some(end.cut));
    let handshake = Some(pin!(sleep_until(deadline)));
    let stalled = pin!(sleep(STALLED));
    let late = false;
    Served { http2, tasks, turn, flusher, told, cut, handshake, late, stalled, config, metrics }
        .await
}

struct Served<'a> {
    http2: Http2,
    tasks: Tasks,
    turn: Arc<Turn>,
    flusher: Flusher<Socket>,
    /// What is said next: that the connection is to end, by the replica or because a stream of it is too old,
    /// and then that it is cut.
    told: Pin<&'a mut WaitForCancellationFutureOwned>,
    cut: Option<CancellationToken>,
    handshake: Option<Pin<&'a mut Sleep>>,
    /// Its time was up.
    late: bool,
    stalled: Pin<&'a mut Sleep>,
    config: ConnectionConfig,
    metrics: &'a Metrics,
}

impl Served<'_> {
    /// The connection and its streams, until nobody is ready. `Ready` when the connection is over.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let until = std::time::Instant::now() + SLICE;
        for _ in 0..ROUNDS {
            self.turn.go_on();
            let http2 = &mut self.http2;
            match self.tasks.poll_ready(until, |cx| http2.poll(cx)) {
                Some(Poll::Ready(ended)) => {
                    self.flusher.flush(cx)?;
                    return Poll::Ready(ended.map_err(Into::into));
                }
                Some(Poll::Pending) => {}
                // Everybody had their say: one write for all of it.
                None if self.flusher.flush(cx)? => self.tasks.wake_connection(),
                None => return Poll::Pending,
            }
            if std::time::Instant::now() >= until {
                break;
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

    /// Gives up a peer that does not begin, and not before all that has arrived was read.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        if self.flusher.received() >= PREFACE {
            self.handshake = None;
            return Ok(());
        }
        while handshake.as_mut().poll(cx).is_ready() {
            if std::mem::replace(&mut self.late, true) {
                return Err(ConnectionError::Handshake(self.config.handshake_timeout));
            }
            handshake.as_mut().reset(Instant::now() + GRACE);
        }
        Ok(())
    }

    /// Gives up a peer that says nothing, once all that has arrived was read.
    fn poll_alive(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        match self.http2.poll_alive(self.flusher.received(), cx) {
            Poll::Ready(()) => Err(ConnectionError::Silent),
            Poll::Pending => Ok(()),
        }
    }

    /// Gives up a socket that takes nothing, as that of a host that is gone without a word. The timer
    /// runs only while something waits to be sent.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        let Some(since) = self.flusher.stalled() else { return Ok(()) };
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

impl Future for Served<'_> {
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.tasks.begin(cx);
        this.turn.begin();
        if this.poll_told(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let ended = this.poll_all(cx);
        this.turn.end(this.metrics);
        let ended = ended?;
        this.poll_handshake(cx)?;
        this.poll_alive(cx)?;
        this.poll_stalled(cx)?;
        if ended.is_pending() && !this.tasks.end() {
            // Others shall have their turn first.
            cx.waker().wake_by_ref();
        }
        ended.map(Ok)
    }
}
