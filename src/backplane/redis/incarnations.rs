//! As whom this replica holds names: in each partition under an incarnation of its own.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A replica in a partition, from the first name that it takes there until its lease is lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Incarnation(u64);

/// As scripts know it: 16 digits.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One partition's.
#[derive(Clone, Copy, Debug)]
struct Current {
    incarnation: Incarnation,
    /// It has taken a name: so it has a lease, or has lost it.
    established: bool,
    /// The one before it lost its lease, and nobody was told.
    lost: bool,
}

impl Current {
    fn drawn(lost: bool) -> Self {
        Self { incarnation: Incarnation(rand::random()), established: false, lost }
    }
}

/// The incarnations of one replica, by partition.
#[derive(Debug, Default)]
pub(super) struct Incarnations(Mutex<HashMap<usize, Current>>);

impl Incarnations {
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Current>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one under which names are taken, and whether it has taken one.
    pub(super) fn current(&self, partition: usize) -> (Incarnation, bool) {
        let mut all = self.lock();
        let current = all.entry(partition).or_insert_with(|| Current::drawn(false));
        (current.incarnation, current.established)
    }

    /// The one that has a lease to renew, if there is one.
    pub(super) fn established(&self, partition: usize) -> Option<Incarnation> {
        let current = self.lock().get(&partition).copied()?;
        current.established.then_some(current.incarnation)
    }

    /// It has taken a name. One that was given up meanwhile will lose it.
    pub(super) fn establish(&self, partition: usize, incarnation: Incarnation) {
        if let Some(current) = self.lock().get_mut(&partition) {
            if current.incarnation == incarnation {
                current.established = true;
            } else {
                current.lost = true;
            }
        }
    }

    /// It has lost its lease: another one begins.
    pub(super) fn lose(&self, partition: usize, incarnation: Incarnation) {
        if let Some(current) = self.lock().get_mut(&partition)
            && current.incarnation == incarnation
        {
            *current = Current::drawn(current.lost || current.established);
        }
    }

    /// Whether a lease was lost since this was last asked.
    pub(super) fn take_lost(&self, partition: usize) -> bool {
        let mut all = self.lock();
        all.get_mut(&partition).is_some_and(|current| std::mem::take(&mut current.lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_lease_is_told_once_and_another_incarnation_begins() {
        let incarnations = Incarnations::default();
        let (first, established) = incarnations.current(7);
        assert!(!established && incarnations.established(7).is_none());
        incarnations.establish(7, first);
        assert_eq!(incarnations.current(7), (first, true));
        assert_ne!(incarnations.current(8).0, first, "each partition has its own");
        for _ in 0..2 {
            // Found by two at a time.
            incarnations.lose(7, first);
        }
        let (second, established) = incarnations.current(7);
        assert!(second != first && !established);
        incarnations.establish(7, first);
        assert_eq!(incarnations.established(7), None, "the first one is not renewed");
        assert!(incarnations.take_lost(7) && !incarnations.take_lost(7));
        incarnations.establish(7, first);
        assert!(incarnations.take_lost(7), "a name that the first one took late is lost, too");
    }
}
