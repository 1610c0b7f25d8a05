//! The socket of a connection that speaks HTTP/1.1, which knows how long its client may take for what it has to do:
//! begin a request, finish its head, take the answer.
//!
//! A connection has one call at a time: [`Exchange`] is what its socket and its calls know of each other.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{patience::GRACE, pending_response::time_to_take};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For the head of a request, from its first byte.
    pub(super) head: Duration,
    /// From one call to the next.
    pub(super) idle: Duration,
}

/// The call of a connection, if it has one.
#[derive(Debug, Default)]
pub(super) struct Exchange(Mutex<Call>);

#[derive(Debug, Default)]
struct Call {
    is_under_way: bool,
    /// When its client has to have taken the answer.
    due: Option<Instant>,
    /// All of the answer was handed over.
    is_over: bool,
    /// The next request came before all of it was sent.
    is_followed: bool,
    /// What the call takes up until its answer is sent, such as its place among all calls.
    #[expect(dead_code, reason = "it is kept to be dropped")]
    until_sent: Extensions,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        let mut call = self.lock();
        call.is_followed = call.is_over;
        call.is_under_way = true;
    }

    /// Its answer is about to be sent.
    pub(super) fn answer<B: Body>(self: &Arc<Self>, body: B, until_sent: Extensions) -> Sent<B> {
        let bytes = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let due = Some(Instant::now() + time_to_take(bytes));
        let call = Call { is_under_way: true, due, until_sent, ..Call::default() };
        // What is left of an answer before it is no more than a buffer.
        let before = std::mem::replace(&mut *self.lock(), call);
        drop(before);
        Sent { body, exchange: self.clone() }
    }

    /// All that was handed over has left.
    fn sent(&self) {
        let mut call = self.lock();
        if call.is_over {
            let next = Call { is_under_way: call.is_followed, ..Call::default() };
            let ended = std::mem::replace(&mut *call, next);
            drop(call);
            // Others wait for what it has taken up.
            drop(ended);
        }
    }
}

/// The body of an answer; it is dropped when all of it was handed over.
#[derive(Debug)]
pub(super) struct Sent<B> {
    body: B,
    exchange: Arc<Exchange>,
}

impl<B> Drop for Sent<B> {
    fn drop(&mut self) {
        self.exchange.lock().is_over = true;
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Sent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket. Whoever lets its time pass finds it closed: between two calls as if it had closed it itself, else by
/// an error.
#[derive(Debug)]
pub(super) struct Http1Socket<IO> {
    io: IO,
    exchange: Arc<Exchange>,
    times: Times,
    /// What is waited for since then, while there is no call.
    waits: Waits,
    /// Moved only when it would fire too late; if it fires too early, it is set again.
    timer: Pin<Box<Sleep>>,
    /// What was due when the timer fired.
    late: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// There is a call.
    Nothing,
    /// The first byte of the next request.
    Request(Instant),
    /// The rest of its head.
    Head(Instant),
}

impl<IO> Http1Socket<IO> {
    /// One whose first request has begun.
    pub(super) fn new(io: IO, exchange: Arc<Exchange>, times: Times, began: Instant) -> Self {
        let timer = Box::pin(sleep(times.head));
        Self { io, exchange, times, waits: Waits::Head(began), timer, late: None }
    }

    /// `Ready` once it is later than that, and all that has arrived was read.
    fn poll_late(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() > due && self.late.is_none() {
            self.timer.as_mut().reset(due);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.late == Some(due) {
                return Poll::Ready(());
            }
            let passed = Instant::now();
            self.late = (passed >= due).then_some(due);
            self.timer.as_mut().reset(if passed < due { due } else { passed + GRACE });
        }
    }

    /// The client sends nothing. `Ready` when it should have.
    fn poll_waits(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.exchange.lock().is_under_way {
            self.waits = Waits::Nothing;
            return Poll::Pending;
        }
        match self.waits {
            Waits::Nothing => {
                let now = Instant::now();
                self.waits = Waits::Request(now);
                self.poll_late(now + self.times.idle, cx).map(Ok)
            }
            Waits::Request(since) => self.poll_late(since + self.times.idle, cx).map(Ok),
            Waits::Head(since) => {
                ready!(self.poll_late(since + self.times.head, cx));
                let late = io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the head of a request did not arrive in time",
                );
                Poll::Ready(Err(late))
            }
        }
    }

    /// The client takes nothing. `Ready` when it should have.
    fn poll_takes<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        // Nothing but answers is large.
        let due = self.exchange.lock().due;
        let due = due.unwrap_or_else(|| Instant::now() + time_to_take(0));
        ready!(self.poll_late(due, cx));
        let late = io::Error::new(io::ErrorKind::TimedOut, "the client took no answer in time");
        Poll::Ready(Err(late))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Http1Socket<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buf) else {
            return this.poll_waits(cx);
        };
        if !matches!(this.waits, Waits::Head(_)) && !this.exchange.lock().is_under_way {
            this.waits = Waits::Head(Instant::now());
        }
        Poll::Ready(read)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Http1Socket<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, buf) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => this.poll_takes(cx),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_flush(cx) {
            Poll::Ready(flushed) => {
                this.exchange.sent();
                Poll::Ready(flushed)
            }
            Poll::Pending => this.poll_takes(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_shutdown(cx) {
            Poll::Ready(shut) => Poll::Ready(shut),
            Poll::Pending => this.poll_takes(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const TIMES: Times = Times { head: Duration::from_secs(10), idle: Duration::from_secs(300) };
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// Serves a connection until it ends; each answer has so many bytes, and keeps this until it is sent.
    async fn serve(near: DuplexStream, bytes: usize, kept: Arc<()>) -> hyper::Result<()> {
        let exchange = Arc::new(Exchange::default());
        let socket = Http1Socket::new(near, exchange.clone(), TIMES, Instant::now());
        let calls = service_fn(|_: Request<Incoming>| {
            exchange.begin();
            let mut until_sent = Extensions::new();
            until_sent.insert(kept.clone());
            let body = exchange.answer(Full::new(Bytes::from(vec![b'x'; bytes])), until_sent);
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        Builder::new().serve_connection(TokioIo::new(socket), calls).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_taken_in_time_or_not_at_all() {
        let (near, mut far) = duplex(1024);
        let kept = Arc::new(());
        let began = Instant::now();
        let served = serve(near, 10 * 64 * 1024, kept.clone());
        let slow = async {
            far.write_all(REQUEST).await.unwrap();
            let mut some = [0; 1024];
            while far.read(&mut some).await.is_ok_and(|read| read > 0) {
                // Behind that comes what the connection had sent.
                let is_sent = Arc::strong_count(&kept) < 3;
                assert!(!is_sent || began.elapsed() >= Duration::from_secs(20));
                sleep(Duration::from_secs(1)).await;
            }
        };
        let (ended, ()) = tokio::join!(served, slow);
        assert!(ended.is_err());
        assert_eq!(Arc::strong_count(&kept), 1);
        assert!((20..23).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_answer_keeps_is_given_back_when_it_is_sent() {
        let (near, mut far) = duplex(1024);
        let kept = Arc::new(());
        let began = Instant::now();
        let served = serve(near, 5, kept.clone());
        let client = async {
            for _ in 0..3 {
                let mut answer = vec![];
                far.write_all(REQUEST).await.unwrap();
                while !answer.ends_with(b"xxxxx") {
                    far.read_buf(&mut answer).await.unwrap();
                }
                sleep(Duration::from_secs(200)).await;
                assert_eq!(Arc::strong_count(&kept), 2, "only the connection has it");
            }
            assert_eq!(far.read(&mut [0; 64]).await.unwrap(), 0, "it is closed");
        };
        let (ended, ()) = tokio::join!(served, client);
        assert!(ended.is_ok(), "{ended:?}");
        assert!((700..702).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_of_a_request_comes_in_time() {
        for before in [0, 1] {
            let (near, mut far) = duplex(1024);
            let served = serve(near, 5, Arc::default());
            let client = async {
                far.write_all(&REQUEST.repeat(before)).await.unwrap();
                sleep(Duration::from_secs(5)).await;
                let began = Instant::now();
                for byte in REQUEST.iter().take(20) {
                    if far.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    sleep(Duration::from_secs(1)).await;
                }
                began.elapsed().as_secs()
            };
            let (ended, took) = tokio::join!(served, client);
            assert!(ended.is_err());
            // The first one has the time since the connection began.
            assert!((5..13).contains(&took), "{took}");
        }
    }
}
