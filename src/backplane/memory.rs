//! The embedded backplane: one process, nothing to install, the semantics of the contract.
//!
//! Everything is behind one lock that is held for one short step at a time, never across an
//! `await`. Every operation takes effect when it is called, not when its future is first polled,
//! so that operations take effect in the order of the calls, however they are awaited.

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
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use self::{
    outlets::{OutletId, Outlets},
    room::{Room, Rules},
    rooms::Rooms,
};
use super::{
    AppendError, Appended, Backplane, Eviction, Hold, Join, JoinError, Joined, LogBounds, Members,
    MembersPage, Overdue, PageLimit, Reaped, Renewal, Seated, Signals, Unavailable,
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

impl Backplane for Attached {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn subscribe<'a>(&'a self, room: &'a RoomName) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(ready(self.step(|state, _| state.outlets.subscribe(self.outlet, room))))
    }

    fn unsubscribe(&self, room: &RoomName) {
        self.memory.lock().outlets.unsubscribe(self.outlet, room);
    }

    fn join<'a>(&'a self, join: Join<'a>) -> BoxFuture<'a, Result<Joined, JoinError>> {
        let joined =
            self.step(|state, now| state.begin(&join.hold.room, now, |room| room.join(now, &join)));
        Box::pin(ready(joined.unwrap_or_else(|unavailable| Err(unavailable.into()))))
    }

    fn append<'a>(
        &'a self,
        hold: &'a Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        let appended = self.step(|state, now| {
            state
                .within(&hold.room, now, |room| room.append(now, hold, client_seq, event))
                .unwrap_or(Err(AppendError::Stale))
        });
        Box::pin(ready(appended.unwrap_or_else(|unavailable| Err(unavailable.into()))))
    }

    fn leave<'a>(
        &'a self,
        hold: &'a Hold,
        event: Arc<Event>,
    ) -> BoxFuture<'a, Result<Option<Position>, Unavailable>> {
        let left = self.step(|state, now| {
            state.within(&hold.room, now, |room| room.leave(now, hold, event)).flatten()
        });
        Box::pin(ready(left))
    }

    fn linger<'a>(
        &'a self,
        hold: &'a Hold,
        time: Duration,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        let lingers = self.step(|state, now| {
            state.within(&hold.room, now, |room| room.linger(now, hold, time)).unwrap_or(false)
        });
        Box::pin(ready(lingers))
    }

    fn owe<'a>(
        &'a self,
        room: &'a RoomName,
        name: &'a Username,
        time: Duration,
    ) -> BoxFuture<'a, Result<Duration, Unavailable>> {
        let owed = self.step(|state, now| {
            let room = state.rooms.get(room, now);
            room.map_or(Duration::ZERO, |room| room.owe(now, name, time))
        });
        Box::pin(ready(owed))
    }

    fn lookup<'a>(
        &'a self,
        room: &'a RoomName,
        name: &'a Username,
    ) -> BoxFuture<'a, Result<Option<Seated>, Unavailable>> {
        let seated =
            self.step(|state, now| state.rooms.get(room, now).and_then(|room| room.lookup(name)));
        Box::pin(ready(seated))
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomName,
        page: MembersPage,
    ) -> BoxFuture<'a, Result<Members, Unavailable>> {
        let members = self.step(|state, now| {
            let nobody = Members { members: Vec::new(), next: None, total: 0 };
            state.rooms.get(room, now).map_or(nobody, |room| room.members(page))
        });
        Box::pin(ready(members))
    }

    fn renew<'a>(
        &'a self,
        room: &'a RoomName,
        holds: &'a [Hold],
    ) -> BoxFuture<'a, Result<Renewal, Unavailable>> {
        // A head needs a log, so a room that was forgotten begins here.
        let renewed = self.step(|state, now| state.begin(room, now, |room| room.renew(now, holds)));
        Box::pin(ready(renewed))
    }

    fn overdue<'a>(
        &'a self,
        room: &'a RoomName,
    ) -> BoxFuture<'a, Result<Vec<Overdue>, Unavailable>> {
        let overdue = self.step(|state, now| {
            state.rooms.get(room, now).map_or_else(Vec::new, |room| room.overdue(now))
        });
        Box::pin(ready(overdue))
    }

    fn reap<'a>(
        &'a self,
        room: &'a RoomName,
        contact: Contact,
        evict: &'a [Eviction],
    ) -> BoxFuture<'a, Result<Reaped, Unavailable>> {
        let reaped = self.step(|state, now| {
            let nobody = Reaped { count: 0, next_deadline: None };
            state.within(room, now, |room| room.reap(now, contact, evict)).unwrap_or(nobody)
        });
        Box::pin(ready(reaped))
    }

    fn read<'a>(
        &'a self,
        room: &'a RoomName,
        after: u64,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<Page, Unavailable>> {
        let page = self.step(|state, now| {
            let nothing = Page { head: None, events: Vec::new() };
            state.within(room, now, |room| room.read(now, after, limit)).unwrap_or(nothing)
        });
        Box::pin(ready(page))
    }

    fn canary(&self, number: u64) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(ready(self.step(|state, _| state.outlets.canary(self.outlet, number))))
    }

    fn clock(&self) -> BoxFuture<'_, Result<Duration, Unavailable>> {
        Box::pin(ready(self.step(|_, now| now.duration_since(self.memory.began))))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.memory.lock().outlets.detach(self.outlet);
        Box::pin(ready(()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.memory.lock().outlets.detach(self.outlet);
    }
}
