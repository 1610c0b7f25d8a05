//! One member's life, whichever door it came through: what it says goes to the log, what happens
//! to its hold is acted on, and in the end its name is given back.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::timeout;
use tracing::{Instrument as _, Span, debug, info, warn};

use crate::{
    backplane::{AppendError, Appended, Hold},
    domain::{Event, LeftCause, Member as Who, TraceParent, What},
    hub::{Hub, Notice, Retaken, Stay},
    trace,
};

/// How long messages that are under way may hold up the end of a session.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What a session allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// The most bytes of one message's content.
    pub content_bytes: usize,
    /// The most messages on their way to the log; then nothing more is read from the client.
    pub inflight: usize,
}

/// What a client says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Say {
    /// The text; an empty one is ignored.
    pub content: String,
    /// The trace of the stream that it came on, to which its own one points.
    pub stream_trace: Option<TraceParent>,
}

/// Why a session ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client is done.
    HalfClosed,
    /// The client cancelled, or its connection broke.
    Disconnected,
    /// The client sent something that cannot be read; says what.
    Unreadable(String),
    /// The client said too much at once.
    ContentTooLong {
        /// Its bytes.
        got: usize,
        /// The bytes allowed.
        max: usize,
    },
    /// The backplane did not take a message in time.
    Unavailable,
    /// The client does not read fast enough.
    TooSlow,
    /// Somebody else holds the name by now.
    NameLost,
    /// A newer stream carries the session.
    Superseded,
    /// The replica shuts down.
    ShuttingDown,
}

impl Ending {
    /// What the room is told. `None` when it is told nothing.
    fn cause(&self) -> Option<LeftCause> {
        match self {
            Self::HalfClosed => Some(LeftCause::Asked),
            Self::Disconnected => Some(LeftCause::Disconnected),
            Self::ShuttingDown => Some(LeftCause::Shutdown),
            Self::Unreadable(_)
            | Self::ContentTooLong { .. }
            | Self::Unavailable
            | Self::TooSlow => Some(LeftCause::Ended),
            Self::NameLost | Self::Superseded => None,
        }
    }
}

/// Drives a stay to its end: appends what the client says, in order, and gives the name back. The
/// stream's errors are how the client ended it.
pub async fn run(
    hub: &Hub,
    stay: Stay,
    said: impl Stream<Item = Result<Say, Ending>> + Unpin + Send,
    limits: SessionLimits,
) -> Ending {
    let mut session = Session {
        hub,
        stay: &stay,
        said,
        limits,
        next_seq: 1,
        inflight: FuturesOrdered::new(),
        stale: VecDeque::new(),
        silent: false,
    };
    let ending = session.drive().await;
    let ending = session.finish(ending).await;
    drop(session);
    match ending.cause() {
        None if ending == Ending::Superseded => stay.hand_over(),
        None => stay.abandon(),
        // Nobody who cannot be served is kept waiting.
        Some(cause) if matches!(ending, Ending::Unavailable | Ending::TooSlow) => {
            stay.depart(cause);
        }
        Some(cause) => stay.release(cause).await,
    }
    ending
}

/// A message on its way to the log.
#[derive(Debug)]
struct Message {
    /// Its client sequence.
    seq: u64,
    event: Arc<Event>,
    /// Ends when the message is in the log, or never will be.
    span: Span,
    /// Why it is not in the log, unless it is.
    missing: Option<&'static str>,
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(why) = self.missing {
            trace::failed(&self.span, why);
        }
    }
}

struct Session<'a, S> {
    hub: &'a Hub,
    stay: &'a Stay,
    said: S,
    limits: SessionLimits,
    /// The client sequence of the next message; dense. The server counts for plain clients.
    next_seq: u64,
    inflight: FuturesOrdered<BoxFuture<'a, (Message, Result<Appended, AppendError>)>>,
    /// Messages that were refused because the lease had ended; what becomes of them depends on
    /// how the hold stands. Nothing that comes after a refused message is appended before it.
    stale: VecDeque<Message>,
    /// The client says no more, on whatever path.
    silent: bool,
}

impl<S: Stream<Item = Result<Say, Ending>> + Unpin + Send> Session<'_, S> {
    async fn drive(&mut self) -> Ending {
        let member = self.stay.member();
        let mut draining = pin!(self.hub.draining().cancelled());
        loop {
            // While the hold is in doubt nothing more is read: it waits in the client's window.
            let reading = self.stale.is_empty() && self.inflight.len() < self.limits.inflight;
            let step = tokio::select! {
                biased;
                () = &mut draining => Err(Ending::ShuttingDown),
                notice = poll_fn(|cx| member.poll_notice(cx)) => self.on_notice(notice).await,
                Some((message, appended)) = self.inflight.next() => {
                    self.on_appended(message, appended).await
                }
                said = self.said.next(), if reading => self.on_said(said),
            };
            if let Err(ending) = step {
                return ending;
            }
        }
    }

    fn on_said(&mut self, said: Option<Result<Say, Ending>>) -> Result<(), Ending> {
        if let Some(message) = self.take_in(said)? {
            self.append(self.stay.member().hold(), message);
        }
        Ok(())
    }

    /// Makes a message of what the client said, if it is one.
    fn take_in(&mut self, said: Option<Result<Say, Ending>>) -> Result<Option<Message>, Ending> {
        let said = said.unwrap_or(Err(Ending::HalfClosed));
        self.silent = said.is_err();
        let Say { content, stream_trace } = said?;
        if content.is_empty() {
            return Ok(None);
        }
        if content.len() > self.limits.content_bytes {
            self.silent = true;
            let (got, max) = (content.len(), self.limits.content_bytes);
            return Err(Ending::ContentTooLong { got, max });
        }
        let hold = self.stay.member().hold();
        let span = self.hub.sampler().say(stream_trace.as_ref(), &hold.room, content.len());
        let trace = trace::traceparent(&span);
        let member = Who { name: hold.name.display().clone(), session: hold.session };
        let what = What::Said { content: Arc::from(content) };
        let event = Event { at: jiff::Timestamp::now(), member, what, trace };
        let seq = self.next_seq;
        self.next_seq += 1;
        Ok(Some(Message { seq, event: Arc::new(event), span, missing: Some("abandoned") }))
    }

    fn append(&mut self, hold: Hold, message: Message) {
        let backplane = self.hub.backplane();
        let span = trace::append(&message.span, backplane.name(), &hold.room);
        let append = async move {
            let appended = backplane.append(&hold, message.seq, message.event.clone()).await;
            (message, appended)
        };
        let append = if span.is_none() { append.boxed() } else { append.instrument(span).boxed() };
        self.inflight.push_back(append);
    }

    async fn on_appended(
        &mut self,
        message: Message,
        appended: Result<Appended, AppendError>,
    ) -> Result<(), Ending> {
        self.note_appended(message, appended)?;
        // All that went out under the lost hold comes back first.
        if self.inflight.is_empty() && !self.stale.is_empty() {
            return self.retake().await;
        }
        Ok(())
    }

    fn note_appended(
        &mut self,
        mut message: Message,
        appended: Result<Appended, AppendError>,
    ) -> Result<(), Ending> {
        match appended {
            Ok(Appended { position, .. }) => {
                self.hub.metrics().events_in.inc();
                trace::appended(&message.span, position);
                message.missing = None;
            }
            Err(AppendError::Stale) => {
                message.missing = Some("stale");
                self.stale.push_back(message);
            }
            Err(AppendError::Unavailable(_)) => {
                message.missing = Some("unavailable");
                return Err(Ending::Unavailable);
            }
        }
        Ok(())
    }

    async fn on_notice(&mut self, notice: Notice) -> Result<(), Ending> {
        if notice == Notice::TooSlow {
            self.hub.metrics().slow_readers_dropped.inc();
            return Err(Ending::TooSlow);
        }
        if notice == Notice::Moved {
            return Err(Ending::Superseded);
        }
        while let Some((message, appended)) = self.inflight.next().await {
            self.note_appended(message, appended)?;
        }
        self.retake().await
    }

    /// Takes the name again and goes on, if that can be. Nothing that was said under a hold that
    /// the room saw end is ever delivered.
    async fn retake(&mut self) -> Result<(), Ending> {
        // What has arrived by now was said under the old hold; what comes later may be an answer to
        // the room's hearing of the new one.
        let ended = self.take_ready();
        let first_missing = self.stale.front().map_or(self.next_seq, |it| it.seq);
        match self.stay.retake(first_missing - 1).await {
            Ok(Retaken::Kept) => {
                let hold = self.stay.member().hold();
                for message in std::mem::take(&mut self.stale) {
                    self.append(hold.clone(), message);
                }
                ended
            }
            Ok(Retaken::Anew) => {
                info!("the lease had ended; the name was free and is held again");
                self.drop_stale();
                self.next_seq = first_missing;
                ended
            }
            Ok(Retaken::Moved) => {
                self.drop_stale();
                Err(Ending::Superseded)
            }
            Ok(Retaken::Taken) => {
                info!("the lease had ended and somebody else holds the name");
                self.drop_stale();
                Err(Ending::NameLost)
            }
            // A message cannot wait longer; a mere reader can, until the next renewal.
            Err(_) if !self.stale.is_empty() => Err(Ending::Unavailable),
            Err(_) => {
                debug!("the hold cannot be cleared up yet");
                ended
            }
        }
    }

    /// Takes in what has arrived, and sets it aside. An error tells how the client ended.
    fn take_ready(&mut self) -> Result<(), Ending> {
        while !self.silent
            && self.stale.len() < self.limits.inflight
            && let Some(said) = self.said.next().now_or_never()
        {
            let message = self.take_in(said)?;
            self.stale.extend(message);
        }
        Ok(())
    }

    fn drop_stale(&mut self) {
        let dropped = std::mem::take(&mut self.stale).len();
        if dropped > 0 {
            warn!(dropped, "messages of the hold that ended are not delivered");
            self.hub.metrics().stale_messages_dropped.inc_by(dropped as u64);
        }
    }

    /// Has everything appended that was said before the end, and says how it ended: a client that
    /// is told `OK` has been heard to its last word.
    async fn finish(&mut self, ending: Ending) -> Ending {
        self.silent = true;
        let last_words = async {
            loop {
                while let Some((message, appended)) = self.inflight.next().await {
                    self.note_appended(message, appended)?;
                }
                if self.stale.is_empty() {
                    return Ok(());
                }
                self.retake().await?;
            }
        };
        match ending {
            Ending::HalfClosed => last_words.await.err().unwrap_or(ending),
            // Bounded by the backplane's own timeout, except here, where time is short.
            Ending::ShuttingDown => {
                let _ = timeout(LAST_WORDS, last_words).await;
                ending
            }
            Ending::Unreadable(_) | Ending::ContentTooLong { .. } => {
                let _ = last_words.await;
                ending
            }
            Ending::Disconnected
            | Ending::Unavailable
            | Ending::TooSlow
            | Ending::NameLost
            | Ending::Superseded => ending,
        }
    }
}
