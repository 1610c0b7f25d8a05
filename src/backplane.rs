//! The contract behind which replicas share state.

#[cfg(test)]
pub mod conformance;
mod directives;
mod listing;
mod log;
pub mod memory;
mod moderation;
mod names;
mod publish;
pub mod redis;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use self::{
    directives::{DIRECTIVES, DirectError, Directives},
    listing::{Deletion, LIST_BATCH, ListError, ListPage, RoomNames, RoomSummary},
    log::{LogBounds, PageLimit},
    moderation::{
        Affected, BANS_PAGE, Ban, BanNote, Bans, DECISIONS, DecideError, Decision, ENFORCE_BATCH,
        Enforcement, Measure, Silenced, Standing,
    },
    names::{
        CHECK_BATCH, Checked, Eviction, HEADS_BATCH, Hold, Join, JoinError, Joined, MEMBERS_PAGE,
        Members, MembersCursor, MembersPage, Overdue, Partition, Present, REAP_BATCH, ReapStep,
        Renewal, RoomHead, RoomsCursor, Seated, Survey, Takeover, Verdict,
    },
    publish::{IdempotencyKey, KEY_LIFETIME, Publish, PublishError, Published},
};
use crate::domain::{
    Contact, Directive, Epoch, Event, Identity, Page, Position, RoomName, SessionId, StreamId,
    Until, Username,
};

/// What replicas share: for each room one log of events, one live channel and the names of its members.
///
/// **Leases.** Rooms are spread over partitions. A replica holds all its names in a partition by one lease, however many
/// there are: a [`join`](Self::join) begins or extends it, [`renew`](Self::renew) extends it, and names are held for as
/// long as it stands. One that has ended and that nobody noticed is simply extended. Once others have declared the replica
/// [dead](Self::overdue), or the backplane has lost its data, it is lost, and all that was held by it with it:
/// the next renewal says so, and each hold has to be joined again. Holds of the same replica that were joined since are
/// good.
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
/// **Fenced.** `append` checks in the same step that the roster has the hold's token and that the replica's lease stands.
/// Whoever lost either cannot speak, whatever he believes.
///
/// **One stream a session.** A session is carried by one stream at a time; a token names its stream.
/// A session's stream gives way to a newer one only, by a [`Takeover`], and hears of it: by
/// [`Signal::Moved`] at once, or else by [`Verdict::Moved`], [`JoinError::Moved`] or a stale append.
/// Which stream that is stands in the roster, so that a name whose lease has ended is given back to it alone:
/// no operation of an older stream changes anything. Should the roster be lost, the stream of the
/// later [attempt](Hold::attempt) prevails. A [`RoomHead`] tells how often it has happened, so that who was not told
/// is found.
///
/// **The roster is good for a lease.** Whoever is in the roster keeps the name until it is
/// [overdue](Overdue) and reaped, and nobody may reap, nor declare a replica dead, without a [`Contact`] that shows that
/// the backplane was at work for so long that the holder could have renewed its lease, or the client come back. It is
/// judged in the step that does it, by the backplane's clock, so that an order that was under way while the backplane
/// stood still is void. A member of whose replica the backplane knows nothing, since it lost data, is kept for a
/// lease from when that is noticed.
///
/// **Moderated.** What was [decided](Self::decide) of an identity in a room outlives the room, and is judged by every
/// join in its own step: who is banned is not let in, and a member that is muted, or has a role, has it from its
/// joining on. Those who are in are dealt with by [`enforce`](Self::enforce), in one step with what the room is told. So
/// whoever decides first, then looks who is in, and then enforces, misses nobody.
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

    /// The partition of a room: the same for all replicas, for ever.
    fn partition(&self, room: &RoomName) -> Partition;

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

    /// The stream is gone and the name stays: for `time` from now, whatever becomes of the replica's lease and also
    /// where it had ended. The member is marked as lingering; the room hears nothing. Unless a
    /// [`Takeover`] comes first, the member is overdue then, as one that
    /// [lingered](Overdue::lingered); with no time at all, it is overdue at once. False when the
    /// session is over or another stream has it, and nothing is changed.
    ///
    /// Until then, and while the replica's lease stands, the hold's token is good: what was under way when the
    /// stream dropped is still appended, and the name can be given back. A join of the stream that comes yet, on
    /// whatever path it was held up, is void, also after the member was reaped.
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

    /// Extends this replica's lease in a partition by a full lease from now. Should nobody extend it again, those
    /// who hold names by it are overdue once they have [lingered](Hold::linger) after that.
    async fn renew(&self, partition: Partition) -> Result<Renewal, Unavailable>;

    /// Begins another lease of this replica in a partition: what is held by the one before is held to its end and no
    /// longer, unless it is joined again, as [`Renewal::held`] says. For names that may be held and that nobody can
    /// give back.
    fn renounce(&self, partition: Partition);

    /// Judges holds of one room, at most [`CHECK_BATCH`] of them, each by itself. Changes nothing, but that a room
    /// that was forgotten begins.
    async fn check(&self, room: &RoomName, holds: &[Hold]) -> Result<Checked, Unavailable>;

    /// Where rooms of a partition stand, at most [`HEADS_BATCH`] of them, in their order; `None` for those that were
    /// forgotten. Rooms with members are not, for as long as somebody asks for their heads at least every four
    /// leases, whatever their logs' age is.
    async fn heads(
        &self,
        partition: Partition,
        rooms: &[RoomName],
    ) -> Result<Vec<Option<RoomHead>>, Unavailable>;

    /// Members of a partition's rooms whose time has passed: of replicas whose leases have ended, and those that
    /// lingered; some hundred at a time, in no order, and none of this replica's own. Replicas whose leases have
    /// ended are declared dead first, as far as `contact` allows it.
    async fn overdue(
        &self,
        partition: Partition,
        contact: Contact,
        step: ReapStep,
    ) -> Result<Survey, Unavailable>;

    /// Removes those members, at most [`REAP_BATCH`] of one partition, as far as they are still overdue and `contact`
    /// allows it, and tells their rooms with their events. Each is told once, whoever reaps first. Returns how many
    /// were removed.
    async fn reap(
        &self,
        partition: Partition,
        contact: Contact,
        evict: &[Eviction],
    ) -> Result<usize, Unavailable>;

    /// Keeps something of a room from now on, or no longer. Says until when it holds.
    async fn decide(&self, room: &RoomName, decision: Decision<'_>) -> Result<Until, DecideError>;

    /// Does something to members, as far as they are still there, and tells the room. Returns to how many.
    async fn enforce(&self, enforcement: Enforcement<'_>) -> Result<usize, Unavailable>;

    /// How somebody stands in a room, or nobody in particular. Changes nothing.
    async fn standing(
        &self,
        room: &RoomName,
        identity: Option<&Identity>,
    ) -> Result<Standing, Unavailable>;

    /// A page of the bans of a room that hold. As for members, pages are no snapshot. Changes nothing.
    async fn bans(
        &self,
        room: &RoomName,
        cursor: Option<MembersCursor>,
        limit: usize,
    ) -> Result<Bans, Unavailable>;

    /// Tells all replicas something about a subject, for as long as [`Directive::kept_for`] says.
    async fn direct(&self, subject: &str, directive: &Directive) -> Result<(), DirectError>;

    /// All that replicas were told about subjects; `None` where nothing has changed since that version of it. Changes
    /// nothing.
    async fn directives(&self, known: u64) -> Result<Option<Directives>, Unavailable>;

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

    /// Which part keeps a partition now.
    fn shard(&self, partition: Partition) -> Shard;

    /// The clock of a part of the backplane, if that takes changes: the time since some moment that is the same for
    /// all replicas. It may be set, forth or back.
    async fn clock(&self, shard: Shard) -> Result<Duration, Unavailable>;

    /// Why nothing can be appended at present, in words for an operator, if it said so.
    fn write_error(&self) -> Option<String> {
        None
    }

    /// Ends all work in bounded time: queued operations are finished first. Idempotent.
    async fn close(&self);

    /// Appends a message of a service, which is no member: it has no place in the roster, needs no lease, and a room
    /// that is not there begins, to be forgotten as one that its last member has left. With a key it is appended once
    /// within [`KEY_LIFETIME`]: repeating it answers where it is, also when the first answer was lost. Without one,
    /// repeating it may append it twice.
    ///
    /// Messages of one room whose futures are first polled one after another take effect in that order, except for
    /// one that the backplane refuses for now and that is tried again.
    async fn publish(&self, publish: Publish) -> Result<Published, PublishError>;

    /// A page of the names of all rooms. Changes nothing.
    ///
    /// Pages are no snapshot: a room that is there from the first page to the last one is on one of them, and may be on
    /// two; one that comes or goes meanwhile may be missing, and one that was forgotten may be told. A page may be empty
    /// although others follow: what one call does is bounded.
    async fn room_names(&self, page: ListPage<'_>) -> Result<RoomNames, ListError>;

    /// How rooms stand, at most [`LIST_BATCH`] of them, in their order; `None` for those that are not there. Changes
    /// nothing, and keeps none of them from being forgotten.
    async fn summaries(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomSummary>>, Unavailable>;

    /// Deletes a room that nobody is in, and its log. Whoever comes later begins another one. What names owe and
    /// idempotency keys stay as long as they would have.
    async fn delete_room(&self, room: &RoomName) -> Result<Deletion, Unavailable>;
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
    /// The name is no longer this hold's.
    #[error("the name is no longer held")]
    Stale,
    /// The member may not speak now. Nothing was appended, and the message may be appended later.
    #[error("the member may not speak")]
    Silenced(Silenced),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The backplane did not answer within the deadline; whether the operation took effect is
/// unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the backplane does not answer")]
pub struct Unavailable;
