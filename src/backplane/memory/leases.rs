//! The leases by which replicas hold names: all rooms are one partition.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::outlet_id::OutletId;

/// Stands for "never" where a configured duration is too long for the clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A replica from the first name that it takes until its lease is lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Incarnation(u64);

/// All leases, and whose they are.
#[derive(Debug)]
pub(super) struct Leases {
    lease: Duration,
    last: u64,
    /// When they end.
    ends: BTreeMap<Incarnation, Instant>,
    /// Declared dead, with members perhaps, and when their leases ended.
    dead: BTreeMap<Incarnation, Instant>,
    own: HashMap<OutletId, Own>,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    current: Incarnation,
    /// It has had a lease.
    held: bool,
    /// The one before it was lost, and nobody was told.
    lost: bool,
}

impl Leases {
    /// Nobody has one yet.
    pub(super) fn new(lease: Duration) -> Self {
        let (ends, dead, own) = (BTreeMap::new(), BTreeMap::new(), HashMap::new());
        Self { lease, last: 0, ends, dead, own }
    }

    /// As whom a replica takes a name now. It has a lease if it takes one.
    pub(super) fn own(&mut self, replica: OutletId) -> Incarnation {
        match self.own.get(&replica) {
            Some(own) if own.held && !self.ends.contains_key(&own.current) => {
                self.begin(replica, true)
            }
            Some(own) => own.current,
            None => self.begin(replica, false),
        }
    }

    fn begin(&mut self, replica: OutletId, lost: bool) -> Incarnation {
        self.last += 1;
        let current = Incarnation(self.last);
        self.own.insert(replica, Own { current, held: false, lost });
        current
    }

    /// What a replica holds is held to the end of its lease and no longer.
    pub(super) fn renounce(&mut self, replica: OutletId) {
        let held = self.own.get(&replica).copied();
        let lost = held.is_some_and(|own| own.lost || self.ends.contains_key(&own.current));
        self.begin(replica, lost);
    }

    /// A replica lives: its lease, if it has one, is a full one from now. False, once, if it was lost.
    pub(super) fn renew(&mut self, replica: OutletId, now: Instant) -> bool {
        let current = self.own(replica);
        if self.ends.contains_key(&current) {
            self.hold(current, now);
        }
        !self.own.get_mut(&replica).is_some_and(|own| std::mem::take(&mut own.lost))
    }

    /// A lease is a full one from now.
    pub(super) fn hold(&mut self, incarnation: Incarnation, now: Instant) {
        self.ends.insert(incarnation, later(now, self.lease));
        for own in self.own.values_mut().filter(|own| own.current == incarnation) {
            own.held = true;
        }
    }

    /// Whether a lease stands.
    pub(super) fn stands(&self, incarnation: Incarnation, now: Instant) -> bool {
        self.ends.get(&incarnation).is_some_and(|ends| *ends > now)
    }

    /// Whether it is neither lost nor declared dead.
    pub(super) fn is_known(&self, incarnation: Incarnation) -> bool {
        self.ends.contains_key(&incarnation)
    }

    /// When a lease ends or ended; `None` when nobody's name is held by it any more.
    pub(super) fn end(&self, incarnation: Incarnation) -> Option<Instant> {
        self.ends.get(&incarnation).or_else(|| self.dead.get(&incarnation)).copied()
    }

    /// Declares a replica dead.
    pub(super) fn declare_dead(&mut self, incarnation: Incarnation) {
        if let Some(ended) = self.ends.remove(&incarnation) {
            self.dead.insert(incarnation, ended);
        }
    }

    /// Declares all dead whose leases have ended, but for this one.
    pub(super) fn declare_late_dead(&mut self, now: Instant, but: Incarnation) {
        let late = self.ends.iter().filter(|(it, ends)| **it != but && **ends <= now);
        for incarnation in late.map(|(it, _)| *it).collect::<Vec<_>>() {
            self.declare_dead(incarnation);
        }
    }

    /// Whether any were declared dead that may have members.
    pub(super) fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// Forgets the dead that have no members any more but those that linger.
    pub(super) fn bury(&mut self, has_members: impl Fn(Incarnation) -> bool) {
        self.dead.retain(|incarnation, _| has_members(*incarnation));
    }

    /// When the earliest lease ends that is not this one; of the dead, when they have had time to be reaped.
    pub(super) fn next_deadline(&self, but: Incarnation) -> Option<Instant> {
        let foreign = self.ends.iter().filter(|(it, _)| **it != but).map(|(_, ends)| *ends);
        let dead = self.dead.values().map(|ended| later(*ended, self.lease / 2));
        foreign.chain(dead).min()
    }

    /// A replica is not attached any more.
    pub(super) fn detach(&mut self, replica: OutletId) {
        self.own.remove(&replica);
    }
}

/// `now + time`, or a far future where that is beyond the clock.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}
