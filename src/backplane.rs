//! The contract behind which replicas share state.

#[cfg(test)]
pub mod conformance;
pub mod memory;
pub mod redis;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::domain::{
    Epoch, Event, HoldToken, Member, Position, ReplicaId, RoomName, SessionId, Username,
};

/// What replicas share: for each room one log of events, one live channel and the leases of names.
///
/// **Atomic.** Every operation that changes a room is one step: the change of state and the
/// event that tells of it happen together or not at all. Events of a room have positions
/// (epoch, seq), dense from 1 within an epoch, and everybody who reads sees the same event at
/// the same position.
///
/// **Ordered.** Appends that one caller issues for one room, one after another without waiting
/// for the answers, take effect in that order. Live events of one room arrive in order of
/// position; between rooms there is no order.
///
/// **What may be lost.** Live events may be lost in any number, whether or not
/// [`Signal::Resumed`] follows; the log then has them, within its bounds on length and age. So
/// a reader must judge every position it is handed. A whole log may be lost, or its tail;
/// then the epoch differs, and [`Head::past`] says up to where positions of the epochs before
/// are still good.
///
/// **Repeatable.** When an operation fails with [`Unavailable`] it is unknown whether it took
/// effect. Repeating it with the same session, token and client sequence is harmless: `append`
/// drops what the session appended already, `join` answers as it did at first, `leave` finds
/// nothing left to give back.
///
/// **Fenced.** `append` and `leave` check the hold's token against the lease in the same step. Who
/// lost the lease cannot speak, whatever he believes.
///
/// **Bounded.** Every operation ends within the deadline that the implementation was built with.
/// Queues are bounded; a caller waits while they are full.
pub trait Backplane: Send + Sync + 'static {
    /// What it is, for people: `memory`, `redis`.
    fn name(&self) -> &'static str;

    /// Starts live delivery of a room to this replica's [`Signal`]s. Once it returns, every event
    /// appended later is delivered, as far as live events are.
    fn subscribe<'a>(&'a self, room: &'a RoomName) -> BoxFuture<'a, Result<(), Unavailable>>;

    /// Ends live delivery of a room. Takes effect in order with `subscribe`.
    fn unsubscribe(&self, room: &RoomName);

    /// Takes a name in a room and tells the room.
    fn join<'a>(&'a self, join: Join<'a>) -> BoxFuture<'a, Result<Joined, JoinError>>;

    /// Appends what a member says. A session's client sequences are dense: one that leaves a hole
    /// is refused as [`AppendError::Stale`], so that a message that was refused is never overtaken.
    fn append<'a>(
        &'a self,
        hold: &'a Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> BoxFuture<'a, Result<Appended, AppendError>>;

    /// Gives a name back and tells the room with `event`, once. A member whose join the log has
    /// lost, see [`Hold::confirmed`], is told of too, unless somebody else has the name. Not holding it any more is no error.
    /// `None` when there was nothing to give back.
    fn leave<'a>(
        &'a self,
        hold: &'a Hold,
        event: Arc<Event>,
    ) -> BoxFuture<'a, Result<Option<Position>, Unavailable>>;

    /// Extends leases of one room, at most [`RENEW_BATCH`] of them, by a full lease from now.
    fn renew<'a>(
        &'a self,
        room: &'a RoomName,
        holds: &'a [Hold],
    ) -> BoxFuture<'a, Result<Renewal, Unavailable>>;

    /// Members of a room whose leases ended without anybody giving them back, the longest
    /// overdue first, at most [`REAP_BATCH`].
    fn overdue<'a>(
        &'a self,
        room: &'a RoomName,
    ) -> BoxFuture<'a, Result<Vec<Overdue>, Unavailable>>;

    /// Removes those members, as far as they are still overdue, and tells the room with their
    /// events. Each is told once, whoever reaps first.
    fn reap<'a>(
        &'a self,
        room: &'a RoomName,
        evict: &'a [Eviction],
    ) -> BoxFuture<'a, Result<Reaped, Unavailable>>;

    /// Events of a room's log with a sequence number above `after`, in order, as many as `limit`
    /// allows, together with the head at that moment.
    fn read<'a>(
        &'a self,
        room: &'a RoomName,
        after: u64,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<Page, Unavailable>>;

    /// Sends `number` to this very replica by the way that live events take; it comes back as
    /// [`Signal::Canary`] if, and only if, live delivery of all subscribed rooms works.
    fn canary(&self, number: u64) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Ends all work in bounded time: queued operations are finished first. Idempotent.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The most holds in one call of [`Backplane::renew`].
pub const RENEW_BATCH: usize = 256;

/// The most members in one call of [`Backplane::reap`] or [`Join::evict`].
pub const REAP_BATCH: usize = 128;

/// How many earlier epochs a log remembers. A reader that missed more changes than that is told
/// that the log is gone, and reads it anew.
pub const PAST_EPOCHS: usize = 8;

/// Everything that comes in from the backplane, in the order in which it has to be handled.
#[derive(Clone, Debug)]
pub enum Signal {
    /// Events as they happened.
    Live(Live),
    /// Live delivery was interrupted and goes on now, all rooms being subscribed again:
    /// anything may have been missed.
    Resumed,
    /// A canary came back.
    Canary(u64),
}

/// The receiving end of a replica's signals; bounded. When it overflows, live events are
/// dropped and [`Signal::Resumed`] follows.
pub type Signals = mpsc::Receiver<Signal>;

/// Consecutive events of one room.
#[derive(Clone, Debug)]
pub struct Live {
    /// Whose log.
    pub room: RoomName,
    /// Which log.
    pub epoch: Epoch,
    /// The sequence number of the first event.
    pub first: u64,
    /// The events, at least one.
    pub events: Vec<Arc<Event>>,
}

/// A name held in a room by one member's stay on this replica.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The room.
    pub room: RoomName,
    /// The name.
    pub name: Username,
    /// The stay.
    pub session: SessionId,
    /// The lease's secret.
    pub token: HoldToken,
    /// The replica that has the stream.
    pub replica: ReplicaId,
    /// The room's head when this hold was last confirmed by a join or a renewal. Tells a
    /// backplane that lost its data from one in which the member was reaped.
    pub confirmed: Option<Position>,
}

/// What [`Backplane::join`] needs.
#[derive(Clone, Debug)]
pub struct Join<'a> {
    /// The hold to take. With `hold.confirmed` set it is taken *again*, under a fresh token, by a
    /// session that may have lost its lease: then the room is told only if it had heard `left`,
    /// that is, if the session is not in the roster and the confirmed position is still good.
    pub hold: &'a Hold,
    /// The last client sequence that the session knows to be appended; 0 when it is new.
    pub appended: u64,
    /// The `joined` event.
    pub event: Arc<Event>,
    /// Answer [`JoinError::Overdue`] if anybody in the room is overdue and not in `evict`.
    pub reap_first: bool,
    /// Overdue members to remove in the same step, before the join.
    pub evict: &'a [Eviction],
}

/// A name was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The position of the `joined` event, or the head where none was needed.
    pub position: Position,
    /// Whether the room was told.
    pub told: bool,
    /// Time until the room's earliest lease ends.
    pub next_deadline: Duration,
}

/// Why a name was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JoinError {
    /// Somebody else holds it.
    #[error("the name is already taken")]
    Taken,
    /// These members are overdue, one of them perhaps under the name asked for: join again,
    /// evicting them. The name was not taken.
    #[error("{} members are overdue", .0.len())]
    Overdue(Vec<Overdue>),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What an append came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Where the event is. For a duplicate, where the session's last one is.
    pub position: Position,
    /// The session had appended this client sequence, or a later one, before.
    pub duplicate: bool,
}

/// Why nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// The lease is no longer this hold's.
    #[error("the name is no longer held")]
    Stale,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The backplane did not answer within the deadline; whether the operation took effect is
/// unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the backplane does not answer")]
pub struct Unavailable;

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
    /// noticing.
    Held,
    /// Not held, and nobody else holds the name: join again.
    Gone,
    /// Somebody else holds the name.
    Taken,
}

/// Where a room's log ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The position of the last event; seq 0 when there is none.
    pub position: Position,
    /// The last good positions of the epochs from which the log went on, the latest last,
    /// at most [`PAST_EPOCHS`].
    pub past: Vec<Position>,
}

impl Head {
    /// Whether an event at `position` is part of this log.
    pub fn includes(&self, position: Position) -> bool {
        let good = |end: Position| end.epoch == position.epoch && position.seq <= end.seq;
        good(self.position) || self.past.iter().copied().any(good)
    }
}

/// How much of a log is read at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLimit {
    /// The most events.
    pub events: usize,
    /// About the most bytes of encoded events; at least one event is read.
    pub bytes: usize,
}

/// A part of a room's log.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<E = Arc<Event>> {
    /// Where the log ended at that moment. `None` when there is no log.
    pub head: Option<Head>,
    /// Sequence numbers and events, in order; dense, except that the log may
    /// no longer have the first ones that were asked for.
    pub events: Vec<(u64, E)>,
}

/// A member whose lease ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overdue {
    /// The name's skeleton.
    pub skeleton: String,
    /// Who it was.
    pub member: Member,
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

/// The bounds of a room's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// About how many events it keeps.
    pub length: usize,
    /// About how long it keeps them; also how long an empty room is remembered.
    pub age: Duration,
}
