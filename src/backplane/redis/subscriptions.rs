//! Which rooms are wanted, and what the connections that listen to them have to do about it.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, oneshot};

use crate::domain::RoomName;

/// The rooms that are wanted, from whatever server.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Mutex<HashMap<RoomName, Wanted>>);

#[derive(Debug, Default)]
struct Wanted {
    /// Those who wait for the confirmation.
    waiting: Vec<oneshot::Sender<()>>,
    /// It was confirmed once: what came between then and a later confirmation may be missing.
    live: bool,
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Wanted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a room; the answer comes when Redis confirmed it. Whoever listens is to be told.
    pub(super) fn add(&self, room: &RoomName) -> oneshot::Receiver<()> {
        let (confirmed, answer) = oneshot::channel();
        let mut wanted = self.lock();
        let waiting = &mut wanted.entry(room.clone()).or_default().waiting;
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(confirmed);
        answer
    }

    /// Does without a room. Whoever listens is to be told.
    pub(super) fn remove(&self, room: &RoomName) {
        self.lock().remove(room);
    }

    pub(super) fn all(&self) -> Vec<RoomName> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn is_wanted(&self, room: &RoomName) -> bool {
        self.lock().contains_key(room)
    }

    /// Redis confirmed these. Returns those that had been confirmed before.
    pub(super) fn confirm(&self, rooms: &[RoomName]) -> Vec<RoomName> {
        let mut wanted = self.lock();
        let mut again = Vec::new();
        for room in rooms {
            let Some(wanted) = wanted.get_mut(room) else { continue };
            for confirmed in mem::take(&mut wanted.waiting) {
                let _ = confirmed.send(());
            }
            if mem::replace(&mut wanted.live, true) {
                again.push(room.clone());
            }
        }
        again
    }
}

/// What a connection that listens to one server is to know.
#[derive(Debug, Default)]
pub(super) struct Listening {
    changes: Mutex<Changes>,
    changed: Notify,
    /// The last canary that was published by way of that server, and that arrived.
    sent: AtomicU64,
    heard: AtomicU64,
    /// A command is under way, for whose answer the library takes whatever looks like one.
    commanding: AtomicBool,
    /// Its answers may be those of other commands by now.
    confused: AtomicBool,
}

/// What changed since the connection last looked.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Rooms that are wanted now, or are not any more.
    pub(super) rooms: HashSet<RoomName>,
    /// Rooms that the server does not tell of any more, unasked.
    pub(super) dropped: HashSet<RoomName>,
    /// Slots have moved.
    pub(super) moved: bool,
    /// The same of canaries.
    pub(super) canaries_dropped: bool,
    /// Rooms that the server was asked not to tell of any more, and whether it was asked so of canaries.
    leaving: HashSet<RoomName>,
    leaving_canaries: bool,
}

impl Listening {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A room is wanted now, or is not any more.
    pub(super) fn change(&self, room: &RoomName) {
        self.lock().rooms.insert(room.clone());
        self.changed.notify_one();
    }

    /// Slots have moved.
    pub(super) fn slots_moved(&self) {
        self.lock().moved = true;
        self.changed.notify_one();
    }

    /// The server is about to be asked not to tell of these any more.
    pub(super) fn leaving(&self, rooms: &[RoomName]) {
        self.lock().leaving.extend(rooms.iter().cloned());
    }

    /// It was, and has answered.
    pub(super) fn have_left(&self) {
        self.lock().leaving.clear();
    }

    /// The server does not tell of a room any more. If nobody has asked for that, its slot has moved.
    pub(super) fn left(&self, room: RoomName) {
        let mut changes = self.lock();
        if changes.leaving.remove(&room) {
            return;
        }
        if self.commanding.load(Ordering::Acquire) {
            self.confused.store(true, Ordering::Release);
        }
        changes.dropped.insert(room);
        drop(changes);
        self.changed.notify_one();
    }

    /// The server is about to be asked not to send canaries any more.
    pub(super) fn leaving_canaries(&self) {
        self.lock().leaving_canaries = true;
    }

    /// The server does not send canaries any more, asked or not.
    pub(super) fn canaries_left(&self) {
        let mut changes = self.lock();
        if std::mem::take(&mut changes.leaving_canaries) {
            return;
        }
        if self.commanding.load(Ordering::Acquire) {
            self.confused.store(true, Ordering::Release);
        }
        changes.canaries_dropped = true;
        drop(changes);
        self.changed.notify_one();
    }

    /// Takes what changed, and forgets it.
    pub(super) fn take_changes(&self) -> Changes {
        mem::take(&mut *self.lock())
    }

    /// Resolves when something changed since this was called.
    pub(super) fn changed(&self) -> impl Future<Output = ()> {
        self.changed.notified()
    }

    /// A command is sent, or was answered. Returns whether its answer can be trusted.
    pub(super) fn command(&self, under_way: bool) -> bool {
        self.commanding.store(under_way, Ordering::Release);
        !self.confused.swap(false, Ordering::AcqRel)
    }

    /// A canary is on its way.
    pub(super) fn canary_sent(&self, number: u64) {
        self.sent.fetch_max(number, Ordering::Relaxed);
    }

    /// One came back.
    pub(super) fn canary_heard(&self, number: u64) {
        self.heard.fetch_max(number, Ordering::Relaxed);
    }

    /// The last one on its way, and the last one that came back.
    pub(super) fn canaries(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.heard.load(Ordering::Relaxed))
    }

    /// Those that are on their way will not come any more.
    pub(super) fn forget_canaries(&self) {
        self.canary_heard(self.sent.load(Ordering::Relaxed));
    }
}
