//! What holders do, each act checked against the model.

use std::time::Duration;

use super::{History, LEASE};
use crate::{
    backplane::{
        AppendError, Hold, Verdict,
        conformance::props::{EVER, event, evictions, said},
    },
    domain::{EventKind, LeftCause},
};

impl History {
    pub(super) fn linger(&mut self, replica: usize, hold: &Hold, time: Duration) {
        let (incarnation, by) = self.own(replica);
        let lingers = self.room.linger(self.now, incarnation, hold, time);
        let holder = self.sitters.get_mut(hold.name.skeleton());
        let holder = holder.filter(|it| it.token.stream() == hold.token.stream());
        assert_eq!(lingers, holder.is_some());
        if let Some(sitter) = holder {
            (sitter.lingers, sitter.token, sitter.by) = (true, hold.token, by);
            sitter.ends = self.now + time;
        }
    }

    pub(super) fn say(&mut self, replica: usize, hold: &Hold, client_seq: u64) {
        let (incarnation, by) = self.own(replica);
        let said = said(hold, "hi");
        let outcome = self.room.append(self.now, &self.leases, incarnation, hold, client_seq, said);
        let head = self.head();
        let (now, stands) = (self.now, self.replicas.stands(by, self.now));
        let holder = self
            .sitters
            .get_mut(hold.name.skeleton())
            .filter(|it| stands && it.by == by && it.token == hold.token)
            .filter(|it| !it.lingers || it.ends > now);
        let Some(sitter) = holder else {
            assert_eq!(outcome, Err(AppendError::Stale), "who is no holder does not speak");
            return;
        };
        if client_seq > sitter.client_seq + 1 {
            assert_eq!(outcome, Err(AppendError::Stale), "who leaves a hole is refused");
            return;
        }
        let appended = outcome.expect("a holder speaks");
        assert_eq!(appended.duplicate, client_seq <= sitter.client_seq);
        if !appended.duplicate {
            sitter.client_seq = client_seq;
            sitter.last = head + 1;
        }
        assert_eq!(appended.position.seq, sitter.last);
    }

    pub(super) fn leave(&mut self, hold: &Hold) {
        let left = event(hold, EventKind::Left { cause: LeftCause::Asked });
        let outcome = self.room.leave(self.now, hold, left);
        let name = hold.name.skeleton();
        let stream = hold.token.stream();
        let given_back = self.sitters.get(name).is_some_and(|it| it.token.stream() == stream);
        assert_eq!(outcome.map(|it| it.seq), given_back.then_some(self.head() + 1));
        if given_back {
            self.sitters.remove(name);
            self.left.insert(hold.session, self.now + LEASE);
        }
    }

    pub(super) fn check(&mut self, replica: usize, hold: &Hold) {
        let (incarnation, by) = self.own(replica);
        let checked =
            self.room.check(self.now, &self.leases, incarnation, std::slice::from_ref(hold));
        let verdict = match self.sitters.get(hold.name.skeleton()) {
            None => Verdict::Gone,
            Some(it) => {
                let late = self.kept(it) <= self.now;
                let same = it.token.stream() == hold.token.stream();
                if it.session != hold.session {
                    if late { Verdict::Gone } else { Verdict::Taken }
                } else if !same {
                    if hold.attempt > it.attempt { Verdict::Gone } else { Verdict::Moved }
                } else if it.lingers {
                    if late { Verdict::Gone } else { Verdict::Held }
                } else if it.token == hold.token && it.by == by {
                    Verdict::Held
                } else {
                    Verdict::Gone
                }
            }
        };
        assert_eq!(checked.verdicts, [verdict]);
        assert_eq!(checked.head.log.position.seq, self.head());
    }

    pub(super) fn renew(&mut self, replica: usize) {
        let held = self.leases.renew(self.outlets[replica], self.now);
        assert_eq!(held, self.replicas.renew(replica, self.now), "what is lost is told once");
    }

    /// Declares the late dead, and notes who is overdue.
    pub(super) fn look(&mut self, replica: usize) {
        let (incarnation, by) = self.own(replica);
        self.leases.declare_late_dead(self.now, incarnation);
        self.replicas.declare_late_dead(self.now, by);
        self.noted = self.room.overdue(self.now, &self.leases, incarnation, usize::MAX);
        self.leases.bury(|dead| self.room.has_members_of(dead));
        let mut noted: Vec<_> = self.noted.iter().map(|it| it.skeleton.clone()).collect();
        let overdue = self.sitters.iter().filter(|(_, it)| {
            self.kept(it) <= self.now && (it.lingers || self.replicas.is_dead(it.by))
        });
        let mut overdue: Vec<_> = overdue.map(|(name, _)| name.clone()).collect();
        noted.sort();
        overdue.sort();
        assert_eq!(noted, overdue, "who is overdue is noted, and nobody else");
        for it in &self.noted {
            assert_eq!(it.lingered, self.sitters[&it.skeleton].lingers);
        }
    }

    /// Removes whoever sits there; a session that lingered is over for all its streams, and a replica that others
    /// have reaped members of is dead.
    pub(super) fn evict(&mut self, skeleton: &str) {
        match self.sitters.remove(skeleton) {
            Some(it) if it.lingers => drop(self.left.insert(it.session, self.now + LEASE)),
            Some(it) => self.replicas.declare_dead(it.by),
            None => {}
        }
    }

    pub(super) fn reap(&mut self) {
        for overdue in std::mem::take(&mut self.noted) {
            let sitter = self.sitters.get(&overdue.skeleton);
            let expected = sitter.is_some_and(|it| {
                it.session == overdue.member.session && self.kept(it) <= self.now
            });
            let evict = evictions(std::slice::from_ref(&overdue)).remove(0);
            let reaped = self.room.reap(self.now, &mut self.leases, EVER, &evict);
            assert_eq!(reaped, expected, "who is still overdue is reaped");
            if reaped {
                self.evict(&overdue.skeleton);
            }
        }
    }
}
