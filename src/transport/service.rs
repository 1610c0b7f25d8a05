//! What connections are for: a service that answers their requests.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use h2::SendStream;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    incoming::Incoming,
    peer::{Peer, Remote},
};
use crate::metrics::{Metrics, Refusal};

/// Answers the requests of all connections.
pub(crate) trait Service: fmt::Debug + Send + Sync + Sized + 'static {
    /// Counts a connection for as long as it is open.
    type Connected: fmt::Debug + Send + Sync + 'static;
    /// What the streams of a connection share.
    type Cycle: Cycle;
    /// Sends a response that goes on for as long as its client wants it.
    type Sender: Sender;
    /// The body of any other response.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send>
        + Send
        + Unpin
        + 'static;

    /// Whether a connection from there may say, before anything else, whom it is from.
    fn may_speak_for_others(&self, peer: IpAddr) -> bool;

    /// Counts one more connection of a peer. `None`, once that was noted, if there may be none.
    fn connect(&self, peer: SocketAddr) -> Option<Self::Connected>;

    /// Notes that a connection was refused, or ended, before a request could be.
    fn refused(&self, peer: SocketAddr, reason: Refusal, why: &dyn fmt::Display);

    /// What the streams of a new connection share. Cancelling `retire` asks the connection to end once they have.
    fn cycle(&self, retire: CancellationToken) -> Self::Cycle;

    /// Answers a request. A stream's response is sent by the future in which this is polled.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Arc<PeerOf<Self>>,
    ) -> impl Future<Output = Response<Answer<Self>>> + Send + 'static;

    /// Answers a request of a connection that speaks HTTP/1, on which there are no streams.
    fn answer_http1(
        self: Arc<Self>,
        request: Request<hyper::body::Incoming>,
        remote: Arc<RemoteOf<Self>>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

/// The other end of a connection that speaks HTTP/1, as a service knows it.
pub(crate) type RemoteOf<S> = Remote<<S as Service>::Connected>;

/// The other end of a connection that speaks HTTP/2, as a service knows it.
pub(crate) type PeerOf<S> = Peer<<S as Service>::Connected, <S as Service>::Cycle>;

/// The body of a response.
pub(crate) enum Answer<S: Service> {
    /// A stream, sent from this.
    Stream(<S::Sender as Sender>::Source),
    /// Any other.
    Other(S::Body),
}

/// Sends a stream, as often as it is woken. Dropped before it is ready, it resets the stream.
pub(crate) trait Sender: Send + Unpin + 'static {
    /// What it sends.
    type Source: Send + 'static;

    /// Of a response whose head was sent.
    fn new(source: Self::Source, stream: SendStream<Bytes>) -> Self;

    /// Looks at what [`Sender::poll`] is about to look at.
    fn touch(&self) -> u64;

    /// `Ready` when trailers were sent, or the stream was reset.
    fn poll(&mut self) -> Poll<()>;
}

/// Told of when a connection's task runs.
pub(crate) trait Cycle: Send + Sync + 'static {
    /// The task runs. Returns since when.
    fn begin(&self) -> Instant;

    /// Streams that were woken since are polled from here on.
    fn go_on(&self);

    /// What streams have handed over is written.
    fn end(&self, metrics: &Metrics);
}

#[cfg(test)]
pub(super) mod tests {
    use http_body_util::Full;

    use super::*;

    /// Nothing is a stream, and nobody is answered.
    #[derive(Debug)]
    pub(in crate::transport) struct Silent;

    impl Service for Silent {
        type Connected = ();
        type Cycle = ();
        type Sender = ();
        type Body = Full<Bytes>;

        fn may_speak_for_others(&self, _: IpAddr) -> bool {
            false
        }

        fn connect(&self, _: SocketAddr) -> Option<()> {
            None
        }

        fn refused(&self, _: SocketAddr, _: Refusal, _: &dyn fmt::Display) {}

        fn cycle(&self, _: CancellationToken) {}

        async fn answer(
            self: Arc<Self>,
            _: Request<Incoming>,
            _: Arc<PeerOf<Self>>,
        ) -> Response<Answer<Self>> {
            std::future::pending().await
        }

        async fn answer_http1(
            self: Arc<Self>,
            _: Request<hyper::body::Incoming>,
            _: Arc<RemoteOf<Self>>,
        ) -> Response<Full<Bytes>> {
            std::future::pending().await
        }
    }

    impl Cycle for () {
        fn begin(&self) -> Instant {
            Instant::now()
        }

        fn go_on(&self) {}

        fn end(&self, _: &Metrics) {}
    }

    impl Sender for () {
        type Source = ();

        fn new((): (), _: SendStream<Bytes>) {}

        fn touch(&self) -> u64 {
            0
        }

        fn poll(&mut self) -> Poll<()> {
            Poll::Ready(())
        }
    }
}
