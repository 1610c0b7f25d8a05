//! Names: what it takes to hold one, and what becomes of it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::Unavailable;
use crate::domain::{
    Contact, Event, FencingToken, Head, LeftCause, Member, Position, ReplicaId, RoomName,
    SecretHash, SessionId, StreamId, Username,
};

/// The most holds in one call of [`super::Backplane::renew`].
pub const RENEW_BATCH: usize = 256;

/// The most members in one call of [`super::Backplane::reap`] or [`Join::evict`].
pub const REAP_BATCH: usize = 128;

/// The most members in one page of [`super::Backplane::members`], about.
pub const MEMBERS_PAGE: usize = 500;

/// A name held in a room by one session, whose stream is on this replica.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The room.
    pub room: RoomName,
    /// The name.
    pub name: Username,
    /// The session.
    pub session: SessionId,
    /// When the session began.
    pub since: Timestamp,
    /// What a client has to know to resume the session. `None`: nobody can.
    pub secret: Option<SecretHash>,
    /// How long the session outlives its stream; zero when it ends with it.
    pub linger: Duration,
    /// The number of the client's attempt that brought this stream. Of two streams of a session the one
    /// with the higher number is the newer.
    pub attempt: u64,
    /// The lease's secret, which names the stream too.
    pub token: FencingToken,
    /// The replica that has the stream.
    pub replica: ReplicaId,
    /// The room's head when this hold was last confirmed by a join or a renewal. Tells a
    /// backplane that lost its data from one in which the member was reaped.
    pub confirmed: Option<Position>,
}

/// What [`super::Backplane::join`] needs.
#[derive(Clone, Debug)]
pub struct Join<'a> {
    /// The hold to take. With `hold.confirmed` set it is taken *again*, under a fresh token of the
    /// same stream, by a session that may have lost its lease: then the room is told only if it had
    /// heard `left`, that is, if the session is not in the roster, the confirmed position is still
    /// good, and no lease of this stream proves that only the roster was lost. While another stream has
    /// the session it is refused as [`JoinError::Moved`], unless that one is of an earlier attempt.
    pub hold: &'a Hold,
    /// The session is carried on by a new stream, see [`Takeover`].
    pub takeover: Option<Takeover>,
    /// The last client sequence that the session knows to be appended; 0 when it is new.
    pub appended: u64,
    /// The `joined` event.
    pub event: Arc<Event>,
    /// Answer [`JoinError::Overdue`] if anybody in the room could be reaped and is not in `evict`.
    pub reap_first: bool,
    /// Refuse as [`JoinError::Ended`] where the room would have to be told: whoever only has last words to say
    /// is not announced for them.
    pub silent: bool,
    /// By what right members are reaped. Whoever is overdue and cannot be has the name all the same: then
    /// it is [`JoinError::Taken`].
    pub contact: Option<Contact>,
    /// Overdue members to remove in the same step, before the join, as far as `contact` allows it.
    pub evict: &'a [Eviction],
}

impl<'a> Join<'a> {
    /// A join that nothing was appended before, that carries no session on, and that removes nobody.
    pub fn new(hold: &'a Hold, event: Arc<Event>) -> Self {
        Self {
            hold,
            takeover: None,
            appended: 0,
            event,
            reap_first: false,
            silent: false,
            contact: None,
            evict: &[],
        }
    }
}

/// A new stream carries a session on: it takes the name over from the stream that had it, or that
/// let it linger. Nobody is told but the old stream, by [`super::Signal::Moved`]; the session's
/// mark of lingering is gone, and its client sequences go on. A session that is no longer in the
/// roster is refused as [`JoinError::Ended`], and nothing is changed: it is never joined anew.
///
/// Whoever asks has looked the session up, and names the stream that it saw. Where another one has
/// the session by then, the answer is [`JoinError::Moved`], and where that one is of a later attempt
/// [`JoinError::Overtaken`]; so a takeover that was under way for long does not take the session from a
/// newer stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Takeover {
    /// [`Seated::stream`], whether or not its lease has ended.
    pub from: Option<StreamId>,
}

/// A name was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The position of the `joined` event, or the head where none was needed, in the log as it is now.
    pub position: Position,
    /// The same under the epoch in which the event there was written.
    pub written: Position,
    /// Whether the room was told.
    pub told: bool,
    /// The last client sequence that the session has appended; 0 when there is none.
    pub client_seq: u64,
    /// Time until the room's earliest lease ends.
    pub next_deadline: Duration,
}

/// Why a name was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JoinError {
    /// Somebody else holds it.
    #[error("the name is already taken")]
    Taken,
    /// The session that was to be taken over is over: it has left, or somebody else has the name.
    #[error("the session has ended")]
    Ended,
    /// Another stream has the session: this one was superseded, or is to look it up again.
    #[error("another stream has the session")]
    Moved,
    /// The session has seen a later attempt of its client.
    #[error("the session has seen attempt {seen}")]
    Overtaken {
        /// The latest that it has seen.
        seen: u64,
    },
    /// The room has as many members as it may have. Only a new session is refused so: who comes back to
    /// one, or takes its name again, is not. Members that are evicted in the same step are gone.
    #[error("the room has {max} members already")]
    Full {
        /// As many as it may have.
        max: usize,
    },
    /// These members are overdue, one of them perhaps under the name asked for: join again,
    /// evicting them. The name was not taken.
    #[error("{} members are overdue", .0.len())]
    Overdue(Vec<Overdue>),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What a renewal came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// One for each hold, in their order.
    pub verdicts: Vec<Verdict>,
    /// The room's head; a reader that is behind it missed something.
    pub head: Head,
    /// Time until the room's earliest lease ends, zero if one has. `None` when nobody is there.
    pub next_deadline: Option<Duration>,
}

/// What became of one hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Held, for a full lease from now. The lease may have ended meanwhile without anybody
    /// noticing. One that lingers is held too, and ends when it would have.
    Held,
    /// Not held, and no other session, nor a newer stream of this one, holds the name: join again.
    Gone,
    /// Another session holds the name.
    Taken,
    /// A newer stream has the session, whether or not its lease has ended: this one was superseded.
    Moved,
}

/// A member whose lease ended, and whose session did not go on within its time to linger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overdue {
    /// The name's skeleton.
    pub skeleton: String,
    /// Who it was.
    pub member: Member,
    /// Its stream had dropped; else its replica is lost.
    pub lingered: bool,
    /// How long it had to be resumed.
    pub linger: Duration,
}

impl Overdue {
    /// What the room is told: a session that could have been resumed was not in time, whatever had become
    /// of its stream.
    pub fn cause(&self) -> LeftCause {
        if self.lingered || !self.linger.is_zero() {
            LeftCause::TimedOut
        } else {
            LeftCause::ReplicaLost
        }
    }

    /// For how long whoever reaps it must have seen the backplane at work: its holder needs a lease's time
    /// to renew it, and its client its time to come back, at most as long.
    pub fn needs(&self, lease: Duration) -> Duration {
        if self.lingered { self.linger.min(lease) } else { lease }
    }
}

/// An overdue member and the event that tells of its end.
#[derive(Clone, PartialEq, Debug)]
pub struct Eviction {
    /// Who.
    pub overdue: Overdue,
    /// The `left` event.
    pub event: Arc<Event>,
}

/// What a reaping came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reaped {
    /// How many were removed.
    pub count: usize,
    /// Time until the room's earliest lease ends, zero if one has. `None` when nobody is there.
    pub next_deadline: Option<Duration>,
}

/// Who has a name, by the roster. There from `joined` to `left`, also when the lease has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seated {
    /// The name as spelled, and the session.
    pub member: Member,
    /// What a client has to know to resume the session. `None`: nobody can.
    pub secret: Option<SecretHash>,
    /// The replica that has, or had, the stream.
    pub replica: ReplicaId,
    /// When the session began.
    pub since: Timestamp,
    /// The last client sequence that the session has appended; 0 when there is none.
    pub client_seq: u64,
    /// The stream has dropped, and the name stays for a while.
    pub lingers: bool,
    /// The stream that has the session, or had it last. `None` when that is not known: an earlier version
    /// kept it in the lease, and the lease has ended.
    pub stream: Option<StreamId>,
    /// [`Hold::attempt`] of that stream.
    pub attempt: u64,
}

/// Which members to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MembersPage {
    /// Where to go on. `None`: from the beginning.
    pub cursor: Option<MembersCursor>,
    /// About how many; at least 1, and no more than [`MEMBERS_PAGE`].
    pub limit: usize,
}

/// A place in a list of members; means nothing to anybody but the backplane that gave it. Any
/// number may come back from a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MembersCursor(pub u64);

/// A page of a room's members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// Some members, in no order.
    pub members: Vec<Present>,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<MembersCursor>,
    /// How many members there are now, on all pages.
    pub total: usize,
}

/// A member in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Present {
    /// The name as spelled, and the session.
    pub member: Member,
    /// When the session began.
    pub since: Timestamp,
    /// The stream has dropped, and the name stays for a while.
    pub lingers: bool,
}
