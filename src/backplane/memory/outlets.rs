//! The ways to the replicas: who listens to which room, and what happens when he does not keep up.
//!
//! Each replica's queue has one place more than it is meant to hold. When the queue is full, the
//! signal is dropped and [`Signal::Resumed`] takes that last place at once; until the receiver has
//! taken it — that is, until the queue is empty — everything else is dropped, and that one
//! `Resumed` stands for all of it. So a receiver that drains its queue always finds it, with
//! nothing else having to happen, and whatever was dropped is in the log by the time he does:
//! an event is in the log before it is sent.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc;

use super::{outlet_id::OutletId, room::Room};
use crate::{
    backplane::{Live, Moved, Signal, Signals},
    domain::RoomName,
};

/// All attached replicas.
#[derive(Debug, Default)]
pub(super) struct Outlets {
    last: u64,
    by_id: HashMap<OutletId, Outlet>,
    listeners: HashMap<RoomName, HashSet<OutletId>>,
}

#[derive(Debug)]
struct Outlet {
    /// The only sender of its queue, used under the lock: room in it can only grow meanwhile.
    queue: mpsc::Sender<Signal>,
    /// `Resumed` is in the queue, as its last signal.
    interrupted: bool,
    rooms: HashSet<RoomName>,
}

impl Outlets {
    /// Adds a replica whose queue holds `depth` signals.
    pub(super) fn attach(&mut self, depth: usize) -> (OutletId, Signals) {
        let (queue, signals) = mpsc::channel(depth.max(1) + 1);
        self.last += 1;
        let id = OutletId(self.last);
        self.by_id.insert(id, Outlet { queue, interrupted: false, rooms: HashSet::new() });
        (id, signals)
    }

    /// Removes a replica; its signals end.
    pub(super) fn detach(&mut self, id: OutletId) {
        let Some(outlet) = self.by_id.remove(&id) else { return };
        for room in outlet.rooms {
            self.forget(id, &room);
        }
    }

    pub(super) fn is_attached(&self, id: OutletId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn subscribe(&mut self, id: OutletId, room: &RoomName) {
        if let Some(outlet) = self.by_id.get_mut(&id) {
            outlet.rooms.insert(room.clone());
            self.listeners.entry(room.clone()).or_default().insert(id);
        }
    }

    pub(super) fn unsubscribe(&mut self, id: OutletId, room: &RoomName) {
        if let Some(outlet) = self.by_id.get_mut(&id) {
            outlet.rooms.remove(room);
            self.forget(id, room);
        }
    }

    /// Takes a step in a room and tells everybody who listens to it what happened there.
    pub(super) fn after<T>(
        &mut self,
        name: &RoomName,
        room: &mut Room,
        step: impl FnOnce(&mut Room) -> T,
    ) -> T {
        let outcome = step(room);
        if let Some((epoch, first, events)) = room.take_fresh() {
            let live = Live { room: name.clone(), epoch, first, events };
            self.publish(name, &Signal::Live(live));
        }
        for (session, from) in room.take_moved() {
            self.publish(name, &Signal::Moved(Moved { room: name.clone(), session, from }));
        }
        outcome
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.listeners.is_empty()
    }

    fn publish(&mut self, room: &RoomName, signal: &Signal) {
        for id in self.listeners.get(room).into_iter().flatten() {
            if let Some(outlet) = self.by_id.get_mut(id) {
                outlet.offer(signal.clone());
            }
        }
    }

    pub(super) fn canary(&mut self, id: OutletId, number: u64) {
        if let Some(outlet) = self.by_id.get_mut(&id) {
            outlet.offer(Signal::Canary(number));
        }
    }

    fn forget(&mut self, id: OutletId, room: &RoomName) {
        if let Some(ids) = self.listeners.get_mut(room) {
            ids.remove(&id);
            if ids.is_empty() {
                self.listeners.remove(room);
            }
        }
    }
}

impl Outlet {
    /// Sends a signal, or drops it as described above.
    fn offer(&mut self, signal: Signal) {
        if self.interrupted && self.queue.capacity() < self.queue.max_capacity() {
            return;
        }
        self.interrupted = self.queue.capacity() <= 1;
        let signal = if self.interrupted { Signal::Resumed(None) } else { signal };
        // There is a place for it, so this fails only when the receiver is gone; and then there
        // is nobody to tell.
        let _ = self.queue.try_send(signal);
    }
}
