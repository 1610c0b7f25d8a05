//! The way out of one stream: what its client is to get next, from the room's window and its session.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    flush_cycle::FlushCycle,
    status::{Outcome, status},
};
use crate::{
    hub::{Encoder, Held, Member, Reader},
    room::Fallen,
    session::Ending,
    transport::TaskId,
    wakers::ReaderWaker,
};

/// How many answers wait for a client; then it is not read.
const ANSWERS: usize = 128;

/// One stream's way out, shared by its session and what sends it. What every event needs comes first.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Egress {
    state: Mutex<State>,
    /// How many frames wait that were pushed.
    pushed: AtomicUsize,
    /// When something was last taken, or when the stream began, in microseconds of the connection's turns.
    taken: AtomicU64,
    /// Nothing was taken yet.
    untouched: AtomicBool,
    cycle: Arc<FlushCycle>,
    /// HTTP/2 has woken it.
    called: AtomicBool,
    /// Its client takes nothing, and will not be waited for.
    given_up: AtomicBool,
    /// The future that sends it.
    job: TaskId,
    /// Wakes that: the room does, and the session.
    reader: ReaderWaker,
    /// What is for this stream alone; it goes before what is for all.
    answers: Mutex<BytesMut>,
    /// Something was taken.
    begun: Arc<AtomicBool>,
    /// Wakes the session when answers were taken.
    pushable: AtomicWaker,
    /// Trailers were sent, or the stream was reset.
    finished: AtomicBool,
    session: AtomicWaker,
}

/// What a client still gets when its stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// Where it has left and the room was told, what comes before that.
    UntilLeft,
    /// The same; else what there is until now.
    UntilLeftOrNow,
}

/// What is to be sent next.
#[derive(Debug)]
pub(super) enum Next {
    /// Something, and more may follow at once.
    Data(Bytes),
    /// Something, and nothing more until it is woken.
    All(Bytes),
    /// Trailers, and nothing after them.
    Last(HeaderMap),
}

#[derive(Debug)]
enum State {
    /// Nobody is registered yet.
    Waiting,
    /// A member takes what there is.
    Open {
        reader: Reader,
        encoder: &'static dyn Encoder,
    },
    /// The member takes what is still for it, then the status.
    Ending {
        reader: Reader,
        encoder: &'static dyn Encoder,
        /// Up to there in the room's window; up to its own `left`, whenever that comes, where it is not
        /// said.
        until: Option<u64>,
        status: Box<Status>,
    },
    /// Only the status is left.
    Last(Box<Status>),
    Over,
}

impl Egress {
    /// Of the stream whose request is being answered in this future, which will send what it gets. It may
    /// have been `forwarded` by a proxy.
    pub(super) fn new(waker: ReaderWaker, cycle: Arc<FlushCycle>, forwarded: bool) -> Arc<Self> {
        cycle.count_stream(true);
        Arc::new(Self {
            state: Mutex::new(State::Waiting),
            pushed: AtomicUsize::new(0),
            taken: AtomicU64::new(micros(cycle.now())),
            untouched: AtomicBool::new(true),
            cycle,
            called: AtomicBool::new(true),
            given_up: AtomicBool::new(false),
            job: TaskId::current(),
            reader: waker.forwarded(forwarded),
            answers: Mutex::default(),
            begun: Arc::default(),
            pushable: AtomicWaker::new(),
            finished: AtomicBool::new(false),
            session: AtomicWaker::new(),
        })
    }

    /// New streams of the client come by another connection.
    pub(super) fn retire(&self) {
        self.cycle.retire();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What wakes the future that sends it.
    pub(super) fn reader(&self) -> ReaderWaker {
        self.reader.clone()
    }

    fn answers(&self) -> MutexGuard<'_, BytesMut> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame to this stream alone. Whoever sends many waits for [`Egress::poll_pushable`].
    pub(super) fn push(&self, frame: &[u8]) {
        let mut answers = self.answers();
        answers.extend_from_slice(frame);
        self.pushed.fetch_add(1, Ordering::Release);
        drop(answers);
        self.reader.wake();
    }

    /// Ready while few frames wait that were pushed, or nobody takes them any more.
    pub(super) fn poll_pushable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pushable.register(cx.waker());
        let over = self.finished.load(Ordering::Acquire);
        if self.is_full() && !over { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Whether many frames wait that were pushed.
    pub(super) fn is_full(&self) -> bool {
        self.pushed.load(Ordering::Acquire) >= ANSWERS
    }

    /// Becomes true when the client's side takes something.
    pub(super) fn begun(&self) -> Arc<AtomicBool> {
        self.begun.clone()
    }

    /// When the client's side last took something, or else when the stream began.
    pub(super) fn last_taken(&self) -> Instant {
        self.cycle.at(Duration::from_micros(self.taken.load(Ordering::Relaxed)))
    }

    /// Whether something waits for the client.
    pub(super) fn has_more(&self) -> bool {
        if self.pushed.load(Ordering::Acquire) > 0 {
            return true;
        }
        match &*self.lock() {
            State::Open { reader, .. } | State::Ending { reader, .. } => reader.has_more(),
            State::Waiting | State::Last(_) | State::Over => false,
        }
    }

    /// Takes what was pushed.
    fn take_answers(&self) -> Option<Bytes> {
        if self.pushed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut answers = self.answers();
        self.pushed.store(0, Ordering::Release);
        let waiting = std::mem::take(&mut *answers);
        drop(answers);
        self.pushable.wake();
        Some(waiting.freeze())
    }

    /// Somebody is registered.
    pub(super) fn open(&self, reader: Reader, encoder: &'static dyn Encoder) {
        *self.lock() = State::Open { reader, encoder };
        self.reader.wake();
    }

    /// Ends the stream, after what there is for it still.
    pub(super) fn end(&self, status: Status, rest: Rest) {
        let mut state = self.lock();
        let status = Box::new(status);
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Open { reader, encoder } => {
                let to_its_end = rest != Rest::Nothing && reader.goes_on_to_its_end();
                if to_its_end {
                    State::Ending { reader, encoder, until: None, status }
                } else if rest == Rest::UntilLeftOrNow {
                    let until = Some(reader.head());
                    State::Ending { reader, encoder, until, status }
                } else {
                    State::Last(status)
                }
            }
            _ => State::Last(status),
        };
        drop(state);
        self.reader.wake();
    }

    /// Waits no longer for a member's `left`: what is there by now is all.
    pub(super) fn stop_waiting(&self) {
        if let State::Ending { reader, until: until @ None, .. } = &mut *self.lock() {
            *until = Some(reader.head());
        }
        self.reader.wake();
    }

    /// Counts what is handed to HTTP/2.
    pub(super) fn hold(&self) -> Held {
        self.cycle.hold()
    }

    /// Whether clients have much already that they do not take.
    pub(super) fn is_tight(&self) -> bool {
        self.cycle.is_tight()
    }

    /// Waits until trailers were sent, or the stream was reset.
    pub(super) async fn finished(&self) {
        std::future::poll_fn(|cx| self.poll_finished(cx)).await;
    }

    /// The same, for the session, which alone may wait for it.
    pub(super) fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.register(cx.waker());
        if self.finished.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Its client takes nothing: whatever waits for it is dropped, and its stream reset.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.called.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Whether that is so.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Whether HTTP/2 has woken it since this was last asked, or it begins.
    pub(super) fn was_called(&self) -> bool {
        // Only its own task asks, and for every event.
        self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::AcqRel)
    }

    /// Looks at what sending looks at, so that it is at hand then.
    pub(super) fn touch(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// Who takes from it, once somebody does.
    pub(super) fn member(&self) -> Option<Arc<Member>> {
        match &*self.lock() {
            State::Open { reader, .. } => Some(reader.member().clone()),
            _ => None,
        }
    }

    /// Nothing is taken any more.
    fn close(&self) {
        *self.lock() = State::Over;
        self.finished.store(true, Ordering::Release);
        self.session.wake();
        self.pushable.wake();
    }

    fn note_taken(&self) {
        self.taken.store(micros(self.cycle.now()), Ordering::Relaxed);
        if self.untouched.load(Ordering::Relaxed) {
            self.untouched.store(false, Ordering::Relaxed);
            self.begun.store(true, Ordering::Release);
        }
    }

    /// The next thing to send.
    pub(super) fn poll_next(&self) -> Poll<Next> {
        debug_assert_eq!(self.job, TaskId::current(), "another future sends it");
        let next = self.next();
        if next.is_ready() {
            self.note_taken();
        }
        next
    }

    fn next(&self) -> Poll<Next> {
        let mut state = self.lock();
        if let Some(answers) = self.take_answers() {
            return Poll::Ready(Next::Data(answers));
        }
        loop {
            let (reader, encoder, until) = match &*state {
                State::Waiting | State::Over => return Poll::Pending,
                State::Open { reader, encoder } => (reader, *encoder, u64::MAX),
                State::Ending { reader, encoder, until, .. } => {
                    (reader, *encoder, until.unwrap_or(u64::MAX))
                }
                State::Last(status) => {
                    let trailers = trailers(status);
                    *state = State::Over;
                    return Poll::Ready(Next::Last(trailers));
                }
            };
            match self.cycle.take(reader, encoder, until) {
                // The next pass would ask the room, to hear that there is nothing.
                Ok(Some((bytes, true))) if matches!(&*state, State::Open { .. }) => {
                    return Poll::Ready(Next::All(bytes));
                }
                Ok(Some((bytes, _))) => return Poll::Ready(Next::Data(bytes)),
                Ok(None)
                    if matches!(&*state, State::Ending { until: None, .. })
                        && !reader.is_at_end() =>
                {
                    return Poll::Pending;
                }
                Ok(None) => {}
                Err(Fallen) => {
                    // The session ends a reader that fell behind; one that ends already is told.
                    if let State::Ending { status, .. } = &mut *state
                        && status.code() == Code::Ok
                    {
                        **status = too_slow();
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn too_slow() -> Status {
    status(&Outcome::Ended(Ending::TooSlow))
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        // A message that no header can carry: the code alone.
        trailers.clear();
        let details = Bytes::copy_from_slice(status.details());
        let _ = Status::with_details(status.code(), "", details).add_header(&mut trailers);
    }
    trailers
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.cycle.count_stream(false);
    }
}

/// The end of an egress that is sent from. When it is gone, the egress is closed: nobody sends any more.
#[derive(Debug)]
pub(crate) struct EgressSource(Arc<Egress>);

impl EgressSource {
    pub(super) fn new(egress: Arc<Egress>) -> Self {
        Self(egress)
    }
}

impl Deref for EgressSource {
    type Target = Arc<Egress>;

    fn deref(&self) -> &Arc<Egress> {
        &self.0
    }
}

impl Drop for EgressSource {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Woken by HTTP/2.
impl Wake for Egress {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::Release);
        self.reader.wake();
    }
}
