//! What holders do, each act checked against the model.

use std::time::Duration;

use super::{History, LEASE};
use crate::{
    backplane::{
        AppendError, Hold, Overdue, Verdict,
        conformance::props::{EVER, event, evictions, said},
    },
    domain::{EventKind, LeftCause},
};

impl History {
    pub(super) fn linger(&mut self, hold: &Hold, time: Duration) {
        let lingers = self.room.linger(self.now, hold, time);
        let holder = self.sitters.get_mut(hold.name.skeleton());
        let holder = holder.filter(|it| it.token.stream() == hold.token.stream());
        assert_eq!(lingers, holder.is_some());
        if let Some(sitter) = holder {
            (sitter.lingers, sitter.token) = (true, hold.token);
            (sitter.ends, sitter.kept) = (self.now + time, self.now + time);
        }
    }

    pub(super) fn say(&mut self, hold: &Hold, client_seq: u64) {
        let outcome = self.room.append(self.now, hold, client_seq, said(hold, "hi"));
        let head = self.head();
        let holder = self
            .sitters
            .get_mut(hold.name.skeleton())
            .filter(|it| it.token == hold.token && it.ends > self.now);
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

    pub(super) fn renew(&mut self, hold: &Hold) {
        let renewal = self.room.renew(self.now, std::slice::from_ref(hold));
        let verdict = match self.sitters.get_mut(hold.name.skeleton()) {
            None => Verdict::Gone,
            Some(it) => {
                let (ended, mine) = (it.ends <= self.now, it.session == hold.session);
                let same = it.token.stream() == hold.token.stream();
                if !mine {
                    if ended { Verdict::Gone } else { Verdict::Taken }
                } else if !same {
                    if hold.attempt > it.attempt { Verdict::Gone } else { Verdict::Moved }
                } else if it.lingers {
                    if ended { Verdict::Gone } else { Verdict::Held }
                } else if it.token == hold.token || ended {
                    (it.token, it.ends) = (hold.token, self.now + LEASE);
                    it.kept = it.ends + it.linger;
                    Verdict::Held
                } else {
                    Verdict::Gone
                }
            }
        };
        assert_eq!(renewal.verdicts, [verdict]);
        assert_eq!(renewal.head.position.seq, self.head());
        let earliest = self.sitters.values().map(|it| it.kept).min();
        let until = earliest.map(|ends| ends.saturating_duration_since(self.now));
        assert_eq!(renewal.next_deadline, until);
    }

    /// Removes whoever sits there; a session that lingered is over for all its streams.
    pub(super) fn evict(&mut self, skeleton: &str) {
        if let Some(it) = self.sitters.remove(skeleton).filter(|it| it.lingers) {
            self.left.insert(it.session, self.now + LEASE);
        }
    }

    pub(super) fn reap(&mut self) {
        let noted = std::mem::take(&mut self.noted);
        let reaped = self.room.reap(self.now, EVER, &evictions(&noted));
        let before = self.sitters.len();
        for Overdue { skeleton, member, .. } in noted {
            if self
                .sitters
                .get(&skeleton)
                .is_some_and(|it| it.session == member.session && it.kept <= self.now)
            {
                self.evict(&skeleton);
            }
        }
        assert_eq!(reaped.count, before - self.sitters.len());
    }
}
