//! Members whose time has passed: who they are, who may go, and who has gone.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Room, Rules};
use crate::{
    backplane::{
        Eviction, Overdue,
        memory::{
            leases::{Incarnation, Leases},
            roster::RosterEntry,
        },
    },
    domain::{Contact, SessionId},
};

impl Room {
    /// The members whose names are not kept any more, at most so many, but for those of the replica that asks. Of those
    /// of dead replicas that are kept for a while it is noted until when.
    pub(in super::super) fn overdue(
        &mut self,
        now: Instant,
        leases: &Leases,
        own: Incarnation,
        most: usize,
    ) -> Vec<Overdue> {
        if leases.has_dead() {
            let dead = |seat: &RosterEntry| !seat.lingers && !leases.is_known(seat.incarnation);
            let kept: Vec<_> = (self.seats.seats())
                .filter(|(_, seat)| dead(seat) && !seat.is_late(leases, now))
                .map(|(skeleton, seat)| (Arc::clone(skeleton), seat.kept(leases)))
                .collect();
            for (skeleton, kept) in kept {
                self.seats.keep(&skeleton, kept);
            }
        } else if self.next_end().is_none_or(|ends| ends > now) {
            return Vec::new();
        }
        // As long as a replica is not dead, others are not to look for its members.
        let gone = |seat: &RosterEntry| seat.lingers || !leases.is_known(seat.incarnation);
        let skeletons = self.seats.seats().filter(|(_, seat)| gone(seat));
        let skeletons = skeletons.map(|(skeleton, _)| skeleton);
        skeletons.filter_map(|it| self.overdue_at(now, leases, own, it)).take(most).collect()
    }

    /// Whether members of a dead replica are here that may be overdue.
    pub(in super::super) fn has_members_of(&self, dead: Incarnation) -> bool {
        let mut seats = self.seats.seats();
        seats.any(|(_, seat)| seat.incarnation == dead && !seat.lingers && !seat.is_kept())
    }

    /// When the first member ends of those whose streams, or replicas, are gone.
    pub(in super::super) fn next_end(&self) -> Option<Instant> {
        self.seats.next_end()
    }

    /// See [`crate::backplane::Backplane::reap`].
    pub(in super::super) fn reap(
        &mut self,
        now: Instant,
        leases: &mut Leases,
        contact: Contact,
        evict: &Eviction,
    ) -> bool {
        let evicted = self.evict(now, leases, Some(contact), evict);
        if evicted {
            self.touch(now);
        }
        evicted
    }

    /// The member at `skeleton`, if its name is not kept any more and it is not one of the replica that asks.
    pub(super) fn overdue_at(
        &self,
        now: Instant,
        leases: &Leases,
        own: Incarnation,
        skeleton: &str,
    ) -> Option<Overdue> {
        let seat = self.seats.get(skeleton).filter(|seat| seat.is_late(leases, now))?;
        let foreign = seat.lingers || seat.incarnation != own;
        foreign.then(|| Overdue {
            room: self.name.clone(),
            skeleton: skeleton.to_owned(),
            member: seat.member.clone(),
            lingered: seat.lingers,
            linger: seat.linger,
        })
    }

    /// Removes a member that is still overdue, as far as that may be, and tells.
    pub(super) fn evict(
        &mut self,
        now: Instant,
        leases: &mut Leases,
        contact: Option<Contact>,
        Eviction { overdue, event }: &Eviction,
    ) -> bool {
        let seat = self.seats.get(&overdue.skeleton);
        let seat = seat.filter(|it| it.member.session == overdue.member.session);
        let Some(seat) = seat.filter(|seat| seat.is_late(leases, now)) else { return false };
        // As it is now: its stream may have dropped since it was found overdue.
        let (lingers, incarnation) = (seat.lingers, seat.incarnation);
        let overdue = Overdue { lingered: lingers, linger: seat.linger, ..overdue.clone() };
        if !self.may_reap(now, &overdue, contact) {
            return false;
        }
        if lingers {
            self.left.push_back((self.known_until(now), overdue.member.session, None));
        } else {
            // A replica that was paused may come back with a member that it still believes in. It is to hear of it.
            self.said = true;
            leases.declare_dead(incarnation);
        }
        self.seats.remove(&overdue.skeleton);
        self.log.push(now, Arc::clone(event));
        true
    }

    /// Whether a session has left a short while ago, or was not resumed in time.
    pub(super) fn has_left(&self, now: Instant, session: SessionId) -> bool {
        self.left.iter().any(|(until, it, _)| *it == session && *until > now)
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
