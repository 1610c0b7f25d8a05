//! Names: what it takes to hold one, and what becomes of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::Unavailable;
use crate::domain::{
    Contact, Event, FencingToken, Head, Identity, LeftCause, Member, Position, ReplicaId, RoomName,
    RoomRole, RoomSettings, SecretHash, SessionId, StreamId, Until, Username,
};

/// The most holds in one call of [`super::Backplane::check`].
pub const CHECK_BATCH: usize = 256;

/// The most rooms in one call of [`super::Backplane::heads`].
pub const HEADS_BATCH: usize = 128;

/// The most members in one call of [`super::Backplane::reap`].
pub const REAP_BATCH: usize = 128;

/// The most members in one page of [`super::Backplane::members`], about.
pub const MEMBERS_PAGE: usize = 500;

/// Rooms whose names a replica holds by one lease. Means nothing to anybody but the backplane that has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition(pub usize);

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
    /// The hold's secret, which names the stream too.
    pub token: FencingToken,
    /// The replica that has the stream.
    pub replica: ReplicaId,
    /// Whom bans, mutes and roles of the room are about that concern it. `None`: nobody; it is a backend's.
    pub identity: Option<Identity>,
    /// The role in rooms in which none was set for the identity; [`RoomRole::None`] for no right to the room.
    pub role: RoomRole,
    /// The room's head when this hold was last confirmed by a join or a check. Tells a
    /// backplane that lost its data from one in which the member was reaped.
    pub confirmed: Option<Position>,
}

/// What [`super::Backplane::join`] needs.
#[derive(Clone, Debug)]
pub struct Join<'a> {
    /// The hold to take. With `hold.confirmed` set it is taken *again*, under a fresh token of the
    /// same stream, by a session that may have lost it: then the room is told only if it had
    /// heard `left`, that is, if the session is not in the roster and the confirmed position is still
    /// good. While another stream has the session it is refused as [`JoinError::Moved`], unless that one is of
    /// an earlier attempt.
    pub hold: &'a Hold,
    /// The session is carried on by a new stream, see [`Takeover`].
    pub takeover: Option<Takeover>,
    /// The last client sequence that the session knows to be appended; 0 when it is new.
    pub appended: u64,
    /// The `joined` event.
    pub event: Arc<Event>,
    /// Refuse as [`JoinError::Ended`] where the room would have to be told: whoever only has last words to say
    /// is not announced for them.
    pub silent: bool,
    /// By what right a member is reaped. Whoever is overdue and cannot be has the name all the same: then
    /// it is [`JoinError::Taken`].
    pub contact: Option<Contact>,
    /// The overdue member that has the name, to be removed in the same step, before the join, if `contact` allows
    /// it. Its replica loses all that it holds in the partition.
    pub evict: Option<&'a Eviction>,
}

impl<'a> Join<'a> {
    /// A join that nothing was appended before, that carries no session on, and that removes nobody.
    pub fn new(hold: &'a Hold, event: Arc<Event>) -> Self {
        Self { hold, takeover: None, appended: 0, event, silent: false, contact: None, evict: None }
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
    /// [`Seated::stream`], whether or not its replica's lease has ended.
    pub from: StreamId,
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
    /// [`RoomHead::takeovers`].
    pub takeovers: u64,
    /// The role that was set for its identity in the room, if one was.
    pub set_role: Option<RoomRole>,
    /// What holds in the room.
    pub settings: RoomSettings,
    /// The sequence number of the session's first `joined`, or of the head where none was needed.
    pub began: u64,
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
    /// The session is over: a moderator has put it out a short while ago.
    #[error("kicked: {reason}")]
    Kicked {
        /// Why, for people.
        reason: Arc<str>,
    },
    /// Nobody of this identity may come in.
    #[error("banned")]
    Banned(Until),
    /// It has no role in the room.
    #[error("no access")]
    Forbidden,
    /// The room has as many members as it may have. Only a new session is refused so: who comes back to
    /// one, or takes its name again, is not. Members that are evicted in the same step are gone.
    #[error("the room has {max} members already")]
    Full {
        /// As many as it may have.
        max: usize,
        /// Somebody in the partition is overdue, perhaps here: reap, and try again.
        overdue: bool,
    },
    /// This member has the name, and is overdue: join again, evicting it. The name was not taken.
    #[error("{} is overdue", .0.member.name)]
    Overdue(Box<Overdue>),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What the renewal of a replica's lease in a partition came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// The lease was held, and is for a full lease from now; or there was nothing to hold. It may have ended
    /// meanwhile without anybody noticing. False, once, when it was lost, and with it every hold of this replica in the
    /// partition that was not joined again since: the others declared the replica dead, or the backplane lost its data.
    pub held: bool,
    /// Time until the partition's earliest lease of another replica ends, or somebody's time to linger, zero if one
    /// has. `None` when there is none.
    pub next_deadline: Option<Duration>,
    /// Stands for the server that answered. Where it is another one than before, that one may not have had everything
    /// that was answered to before.
    pub server: u64,
}

/// What a check of a room came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// One for each hold, in their order.
    pub verdicts: Vec<Verdict>,
    /// The room's head; a reader that is behind it missed something.
    pub head: RoomHead,
}

/// Where a room stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomHead {
    /// Where its log ends.
    pub log: Head,
    /// How many streams have lost their sessions to newer ones there. Where that is more than was
    /// [heard of](super::Signal::Moved), some have not been told.
    pub takeovers: u64,
}

/// What became of one hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Held, for as long as the replica's lease is. One that lingers is held too, and ends when it would have.
    Held,
    /// Not held, and no other session, nor a newer stream of this one, holds the name: join again.
    Gone,
    /// Another session holds the name.
    Taken,
    /// A newer stream has the session, whether or not its replica's lease has ended: this one was superseded.
    Moved,
}

/// A member whose replica's lease ended, and whose session did not go on within its time to linger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overdue {
    /// The room.
    pub room: RoomName,
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

/// Where a look for overdue members goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ReapStep {
    /// It begins; but what another replica has begun, and will have done in half a lease, is left to that one.
    #[default]
    Begin,
    /// It begins, whatever others do.
    BeginNow,
    /// It goes on.
    Rooms(RoomsCursor),
}

/// Which rooms of a partition have been looked through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomsCursor {
    /// Rooms that are known of and have not been looked through, with a place in each.
    pub(super) rooms: VecDeque<(RoomName, MembersCursor)>,
    /// Where the next rooms are known from; `None` when there are no more.
    pub(super) next: Option<MembersCursor>,
    /// The incarnations of replicas whose members are looked for, and whether one was found.
    pub(super) dead: Vec<(String, bool)>,
}

/// Some overdue members of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// They may be of several rooms.
    pub overdue: Vec<Overdue>,
    /// Where to go on, once these have been reaped; `None` when that is all.
    pub next: Option<ReapStep>,
    /// As in [`Renewal::next_deadline`], where that was looked for.
    pub next_deadline: Option<Duration>,
}

/// Who has a name, by the roster. There from `joined` to `left`, also when its replica's lease has ended.
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
    /// The stream that has the session, or had it last.
    pub stream: StreamId,
    /// [`Hold::attempt`] of that stream.
    pub attempt: u64,
    /// The subject of its identity, if it has one.
    pub subject: Option<Arc<str>>,
    /// Its role in the room: the one that was set for it, or that of its token.
    pub role: RoomRole,
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
    /// See [`Seated::subject`].
    pub subject: Option<Arc<str>>,
    /// See [`Seated::role`].
    pub role: RoomRole,
}
