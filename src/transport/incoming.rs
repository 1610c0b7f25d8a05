//! The body of a request.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame};
use tokio::time::timeout;

use super::spawner::Spawner;

/// How long the rest of a body that nobody wants is read and dropped before its stream is reset. A
/// client that is still sending would report its own failed write instead of the status that it got.
const LINGER: Duration = Duration::from_secs(1);

/// How much of it is read; then the client's window stays closed.
const LINGER_BYTES: usize = 1024 * 1024;

/// A client that says nothing for so long is not in the middle of something.
const QUIET: Duration = Duration::from_millis(50);

/// What a client sends on a stream. Its window opens again as this is read. Dropped before its end, it
/// is read and dropped for a moment, in the connection's task, so that the stream's status arrives before
/// the stream is reset.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// `None` once it is given up.
    stream: Option<RecvStream>,
    spawner: Spawner,
    /// Something has come.
    begun: bool,
    /// Only trailers may come.
    data_is_over: bool,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, spawner: Spawner) -> Self {
        Self { stream: Some(stream), spawner, begun: false, data_is_over: false }
    }

    /// Waits until the client has said what it was about to say, a first message at least, and drops
    /// that; at most a second. Some clients report a write that fails because the stream has ended in
    /// place of the status with which it has ended, even where it was not reset: Python's `grpc.aio` does.
    pub(crate) async fn settle(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut rest = Rest::new(stream);
        let settled = async {
            let mut more = self.begun || poll_fn(|cx| rest.poll_data(cx)).await;
            while more {
                let next = timeout(QUIET, poll_fn(|cx| rest.poll_data(cx))).await;
                more = next.unwrap_or(false);
            }
        };
        let _ = timeout(LINGER, settled).await;
    }

    /// Reads and drops what still comes, until something else is done.
    pub(crate) async fn discard_until<T>(&mut self, done: impl Future<Output = T>) -> T {
        let mut done = pin!(done);
        let mut rest = self.stream.as_mut().map(Rest::new);
        poll_fn(|cx| {
            if rest.as_mut().is_some_and(|rest| rest.poll(cx).is_ready()) {
                rest = None;
            }
            done.as_mut().poll(cx)
        })
        .await
    }

    /// The next bytes, `None` when the client has sent all it wanted to. Its window opens again only when they
    /// are [released](Self::release).
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let data = ready!(stream.poll_data(cx));
        self.begun |= matches!(data, Some(Ok(_)));
        // A client that says so has sent all it wanted to.
        Poll::Ready(
            data.filter(|it| !matches!(it, Err(error) if error.reason() == Some(Reason::NO_ERROR))),
        )
    }

    /// Opens the client's window for so many bytes more.
    pub(crate) fn release(&mut self, bytes: usize) {
        // It fails when the stream is over, and then it does not matter.
        if let Some(stream) = &mut self.stream {
            let _ = stream.flow_control().release_capacity(bytes);
        }
    }

    /// Its client takes nothing, so that there is no status to wait for.
    pub(crate) fn give_up(&mut self) {
        self.stream = None;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take().filter(|stream| !stream.is_end_stream()) {
            self.spawner.spawn(async move {
                let mut rest = Rest::new(&mut stream);
                let _ = timeout(LINGER, poll_fn(|cx| rest.poll(cx))).await;
            });
        }
    }
}

/// The rest of a body that nobody wants.
struct Rest<'a> {
    stream: &'a mut RecvStream,
    /// How much more of it is read.
    left: usize,
}

impl<'a> Rest<'a> {
    fn new(stream: &'a mut RecvStream) -> Self {
        Self { stream, left: LINGER_BYTES }
    }

    /// `Ready` when the client has sent all, or reset the stream.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_data(cx)) {}
        Poll::Ready(())
    }

    /// Drops the next piece. False when there is none.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(Ok(data)) = ready!(self.stream.poll_data(cx)) else { return Poll::Ready(false) };
        if let Some(left) = self.left.checked_sub(data.len()) {
            self.left = left;
            let _ = self.stream.flow_control().release_capacity(data.len());
        }
        Poll::Ready(true)
    }
}

/// As everything else is read: its window opens again as this is read.
impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
        let next = if this.data_is_over {
            ready!(stream.poll_trailers(cx)).map(|it| it.map(Frame::trailers)).transpose()
        } else {
            match ready!(stream.poll_data(cx)) {
                None => {
                    this.data_is_over = true;
                    return Pin::new(this).poll_frame(cx);
                }
                Some(Ok(data)) => {
                    this.begun = true;
                    // It fails when the stream is over, and then it does not matter.
                    let _ = stream.flow_control().release_capacity(data.len());
                    Some(Ok(Frame::data(data)))
                }
                Some(Err(error)) => Some(Err(error)),
            }
        };
        // A client that says so has sent all it wanted to.
        Poll::Ready(
            next.filter(|it| !matches!(it, Err(error) if error.reason() == Some(Reason::NO_ERROR))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}
