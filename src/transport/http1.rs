//! HTTP/1.1 of one connection: one call at a time, without streams.

use std::{convert::Infallible, pin::pin, sync::Arc};

use hyper::{server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    http1_socket::{Exchange, Http1Socket, Times},
    service::{RemoteOf, Service},
    socket::Socket,
};

/// The most bytes of a request's head, and about the most that is read at once.
const BUFFER: usize = 16 * 1024;

/// Serves a connection until it ends, or is asked to: then one without a call ends at once, and a call that is under
/// way is answered, unless the connection is cut.
pub(super) async fn serve<S: Service>(
    socket: Socket,
    remote: RemoteOf<S>,
    service: Arc<S>,
    times: Times,
    (drain, cut): (CancellationToken, CancellationToken),
) -> hyper::Result<()> {
    let (exchange, remote) = (Arc::new(Exchange::default()), Arc::new(remote));
    let socket = Http1Socket::new(socket, exchange.clone(), times, Instant::now());
    let calls = service_fn(|request| {
        exchange.begin();
        let answered = service.clone().answer_http1(request, remote.clone());
        let exchange = exchange.clone();
        async move {
            let (mut head, body) = answered.await.into_parts();
            let until_sent = std::mem::take(&mut head.extensions);
            let body = exchange.answer(body, until_sent);
            Ok::<_, Infallible>(http::Response::from_parts(head, body))
        }
    });
    let mut builder = Builder::new();
    // The socket has the timers, so that hyper needs none.
    builder.max_buf_size(BUFFER).header_read_timeout(None).half_close(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), calls));
    tokio::select! {
        biased;
        // First, so that an answer that is the last one says so.
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
        ended = connection.as_mut() => return ended,
    }
    tokio::select! {
        biased;
        ended = connection => ended,
        () = cut.cancelled() => Ok(()),
    }
}
