//! The embedded backplane: one process, nothing to install, the semantics of the contract.
//!
//! Everything is behind one lock that is held for one short step at a time, never across an
//! `await`. Every operation takes effect as a whole when its future is first polled, and never waits.

mod decisions;
mod directives;
mod leases;
mod log;
mod outlet_id;
mod outlets;
#[cfg(test)]
mod properties;
mod published;
mod room;
mod rooms;
mod roster;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use self::{
    decisions::Decisions,
    directives::Kept,
    leases::{Incarnation, Leases},
    outlet_id::OutletId,
    outlets::Outlets,
    published::PublishedKeys,
    room::{Room, Rules},
    rooms::Rooms,
};
use super::{
    AppendError, Appended, Backplane, Bans, Checked, DecideError, Decision, Deletion, DirectError,
    Directives, Enforcement, Eviction, Hold, Join, JoinError, Joined, LIST_BATCH, ListError,
    ListPage, LogBounds, Members, MembersCursor, MembersPage, PageLimit, Partition, Publish,
    PublishError, Published, REAP_BATCH, ReapStep, Renewal, RoomHead, RoomNames, RoomSummary,
    Seated, Shard, Signals, Standing, Survey, Unavailable,
};
use crate::domain::{
    Contact, Directive, Epoch, Event, Identity, Page, Position, ReplicaId, RoomName, Until,
    Username,
};

/// How a [`Memory`] behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryConfig {
    /// How long names outlive their replica's last renewal.
    pub lease: Duration,
    /// The bounds of every room's log.
    pub log: LogBounds,
    /// The most bytes that all rooms take together, about.
    pub bytes: usize,
    /// The most members of a room.
    pub members_per_room: usize,
    /// How many signals wait for a replica before live events are dropped; at least 1.
    pub signal_queue: usize,
}

/// State that the replicas attached to it share. Cheap to clone; all clones are the same memory.
///
/// Time is tokio's, so that a test's paused clock holds here too.
#[derive(Clone, Debug)]
pub struct Memory {
    signal_queue: usize,
    lease: Duration,
    /// When its clock began.
    began: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    rooms: Rooms,
    decisions: Decisions,
    directives: Kept,
    leases: Leases,
    outlets: Outlets,
    published: PublishedKeys,
}

impl Memory {
    /// A memory in which nothing has happened.
    pub fn new(config: MemoryConfig) -> Self {
        let MemoryConfig { lease, log, bytes, members_per_room, signal_queue } = config;
        let began = Instant::now();
        let rooms = Rooms::new(Rules { lease, log, members: members_per_room, began }, bytes);
        let state = State {
            rooms,
            decisions: Decisions::default(),
            directives: Kept::default(),
            leases: Leases::new(lease),
            outlets: Outlets::default(),
            published: PublishedKeys::default(),
        };
        Self { signal_queue, lease, began, state: Arc::new(Mutex::new(state)) }
    }

    /// Attaches a replica, until its backplane is closed or dropped; its signals end then.
    /// The names it holds stay until its lease ends.
    pub fn attach(&self, replica: ReplicaId) -> (Arc<dyn Backplane>, Signals) {
        let (outlet, signals) = self.lock().outlets.attach(self.signal_queue);
        tracing::debug!(%replica, "attached to the memory backplane");
        (Arc::new(Attached { memory: self.clone(), outlet }), signals)
    }

    /// The state. A panic in a step would be a bug in it, but no reason to take every
    /// other room down too.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One replica's end.
#[derive(Debug)]
struct Attached {
    memory: Memory,
    outlet: OutletId,
}

impl Attached {
    /// One step. The clock is read under the lock, so that time never goes back for a room.
    fn step<T>(&self, step: impl FnOnce(&mut State, Instant) -> T) -> Result<T, Unavailable> {
        let mut state = self.memory.lock();
        if !state.outlets.is_attached(self.outlet) {
            return Err(Unavailable);
        }
        let now = Instant::now();
        state.rooms.sweep(now);
        Ok(step(&mut state, now))
    }
}

impl State {
    /// A step in a room, begun if need be, of which everybody who listens is told.
    fn begin<T>(
        &mut self,
        name: &RoomName,
        now: Instant,
        step: impl FnOnce(&mut Room, &mut Leases) -> T,
    ) -> T {
        let room = self.rooms.begin(name, now, || Epoch(rand::random()));
        let before = room.bytes();
        let leases = &mut self.leases;
        let done = self.outlets.after(name, room, |room| step(room, leases));
        let after = room.bytes();
        self.rooms.changed(before, after);
        done
    }

    /// The same in a room that is there.
    fn within<T>(
        &mut self,
        name: &RoomName,
        now: Instant,
        step: impl FnOnce(&mut Room, &mut Leases) -> T,
    ) -> Option<T> {
        let room = self.rooms.get(name, now)?;
        let before = room.bytes();
        let leases = &mut self.leases;
        let done = self.outlets.after(name, room, |room| step(room, leases));
        let after = room.bytes();
        self.rooms.changed(before, after);
        Some(done)
    }

    /// Ends a replica's part in it.
    fn detach(&mut self, replica: OutletId) {
        self.outlets.detach(replica);
        self.leases.detach(replica);
    }

    /// Time until the earliest lease ends that is not this one, or somebody's time to linger.
    fn next_deadline(&mut self, now: Instant, own: Incarnation) -> Option<Duration> {
        let lingering = self.rooms.all(now).filter_map(|room| room.next_end()).min();
        let next = self.leases.next_deadline(own).into_iter().chain(lingering).min();
        next.map(|at| at.saturating_duration_since(now))
    }
}

#[async_trait]
impl Backplane for Attached {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn subscribe(&self, room: &RoomName) -> Result<(), Unavailable> {
        self.step(|state, _| state.outlets.subscribe(self.outlet, room))
    }

    fn unsubscribe(&self, room: &RoomName) {
        self.memory.lock().outlets.unsubscribe(self.outlet, room);
    }

    fn partition(&self, _: &RoomName) -> Partition {
        Partition(0)
    }

    async fn join(&self, join: Join<'_>) -> Result<Joined, JoinError> {
        let joined = self.step(|state, now| {
            let own = state.leases.own(self.outlet);
            let decided = state.decisions.of(&join.hold.room, join.hold.identity.as_ref(), now);
            state.begin(&join.hold.room, now, |room, leases| {
                room.join(now, leases, own, &join, &decided)
            })
        });
        joined.unwrap_or_else(|unavailable| Err(unavailable.into()))
    }

    async fn append(
        &self,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError> {
        let appended = self.step(|state, now| {
            let own = state.leases.own(self.outlet);
            state
                .within(&hold.room, now, |room, leases| {
                    room.append(now, leases, own, hold, client_seq, event)
                })
                .unwrap_or(Err(AppendError::Stale))
        });
        appended.unwrap_or_else(|unavailable| Err(unavailable.into()))
    }

    async fn leave(&self, hold: &Hold, event: Arc<Event>) -> Result<Option<Position>, Unavailable> {
        self.step(|state, now| {
            state.within(&hold.room, now, |room, _| room.leave(now, hold, event)).flatten()
        })
    }

    async fn linger(&self, hold: &Hold, time: Duration) -> Result<bool, Unavailable> {
        self.step(|state, now| {
            let own = state.leases.own(self.outlet);
            let lingers =
                state.within(&hold.room, now, |room, _| room.linger(now, own, hold, time));
            lingers.unwrap_or(false)
        })
    }

    async fn owe(
        &self,
        room: &RoomName,
        name: &Username,
        time: Duration,
    ) -> Result<Duration, Unavailable> {
        self.step(|state, now| {
            let room = state.rooms.get(room, now);
            room.map_or(Duration::ZERO, |room| room.owe(now, name, time))
        })
    }

    async fn lookup(
        &self,
        room: &RoomName,
        name: &Username,
    ) -> Result<Option<Seated>, Unavailable> {
        self.step(|state, now| state.rooms.get(room, now).and_then(|room| room.lookup(name)))
    }

    async fn members(&self, room: &RoomName, page: MembersPage) -> Result<Members, Unavailable> {
        self.step(|state, now| {
            let nobody = Members { members: Vec::new(), next: None, total: 0 };
            state.rooms.get(room, now).map_or(nobody, |room| room.members(page))
        })
    }

    async fn renew(&self, _: Partition) -> Result<Renewal, Unavailable> {
        self.step(|state, now| {
            let held = state.leases.renew(self.outlet, now);
            let own = state.leases.own(self.outlet);
            Renewal { held, next_deadline: state.next_deadline(now, own), server: 0 }
        })
    }

    fn renounce(&self, _: Partition) {
        self.memory.lock().leases.renounce(self.outlet);
    }

    async fn check(&self, room: &RoomName, holds: &[Hold]) -> Result<Checked, Unavailable> {
        // A head needs a log, so a room that was forgotten begins here.
        self.step(|state, now| {
            let own = state.leases.own(self.outlet);
            state.begin(room, now, |room, leases| room.check(now, leases, own, holds))
        })
    }

    async fn heads(
        &self,
        _: Partition,
        rooms: &[RoomName],
    ) -> Result<Vec<Option<RoomHead>>, Unavailable> {
        self.step(|state, now| {
            let head = |room| state.within(room, now, |room, _| room.stands(now));
            rooms.iter().map(head).collect()
        })
    }

    async fn overdue(
        &self,
        _: Partition,
        contact: Contact,
        _: ReapStep,
    ) -> Result<Survey, Unavailable> {
        self.step(|state, now| {
            let own = state.leases.own(self.outlet);
            if contact.has_lasted(self.memory.lease, now.duration_since(self.memory.began)) {
                state.leases.declare_late_dead(now, own);
            }
            let State { rooms, leases, .. } = state;
            let mut overdue = Vec::new();
            for room in rooms.all(now) {
                if overdue.len() < REAP_BATCH {
                    overdue.extend(room.overdue(now, leases, own, REAP_BATCH - overdue.len()));
                }
            }
            let all = overdue.len() < REAP_BATCH;
            if all {
                leases.bury(|dead| rooms.any(|room| room.has_members_of(dead)));
            }
            let next = (!all).then_some(ReapStep::BeginNow);
            Survey { overdue, next, next_deadline: state.next_deadline(now, own) }
        })
    }

    async fn reap(
        &self,
        _: Partition,
        contact: Contact,
        evict: &[Eviction],
    ) -> Result<usize, Unavailable> {
        self.step(|state, now| {
            let reaped = evict.iter().filter(|it| {
                let room = &it.overdue.room;
                let reaped =
                    state.within(room, now, |room, leases| room.reap(now, leases, contact, it));
                reaped.unwrap_or(false)
            });
            reaped.count()
        })
    }

    async fn decide(&self, room: &RoomName, decision: Decision<'_>) -> Result<Until, DecideError> {
        self.step(|state, now| state.decisions.decide(room, decision, now))?
    }

    async fn enforce(&self, enforcement: Enforcement<'_>) -> Result<usize, Unavailable> {
        self.step(|state, now| {
            let done =
                state.within(enforcement.room, now, |room, _| room.enforce(now, &enforcement));
            done.unwrap_or(0)
        })
    }

    async fn direct(&self, subject: &str, directive: &Directive) -> Result<(), DirectError> {
        self.step(|state, now| state.directives.direct(subject, directive, now))?
    }

    async fn directives(&self, known: u64) -> Result<Option<Directives>, Unavailable> {
        self.step(|state, now| state.directives.since(known, now))
    }

    async fn standing(
        &self,
        room: &RoomName,
        identity: Option<&Identity>,
    ) -> Result<Standing, Unavailable> {
        self.step(|state, now| state.decisions.of(room, identity, now).standing(now))
    }

    async fn bans(
        &self,
        room: &RoomName,
        cursor: Option<MembersCursor>,
        limit: usize,
    ) -> Result<Bans, Unavailable> {
        self.step(|state, now| state.decisions.bans(room, cursor, limit, now))
    }

    async fn read(
        &self,
        room: &RoomName,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, Unavailable> {
        self.step(|state, now| {
            let nothing = Page { head: None, events: Vec::new() };
            state.within(room, now, |room, _| room.read(now, after, limit)).unwrap_or(nothing)
        })
    }

    async fn canary(&self, number: u64) -> Result<(), Unavailable> {
        self.step(|state, _| state.outlets.canary(self.outlet, number))
    }

    fn shards(&self) -> Vec<Shard> {
        vec![Shard(0)]
    }

    fn shard(&self, _: Partition) -> Shard {
        Shard(0)
    }

    async fn clock(&self, _: Shard) -> Result<Duration, Unavailable> {
        self.step(|_, now| now.duration_since(self.memory.began))
    }

    async fn close(&self) {
        self.memory.lock().detach(self.outlet);
    }

    async fn publish(&self, publish: Publish) -> Result<Published, PublishError> {
        let published = self.step(|state, now| {
            let Publish { room: name, key, .. } = &publish;
            if let Some(key) = key
                && let Some(known) = state.published.find(name, key, now)
            {
                return known;
            }
            let position = state.begin(name, now, |room, _| room.publish(now, &publish))?;
            if let Some(key) = key {
                state.published.remember(name, key, position, now);
            }
            Ok(Published { position, duplicate: false })
        });
        published.unwrap_or_else(|unavailable| Err(unavailable.into()))
    }

    async fn room_names(&self, page: ListPage<'_>) -> Result<RoomNames, ListError> {
        let after = page.from.map(RoomName::parse).transpose().map_err(|_| ListError::Place)?;
        let limit = page.limit.clamp(1, LIST_BATCH);
        let names =
            |state: &mut State, now| state.rooms.names(page.prefix, after.as_ref(), limit, now);
        Ok(self.step(names)?)
    }

    async fn summaries(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomSummary>>, Unavailable> {
        self.step(|state, now| {
            let summary = |room| Some(state.rooms.get(room, now)?.summary());
            rooms.iter().map(summary).collect()
        })
    }

    async fn delete_room(&self, room: &RoomName) -> Result<Deletion, Unavailable> {
        self.step(|state, now| state.rooms.delete(room, now, || Epoch(rand::random())))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.memory.lock().detach(self.outlet);
    }
}
