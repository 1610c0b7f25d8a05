//! The way out of one stream: a response body that takes from the room's window.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::{Code, Status};

use super::{
    status::{Outcome, status},
    tasks::JobKey,
};
use crate::{
    domain::TraceParent,
    hub::{Encoder, Reader},
    metrics::Metrics,
    room::Fallen,
    session::Ending,
};

/// About how much is handed to HTTP/2 at a time. It waits there until the client takes it,
/// so this bounds what a slow reader costs.
const CHUNK: usize = 32 * 1024;

/// How many answers wait for a client; then it is not read.
const ANSWERS: usize = 128;

/// One stream's way out, shared by its session and its response body.
#[derive(Debug)]
pub(super) struct Outlet {
    state: Mutex<State>,
    /// What is for this stream alone; it goes before what is for all.
    answers: Mutex<Answering>,
    /// How many chunks were taken.
    taken: AtomicU64,
    /// Wakes the session when answers were taken.
    pushable: AtomicWaker,
    /// Wakes the body: the room does, and the session.
    reader: Arc<AtomicWaker>,
    /// The body said its last word, or is gone.
    finished: AtomicBool,
    session: AtomicWaker,
    /// The future that sends the body.
    job: OnceLock<JobKey>,
}

#[derive(Debug, Default)]
struct Answering {
    bytes: BytesMut,
    count: usize,
}

#[derive(Debug)]
enum State {
    /// Nobody is registered yet.
    Waiting,
    /// A member takes what there is.
    Open {
        reader: Arc<Reader>,
        encoder: &'static dyn Encoder,
    },
    /// The member takes what there was when its stream ended, then the status.
    Ending {
        reader: Arc<Reader>,
        encoder: &'static dyn Encoder,
        until: u64,
        status: Status,
    },
    /// Only the status is left.
    Last(Status),
    Over,
}

impl Outlet {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Waiting),
            answers: Mutex::default(),
            taken: AtomicU64::new(0),
            pushable: AtomicWaker::new(),
            reader: Arc::default(),
            finished: AtomicBool::new(false),
            session: AtomicWaker::new(),
            job: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What wakes the body.
    pub(super) fn reader(&self) -> Arc<AtomicWaker> {
        self.reader.clone()
    }

    fn answers(&self) -> MutexGuard<'_, Answering> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame to this stream alone. Whoever sends many waits for [`Outlet::poll_pushable`].
    pub(super) fn push(&self, frame: &[u8]) {
        let mut answers = self.answers();
        answers.bytes.extend_from_slice(frame);
        answers.count += 1;
        drop(answers);
        self.reader.wake();
    }

    /// Ready while few frames wait that were pushed.
    pub(super) fn poll_pushable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pushable.register(cx.waker());
        if self.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Whether many frames wait that were pushed.
    pub(super) fn is_full(&self) -> bool {
        self.answers().count >= ANSWERS
    }

    /// How many chunks the client's side has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether something waits for the client.
    pub(super) fn has_more(&self) -> bool {
        if self.answers().count > 0 {
            return true;
        }
        match &*self.lock() {
            State::Open { reader, .. } | State::Ending { reader, .. } => reader.member().has_more(),
            State::Waiting | State::Last(_) | State::Over => false,
        }
    }

    /// Takes what was pushed.
    fn take_answers(&self) -> Option<Bytes> {
        let mut answers = self.answers();
        let waiting = std::mem::take(&mut *answers);
        drop(answers);
        if waiting.count == 0 {
            return None;
        }
        self.pushable.wake();
        Some(waiting.bytes.freeze())
    }

    /// Somebody is registered.
    pub(super) fn open(&self, reader: Arc<Reader>, encoder: &'static dyn Encoder) {
        *self.lock() = State::Open { reader, encoder };
        self.reader.wake();
    }

    /// Ends the stream; with `rest`, after what there is for it until now.
    pub(super) fn end(&self, status: Status, rest: bool) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Open { reader, encoder } if rest => {
                let until = reader.member().head();
                State::Ending { reader, encoder, until, status }
            }
            _ => State::Last(status),
        };
        drop(state);
        self.reader.wake();
    }

    /// Waits until the body said its last word, or is gone.
    pub(super) async fn finished(&self) {
        std::future::poll_fn(|cx| {
            self.session.register(cx.waker());
            if self.finished.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The future that sends the body, once it has begun to.
    pub(super) fn job(&self) -> Option<JobKey> {
        self.job.get().copied()
    }

    fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.session.wake();
    }

    /// The next thing to send.
    fn next(&self, metrics: &Metrics) -> Poll<Option<Frame<Bytes>>> {
        let mut state = self.lock();
        if let (Some(answers), false) = (self.take_answers(), matches!(*state, State::Over)) {
            return Poll::Ready(Some(Frame::data(answers)));
        }
        loop {
            let (reader, encoder, until) = match &*state {
                State::Waiting => return Poll::Pending,
                State::Open { reader, encoder } => (reader, *encoder, u64::MAX),
                State::Ending { reader, encoder, until, .. } => (reader, *encoder, *until),
                State::Last(status) => {
                    let trailers = trailers(status);
                    *state = State::Over;
                    return Poll::Ready(Some(Frame::trailers(trailers)));
                }
                State::Over => return Poll::Ready(None),
            };
            match reader.member().take(encoder, until, CHUNK) {
                Ok(chunk) if chunk.events > 0 => {
                    metrics.events_out.inc_by(chunk.events as u64);
                    if let Some((accepted, trace)) = &chunk.oldest {
                        let trace = trace.as_ref().filter(|it| it.is_sampled());
                        let trace = trace.map(TraceParent::trace_id);
                        metrics.observe_delivery(*accepted, trace);
                    }
                    return Poll::Ready(Some(Frame::data(chunk.bytes)));
                }
                Ok(_) => {}
                Err(Fallen) => {
                    // The session ends a reader that fell behind; one that ends already is told.
                    if let State::Ending { status, .. } = &mut *state
                        && status.code() == Code::Ok
                    {
                        *status = too_slow();
                    }
                }
            }
            *state = match std::mem::replace(&mut *state, State::Over) {
                State::Ending { status, .. } => State::Last(status),
                open => {
                    *state = open;
                    return Poll::Pending;
                }
            };
        }
    }
}

fn too_slow() -> Status {
    status(&Outcome::Ended(Ending::TooSlow))
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        // A message that no header can carry: the code alone.
        trailers.clear();
        let _ = Status::new(status.code(), "").add_header(&mut trailers);
    }
    trailers
}

/// The response body.
#[derive(Debug)]
pub(super) struct OutletBody {
    outlet: Arc<Outlet>,
    metrics: Metrics,
}

impl OutletBody {
    pub(super) fn new(outlet: Arc<Outlet>, metrics: Metrics) -> Self {
        Self { outlet, metrics }
    }
}

impl Body for OutletBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.outlet.job.get_or_init(JobKey::current);
        self.outlet.reader.register(cx.waker());
        let next = self.outlet.next(&self.metrics);
        if matches!(&next, Poll::Ready(Some(_))) {
            self.outlet.taken.fetch_add(1, Ordering::Relaxed);
        }
        if let Poll::Ready(last) = &next
            && last.as_ref().is_none_or(Frame::is_trailers)
        {
            self.outlet.finish();
        }
        next.map(|frame| frame.map(Ok))
    }
}

impl Drop for OutletBody {
    fn drop(&mut self) {
        self.outlet.finish();
    }
}
