//! HTTP/2 of one connection: its handshake, then its requests, each answered by a future of the
//! connection's task.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason,
    server::{Builder, Connection, Handshake},
};
use tokio::time::Instant;

use super::{
    buffered_socket::BufferedSocket,
    executor::Answers,
    incoming::Incoming,
    keepalive::KeepAlive,
    pending_response::PendingResponse,
    service::{PeerOf, Service},
    socket::Socket,
};

/// What a stream may send before it is read. Chat messages are small.
const STREAM_WINDOW: u32 = 64 * 1024;

/// What all streams together may send before they are read. Also sets h2's budget for small
/// frames, half of this: were it not large, a few senders who are held up would have h2
/// end the whole connection, and a load balancer's carries hundreds of clients.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// What a stream may have waiting in HTTP/2 when it is asked whether it may send.
const SEND_BUFFER: usize = 48 * 1024;

/// How many streams may be reset before they were answered: more than fit into what is read in one turn,
/// after which they are forgotten. `inbound` knows floods by their rate.
const RESET_UNANSWERED: usize = 8192;

/// How long streams that the server has reset are remembered, as many as there may be at a time: what their clients
/// sent before they knew is dropped without a word. Trailers of one that is forgotten end the connection.
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// The most bytes of a request's headers that HTTP/2 reads: more end the connection, which a load balancer has its
/// clients share. So these are more than Envoy lets through by default, 60 KiB and what it adds, and the service
/// refuses what is more than a request needs.
const HEADER_LIST: u32 = 80 * 1024;

/// One connection's.
pub(super) struct Http2<S: Service> {
    state: State,
    /// It is to end once its streams have.
    draining: bool,
    keepalive: Option<KeepAlive>,
    service: Arc<S>,
    peer: Arc<PeerOf<S>>,
    answers: Answers<S>,
}

enum State {
    Handshaking(Handshake<BufferedSocket<Socket>, Bytes>),
    Serving(Connection<BufferedSocket<Socket>, Bytes>),
}

impl<S: Service> Http2<S> {
    /// Begins to speak with a client that may have so many streams at a time.
    pub(super) fn new(
        wire: BufferedSocket<Socket>,
        streams: u32,
        service: Arc<S>,
        peer: Arc<PeerOf<S>>,
        answers: Answers<S>,
    ) -> Self {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(streams)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .max_pending_accept_reset_streams(RESET_UNANSWERED)
            .max_concurrent_reset_streams(streams as usize)
            .reset_stream_duration(RESET_REMEMBERED_FOR)
            // It is a sum over the connection's life, and what comes late on a stream that has ended counts.
            .max_local_error_reset_streams(None)
            .handshake(wire);
        let state = State::Handshaking(handshake);
        Self { state, draining: false, keepalive: None, service, peer, answers }
    }

    /// Makes the connection move. `Ready` when it is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.state {
                State::Handshaking(handshake) => {
                    let mut connection = ready!(std::pin::Pin::new(handshake).poll(cx))?;
                    if self.draining {
                        connection.graceful_shutdown();
                    }
                    self.keepalive = connection.ping_pong().map(KeepAlive::new);
                    self.state = State::Serving(connection);
                }
                State::Serving(connection) => match ready!(connection.poll_accept(cx)) {
                    Some(asked) => {
                        let (request, mut respond) = asked?;
                        let mut nobody = Context::from_waker(Waker::noop());
                        if respond.poll_reset(&mut nobody).is_ready() {
                            // Nobody waits for an answer any more.
                            continue;
                        }
                        let spawner = self.peer.spawner.clone();
                        let request = request.map(|body| Incoming::new(body, spawner));
                        let answer = self.service.clone().answer(request, self.peer.clone());
                        self.answers.add(PendingResponse::new(answer, respond));
                    }
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    /// Looks after a peer from which so many bytes ever came in until now. `Ready` when it is gone.
    pub(super) fn poll_alive(
        &mut self,
        received: usize,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match &mut self.keepalive {
            Some(keepalive) => keepalive.poll(received, now, cx),
            None => Poll::Pending,
        }
    }

    /// Ends all at once, and says that it was too much.
    pub(super) fn calm_down(&mut self) {
        if let State::Serving(connection) = &mut self.state {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// Takes no more requests and ends once its streams have.
    pub(super) fn graceful_shutdown(&mut self) {
        self.draining = true;
        if let State::Serving(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }
}
