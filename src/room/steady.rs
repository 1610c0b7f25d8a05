//! Who may declare others gone.

use std::time::{Duration, Instant};

/// Judges whether this replica's contact with the backplane was unbroken for a full lease.
///
/// Only then may it reap: after an outage of the backplane, or of the way to it, or after a
/// pause of this process, everybody first gets a lease's time to renew. Else the first one back
/// would declare all others gone.
#[derive(Debug)]
pub struct Steady {
    lease: Duration,
    /// Since when, and the last answer.
    contact: Option<(Instant, Instant)>,
}

impl Steady {
    /// Nothing is known yet.
    pub fn new(lease: Duration) -> Self {
        Self { lease, contact: None }
    }

    /// The backplane answered.
    pub fn answered(&mut self, now: Instant) {
        self.contact = match self.contact {
            Some((since, last)) if now.duration_since(last) <= self.patience() => {
                Some((since, now))
            }
            _ => Some((now, now)),
        };
    }

    /// The backplane did not answer.
    pub fn failed(&mut self) {
        self.contact = None;
    }

    /// Whether reaping is allowed now; else how long until it can be at the soonest.
    pub fn may_reap(&self, now: Instant) -> Result<(), Duration> {
        match self.contact {
            Some((since, last)) if now.duration_since(last) <= self.patience() => {
                let wait = self.lease.saturating_sub(now.duration_since(since));
                if wait.is_zero() { Ok(()) } else { Err(wait) }
            }
            _ => Err(self.lease),
        }
    }

    /// The longest silence that does not count as a break: leases renewed before it are
    /// still good after it.
    fn patience(&self) -> Duration {
        self.lease * 3 / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(12);

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn a_fresh_replica_waits_a_lease() {
        let start = Instant::now();
        let mut steady = Steady::new(LEASE);
        assert_eq!(steady.may_reap(start), Err(LEASE));
        for secs in [0, 4, 8] {
            steady.answered(at(start, secs));
        }
        assert_eq!(steady.may_reap(at(start, 8)), Err(Duration::from_secs(4)));
        steady.answered(at(start, 12));
        assert_eq!(steady.may_reap(at(start, 12)), Ok(()));
    }

    #[test]
    fn an_outage_or_a_pause_starts_the_wait_anew() {
        let start = Instant::now();
        let mut steady = Steady::new(LEASE);
        (0..=20).for_each(|secs| steady.answered(at(start, secs)));
        assert_eq!(steady.may_reap(at(start, 20)), Ok(()));
        // Stopped for a while: not even the first look after it may reap.
        assert_eq!(steady.may_reap(at(start, 30)), Err(LEASE));
        steady.answered(at(start, 30));
        assert_eq!(steady.may_reap(at(start, 30)), Err(LEASE));
        (30..=42).for_each(|secs| steady.answered(at(start, secs)));
        assert_eq!(steady.may_reap(at(start, 42)), Ok(()));
        steady.failed();
        assert_eq!(steady.may_reap(at(start, 42)), Err(LEASE));
    }
}
