//! When to fetch a key set.

use std::time::Duration;

use tokio::time::Instant;

/// How often a key set is fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefreshPolicy {
    /// From a success to the next fetch.
    pub interval: Duration,
    /// From a failure to the next fetch; doubled with each further failure.
    pub first_retry: Duration,
    /// The longest wait after a failure.
    pub max_retry: Duration,
    /// The least time between two fetches that unknown `kid`s ask for.
    pub on_demand_gap: Duration,
    /// How long a fetch may take.
    pub timeout: Duration,
    /// How often a file is looked at.
    pub file_interval: Duration,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5 * 60),
            first_retry: Duration::from_secs(1),
            max_retry: Duration::from_secs(60),
            on_demand_gap: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            file_interval: Duration::from_secs(1),
        }
    }
}

/// When to fetch next.
pub(super) struct Schedule {
    failures: u32,
    /// The next fetch that nobody has to ask for.
    pub(super) due: Instant,
    /// Not before this time does an unknown `kid` cause a fetch.
    pub(super) on_demand_from: Instant,
}

impl Schedule {
    /// Due at once.
    pub(super) const fn new(now: Instant) -> Self {
        Self { failures: 0, due: now, on_demand_from: now }
    }

    /// An unknown `kid` causes a fetch now.
    pub(super) fn on_demand(&mut self, policy: &RefreshPolicy, now: Instant) {
        self.on_demand_from = now + policy.on_demand_gap;
    }

    /// A fetch has ended, whatever caused it.
    pub(super) fn fetched(&mut self, policy: &RefreshPolicy, now: Instant, success: bool) {
        if success {
            self.failures = 0;
            self.due = now + policy.interval;
            return;
        }
        let doubled = policy.first_retry.saturating_mul(1 << self.failures.min(30));
        self.failures = self.failures.saturating_add(1);
        self.due = now + doubled.min(policy.max_retry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_failures_and_end_with_a_success() {
        let (policy, now) = (RefreshPolicy::default(), Instant::now());
        let mut schedule = Schedule::new(now);
        assert_eq!(schedule.due, now);
        let mut wait = |success| {
            schedule.fetched(&policy, now, success);
            (schedule.due - now).as_secs()
        };
        assert_eq!([(); 8].map(|()| wait(false)), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait(true), 300);
        assert_eq!(wait(false), 1);
        for _ in 0..100 {
            wait(false);
        }
        assert_eq!(wait(false), 60);
    }

    #[test]
    fn fetches_on_demand_have_a_gap_that_others_do_not_change() {
        let (policy, now) = (RefreshPolicy::default(), Instant::now());
        let mut schedule = Schedule::new(now);
        schedule.fetched(&policy, now, true);
        assert_eq!(schedule.on_demand_from, now);
        schedule.on_demand(&policy, now);
        schedule.fetched(&policy, now, false);
        assert_eq!(schedule.on_demand_from, now + Duration::from_secs(30));
    }
}
