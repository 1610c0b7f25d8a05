//! The way of a member's messages to the log. `hold` is for when the name may be lost, `silence` for
//! when moderators have it wait or be refused.

mod hold;
mod silence;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt, Stream, StreamExt, future::BoxFuture, future::ready, stream::FuturesOrdered,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument as _, Span};

use super::{
    Answer, ClientLink, Ending, Input, Refused, Say, SessionLimits, Unstored, exchange::READS,
    positions::Positions,
};
use crate::{
    backplane::{AppendError, Appended, Hold},
    domain::{Event, EventKind, Member as Who},
    hub::{Hub, Membership},
    room::RateLimiter,
    trace,
};

/// How long messages that are under way may hold up the end of a session.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Of how many of its latest messages a session can ask for the position: as many answers and more
/// may be lost on their way with a connection.
const LOOKED_UP: u64 = 8192;

/// About how many bytes of one session are on their way to the log.
const INFLIGHT_BYTES: usize = 256 * 1024;

/// A message on its way to the log.
#[derive(Debug)]
pub(super) struct Message {
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

/// What has become of something that a client said.
#[derive(Debug)]
pub(super) enum Answered {
    /// It went to the log.
    Appended(Message, Result<Appended, AppendError>),
    /// It did not have to.
    Settled(Answer),
    /// It was sent before, with this number; what has become of that is known now.
    Repeated(u64),
}

/// Something said that waits until it is known how the hold stands.
#[derive(Debug)]
enum Waiting {
    Message(Message),
    /// Its turn comes after those before it.
    Later(Answered),
}

/// What a member says, in order: each thing is answered once, where there is a dialogue.
pub(super) struct Publisher<'a> {
    hub: &'a Hub,
    membership: &'a Membership,
    limits: &'a SessionLimits,
    /// The client may say something.
    pub(super) speaks: bool,
    /// What all streams of its subject may say together.
    pub(super) user_rate: Option<&'a Mutex<RateLimiter>>,
    link: Option<&'a ClientLink<'a>>,
    positions: Option<Arc<Positions<'a>>>,
    /// The client sequence of the next message; dense. The server counts for plain clients.
    next_seq: u64,
    inflight: FuturesOrdered<BoxFuture<'a, Answered>>,
    /// How many bytes of content are under way, and where they are counted with those of others.
    inflight_bytes: usize,
    unstored: &'a dyn Unstored,
    /// Messages that were refused because the lease had ended; what becomes of them depends on
    /// how the hold stands. Nothing that comes after a refused message is appended before it.
    stale: VecDeque<Waiting>,
    /// How much this session may say.
    limiter: RateLimiter,
    /// What a client said too fast who cannot be told to wait, and when its time comes.
    held: Option<(Say, Instant)>,
    /// When what is in `stale` may be said in a room in slow mode, of a client that cannot be told to wait.
    slow_until: Option<Instant>,
    /// The highest client sequence of which it is not known whether it is in the log.
    uncertain: u64,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        hub: &'a Hub,
        membership: &'a Membership,
        limits: &'a SessionLimits,
        unstored: &'a dyn Unstored,
        link: Option<&'a ClientLink<'a>>,
        owed: Duration,
    ) -> Self {
        let now = std::time::Instant::now();
        let appended = link.map_or(0, |link| link.appended.0);
        let kept = 2 * limits.inflight;
        let positions = link.map(|it| Arc::new(Positions::new(it.repeats, it.appended, kept)));
        Self {
            hub,
            membership,
            limits,
            speaks: true,
            user_rate: None,
            link,
            positions,
            next_seq: appended + 1,
            inflight: FuturesOrdered::new(),
            inflight_bytes: 0,
            unstored,
            stale: VecDeque::new(),
            limiter: RateLimiter::owing(limits.rate, owed, now),
            held: None,
            slow_until: None,
            uncertain: 0,
        }
    }

    /// Whether more may be said. While the hold is in doubt it waits in the client's window. Whoever has
    /// nothing under way is listened to however busy others are: what others have is looked at again when
    /// something of one's own is answered.
    pub(super) fn is_listening(&self) -> bool {
        let may_say_more = || {
            self.inflight.len() < self.limits.inflight
                && self.inflight_bytes < INFLIGHT_BYTES
                && !self.unstored.is_busy()
        };
        self.stale.is_empty() && self.held.is_none() && (self.inflight.is_empty() || may_say_more())
    }

    /// Until when something waits that was said too fast.
    pub(super) fn paused(&self) -> Option<Instant> {
        self.slow_until.or(self.held.as_ref().map(|(_, until)| *until))
    }

    /// Goes on with what waited.
    pub(super) fn go_on(&mut self) -> Result<(), Ending> {
        if self.slow_until.take().is_some() {
            self.say_again();
            return Ok(());
        }
        self.take_held().map_or(Ok(()), |say| self.on_said(say))
    }

    /// Has something wait. It is counted meanwhile.
    fn hold(&mut self, say: Say, wait: Duration) {
        self.unstored.add(say.content.len());
        self.held = Some((say, Instant::now() + wait));
    }

    /// Takes what waited.
    fn take_held(&mut self) -> Option<Say> {
        let (say, _) = self.held.take()?;
        self.unstored.sub(say.content.len());
        Some(say)
    }

    /// Counts a message against what its session and its room may say.
    fn count(&mut self) -> Result<(), Duration> {
        let now = std::time::Instant::now();
        self.limiter.ready(now)?;
        let user_rate = self.user_rate.map(|it| it.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(user_rate) = &user_rate {
            user_rate.ready(now)?;
        }
        self.membership.may_say(now)?;
        self.limiter.take(now)?;
        if let Some(mut user_rate) = user_rate {
            user_rate.take(now)?;
        }
        if !self.limits.rate.interval.is_zero() {
            self.membership.member().owe_until(self.limiter.full_at());
        }
        Ok(())
    }

    /// What is known next of what was said. Loses none when dropped.
    pub(super) async fn next_answered(&mut self) -> Option<Answered> {
        self.inflight.next().await
    }

    /// The client says something.
    pub(super) fn on_said(&mut self, say: Say) -> Result<(), Ending> {
        if self.link.is_some() {
            return self.on_numbered(say);
        }
        if say.content.is_empty() {
            return Ok(());
        }
        self.check(&say)?;
        if let Err(wait) = self.count() {
            self.hold(say, wait);
            return Ok(());
        }
        let message = self.message(say);
        self.append(self.membership.member().hold(), message);
        Ok(())
    }

    /// Something with a client's number, which is answered.
    fn on_numbered(&mut self, say: Say) -> Result<(), Ending> {
        let Some(seq @ 1..) = say.client_seq else {
            return Err(Ending::Unreadable("a message's client_seq counts from 1".to_owned()));
        };
        let (got, max) = (say.content.len(), self.limits.content_bytes);
        let refused = match seq.cmp(&self.next_seq) {
            std::cmp::Ordering::Less => {
                self.repeated(seq);
                return Ok(());
            }
            std::cmp::Ordering::Greater => Some(Refused::OutOfOrder { expected: self.next_seq }),
            std::cmp::Ordering::Equal if !self.may_speak() => Some(Refused::Forbidden),
            std::cmp::Ordering::Equal if got == 0 => Some(Refused::Empty),
            std::cmp::Ordering::Equal if got > max => Some(Refused::TooLarge { got, max }),
            std::cmp::Ordering::Equal => self.count().err().map(Refused::TooFast),
        };
        if let Some(refused) = refused {
            let nack = Answer::Nack { client_seq: seq, refused };
            self.inflight.push_back(ready(Answered::Settled(nack)).boxed());
        } else {
            let message = self.message(say);
            self.append(self.membership.member().hold(), message);
        }
        Ok(())
    }

    /// A message was sent again. Its answer may have to wait, and meanwhile it counts as one under way.
    fn repeated(&mut self, seq: u64) {
        let wait = self.link.map_or(Duration::ZERO, |it| it.repeats.count());
        let answered = Answered::Repeated(seq);
        self.inflight.push_back(if wait.is_zero() {
            ready(answered).boxed()
        } else {
            sleep(wait).map(|()| answered).boxed()
        });
    }

    /// A message that was sent again is answered with its position, unless it was refused.
    fn on_repeated(&mut self, seq: u64) {
        if seq >= self.next_seq {
            self.refuse(seq, Refused::OutOfOrder { expected: self.next_seq });
        } else if seq.saturating_add(LOOKED_UP) < self.next_seq {
            // Its answer was not lost.
            self.answer(&Answer::Ack { client_seq: seq, position: None, duplicate: true });
        } else {
            self.look_up(seq);
        }
    }

    /// Answers with the position of a message that is in the log.
    fn look_up(&mut self, seq: u64) {
        let Some(positions) = self.positions.clone() else { return };
        let (hub, hold) = (self.hub, self.membership.member().hold());
        let find = async move {
            let position = positions.find(hub.backplane(), &hold.room, hold.session, seq).await;
            Answered::Settled(Answer::Ack { client_seq: seq, position, duplicate: true })
        };
        // Its turn is now.
        self.inflight.push_front(find.boxed());
    }

    /// Makes a message of what a client without numbers said, if it is one.
    fn take_in(&mut self, say: Say) -> Result<Option<Message>, Ending> {
        if say.content.is_empty() {
            return Ok(None);
        }
        self.check(&say)?;
        Ok(Some(self.message(say)))
    }

    /// Whether a client without numbers may say this, and it is not too long.
    fn check(&self, say: &Say) -> Result<(), Ending> {
        if !self.may_speak() {
            return Err(Ending::Denied(READS.to_owned()));
        }
        let (got, max) = (say.content.len(), self.limits.content_bytes);
        if got > max { Err(Ending::ContentTooLong { got, max }) } else { Ok(()) }
    }

    fn message(&mut self, say: Say) -> Message {
        let Say { content, trace, stream_trace, .. } = say;
        let hold = self.membership.member().hold();
        let sampler = self.hub.sampler();
        let span = sampler.say(trace.as_ref(), stream_trace.as_ref(), &hold.room, content.len());
        let trace = trace::traceparent(&span);
        let member = Who { name: hold.name.display().clone(), session: hold.session };
        let what = EventKind::Said { content: Arc::from(content) };
        let event = Event { at: jiff::Timestamp::now(), member, what, trace };
        let seq = self.next_seq;
        self.next_seq += 1;
        Message { seq, event: Arc::new(event), span, missing: Some("abandoned") }
    }

    fn append(&mut self, hold: Hold, message: Message) {
        let bytes = message.event.size();
        self.inflight_bytes += bytes;
        self.unstored.add(bytes);
        let backplane = self.hub.backplane();
        let span = trace::append(&message.span, backplane.name(), &hold.room);
        let append = async move {
            let appended = backplane.append(&hold, message.seq, message.event.clone()).await;
            Answered::Appended(message, appended)
        };
        let append = if span.is_none() { append.boxed() } else { append.instrument(span).boxed() };
        self.inflight.push_back(append);
    }

    fn answer(&self, answer: &Answer) {
        if let Some(link) = &self.link {
            link.answers.answer(answer);
            if let Answer::Nack { refused, .. } = answer {
                self.hub.metrics().nacks.of(refused.counted()).inc();
            }
        }
    }

    /// A message is not in the log, as far as is known: it comes next again.
    fn refuse(&mut self, seq: u64, refused: Refused) {
        self.next_seq = self.next_seq.min(seq);
        self.answer(&Answer::Nack { client_seq: seq, refused });
    }

    /// Acts on what became of something that was said.
    pub(super) async fn on_answered(
        &mut self,
        answered: Answered,
        input: &mut (impl Stream<Item = Result<Input, Ending>> + Unpin),
    ) -> Result<(), Ending> {
        self.note(answered)?;
        // All that went out under the lost hold comes back first.
        if self.inflight.is_empty() && !self.stale.is_empty() && self.slow_until.is_none() {
            let ended = self.take_ready(input);
            return self.reacquire(ended, false).await;
        }
        Ok(())
    }

    fn note(&mut self, answered: Answered) -> Result<(), Ending> {
        let (mut message, appended) = match answered {
            Answered::Appended(message, appended) => {
                let bytes = message.event.size();
                self.inflight_bytes -= bytes;
                self.unstored.sub(bytes);
                (message, appended)
            }
            Answered::Settled(answer) if self.stale.is_empty() => {
                self.answer(&answer);
                return Ok(());
            }
            Answered::Repeated(seq) if self.stale.is_empty() => {
                self.on_repeated(seq);
                return Ok(());
            }
            later @ (Answered::Settled(_) | Answered::Repeated(_)) => {
                self.stale.push_back(Waiting::Later(later));
                return Ok(());
            }
        };
        match appended {
            Ok(appended) => self.note_appended(message, appended),
            // A hole before it, made by one that was refused.
            Err(AppendError::Stale | AppendError::Silenced(_)) if message.seq > self.next_seq => {
                message.missing = Some("out of order");
                let expected = self.next_seq;
                self.refuse(message.seq, Refused::OutOfOrder { expected });
            }
            Err(AppendError::Stale) => {
                message.missing = Some("stale");
                self.stale.push_back(Waiting::Message(message));
            }
            Err(AppendError::Silenced(silenced)) => {
                message.missing = Some("silenced");
                return self.on_silenced(message, silenced);
            }
            Err(AppendError::Unavailable(_)) => {
                message.missing = Some("unavailable");
                if self.link.is_none() {
                    return Err(Ending::Unavailable);
                }
                self.uncertain = self.uncertain.max(message.seq);
                self.refuse_in_turn(message.seq, Refused::Unavailable);
            }
        }
        Ok(())
    }

    fn note_appended(&mut self, mut message: Message, appended: Appended) {
        let Appended { position, client_seq: last, duplicate } = appended;
        if !duplicate {
            self.hub.metrics().events_in.inc();
        }
        trace::appended(&message.span, position);
        message.missing = None;
        let client_seq = message.seq;
        if let Some(positions) = &self.positions {
            positions.learn(last, position);
        }
        if client_seq > self.next_seq {
            // One before it was refused, but had arrived. The client was told that it comes next.
            return self.refuse(client_seq, Refused::OutOfOrder { expected: self.next_seq });
        }
        if last == client_seq {
            self.answer(&Answer::Ack { client_seq, position: Some(position), duplicate });
        } else {
            self.look_up(client_seq);
        }
    }

    /// Has everything appended that was said before the end, and says how it ended: a client that
    /// is told `OK` has been heard to its last word.
    pub(super) async fn finish(&mut self, ending: Ending) -> Ending {
        if ending == Ending::Crowded {
            // It may have to wait for hours, and what came behind it is given up.
            self.take_held();
        }
        let last_words = async {
            loop {
                while let Some(until) = self.paused() {
                    sleep_until(until).await;
                    self.go_on()?;
                }
                while let Some(answered) = self.inflight.next().await {
                    self.note(answered)?;
                }
                if self.paused().is_some() {
                    continue;
                }
                if self.stale.is_empty() {
                    return Ok(());
                }
                self.reacquire(Ok(()), true).await?;
            }
        };
        match ending {
            Ending::HalfClosed | Ending::Left => last_words.await.err().unwrap_or(ending),
            // Bounded by the backplane's own timeout, except here, where time is short.
            Ending::ShuttingDown | Ending::TooOld | Ending::TokenExpired => {
                let _ = timeout(LAST_WORDS, last_words).await;
                ending
            }
            Ending::Unreadable(_)
            | Ending::Dismissed { .. }
            | Ending::ContentTooLong { .. }
            | Ending::Crowded
            | Ending::Unauthenticated(_)
            | Ending::Denied(_)
            | Ending::Muted(_) => {
                let _ = last_words.await;
                ending
            }
            Ending::Disconnected
            | Ending::Unavailable
            | Ending::TooSlow
            | Ending::Stalled(_)
            | Ending::Silent(_)
            | Ending::LeaveNotStored
            | Ending::NameLost
            | Ending::PutOut(_)
            | Ending::Superseded => ending,
        }
    }
}

impl Drop for Publisher<'_> {
    fn drop(&mut self) {
        self.take_held();
        self.unstored.sub(self.inflight_bytes);
    }
}
