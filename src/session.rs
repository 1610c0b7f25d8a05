//! One member's life, whichever protocol it came through: what it says goes to the log, what happens
//! to its hold is acted on, and in the end its name is given back, or its session left lingering.
//!
//! `speech` is the way of messages to the log, `positions` finds where earlier ones are, `client_link` is
//! for clients that are answered. `exchange` has what they say to each other, `rights` what a client may do and for how
//! long, and `ending` lists how a stream ends.

mod client_link;
mod ending;
mod exchange;
mod positions;
mod rights;
mod speech;
#[cfg(test)]
mod tests;

use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

pub use self::{
    client_link::{ClientLink, Repeats, Responder},
    ending::Ending,
    exchange::{Answer, Input, ReconnectReason, Refused, Say, muted},
    rights::{Allowed, Rights},
};
use self::{
    client_link::{Pace, alive},
    speech::Publisher,
};
use crate::{
    hub::{Hub, Membership},
    room::Rate,
};

/// What a session allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// The most bytes of one message's content.
    pub content_bytes: usize,
    /// The most messages on their way to the log; then nothing more is read from the client.
    pub inflight: usize,
    /// How much it may say.
    pub rate: Rate,
    /// After which time its stream is to end, or its client to come by another one; less a part that is drawn, so
    /// that not all end together. Zero for never.
    pub max_age: Duration,
}

impl SessionLimits {
    /// When a stream that begins now is too old.
    fn too_old(&self) -> Option<Instant> {
        let age = self.max_age.mul_f64(rand::random_range(0.8..=1.0));
        (!age.is_zero()).then(|| Instant::now() + age)
    }
}

/// Counts what clients have said and the log does not have yet.
pub trait Unstored: Send + Sync {
    /// So many bytes more.
    fn add(&self, bytes: usize);
    /// So many bytes less.
    fn sub(&self, bytes: usize);
    /// Whether there is so much that those who have something under way are not to be read.
    fn is_busy(&self) -> bool;
}

/// Drives a membership to its end: appends what the client says, in order, and gives the name back, or,
/// where there is a dialogue, leaves the session lingering. The stream's errors are how the client
/// ended it; `gone` resolves with how it ended when that shows while it is not read.
#[expect(clippy::manual_async_fn, reason = "an `async fn` keeps what it is given twice")]
pub fn run<'a>(
    hub: &'a Hub,
    membership: Membership,
    input: impl Stream<Item = Result<Input, Ending>> + Unpin + Send + 'a,
    gone: impl Future<Output = Ending> + Send + 'a,
    allowed: Allowed<'a>,
    unstored: &'a dyn Unstored,
    link: Option<&'a ClientLink<'a>>,
) -> impl Future<Output = Ending> + Send + 'a {
    async move {
        // What is asked once is boxed: it is large, and a stream would have to carry it to its end.
        let owed = Box::pin(alive(link, owed(hub, &membership, allowed.limits.rate, link))).await;
        let mut session = Session::new(hub, &membership, input, allowed, unstored, link, owed);
        let ending = session.drive(gone).await;
        // So is what comes last.
        let ending = Box::pin(alive(link, session.publisher.finish(ending))).await;
        drop(session);
        Box::pin(alive(link, end(membership, ending))).await
    }
}

/// For how long the name owes what was said under it before, by whichever session.
async fn owed(
    hub: &Hub,
    membership: &Membership,
    rate: Rate,
    link: Option<&ClientLink<'_>>,
) -> Duration {
    if rate.interval.is_zero() {
        return Duration::ZERO;
    }
    // What a stream owes from which the session is taken over is known at its end only.
    if link.is_some_and(|link| link.resumed) {
        return Duration::MAX;
    }
    let hold = membership.member().hold();
    let owed = Box::pin(hub.backplane().owe(&hold.room, &hold.name, Duration::ZERO)).await;
    owed.unwrap_or(Duration::MAX)
}

/// Gives the name back, or leaves the session lingering. Says how it ended after all.
async fn end(membership: Membership, ending: Ending) -> Ending {
    if ending.is_told() {
        membership.note_told();
    }
    match (ending.cause(), &ending) {
        (None, Ending::Superseded) => membership.hand_over(),
        (None, Ending::PutOut(_)) => membership.put_out(),
        (None, _) => membership.lose_name(),
        (Some(_), Ending::Left) => {
            if membership.leave().await.is_err() {
                return Ending::LeaveNotStored;
            }
        }
        // Nobody who cannot be served is kept waiting.
        (Some(cause), Ending::Unavailable | Ending::TooSlow) => membership.release_later(cause),
        (Some(cause), Ending::Dismissed { may_return: false, .. }) => {
            membership.release(cause).await;
        }
        (Some(cause), _) => membership.linger(cause).await,
    }
    ending
}

/// So much is taken from a client before others that share its connection have their turn.
const INPUTS: usize = 32;

struct Session<'a, S> {
    hub: &'a Hub,
    membership: &'a Membership,
    input: S,
    publisher: Publisher<'a>,
    link: Option<Pace<'a>>,
    /// When to look whether both sides of the dialogue are alive.
    tick: Option<Pin<Box<Sleep>>>,
    /// How much was taken from the client since others had their turn.
    inputs: usize,
    /// When the stream is too old.
    too_old: Option<Instant>,
    rights: Rights,
    /// When to tell that the client's token expires, or to end the stream for it.
    expiry: Option<Instant>,
}

impl<'a, S: Stream<Item = Result<Input, Ending>> + Unpin + Send> Session<'a, S> {
    fn new(
        hub: &'a Hub,
        membership: &'a Membership,
        input: S,
        Allowed { limits, rights, user_rate }: Allowed<'a>,
        unstored: &'a dyn Unstored,
        link: Option<&'a ClientLink<'a>>,
        owed: Duration,
    ) -> Self {
        let mut publisher = Publisher::new(hub, membership, limits, unstored, link, owed);
        publisher.speaks = rights.speaks;
        publisher.user_rate = user_rate;
        let expiry = if link.is_some() { rights.notice() } else { rights.end() };
        let tick = link.map(|link| Box::pin(sleep(link.ping_interval)));
        let (link, too_old) = (link.map(Pace::new), limits.too_old());
        Self { hub, membership, input, publisher, link, tick, inputs: 0, too_old, rights, expiry }
    }

    async fn drive(&mut self, gone: impl Future<Output = Ending> + Send) -> Ending {
        let member = self.membership.member();
        let mut draining = pin!(self.hub.draining().cancelled());
        let mut gone = pin!(gone);
        // Only a follower needs it, and it is large.
        let with = self.link.as_ref().map(|pace| pace.with);
        let mut catch_up = with.map(|_| Box::pin(self.membership.catch_up()));
        let mut drained = false;
        loop {
            let paused = self.publisher.paused();
            let over = self.link.as_ref().and_then(|pace| pace.over);
            let too_old = self.too_old.filter(|_| over.is_none());
            let step = tokio::select! {
                biased;
                () = &mut draining, if !drained => {
                    drained = true;
                    self.on_drain()
                }
                notice = poll_fn(|cx| member.poll_notice(cx)) => {
                    Box::pin(alive(with, self.publisher.on_notice(notice, &mut self.input))).await
                }
                Some(answered) = self.publisher.next_answered() => {
                    Box::pin(alive(with, self.publisher.on_answered(answered, &mut self.input))).await
                }
                never = follow(catch_up.as_mut()) => match never {},
                () = ticked(self.tick.as_mut()) => self.on_tick(),
                () = until(paused) => self.publisher.go_on(),
                () = until(over) => self.on_over(),
                () = give_way(), if self.inputs >= INPUTS => {
                    self.inputs = 0;
                    Ok(())
                }
                () = until(too_old) => self.on_too_old(),
                () = until(self.expiry) => self.on_expiry(),
                input = next(&mut self.input, self.link.as_ref()),
                    if self.inputs < INPUTS && self.publisher.is_listening() => self.on_input(input),
                // Its input says so too, but is not always read.
                ending = &mut gone => Err(ending),
            };
            if let Err(ending) = step {
                return ending;
            }
        }
    }

    fn on_drain(&mut self) -> Result<(), Ending> {
        match &mut self.link {
            None => Err(Ending::ShuttingDown),
            Some(pace) => {
                let spread = pace.with.drain_spread;
                pace.send_away(spread.mul_f64(rand::random()), ReconnectReason::ShuttingDown);
                Ok(())
            }
        }
    }

    fn on_too_old(&mut self) -> Result<(), Ending> {
        match &mut self.link {
            None => Err(Ending::TooOld),
            Some(pace) => {
                pace.send_away(Duration::ZERO, ReconnectReason::TooOld);
                Ok(())
            }
        }
    }

    /// Tells the client in time that its token expires, where it can be told, and ends the stream after that.
    fn on_expiry(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let (Some(expires), Some(end)) = (self.rights.expires, self.rights.end()) else {
            return Ok(());
        };
        if now >= end {
            return Err(Ending::TokenExpired);
        }
        if let Some(pace) = &self.link {
            let left = expires.saturating_duration_since(now);
            pace.with.answers.answer(&Answer::Expiring(left));
        }
        self.expiry = Some(end);
        Ok(())
    }

    /// The client has shown a newer token.
    fn on_renewed(&mut self, rights: Rights) -> Result<(), Ending> {
        if !rights.sees && self.membership.member().role_set().is_none() {
            return Err(Ending::Denied(rights::NO_ACCESS.to_owned()));
        }
        // Whoever was told and shows the same time again is not told again.
        let told = self.expiry == self.rights.end();
        let longer = rights.expires > self.rights.expires;
        self.rights = rights;
        self.publisher.speaks = rights.speaks;
        self.expiry = if longer || !told { rights.notice() } else { rights.end() };
        Ok(())
    }

    fn on_over(&mut self) -> Result<(), Ending> {
        self.link.as_mut().map_or(Ok(()), Pace::look_after)
    }

    fn on_tick(&mut self) -> Result<(), Ending> {
        let listening = self.publisher.is_listening();
        if let (Some(pace), Some(tick)) = (&mut self.link, &mut self.tick) {
            tick.as_mut().reset(pace.look(listening)?);
        }
        Ok(())
    }

    fn on_input(&mut self, input: Option<Result<Input, Ending>>) -> Result<(), Ending> {
        self.inputs += 1;
        if let Some(pace) = &mut self.link {
            pace.heard = Instant::now();
        }
        match input {
            Some(Ok(Input::Ping(nonce))) => {
                if let Some(pace) = &self.link {
                    pace.with.answers.answer(&Answer::Pong(nonce));
                }
                Ok(())
            }
            Some(Ok(Input::Leave)) => {
                self.membership.note_leave();
                Err(Ending::Left)
            }
            Some(Ok(Input::Renewed(rights))) => self.on_renewed(rights),
            Some(Ok(Input::Unknown)) => Ok(()),
            Some(Ok(Input::Say(say))) => self.publisher.on_said(say),
            Some(Err(ending)) => Err(ending),
            None => Err(Ending::HalfClosed),
        }
    }
}

/// What comes next from the client, once it has taken most of what it was answered.
async fn next<S: Stream<Item = Result<Input, Ending>> + Unpin>(
    input: &mut S,
    link: Option<&Pace<'_>>,
) -> Option<Result<Input, Ending>> {
    if let Some(pace) = link {
        poll_fn(|cx| pace.with.answers.poll_room(cx)).await;
    }
    input.next().await
}

/// Lets others have their turn, once.
async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn follow<F: Future + Unpin>(catch_up: Option<F>) -> F::Output {
    match catch_up {
        Some(catch_up) => catch_up.await,
        None => pending().await,
    }
}

async fn ticked(tick: Option<&mut Pin<Box<Sleep>>>) {
    match tick {
        Some(tick) => tick.await,
        None => pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        // Boxed: it is seldom needed, and large.
        Some(instant) => Box::pin(sleep_until(instant)).await,
        None => pending().await,
    }
}
