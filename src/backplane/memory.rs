//! The embedded backplane: one process, nothing to install, the semantics of the contract.
//!
//! Everything is behind one lock that is held for one short step at a time, never across an
//! `await`. Every operation takes effect as a whole when its future is first polled, and never waits.

mod log;
mod outlets;
#[cfg(test)]
mod properties;
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
    outlets::{OutletId, Outlets},
    room::{Room, Rules},
    rooms::Rooms,
};
use super::{
    AppendError, Appended, Backplane, Eviction, Hold, Join, JoinError, Joined, LogBounds, Members,
    MembersPage, Overdue, PageLimit, Reaped, Renewal, Seated, Shard, Signals, Unavailable,
};
use crate::domain::{Contact, Epoch, Event, Page, Position, ReplicaId, RoomName, Username};

/// How a [`Memory`] behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryConfig {
    /// How long a name outlives its last renewal.
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
    /// When its clock began.
    began: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    rooms: Rooms,
    outlets: Outlets,
}

impl Memory {
    /// A memory in which nothing has happened.
    pub fn new(config: MemoryConfig) -> Self {
        let MemoryConfig { lease, log, bytes, members_per_room, signal_queue } = config;
        let began = Instant::now();
        let rooms = Rooms::new(Rules { lease, log, members: members_per_room, began }, bytes);
        let state = State { rooms, outlets: Outlets::default() };
        Self { signal_queue, began, state: Arc::new(Mutex::new(state)) }
    }

    /// Attaches a replica, until its backplane is closed or dropped; its signals end then.
    /// The names it holds stay until their leases end.
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
    fn begin<T>(&mut self, name: &RoomName, now: Instant, step: impl FnOnce(&mut Room) -> T) -> T {
        let room = self.rooms.begin(name, now, || Epoch(rand::random()));
        let before = room.bytes();
        let done = self.outlets.after(name, room, step);
        let after = room.bytes();
        self.rooms.changed(before, after);
        done
    }

    /// The same in a room that is there.
    fn within<T>(
        &mut self,
        name: &RoomName,
        now: Instant,
        step: impl FnOnce(&mut Room) -> T,
    ) -> Option<T> {
        let room = self.rooms.get(name, now)?;
        let before = room.bytes();
        let done = self.outlets.after(name, room, step);
        let after = room.bytes();
        self.rooms.changed(before, after);
        Some(done)
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

    async fn join(&self, join: Join<'_>) -> Result<Joined, JoinError> {
        let joined =
            self.step(|state, now| state.begin(&join.hold.room, now, |room| room.join(now, &join)));
        joined.unwrap_or_else(|unavailable| Err(unavailable.into()))
    }

    async fn append(
        &self,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError> {
        let appended = self.step(|state, now| {
            state
                .within(&hold.room, now, |room| room.append(now, hold, client_seq, event))
                .unwrap_or(Err(AppendError::Stale))
        });
        appended.unwrap_or_else(|unavailable| Err(unavailable.into()))
    }

    async fn leave(&self, hold: &Hold, event: Arc<Event>) -> Result<Option<Position>, Unavailable> {
        self.step(|state, now| {
            state.within(&hold.room, now, |room| room.leave(now, hold, event)).flatten()
        })
    }

    async fn linger(&self, hold: &Hold, time: Duration) -> Result<bool, Unavailable> {
        self.step(|state, now| {
            state.within(&hold.room, now, |room| room.linger(now, hold, time)).unwrap_or(false)
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

    async fn renew(&self, room: &RoomName, holds: &[Hold]) -> Result<Renewal, Unavailable> {
        // A head needs a log, so a room that was forgotten begins here.
        self.step(|state, now| state.begin(room, now, |room| room.renew(now, holds)))
    }

    async fn overdue(&self, room: &RoomName) -> Result<Vec<Overdue>, Unavailable> {
        self.step(|state, now| {
            state.rooms.get(room, now).map_or_else(Vec::new, |room| room.overdue(now))
        })
    }

    async fn reap(
        &self,
        room: &RoomName,
        contact: Contact,
        evict: &[Eviction],
    ) -> Result<Reaped, Unavailable> {
        self.step(|state, now| {
            let nobody = Reaped { count: 0, next_deadline: None };
            state.within(room, now, |room| room.reap(now, contact, evict)).unwrap_or(nobody)
        })
    }

    async fn read(
        &self,
        room: &RoomName,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, Unavailable> {
        self.step(|state, now| {
            let nothing = Page { head: None, events: Vec::new() };
            state.within(room, now, |room| room.read(now, after, limit)).unwrap_or(nothing)
        })
    }

    async fn canary(&self, number: u64) -> Result<(), Unavailable> {
        self.step(|state, _| state.outlets.canary(self.outlet, number))
    }

    fn shards(&self) -> Vec<Shard> {
        vec![Shard(0)]
    }

    fn shard(&self, _: &RoomName) -> Shard {
        Shard(0)
    }

    async fn clock(&self, _: Shard) -> Result<Duration, Unavailable> {
        self.step(|_, now| now.duration_since(self.memory.began))
    }

    async fn close(&self) {
        self.memory.lock().outlets.detach(self.outlet);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.memory.lock().outlets.detach(self.outlet);
    }
}
