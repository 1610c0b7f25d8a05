//! How a session and its client talk with each other, where they do: signs of life, and sending away.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::{Answer, Ending, ReconnectReason};
use crate::{
    backplane::Unavailable,
    domain::{Page, Position},
};

/// How long a stream that was told to go elsewhere is still served after it was to be gone, at the most.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether a client has taken that it is to go elsewhere.
const LOOK: Duration = Duration::from_millis(100);

/// Where answers go. Without one a client gets none, as at the `chat` protocol.
pub trait Responder: Send + Sync {
    /// Sends an answer after those before it.
    fn answer(&self, answer: &Answer);
    /// Ready while there are few answers that the client has not taken.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// Whether there is no room for more answers.
    fn is_full(&self) -> bool;
    /// When the client last took something; before that, when its stream began.
    fn last_taken(&self) -> Instant;
    /// Whether anything waits for the client, answers and events.
    fn is_waiting(&self) -> bool;
}

/// Bounds what clients say again.
pub trait Repeats: Send + Sync {
    /// Counts a message that was said before, and tells for how long its answer is to wait.
    fn count(&self) -> Duration;
    /// Has a page of a log read for one, when its turn comes.
    fn read<'a>(
        &'a self,
        page: BoxFuture<'a, Result<Page, Unavailable>>,
    ) -> BoxFuture<'a, Result<Page, Unavailable>>;
}

/// How a session and its client talk with each other, where they do.
#[derive(Clone, Copy)]
pub struct ClientLink<'a> {
    /// Where answers go.
    pub answers: &'a dyn Responder,
    /// How much the client may say again.
    pub repeats: &'a dyn Repeats,
    /// The last client sequence that is in the log, and the room's head when that was found.
    pub appended: (u64, Position),
    /// The session has had a stream before this one.
    pub resumed: bool,
    /// When to say something if there is nothing to say.
    pub ping_interval: Duration,
    /// How long the client may say nothing, or take nothing.
    pub idle_timeout: Duration,
    /// Over which time clients are sent elsewhere.
    pub drain_spread: Duration,
}

/// A dialogue and its times.
pub(super) struct Pace<'a> {
    pub(super) with: &'a ClientLink<'a>,
    /// When something came from the client.
    pub(super) heard: Instant,
    /// When a client that was sent elsewhere has to be gone, or before it has taken that, when to look again.
    pub(super) over: Option<Instant>,
    /// When it was told, as long as it may not have taken that, and the time that it has then.
    sent_away: Option<(Instant, Duration)>,
    /// Why it was.
    why: ReconnectReason,
}

impl<'a> Pace<'a> {
    pub(super) fn new(with: &'a ClientLink<'a>) -> Self {
        let (over, sent_away) = (None, None);
        Self { with, heard: Instant::now(), over, sent_away, why: ReconnectReason::ShuttingDown }
    }

    /// The client is told to go elsewhere after a time.
    pub(super) fn send_away(&mut self, after: Duration, why: ReconnectReason) {
        self.with.answers.answer(&Answer::Reconnect(after, why));
        self.why = why;
        let now = Instant::now();
        self.sent_away = Some((now, after + GRACE.min(self.with.drain_spread)));
        self.over = Some(now + LOOK);
    }

    /// Looks at a client that was sent elsewhere: its time begins when it takes that, and then it has to
    /// be gone.
    pub(super) fn look_after(&mut self) -> Result<(), Ending> {
        let Some((sent, time)) = self.sent_away else { return Err(self.why.ending()) };
        let answers = self.with.answers;
        let taken = answers.last_taken();
        if taken >= sent || !answers.is_waiting() {
            self.sent_away = None;
            self.over = Some(taken.max(sent) + time);
        } else {
            self.over = Some(Instant::now() + LOOK);
        }
        Ok(())
    }

    /// Looks whether both sides are alive, and shows that this one is. Whoever is not listened to cannot
    /// be heard. Returns when to look again.
    pub(super) fn look(&mut self, listening: bool) -> Result<Instant, Ending> {
        let ClientLink { answers, ping_interval, idle_timeout, .. } = *self.with;
        if !listening || answers.is_full() {
            self.heard = Instant::now();
        }
        if self.heard.elapsed() > idle_timeout {
            return Err(Ending::Silent(idle_timeout));
        }
        let (now, taken) = (Instant::now(), answers.last_taken());
        if answers.is_waiting() {
            if taken.elapsed() > idle_timeout {
                return Err(Ending::Stalled(idle_timeout));
            }
        } else if taken.elapsed() >= ping_interval {
            answers.answer(&Answer::Pong(0));
        } else {
            return Ok(taken + ping_interval);
        }
        Ok(now + ping_interval)
    }
}

/// Gives signs of life while nothing else is done for the client.
pub(super) async fn alive<T>(link: Option<&ClientLink<'_>>, work: impl Future<Output = T>) -> T {
    let Some(&ClientLink { answers, ping_interval, .. }) = link else { return work.await };
    let mut work = pin!(work);
    loop {
        match timeout(ping_interval, &mut work).await {
            Ok(done) => return done,
            Err(_) if answers.is_waiting() => {}
            Err(_) => answers.answer(&Answer::Pong(0)),
        }
    }
}
