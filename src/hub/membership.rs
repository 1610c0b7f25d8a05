//! A member's way in, back in, and out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;

use super::{Hub, Member, RoomRef, reader::Reader, release_queue::Release, room::Room};
use crate::{
    backplane::{JoinError, Unavailable},
    domain::{LeftCause, Position, Until},
    metrics::{InGauge, LeaseLoss, Leave},
    room::LogCursor,
    trace,
};

/// A membership of a room. It ends in one of these ways, each of which is counted:
///
/// | way | what becomes of the name and the session | waits |
/// |---|---|---|
/// | [`leave`](Self::leave) | given back because the client asks for it | until the backplane has it |
/// | [`release`](Self::release) | given back for another cause | a bounded time |
/// | [`release_later`](Self::release_later) | the same | for nothing |
/// | [`linger`](Self::linger) | kept for a while, so that the session can be resumed; else released | a bounded time |
/// | [`lose_name`](Self::lose_name) | the name is somebody else's: nothing is given back | for nothing |
/// | [`put_out`](Self::put_out) | a moderator has given it back: nothing is left to do | for nothing |
/// | [`hand_over`](Self::hand_over) | a newer stream of the session has them | for nothing |
/// | dropped | lingers; else released, as asked for if it was, else as disconnected | for nothing |
///
/// What is not done in time, the release queue does.
#[derive(Debug)]
pub struct Membership {
    reader: Reader,
    /// How long the session outlives it, unless it is ended, and whether its client knows of it.
    linger: (Duration, Arc<AtomicBool>),
    /// Its client asked for its end.
    asked: AtomicBool,
    /// Nothing has to be given back any more.
    over: bool,
    /// Counted once it is in.
    counted_in: Option<InGauge>,
    _counted: TaskTrackerToken,
}

/// How a name is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coming {
    /// By a new session.
    Anew,
    /// By one that may have lost it, and of which the room hears anew then.
    Again,
    /// By one that has only its last words to say: not where the room has heard its end.
    AgainUnheard,
}

/// What came of taking a name again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reacquired {
    /// It had never been lost for the others: what was said under it may go on.
    Kept,
    /// The room had heard `left` and heard `joined` now: a new hold.
    Anew,
    /// It was not: somebody else has the name.
    Taken,
    /// It was not: another stream carries the session.
    Moved,
    /// It was not: the room has heard the session's end, and is not to hear of it again.
    Ended,
    /// It was not: a moderator has put its bearer out.
    PutOut(PutOut),
}

/// What a moderator did to somebody who is not in any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PutOut {
    /// It may come again; why it was put out, for people.
    Kicked(Arc<str>),
    /// It may not, until then.
    Banned(Until),
    /// It has no role in the room any more.
    Forbidden,
}

impl Membership {
    /// A membership that begins: its name may be taken from now on.
    pub(super) fn new(member: Arc<Member>, room_ref: RoomRef, counted: TaskTrackerToken) -> Self {
        Self {
            reader: Reader::new(member, room_ref),
            linger: Default::default(),
            asked: AtomicBool::new(false),
            over: false,
            counted_in: None,
            _counted: counted,
        }
    }

    /// How long the session shall outlive it, from now on.
    pub(super) fn set_linger(&mut self, linger: Duration, told: Arc<AtomicBool>) {
        self.linger = (linger, told);
    }

    /// How long the session is to linger; zero when nobody could resume it.
    fn linger_time(&self) -> Duration {
        let (linger, told) = &self.linger;
        if told.load(Ordering::Acquire) { *linger } else { Duration::ZERO }
    }

    /// It is in, with the room's head at `position`. What comes after it is for its reader, or, for one that
    /// misses nothing, what comes after `place`.
    pub(super) fn admit(&self, position: Position, place: LogCursor) {
        self.member().admit(position, place);
        self.reader.admit(position);
        self.member().wake_reader();
    }

    /// It is in.
    pub(super) fn count_in(&mut self, resumed: bool) {
        let metrics = &self.hub().metrics;
        if resumed {
            metrics.resumes.inc();
        } else {
            metrics.joins.inc();
        }
        self.counted_in = Some(InGauge::new(&metrics.members));
    }

    /// The member.
    pub fn member(&self) -> &Member {
        self.reader.member()
    }

    /// Its place among the readers.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.reader.room_ref().hub
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.reader.room_ref().room
    }

    /// Counts a message against what may be said in the room on this replica. An error tells when there
    /// is room for it.
    pub fn may_say(&self, now: Instant) -> Result<(), Duration> {
        self.room().may_say(now)
    }

    /// Takes the name again under a fresh token, after a message was refused, a lease was lost or a check failed;
    /// `appended` is the last client sequence that is known to be appended.
    ///
    /// A membership that is about to end, and is `last`, is not announced again where the room has heard its end.
    pub async fn reacquire(&self, appended: u64, last: bool) -> Result<Reacquired, Unavailable> {
        let span = self.hub().sampler.retake(self.room().name());
        let retaken = self.join_again(appended, last).instrument(span.clone()).await;
        match &retaken {
            Ok(Reacquired::Kept) => span.record("roomcast.outcome", "kept"),
            Ok(Reacquired::Anew) => span.record("roomcast.outcome", "anew"),
            Ok(Reacquired::Taken) => span.record("roomcast.outcome", "taken"),
            Ok(Reacquired::Moved) => span.record("roomcast.outcome", "moved"),
            Ok(Reacquired::Ended) => span.record("roomcast.outcome", "ended"),
            Ok(Reacquired::PutOut(_)) => span.record("roomcast.outcome", "put out"),
            Err(Unavailable) => {
                // Nobody would tell it again.
                self.room().doubt(Duration::ZERO);
                trace::failed(&span, "unavailable");
                &span
            }
        };
        retaken
    }

    async fn join_again(&self, appended: u64, last: bool) -> Result<Reacquired, Unavailable> {
        let hub = self.hub();
        let mut hold = self.member().hold();
        hold.token = hold.token.again(rand::random());
        // Before the try: should its answer be lost, the next one finds out.
        self.member().replace_hold(hold.clone());
        let coming = if last { Coming::AgainUnheard } else { Coming::Again };
        match hub.join(&hold, appended, coming).await {
            Ok(joined) => {
                self.member().confirm(hold.token, joined.position);
                self.member().set_role(joined.set_role);
                self.room().note_joined(joined.position.epoch, joined.takeovers);
                hub.metrics.leases_lost.of(LeaseLoss::Rejoined).inc();
                Ok(if joined.told { Reacquired::Anew } else { Reacquired::Kept })
            }
            Err(JoinError::Taken) => {
                hub.metrics.leases_lost.of(LeaseLoss::Taken).inc();
                Ok(Reacquired::Taken)
            }
            Err(JoinError::Kicked { reason }) => Ok(Reacquired::PutOut(PutOut::Kicked(reason))),
            Err(JoinError::Banned(until)) => Ok(Reacquired::PutOut(PutOut::Banned(until))),
            Err(JoinError::Forbidden) => Ok(Reacquired::PutOut(PutOut::Forbidden)),
            Err(JoinError::Ended) if last => Ok(Reacquired::Ended),
            Err(JoinError::Moved | JoinError::Overtaken { .. } | JoinError::Ended) => {
                Ok(Reacquired::Moved)
            }
            // There is always a place for who takes its name again.
            Err(JoinError::Full { .. } | JoinError::Overdue(_) | JoinError::Unavailable(_)) => {
                Err(Unavailable)
            }
        }
    }

    /// The client asks for its end: however it comes about, it is no accident any more.
    pub fn note_leave(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Its client is about to be told of its session, if it was not yet: what ends its stream follows.
    pub fn note_told(&self) {
        self.linger.1.store(true, Ordering::Release);
    }

    /// Gives the name back and tells the room why. Waits for it a bounded time; what is not done by
    /// then is done later.
    pub async fn release(self, cause: LeftCause) {
        let patience = self.hub().config.release_timeout;
        let release = Release::leave(self.member(), cause, &self.hub().sampler);
        // Whatever comes of it, nobody is told.
        let _ = timeout(patience, self.go(release, leave(cause))).await;
    }

    /// Gives the name back because the client asks for it. Waits for as long as the backplane may take; an
    /// error says that the room may not have heard of it yet, and that it is done later unless the session
    /// is resumed before.
    pub async fn leave(self) -> Result<(), Unavailable> {
        let release = Release::leave(self.member(), LeftCause::Asked, &self.hub().sampler);
        self.go(release, Leave::Asked).await
    }

    /// The stream is gone and the session stays for a while; or, where it is not to, it ends and the room is
    /// told why. Waits a bounded time for that to be noted; what is not done by then is done later.
    pub async fn linger(self, cause: LeftCause) {
        let time = self.linger_time();
        if time.is_zero() {
            return self.release(cause).await;
        }
        let patience = self.hub().config.release_timeout;
        let release = Release::linger(self.member(), time);
        let _ = timeout(patience, self.go(release, Leave::Lingering)).await;
    }

    async fn go(mut self, release: Release, leave: Leave) -> Result<(), Unavailable> {
        let (hub, member) = (self.hub().clone(), self.reader.member().clone());
        self.over = true;
        self.count_out(leave);
        // Should this be dropped half-way, it is done later.
        let mut guard = hub.releases.guard(release, &hub.metrics);
        drop(self);
        let left = guard.release().carry_out(&hub).await?;
        guard.done();
        if let Some(left) = left {
            member.note_left(left);
        }
        Ok(())
    }

    /// Gives the name back and tells the room why, later.
    pub fn release_later(mut self, cause: LeftCause) {
        self.over = true;
        self.member().end();
        self.queue_release(cause);
    }

    fn queue_release(&self, cause: LeftCause) {
        self.count_out(leave(cause));
        let hub = self.hub();
        let release = Release::leave(self.member(), cause, &hub.sampler);
        hub.releases.push(release, &hub.metrics);
    }

    /// The name is somebody else's: there is nothing to give back.
    pub fn lose_name(mut self) {
        self.over = true;
        self.count_out(Leave::NameLost);
    }

    /// A moderator has given the name back and told the room.
    pub fn put_out(mut self) {
        self.over = true;
        self.count_out(Leave::Kicked);
    }

    /// The session goes on with another stream, which has the name.
    pub fn hand_over(mut self) {
        self.over = true;
        self.count_out(Leave::Superseded);
    }

    fn count_out(&self, leave: Leave) {
        if self.counted_in.is_some() {
            self.hub().metrics.leaves.of(leave).inc();
        }
    }
}

fn leave(cause: LeftCause) -> Leave {
    match cause {
        LeftCause::Asked => Leave::Asked,
        LeftCause::Disconnected => Leave::Disconnected,
        // No member of this replica is lost with another one, and whoever lingers is not here.
        LeftCause::Ended | LeftCause::ReplicaLost | LeftCause::TimedOut => Leave::Ended,
        LeftCause::Kicked => Leave::Kicked,
        LeftCause::Shutdown => Leave::Shutdown,
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.member().end();
        if self.over {
            return;
        }
        let time = self.linger_time();
        if self.asked.load(Ordering::Relaxed) {
            self.queue_release(LeftCause::Asked);
        } else if time.is_zero() {
            self.queue_release(LeftCause::Disconnected);
        } else {
            self.count_out(Leave::Lingering);
            let (hub, release) = (self.hub(), Release::linger(self.member(), time));
            hub.releases.push(release, &hub.metrics);
        }
    }
}
