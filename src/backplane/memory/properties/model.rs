//! Members and replicas, as the model sees them.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::LEASE;
use crate::domain::{FencingToken, SessionId};

/// A replica, and how often it has begun anew.
pub(super) type Own = (usize, u32);

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Sitter {
    /// By whose lease the name is held.
    pub(super) by: Own,
    pub(super) session: SessionId,
    pub(super) token: FencingToken,
    pub(super) lingers: bool,
    /// When it ends, if it lingers.
    pub(super) ends: Instant,
    pub(super) linger: Duration,
    pub(super) attempt: u64,
    pub(super) client_seq: u64,
    /// Sequence number of its last event.
    pub(super) last: u64,
    /// What its join was answered.
    pub(super) came: (u64, bool),
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ends: Instant,
    dead: bool,
}

/// The leases of all replicas there ever were.
#[derive(Debug)]
pub(super) struct Replicas {
    begun: Vec<u32>,
    /// Who was not told yet that a lease is lost.
    untold: Vec<bool>,
    leases: HashMap<Own, Lease>,
}

impl Replicas {
    pub(super) fn new(replicas: usize) -> Self {
        Self { begun: vec![0; replicas], untold: vec![false; replicas], leases: HashMap::new() }
    }

    /// As whom a replica acts now.
    pub(super) fn own(&mut self, replica: usize) -> Own {
        if self.leases.get(&(replica, self.begun[replica])).is_some_and(|lease| lease.dead) {
            self.begun[replica] += 1;
            self.untold[replica] = true;
        }
        (replica, self.begun[replica])
    }

    pub(super) fn renounce(&mut self, replica: usize) {
        let own = self.own(replica);
        self.untold[replica] |= self.leases.contains_key(&own);
        self.begun[replica] += 1;
    }

    pub(super) fn hold(&mut self, own: Own, now: Instant) {
        self.leases.insert(own, Lease { ends: now + LEASE, dead: false });
    }

    /// Whether the lease was held.
    pub(super) fn renew(&mut self, replica: usize, now: Instant) -> bool {
        let own = self.own(replica);
        if self.leases.contains_key(&own) {
            self.hold(own, now);
        }
        !std::mem::take(&mut self.untold[replica])
    }

    pub(super) fn ends(&self, own: Own) -> Instant {
        self.leases[&own].ends
    }

    pub(super) fn is_dead(&self, own: Own) -> bool {
        self.leases.get(&own).is_some_and(|lease| lease.dead)
    }

    /// Whether what is held by it can be spoken under.
    pub(super) fn stands(&self, own: Own, now: Instant) -> bool {
        self.leases.get(&own).is_some_and(|lease| !lease.dead && lease.ends > now)
    }

    pub(super) fn declare_dead(&mut self, own: Own) {
        if let Some(lease) = self.leases.get_mut(&own) {
            lease.dead = true;
        }
    }

    pub(super) fn declare_late_dead(&mut self, now: Instant, but: Own) {
        for (_, lease) in self.leases.iter_mut().filter(|(own, _)| **own != but) {
            lease.dead |= lease.ends <= now;
        }
    }
}
