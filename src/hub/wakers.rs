//! The readers of a room, woken a connection at a time.

use std::{collections::HashMap, sync::Arc};

use crate::wakers::{ReaderWaker, Wakers};

/// The readers of a room, by connection.
#[derive(Debug, Default)]
pub(super) struct WakerGroups {
    groups: HashMap<usize, Group>,
    /// How many of them come through a proxy.
    forwarded: usize,
}

#[derive(Debug)]
struct Group {
    connection: Arc<dyn Wakers>,
    readers: Vec<usize>,
}

impl WakerGroups {
    pub(super) fn add(&mut self, waker: &ReaderWaker) {
        let group = self.groups.entry(address(waker)).or_insert_with(|| Group {
            connection: waker.connection().clone(),
            readers: Vec::with_capacity(1),
        });
        group.readers.push(waker.reader());
        self.forwarded += usize::from(waker.is_forwarded());
    }

    pub(super) fn remove(&mut self, waker: &ReaderWaker) {
        let Some(group) = self.groups.get_mut(&address(waker)) else { return };
        if let Some(at) = group.readers.iter().position(|reader| *reader == waker.reader()) {
            group.readers.swap_remove(at);
            self.forwarded -= usize::from(waker.is_forwarded());
        }
        if group.readers.is_empty() {
            self.groups.remove(&address(waker));
        }
    }

    /// About how many connections they have, here and behind proxies.
    pub(super) fn connections(&self) -> usize {
        self.groups.len() + self.forwarded
    }

    /// Wakes all of them, each connection once.
    pub(super) fn wake(&self) {
        for group in self.groups.values() {
            group.connection.wake(&group.readers);
        }
    }
}

/// Tells connections apart.
fn address(waker: &ReaderWaker) -> usize {
    Arc::as_ptr(waker.connection()).addr()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What was woken, each time.
    #[derive(Debug, Default)]
    struct Noted(Mutex<Vec<Vec<usize>>>);

    impl Wakers for Noted {
        fn wake(&self, readers: &[usize]) {
            self.0.lock().unwrap().push(readers.to_vec());
        }
    }

    impl Noted {
        fn take(&self) -> Vec<Vec<usize>> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[test]
    fn a_connection_is_woken_once_for_all_its_readers() {
        let connections = [Arc::new(Noted::default()), Arc::new(Noted::default())];
        let waker = |at: usize, reader| ReaderWaker::new(connections[at].clone(), reader);
        let mut wakers = WakerGroups::default();
        for (at, reader) in [(0, 3), (1, 3), (0, 5), (0, 7)] {
            wakers.add(&waker(at, reader));
        }
        wakers.wake();
        assert_eq!(connections[0].take(), [[3, 5, 7]]);
        assert_eq!(connections[1].take(), [[3]]);

        wakers.remove(&waker(0, 3));
        wakers.remove(&waker(1, 3));
        wakers.remove(&waker(1, 3));
        wakers.wake();
        assert_eq!(connections[0].take(), [[7, 5]]);
        assert!(connections[1].take().is_empty());

        // Those behind a proxy have a connection each.
        let behind = [4, 5].map(|reader| waker(1, reader).forwarded(true));
        for waker in &behind {
            wakers.add(waker);
        }
        assert_eq!(wakers.connections(), 4);
        for waker in &behind {
            wakers.remove(waker);
        }
        assert_eq!(wakers.connections(), 1, "a connection without readers is forgotten");
    }
}
