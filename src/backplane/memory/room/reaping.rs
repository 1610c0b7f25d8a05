//! Members whose leases ended unrenewed: who they are, who may go, and who has gone.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;

use super::{Room, Rules};
use crate::{
    backplane::{Eviction, Join, Overdue, REAP_BATCH, Reaped},
    domain::{Contact, SessionId},
};

impl Room {
    /// See [`crate::backplane::Backplane::overdue`].
    pub(in super::super) fn overdue(&self, now: Instant) -> Vec<Overdue> {
        self.seats.overdue(now).take(REAP_BATCH).collect()
    }

    /// See [`crate::backplane::Backplane::reap`].
    pub(in super::super) fn reap(
        &mut self,
        now: Instant,
        contact: Contact,
        evict: &[Eviction],
    ) -> Reaped {
        let count = self.evict(now, Some(contact), evict);
        if count > 0 {
            self.touch(now);
        }
        Reaped { count, next_deadline: self.seats.next_deadline(now) }
    }

    /// The overdue members that a join must evict and does not. Whoever sits under the
    /// name asked for comes first: without him, no number of retries would get there.
    pub(super) fn in_the_way(&self, now: Instant, join: &Join<'_>) -> Vec<Overdue> {
        let evicted: HashSet<(&str, SessionId)> = join
            .evict
            .iter()
            .map(|Eviction { overdue, .. }| (overdue.skeleton.as_str(), overdue.member.session))
            .collect();
        let skeleton = join.hold.name.skeleton();
        let others = self
            .seats
            .overdue(now)
            .filter(|overdue| join.reap_first && overdue.skeleton != skeleton)
            .filter(|overdue| self.may_reap(now, overdue, join.contact));
        self.seats
            .overdue_at(skeleton, now)
            .into_iter()
            .chain(others)
            .filter(|it| !evicted.contains(&(it.skeleton.as_str(), it.member.session)))
            .take(REAP_BATCH)
            .collect()
    }

    /// Removes those who are still overdue, as far as that may be, and tells.
    pub(super) fn evict(
        &mut self,
        now: Instant,
        contact: Option<Contact>,
        evict: &[Eviction],
    ) -> usize {
        let mut count = 0;
        for Eviction { overdue, event } in evict {
            if self.can_go(now, overdue, contact) {
                // As it is now: its stream may have dropped since it was found overdue.
                let lingers = self.seats.get(&overdue.skeleton).is_some_and(|it| it.lingers);
                // A replica that was paused may come back with a member that it still believes in.
                self.said |= !lingers;
                if lingers {
                    self.left.push_back((self.deadline(now), overdue.member.session));
                }
                self.seats.remove(&overdue.skeleton);
                self.log.push(now, Arc::clone(event));
                count += 1;
            }
        }
        count
    }

    /// How many members there will be once those are evicted whom a join evicts.
    pub(super) fn stay(&self, now: Instant, join: &Join<'_>) -> usize {
        let going: HashSet<&str> = join
            .evict
            .iter()
            .filter(|it| self.can_go(now, &it.overdue, join.contact))
            .map(|it| it.overdue.skeleton.as_str())
            .collect();
        self.seats.len() - going.len()
    }

    /// Whether a session has left a short while ago, or was not resumed in time.
    pub(super) fn has_left(&self, now: Instant, session: SessionId) -> bool {
        self.left.iter().any(|(until, it)| *it == session && *until > now)
    }

    /// Whether it is still that member that is overdue, and may be reaped.
    fn can_go(&self, now: Instant, overdue: &Overdue, contact: Option<Contact>) -> bool {
        let there = self.seats.overdue_at(&overdue.skeleton, now);
        there.is_some_and(|it| {
            it.member.session == overdue.member.session && self.may_reap(now, &it, contact)
        })
    }

    /// Whether whoever has had this contact may reap that member.
    pub(super) fn may_reap(
        &self,
        now: Instant,
        overdue: &Overdue,
        contact: Option<Contact>,
    ) -> bool {
        let Rules { lease, began, .. } = self.rules;
        contact.is_some_and(|it| it.has_lasted(overdue.needs(lease), now.duration_since(began)))
    }
}
