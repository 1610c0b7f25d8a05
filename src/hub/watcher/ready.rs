//! Rooms that have something for a watcher, woken by them.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use futures_util::task::AtomicWaker;

use crate::wakers::Wakers;

/// Which rooms of a watcher have something, each once, in the order in which they were woken.
#[derive(Debug, Default)]
pub(super) struct Ready {
    rooms: Mutex<Rooms>,
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct Rooms {
    queue: VecDeque<usize>,
    queued: HashSet<usize>,
}

impl Rooms {
    fn add(&mut self, room: usize) {
        if self.queued.insert(room) {
            self.queue.push_back(room);
        }
    }
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is woken when there is something.
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// A room has something more, and nobody has to be woken for it.
    pub(super) fn add(&self, room: usize) {
        self.lock().add(room);
    }

    /// The next room that has something.
    pub(super) fn next(&self) -> Option<usize> {
        let mut rooms = self.lock();
        let room = rooms.queue.pop_front()?;
        rooms.queued.remove(&room);
        Some(room)
    }
}

impl Wakers for Ready {
    fn wake(&self, readers: &[usize]) {
        {
            let mut rooms = self.lock();
            for room in readers {
                rooms.add(*room);
            }
        }
        self.task.wake();
    }
}
