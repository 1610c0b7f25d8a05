//! A member's way in, back in, and out.

use std::sync::Arc;

use futures_util::task::AtomicWaker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;

use super::{Hub, Member, Seat, departures::Departure, event_now, new_hold, room::Room};
use crate::{
    backplane::{Eviction, Hold, Join, JoinError, Joined, Unavailable},
    domain::{LeftCause, RoomName, Username, What},
    metrics::{InGauge, LeaseLoss, Leave},
    trace,
};

/// How often a join is tried anew because members were found overdue. The second try evicts them;
/// the others are for the name's next holder being overdue by then too.
const EVICTION_ROUNDS: usize = 4;

/// Why nobody got in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnterError {
    /// Somebody holds that name, or a lease of it has not ended yet.
    #[error("the name is taken")]
    Taken,
    /// The room has as many members as it may have.
    #[error("the room has {max} members already")]
    Full {
        /// As many as it may have.
        max: usize,
    },
    /// The room is not open here, and as many rooms are as may be.
    #[error("this replica has {max} rooms already")]
    TooManyRooms {
        /// As many as there may be.
        max: usize,
    },
    /// The backplane does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The hub drains.
    #[error("this replica is shutting down")]
    Draining,
}

/// A member's stay. Dropped, on whatever path, it gives the name back.
#[derive(Debug)]
pub struct Stay {
    reader: Arc<Reader>,
    /// Nothing has to be given back any more.
    over: bool,
    /// Counted once it is in.
    counted_in: Option<InGauge>,
    _counted: TaskTrackerToken,
}

/// A member's place among the readers of its room. What it has not taken stays in the window for it,
/// within the window's bounds, until the last clone is dropped: that may be after its stay.
#[derive(Debug)]
pub struct Reader {
    member: Arc<Member>,
    key: usize,
    seat: Seat,
}

impl Reader {
    /// Whose place it is.
    pub fn member(&self) -> &Member {
        &self.member
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.seat.room.remove_member(self.key);
    }
}

/// What came of taking a name again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retaken {
    /// It had never been lost for the others: what was said under it may go on.
    Kept,
    /// The room had heard `left` and heard `joined` now: a new hold.
    Anew,
    /// It was not: somebody else has the name.
    Taken,
    /// It was not: another stream carries the session.
    Moved,
}

impl Hub {
    /// Takes a name in a room. What happens there from then on can be taken from the member, whose
    /// reader is woken through `reader`.
    pub async fn enter(
        self: &Arc<Self>,
        room: &RoomName,
        name: Username,
        reader: Arc<AtomicWaker>,
    ) -> Result<Stay, EnterError> {
        // Counted before the look, so that nobody slips in behind a hub that drains.
        let counted = self.stays.token();
        if self.draining.is_cancelled() {
            return Err(EnterError::Draining);
        }
        let seat = self.take_seat(room)?;
        if let Some(after) = seat.room.open(&*self.backplane).await? {
            self.report_read(&seat.room, after);
        }
        let hold = new_hold(room.clone(), name, self.replica);
        let member = Arc::new(Member::new(hold.clone(), seat.room.clone(), reader));
        let key = seat.room.add_member(&member);
        // From here on the name may be taken, whether or not anybody waits for the answer.
        let reader = Arc::new(Reader { member, key, seat });
        let mut stay = Stay { reader, over: false, counted_in: None, _counted: counted };
        match self.join(stay.room(), &hold, 0, self.may_reap().is_ok()).await {
            Ok(joined) => {
                stay.member().admit(joined.position);
                self.metrics.joins.inc();
                stay.counted_in = Some(InGauge::new(&self.metrics.members));
                self.watch(room, joined.next_deadline).await;
                Ok(stay)
            }
            // Nobody knows of a new session, so it can neither have ended nor moved.
            Err(JoinError::Taken | JoinError::Ended | JoinError::Moved) => {
                stay.over = true;
                Err(EnterError::Taken)
            }
            Err(JoinError::Full { max }) => {
                stay.over = true;
                Err(EnterError::Full { max })
            }
            Err(JoinError::Overdue(_) | JoinError::Unavailable(_)) => Err(Unavailable.into()),
        }
    }

    /// Joins; if anybody is found overdue, evicts them in the same step. Should there be more of
    /// them than fit into one step, the keeper takes care of the rest.
    async fn join(
        &self,
        room: &Room,
        hold: &Hold,
        appended: u64,
        reap_first: bool,
    ) -> Result<Joined, JoinError> {
        let event = event_now(hold, What::Joined);
        let mut evict: Vec<Eviction> = Vec::new();
        for round in 0..EVICTION_ROUNDS {
            let reap_first = reap_first && round == 0;
            let event = event.clone();
            let join = Join { hold, takeover: None, event, appended, reap_first, evict: &evict };
            match self.backplane.join(join).await {
                Err(JoinError::Overdue(overdue)) => {
                    let skeleton = hold.name.skeleton();
                    let wanted = overdue.iter().any(|it| it.skeleton == skeleton);
                    evict = Self::evictions(room, overdue);
                    if wanted && !evict.iter().any(|it| it.overdue.skeleton == skeleton) {
                        // Whoever has it is here, and only late.
                        return Err(JoinError::Taken);
                    }
                }
                Ok(joined) => {
                    self.metrics.reaped.inc_by(evict.len() as u64);
                    return Ok(joined);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Unavailable.into())
    }
}

impl Stay {
    /// The member.
    pub fn member(&self) -> &Member {
        &self.reader.member
    }

    /// Its place among the readers.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.reader.seat.hub
    }

    fn room(&self) -> &Arc<Room> {
        &self.reader.seat.room
    }

    /// Takes the name again under a fresh token, after a message was refused or a renewal failed;
    /// `appended` is the last client sequence that is known to be appended.
    pub async fn retake(&self, appended: u64) -> Result<Retaken, Unavailable> {
        let span = self.hub().sampler.retake(self.room().name());
        let retaken = self.join_again(appended).instrument(span.clone()).await;
        match &retaken {
            Ok(Retaken::Kept) => span.record("roomcast.outcome", "kept"),
            Ok(Retaken::Anew) => span.record("roomcast.outcome", "anew"),
            Ok(Retaken::Taken) => span.record("roomcast.outcome", "taken"),
            Ok(Retaken::Moved) => span.record("roomcast.outcome", "moved"),
            Err(Unavailable) => {
                trace::failed(&span, "unavailable");
                &span
            }
        };
        retaken
    }

    async fn join_again(&self, appended: u64) -> Result<Retaken, Unavailable> {
        let hub = self.hub();
        let mut hold = self.member().hold();
        hold.token = hold.token.again(rand::random());
        // Before the try: should its answer be lost, the next one finds out.
        self.member().replace_hold(hold.clone());
        match hub.join(self.room(), &hold, appended, false).await {
            Ok(joined) => {
                self.member().confirm(hold.token, joined.position);
                hub.metrics.leases_lost.of(LeaseLoss::Rejoined).inc();
                Ok(if joined.told { Retaken::Anew } else { Retaken::Kept })
            }
            Err(JoinError::Taken) => {
                hub.metrics.leases_lost.of(LeaseLoss::Taken).inc();
                Ok(Retaken::Taken)
            }
            Err(JoinError::Moved | JoinError::Ended) => Ok(Retaken::Moved),
            // There is always a place for who takes its name again.
            Err(JoinError::Full { .. } | JoinError::Overdue(_) | JoinError::Unavailable(_)) => {
                Err(Unavailable)
            }
        }
    }

    /// Gives the name back and tells the room why. Waits for it a bounded time; what is not done by
    /// then is done later.
    pub async fn release(mut self, cause: LeftCause) {
        let hub = self.hub().clone();
        let departure = Departure::new(self.member().hold(), cause, &hub.sampler);
        self.over = true;
        self.count_out(leave(cause));
        // Should this be dropped half-way, or be too slow, it is done later.
        let mut guard = hub.departures.guard(departure, &hub.metrics);
        drop(self);
        let mut departure = guard.departure();
        let leave = departure.leave(&*hub.backplane);
        if let Ok(Ok(())) = tokio::time::timeout(hub.config.release_timeout, leave).await {
            guard.done();
        }
    }

    /// Has the name given back, waiting for nothing.
    pub fn depart(mut self, cause: LeftCause) {
        self.over = true;
        self.depart_later(cause);
    }

    fn depart_later(&self, cause: LeftCause) {
        self.count_out(leave(cause));
        let hub = self.hub();
        let departure = Departure::new(self.member().hold(), cause, &hub.sampler);
        hub.departures.push(departure, &hub.metrics);
    }

    /// The name is somebody else's: there is nothing to give back.
    pub fn abandon(mut self) {
        self.over = true;
        self.count_out(Leave::NameLost);
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
        LeftCause::Shutdown => Leave::Shutdown,
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.member().end();
        if !self.over {
            self.depart_later(LeftCause::Disconnected);
        }
    }
}
