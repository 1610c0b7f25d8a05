//! When to ask the backplane where a room stands.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Epoch;

/// A room that is asked for less often than this might be forgotten; see [`crate::backplane::Backplane::heads`].
const LONGEST: Duration = Duration::from_secs(60);

/// How much longer each pause is than the one before, while the room stays quiet.
const GROWTH: u32 = 6;

/// One room's. A hole shows with the next event; so a room is asked for once it is quiet, with growing pauses, and a
/// busy one only now and then.
#[derive(Debug)]
pub(super) struct Look {
    shortest: Duration,
    longest: Duration,
    /// The pause from the last look to the next one, which is due then.
    pause: Duration,
    due: Instant,
    /// When it was last asked for.
    asked: Instant,
    /// How much had happened when it was last looked at.
    seen: u64,
    /// In which epoch all members were last confirmed.
    confirmed: Option<Epoch>,
    /// How many takeovers are known of.
    takeovers: Option<u64>,
    /// Members may have lost their holds.
    doubted: bool,
}

impl Look {
    /// Of a room that is opened now.
    pub(super) fn new(lease: Duration, now: Instant) -> Self {
        let shortest = lease / 3;
        Self {
            shortest,
            longest: LONGEST.min(lease.saturating_mul(4)),
            pause: shortest,
            due: now + shortest,
            asked: now,
            seen: 0,
            confirmed: None,
            takeovers: None,
            doubted: false,
        }
    }

    /// Whether to ask now. So much has happened in the room, in this epoch.
    pub(super) fn is_due(&mut self, now: Instant, happened: u64, epoch: Option<Epoch>) -> bool {
        let moved_on = self.confirmed.is_some() && epoch.is_some() && self.confirmed != epoch;
        // Looks are taken at other moments than they are due at.
        if !moved_on && now + self.shortest / 4 < self.due {
            return false;
        }
        let quiet = happened == self.seen;
        self.seen = happened;
        let asks =
            quiet || moved_on || self.doubted || now.duration_since(self.asked) >= self.longest;
        self.pause = if quiet { (GROWTH * self.pause).min(self.longest) } else { self.shortest };
        self.due = now + self.pause;
        if asks {
            self.asked = now;
        }
        asks
    }

    /// Something may have been missed: it is due, as if it had just become quiet.
    pub(super) fn again(&mut self, now: Instant) {
        (self.due, self.pause) = (now, self.shortest);
    }

    /// Members may have lost their holds: all are to be checked then.
    pub(super) fn doubt(&mut self, due: Instant) {
        self.doubted = true;
        self.again(due);
    }

    /// A member was confirmed in this epoch, when there had been so many takeovers.
    pub(super) fn joined(&mut self, epoch: Epoch, takeovers: u64) {
        if self.confirmed.is_some_and(|confirmed| confirmed != epoch) {
            self.confirmed = None;
        }
        self.takeovers.get_or_insert(takeovers);
    }

    /// A takeover was heard of.
    pub(super) fn heard_of_takeover(&mut self) {
        self.takeovers = self.takeovers.map(|known| known + 1);
    }

    /// What the head of a room tells: whether all members are to be checked, or those that were confirmed in another
    /// epoch, or nobody.
    pub(super) fn judge(&self, epoch: Epoch, takeovers: u64) -> Whom {
        if self.doubted || self.takeovers != Some(takeovers) {
            Whom::All
        } else if self.confirmed != Some(epoch) {
            Whom::Others
        } else {
            Whom::Nobody
        }
    }

    /// All members were confirmed there.
    pub(super) fn confirmed(&mut self, epoch: Epoch, takeovers: u64) {
        (self.confirmed, self.takeovers) = (Some(epoch), Some(takeovers));
    }

    /// All members are about to be checked.
    pub(super) fn clear_doubt(&mut self) {
        self.doubted = false;
    }
}

/// Who is to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whom {
    All,
    /// Those that were confirmed in another epoch than the room's.
    Others,
    Nobody,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    /// After how many seconds a room is asked for in which something happens until then, looked at every second.
    fn asked(busy_until: u64, seconds: u64) -> Vec<u64> {
        let began = Instant::now();
        let mut look = Look::new(LEASE, began);
        let due = |second: &u64| {
            look.is_due(began + Duration::from_secs(*second), busy_until.min(*second), None)
        };
        (1..seconds).filter(due).collect()
    }

    #[test]
    fn a_quiet_room_is_asked_for_ever_less_often() {
        assert_eq!(asked(0, 200), [4, 33, 92, 151]);
        assert_eq!(asked(20, 100), [24, 53], "soon after it has become quiet");
    }

    #[test]
    fn a_busy_room_is_asked_for_now_and_then() {
        let asked = asked(1000, 1000);
        assert!(asked.windows(2).all(|pair| (58..66).contains(&(pair[1] - pair[0]))), "{asked:?}");
        assert!(asked.len() > 10);
    }

    #[test]
    fn members_are_checked_where_they_may_not_be_known() {
        let mut look = Look::new(LEASE, Instant::now());
        look.joined(Epoch(1), 7);
        assert_eq!(look.judge(Epoch(1), 7), Whom::Others);
        look.confirmed(Epoch(1), 7);
        assert_eq!(look.judge(Epoch(1), 7), Whom::Nobody);
        assert_eq!(look.judge(Epoch(2), 7), Whom::Others, "a failover");
        look.confirmed(Epoch(2), 7);
        look.joined(Epoch(1), 7);
        assert_eq!(look.judge(Epoch(2), 7), Whom::Others, "a join from before it");
        look.confirmed(Epoch(2), 7);
        look.heard_of_takeover();
        assert_eq!(look.judge(Epoch(2), 8), Whom::Nobody);
        assert_eq!(look.judge(Epoch(2), 9), Whom::All, "one that nobody heard of");
        look.doubt(Instant::now());
        assert_eq!(look.judge(Epoch(2), 8), Whom::All, "a name that could not be taken again");
        look.clear_doubt();
        assert_eq!(look.judge(Epoch(2), 8), Whom::Nobody);
    }
}
