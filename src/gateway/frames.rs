//! gRPC's framing: a byte that says whether it is compressed, four of length, the message.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use prost::Message;
use tokio::time::{Sleep, sleep};

use super::{
    encoding::{Encoding, MAX_MESSAGE, UnpackError},
    intake::{Intake, Place, RESERVE, Waiting},
};
use crate::{session::Unstored, transport::Incoming};

/// What stands in front of a message.
const PREFIX: usize = 5;

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The client cancelled, or the connection broke.
    #[error("the stream was reset")]
    Reset,
    /// The stream ended within a message.
    #[error("the stream ended within a message")]
    Truncated,
    /// A flag that says "compressed" where nothing has said how, or says something else.
    #[error("the message has the flag {0}, which the stream's grpc-encoding does not explain")]
    Compressed(u8),
    /// It cannot be unpacked.
    #[error(transparent)]
    Packed(UnpackError),
    /// A message that does not arrive.
    #[error("the message did not arrive within {} s", MESSAGE_TIME.as_secs())]
    TooSlow,
    /// A message beyond the limit.
    #[error("the message has {0} bytes; gRPC's limit is {MAX_MESSAGE}")]
    TooLong(usize),
    /// Too much was received and not stored, and what this stream has sent waited for the longest.
    #[error("too much is received and not stored yet; come again later")]
    Crowded,
}

/// A message, framed.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let size = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + size);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(size).unwrap_or(u32::MAX));
    message.encode(&mut framed).expect("a growing buffer takes any message");
    framed.freeze()
}

/// A message up to this size arrives within a stream's window, however much of that is not given back yet:
/// HTTP/2 may keep back a third. Larger ones need a place.
const SMALL: usize = 40 * 1024;

/// How long a message may take to arrive, unless it is so small that it costs nothing.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Where a request's body comes from.
pub(super) trait Source {
    /// What came in; `None` at the end, an error if there is no orderly one. It counts against the client's
    /// window until it is released.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FrameError>>>;

    /// Lets the client send so much more.
    fn release(&mut self, bytes: usize);
}

impl Source for Incoming {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FrameError>>> {
        self.poll_data(cx).map(|data| data.map(|data| data.map_err(|_| FrameError::Reset)))
    }

    fn release(&mut self, bytes: usize) {
        self.release(bytes);
    }
}

/// The messages of a request's body, for its session.
///
/// What arrives is taken in by [`Receiver`], whether or not the session wants to read; the client's window
/// opens again only as the session takes its messages.
#[derive(Debug)]
pub(super) struct Frames<S>(Arc<Mutex<Received<S>>>);

/// Takes in what arrives of a request's body. To be polled before whoever reads the [`Frames`], in the same
/// future.
#[derive(Debug)]
pub(super) struct Receiver<S>(Arc<Mutex<Received<S>>>);

/// What of a body was received and not read.
#[derive(Debug)]
struct Received<S> {
    source: Option<S>,
    encoding: Encoding,
    /// All of it is counted in the intake.
    buffer: BytesMut,
    /// How much of the buffer is not given back to the client's window.
    owed: usize,
    /// Nothing comes behind the buffer, and why.
    end: Option<End>,
    /// The message that is being received.
    unfinished: Option<Unfinished>,
    intake: Arc<Intake>,
    /// While more than the reserve is held.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
enum End {
    Closed,
    Failed(FrameError),
}

/// A message of which some is there.
#[derive(Debug)]
struct Unfinished {
    /// Until when it may take, waiting for a place included.
    time: Pin<Box<Sleep>>,
    /// A large one's place, or its way to one.
    place: Option<Place>,
}

/// The messages of a body and what receives them.
pub(super) fn frames<S: Source>(
    source: S,
    encoding: Encoding,
    intake: Arc<Intake>,
) -> (Frames<S>, Receiver<S>) {
    let received = Arc::new(Mutex::new(Received {
        source: Some(source),
        encoding,
        buffer: BytesMut::new(),
        owed: 0,
        end: None,
        unfinished: None,
        intake,
        waiting: None,
    }));
    (Frames(received.clone()), Receiver(received))
}

fn lock<S>(received: &Mutex<Received<S>>) -> MutexGuard<'_, Received<S>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Source> Receiver<S> {
    /// Takes in what is there.
    pub(super) fn receive(&self, cx: &mut Context<'_>) {
        let mut received = lock(&self.0);
        received.receive(cx);
        received.look_after_unfinished(cx);
    }
}

impl<S: Source> Frames<S> {
    /// Reads no more, and keeps nothing; what the client still sends is for the caller.
    pub(super) fn stop(&mut self) -> Option<S> {
        let mut received = lock(&self.0);
        received.stop(End::Closed);
        received.give_back(0);
        received.source.take()
    }

    /// Says whether what was received is given up, to a session that does not read.
    pub(super) fn given_up(&self) -> impl Fn() -> bool + Send + use<S>
    where
        S: Send,
    {
        let received = self.0.clone();
        move || matches!(lock(&received).end, Some(End::Failed(FrameError::Crowded)))
    }
}

impl<S: Source> Received<S> {
    /// Reads no more and keeps nothing. The client's window stays closed: nobody would count what comes.
    fn stop(&mut self, end: End) {
        self.intake.sub(self.buffer.len());
        self.buffer = BytesMut::new();
        (self.unfinished, self.waiting) = (None, None);
        self.end = Some(end);
    }

    /// Opens the client's window again, but for so much.
    fn give_back(&mut self, but: usize) {
        let bytes = self.owed.saturating_sub(but);
        if bytes > 0 {
            self.owed -= bytes;
            if let Some(source) = &mut self.source {
                source.release(bytes);
            }
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        if self.waiting.as_ref().is_some_and(Waiting::is_given_up) {
            return self.stop(End::Failed(FrameError::Crowded));
        }
        let held = self.buffer.len();
        while self.end.is_none()
            && let Some(source) = &mut self.source
            && let Poll::Ready(data) = source.poll_data(cx)
        {
            match data {
                Some(Ok(data)) => {
                    self.buffer.extend_from_slice(&data);
                    self.owed += data.len();
                }
                Some(Err(error)) => self.end = Some(End::Failed(error)),
                None => self.end = Some(End::Closed),
            }
        }
        // At once for all that was there, which the client's window bounds: its frames may have a byte each.
        let more = self.buffer.len() - held;
        if more > 0 {
            self.intake.add(more);
            self.find_room(cx);
        }
    }

    /// Has somebody give up what they hold, should it be too much by now.
    fn find_room(&mut self, cx: &Context<'_>) {
        let held = self.buffer.len();
        if held <= RESERVE {
            return;
        }
        match &self.waiting {
            Some(waiting) => waiting.holds(held),
            None => self.waiting = Some(Waiting::new(&self.intake, held, cx.waker().clone())),
        }
        if self.intake.is_over() {
            self.intake.relieve();
            if self.waiting.as_ref().is_some_and(Waiting::is_given_up) {
                self.stop(End::Failed(FrameError::Crowded));
            }
        }
    }

    /// Sees to the message of which some is there: it is to arrive in time, and a large one needs a place.
    fn look_after_unfinished(&mut self, cx: &mut Context<'_>) {
        let Ok(Some(size)) = self.size() else { return };
        let held = self.buffer.len();
        if held <= RESERVE || held >= size || self.end.is_some() {
            return;
        }
        let unfinished = self
            .unfinished
            .get_or_insert_with(|| Unfinished { time: Box::pin(sleep(MESSAGE_TIME)), place: None });
        if unfinished.time.as_mut().poll(cx).is_ready() {
            return self.stop(End::Failed(FrameError::TooSlow));
        }
        if size > SMALL {
            let place = unfinished.place.get_or_insert_with(|| self.intake.place());
            if place.poll_had(cx).is_ready() {
                self.give_back(0);
            }
        }
    }

    /// The size of the next message with what stands in front of it.
    fn size(&self) -> Result<Option<usize>, FrameError> {
        let Some((&flag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let Some(size) = rest.first_chunk::<4>() else { return Ok(None) };
        let size = u32::from_be_bytes(*size) as usize;
        if flag != 0 && !self.encoding.explains(flag) {
            return Err(FrameError::Compressed(flag));
        }
        if size > MAX_MESSAGE {
            return Err(FrameError::TooLong(size));
        }
        Ok(Some(PREFIX + size))
    }

    /// Takes a whole message from the buffer.
    fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        // No room is made beforehand: a size is easily claimed.
        let Some(size) = self.size()?.filter(|size| *size <= self.buffer.len()) else {
            return Ok(None);
        };
        let flag = self.buffer[0];
        let message = self.buffer.split_to(size).split_off(PREFIX).freeze();
        self.intake.sub(size);
        self.unfinished = None;
        let left = self.buffer.len();
        if left == 0 {
            // An idle stream keeps no buffer.
            self.buffer = BytesMut::new();
        }
        let waiting = self.waiting.take().filter(|_| left > RESERVE);
        self.waiting = waiting.map(|waiting| waiting.renewed(left));
        self.give_back(left);
        self.encoding.unpack(flag, message).map(Some).map_err(FrameError::Packed)
    }

    fn next(&mut self) -> Poll<Option<Result<Bytes, FrameError>>> {
        let error = match self.take() {
            Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
            Err(error) => error,
            Ok(None) => match self.end.take() {
                None => return Poll::Pending,
                Some(End::Closed) if self.buffer.is_empty() => {
                    self.end = Some(End::Closed);
                    return Poll::Ready(None);
                }
                Some(End::Closed) => FrameError::Truncated,
                Some(End::Failed(error)) => error,
            },
        };
        self.stop(End::Closed);
        Poll::Ready(Some(Err(error)))
    }
}

impl<S: Source> Stream for Frames<S> {
    type Item = Result<Bytes, FrameError>;

    /// Is woken as what polls the [`Receiver`] is.
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        lock(&self.0).next()
    }
}

impl<S> Drop for Received<S> {
    fn drop(&mut self) {
        self.intake.sub(self.buffer.len());
    }
}

#[cfg(test)]
mod tests;
