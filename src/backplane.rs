//! The contract behind which replicas share state.

#[cfg(test)]
pub mod conformance;
mod log;
pub mod memory;
mod names;
pub mod redis;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use self::{
    log::{LogBounds, PageLimit},
    names::{
        Eviction, Hold, Join, JoinError, Joined, MEMBERS_PAGE, Members, MembersCursor, MembersPage,
        Overdue, Present, REAP_BATCH, RENEW_BATCH, Reaped, Renewal, Seated, Takeover, Verdict,
    },
};
use crate::domain::{
    Contact, Epoch, Event, Page, Position, RoomName, SessionId, StreamId, Username,
};

/// What replicas share: for each room one log of events, one live channel and the leases of names.
///
/// **Atomic.** Every operation that changes a room is one step: the change of state and the
/// event that tells of it happen together or not at all. Events of a room have positions
/// (epoch, seq), dense from 1 within an epoch, and everybody who reads sees the same event at
/// the same position.
///
/// **Ordered.** Appends for one hold whose futures are first polled one after another, without waiting for the
/// answers, take effect in that order. Live events of one room arrive in order of
/// position; between rooms there is no order.
///
/// **What may be lost.** Live events may be lost in any number, whether or not
/// [`Signal::Resumed`] follows; the log then has them, within its bounds on length and age. So
/// a reader must judge every position it is handed. A whole log may be lost, or its tail;
/// then the epoch differs, and [`Head::past`](crate::domain::Head::past) says up to where positions of the epochs before
/// are still good.
///
/// **Repeatable.** When an operation fails with [`Unavailable`] it is unknown whether it took
/// effect. Repeating it with the same session, token and client sequence is harmless: `append`
/// drops what the session appended already, `join` answers as it did at first, `leave` finds
/// nothing left to give back, `linger` begins anew.
///
/// **Fenced.** `append` checks the hold's token against the lease in the same step. Who lost the lease
/// cannot speak, whatever he believes.
///
/// **One stream a session.** A session is carried by one stream at a time; a token names its stream.
/// A session's stream gives way to a newer one only, by a [`Takeover`], and hears of it: by
/// [`Signal::Moved`] at once, or else by [`Verdict::Moved`], [`JoinError::Moved`] or a stale append.
/// Which stream that is stands in the roster, so that a lease that has ended is given back to it alone:
/// no operation of an older stream changes anything. Should the roster be lost, the stream of the
/// later [attempt](Hold::attempt) prevails.
///
/// **The roster is good for a lease.** Whoever is in the roster keeps the name until it is
/// [overdue](Overdue) and reaped, and nobody may reap without a [`Contact`] that shows that the backplane was at work
/// for so long that the holder could have renewed it, or the client come back. It is judged in the
/// step that reaps, by the backplane's clock, so that an order that was under way while the backplane
/// stood still is void.
///
/// **Bounded.** Every operation ends within the deadline that the implementation was built with.
/// Queues are bounded; a caller waits while they are full.
#[async_trait]
pub trait Backplane: Send + Sync + 'static {
    /// What it is, for people: `memory`, `redis`.
    fn name(&self) -> &'static str;

    /// Starts live delivery of a room to this replica's [`Signal`]s. Once it returns, every event
    /// appended later is delivered, as far as live events are.
    async fn subscribe(&self, room: &RoomName) -> Result<(), Unavailable>;

    /// Ends live delivery of a room. Takes effect in order with `subscribe`, as far as rooms of the same
    /// [part](Self::shard) are concerned.
    fn unsubscribe(&self, room: &RoomName);

    /// Takes a name in a room and tells the room.
    async fn join(&self, join: Join<'_>) -> Result<Joined, JoinError>;

    /// Appends what a member says. A session's client sequences are dense: one that leaves a hole
    /// is refused as [`AppendError::Stale`], so that a message that was refused is never overtaken.
    async fn append(
        &self,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError>;

    /// Gives a name back and tells the room with `event`, once. A member whose join the log has
    /// lost, see [`Hold::confirmed`], is told of too, unless somebody else has the name. Not holding
    /// it any more is no error. `None` when there was nothing to give back.
    async fn leave(&self, hold: &Hold, event: Arc<Event>) -> Result<Option<Position>, Unavailable>;

    /// The stream is gone and the name stays: the lease ends in `time` from now, whatever it was
    /// before and also where it had ended, and is marked as lingering. The room hears nothing. Unless a
    /// [`Takeover`] comes first, the member is overdue then, as one that
    /// [lingered](Overdue::lingered); with no time at all, it is overdue at once. False when the
    /// session is over or another stream has it, and nothing is changed.
    ///
    /// Until then the hold's token is good: what was under way when the stream dropped is still
    /// appended, and the name can be given back. A renewal that was under way changes nothing, and a join
    /// of the stream that comes yet, on whatever path it was held up, is void, also after the member was
    /// reaped.
    async fn linger(&self, hold: &Hold, time: Duration) -> Result<bool, Unavailable>;

    /// Notes that whoever has a name in a room owes what was said under it before, for `time` from now, unless
    /// it is owed for longer. Returns for how long it is; with no time at all it only asks. A note is no part of
    /// the room's log: it may be lost with the backplane's data, and outlives the room if need be.
    async fn owe(
        &self,
        room: &RoomName,
        name: &Username,
        time: Duration,
    ) -> Result<Duration, Unavailable>;

    /// Who has a name. Changes nothing.
    async fn lookup(&self, room: &RoomName, name: &Username)
    -> Result<Option<Seated>, Unavailable>;

    /// A page of the members of a room, who are members from `joined` to `left`. Changes nothing.
    ///
    /// Pages are no snapshot: who is there from the first page to the last one is on one of them, and
    /// may be on two; who comes or goes meanwhile may be missing. There is no order. A page
    /// may be empty although others follow.
    async fn members(&self, room: &RoomName, page: MembersPage) -> Result<Members, Unavailable>;

    /// Extends leases of one room, at most [`RENEW_BATCH`] of them, by a full lease from now. Should
    /// nobody extend them again, their members are overdue once they have [lingered](Hold::linger) after
    /// that.
    async fn renew(&self, room: &RoomName, holds: &[Hold]) -> Result<Renewal, Unavailable>;

    /// Members of a room whose leases ended without anybody giving them back, and whose time to linger
    /// has passed too, the longest overdue first, at most [`REAP_BATCH`].
    async fn overdue(&self, room: &RoomName) -> Result<Vec<Overdue>, Unavailable>;

    /// Removes those members, as far as they are still overdue and `contact` allows it, and tells the room
    /// with their events. Each is told once, whoever reaps first.
    async fn reap(
        &self,
        room: &RoomName,
        contact: Contact,
        evict: &[Eviction],
    ) -> Result<Reaped, Unavailable>;

    /// Events of a room's log with a sequence number above `after`, in order, as many as `limit`
    /// allows, together with the head at that moment.
    ///
    /// Sequence numbers are dense within the log, so that the `n` events before one at `seq` are
    /// those after `seq - n - 1`, in a page of at most `n`. Where a byte limit cuts such a page
    /// short, it lacks the events next to `seq`; the rest is read after its last one.
    async fn read(
        &self,
        room: &RoomName,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, Unavailable>;

    /// Sends `number` to this very replica by the way that live events take; it comes back as
    /// [`Signal::Canary`] if, and only if, live delivery of all subscribed rooms of a part of the backplane works:
    /// once from each part. It goes out as messages do, and fails while none could be appended.
    async fn canary(&self, number: u64) -> Result<(), Unavailable>;

    /// The parts of the backplane that are there now.
    fn shards(&self) -> Vec<Shard>;

    /// Which part keeps a room now.
    fn shard(&self, room: &RoomName) -> Shard;

    /// The clock of a part of the backplane, if that takes changes: the time since some moment that is the same for
    /// all replicas. It may be set, forth or back.
    async fn clock(&self, shard: Shard) -> Result<Duration, Unavailable>;

    /// Why nothing can be appended at present, in words for an operator, if it said so.
    fn write_error(&self) -> Option<String> {
        None
    }

    /// Ends all work in bounded time: queued operations are finished first. Idempotent.
    async fn close(&self);
}

/// A part of the backplane, which may be away while others are not; some rooms are kept there. Means nothing to
/// anybody but the replica that was told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shard(pub u64);

/// Everything that comes in from the backplane, in the order in which it has to be handled.
#[derive(Clone, Debug)]
pub enum Signal {
    /// Events as they happened.
    Live(Live),
    /// Live delivery of these rooms was interrupted and goes on now, they being subscribed again: anything may
    /// have been missed. `None` stands for all rooms.
    Resumed(Option<Vec<RoomName>>),
    /// A canary came back.
    Canary(u64),
    /// A session has another stream. No event: it has no position, and may be lost.
    Moved(Moved),
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

/// A session that was taken over from a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// In which room.
    pub room: RoomName,
    /// Which session.
    pub session: SessionId,
    /// The stream that lost it.
    pub from: StreamId,
}

/// What an append came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Where the event is. For a duplicate, where the session's last one is.
    pub position: Position,
    /// The client sequence of the event there: for a duplicate, the session's last one.
    pub client_seq: u64,
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
