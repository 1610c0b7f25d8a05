//! How much may be said: a token bucket.

use std::time::{Duration, Instant};

/// How much may come in how much time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// One in each interval; zero for no limit.
    pub interval: Duration,
    /// As many at once when nothing came for long; 0 counts as 1.
    pub burst: u32,
}

impl Rate {
    /// How much debt there may be.
    fn capacity(self) -> Duration {
        self.interval.saturating_mul(self.burst.max(1))
    }
}

/// Keeps to a [`Rate`]: never more than the burst and one for each interval, in any span of time.
///
/// Each one that is taken costs an interval of debt, which goes away as time does (the generic cell
/// rate algorithm).
#[derive(Clone, Debug)]
pub struct RateLimiter {
    rate: Rate,
    /// What is owed at `at`.
    debt: Duration,
    at: Instant,
}

impl RateLimiter {
    /// One from which the whole burst can be taken.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, debt: Duration::ZERO, at: now }
    }

    /// One in which so much is owed already: it is full once that has passed.
    pub fn owing(rate: Rate, debt: Duration, now: Instant) -> Self {
        Self { rate, debt: debt.min(rate.capacity()), at: now }
    }

    /// When nothing is owed any more, if nothing is taken before.
    pub fn full_at(&self) -> Instant {
        self.at.checked_add(self.debt).unwrap_or(self.at)
    }

    /// Takes one. An error tells when it can be taken, if nobody else takes it before: after exactly
    /// that time and no sooner. Nothing was taken then.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.ready(now)?;
        if !self.rate.interval.is_zero() {
            self.debt = self.owed(now).saturating_add(self.rate.interval);
            self.at = self.at.max(now);
        }
        Ok(())
    }

    /// Takes one whether or not it is there, and tells for how long it is to be waited for: those who wait do so in
    /// turn.
    pub fn reserve(&mut self, now: Instant) -> Duration {
        let wait = self.ready(now).err().unwrap_or_default();
        self.charge(1, now);
        wait
    }

    /// Takes so many whether or not they are there: whoever comes next waits for them.
    pub fn charge(&mut self, count: u32, now: Instant) {
        self.debt = self.owed(now).saturating_add(self.rate.interval.saturating_mul(count));
        self.at = self.at.max(now);
    }

    /// The same, but owes no more after that than this beyond the burst.
    pub fn charge_up_to(&mut self, count: u32, beyond: Duration, now: Instant) {
        self.charge(count, now);
        self.debt = self.debt.min(self.rate.capacity().saturating_add(beyond));
    }

    /// Whether one can be taken. For whoever takes from several buckets, or from none.
    pub fn ready(&self, now: Instant) -> Result<(), Duration> {
        if self.rate.interval.is_zero() {
            return Ok(());
        }
        let owed = self.owed(now).saturating_add(self.rate.interval);
        let wait = owed.saturating_sub(self.rate.capacity());
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Whether nothing is owed.
    pub fn is_full(&self, now: Instant) -> bool {
        self.owed(now).is_zero()
    }

    fn owed(&self, now: Instant) -> Duration {
        self.debt.saturating_sub(now.saturating_duration_since(self.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOW: Rate = Rate { interval: Duration::from_secs(10), burst: 1 };
    const NANO: Duration = Duration::from_nanos(1);

    /// From which the first can be taken an interval from now.
    fn empty(rate: Rate, now: Instant) -> RateLimiter {
        RateLimiter::owing(rate, Duration::MAX, now)
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn slow_mode_lets_one_through_in_each_interval() {
        let began = Instant::now();
        let mut bucket = RateLimiter::full(SLOW, began);
        for minute in 0..3 {
            let now = began + secs(60 * minute);
            assert_eq!(bucket.take(now), Ok(()));
            assert_eq!(bucket.take(now), Err(secs(10)));
            assert_eq!(bucket.take(now + secs(4)), Err(secs(6)), "a refusal costs nothing");
            assert_eq!(bucket.take(now + secs(10)), Ok(()));
        }
    }

    #[test]
    fn a_burst_comes_at_once_and_then_the_rate() {
        let began = Instant::now();
        let rate = Rate { interval: secs(2), burst: 3 };
        let mut bucket = RateLimiter::full(rate, began);
        for _ in 0..3 {
            assert_eq!(bucket.take(began), Ok(()));
        }
        for i in 0..100 {
            assert_eq!(bucket.take(began + secs(2 * i)), Err(secs(2)));
            assert_eq!(bucket.take(began + secs(2 * i + 2)), Ok(()));
        }
    }

    #[test]
    fn an_empty_one_fills_from_nothing() {
        let began = Instant::now();
        let rate = Rate { interval: secs(2), burst: 3 };
        let mut bucket = empty(rate, began);
        assert_eq!(bucket.ready(began), Err(secs(2)));
        assert_eq!(bucket.take(began + secs(2)), Ok(()));
        assert_eq!(bucket.take(began + secs(2)), Err(secs(2)));
        let later = began + secs(1000);
        for _ in 0..3 {
            assert_eq!(bucket.take(later), Ok(()));
        }
        assert_eq!(bucket.take(later), Err(secs(2)), "it holds no more than the burst");
    }

    #[test]
    fn what_is_owed_goes_over_to_another_bucket() {
        let began = Instant::now();
        let rate = Rate { interval: secs(2), burst: 3 };
        let mut bucket = RateLimiter::full(rate, began);
        assert_eq!((bucket.take(began), bucket.take(began)), (Ok(()), Ok(())));
        assert_eq!(bucket.full_at(), began + secs(4));
        let later = began + secs(1);
        let mut next = RateLimiter::owing(rate, bucket.full_at() - later, later);
        assert_eq!(next.take(later), Ok(()), "the third of the burst");
        assert_eq!(next.take(later), bucket.take(later).and(bucket.take(later)));
        assert_eq!(RateLimiter::owing(rate, secs(1000), began).ready(began), Err(secs(2)));
    }

    #[test]
    fn what_was_taken_unasked_is_waited_for() {
        let began = Instant::now();
        let mut bucket = RateLimiter::full(Rate { interval: secs(2), burst: 3 }, began);
        bucket.charge(5, began);
        assert_eq!(bucket.take(began), Err(secs(6)));
        assert_eq!(bucket.take(began + secs(6)), Ok(()));
        assert_eq!(bucket.take(began + secs(6)), Err(secs(2)));
    }

    #[test]
    fn those_who_wait_do_so_in_turn() {
        let began = Instant::now();
        let mut bucket = RateLimiter::full(Rate { interval: secs(2), burst: 2 }, began);
        let mut reserve = |after| bucket.reserve(began + secs(after));
        assert_eq!([0, 0, 0, 0, 3].map(&mut reserve), [0, 0, 2, 4, 3].map(secs));
        assert_eq!(reserve(100), secs(0));
    }

    #[test]
    fn no_interval_is_no_limit() {
        let began = Instant::now();
        let mut bucket = empty(Rate { interval: Duration::ZERO, burst: 1 }, began);
        for _ in 0..1000 {
            assert_eq!(bucket.take(began), Ok(()));
        }
    }

    #[test]
    fn extremes_are_no_harm() {
        let began = Instant::now();
        let mut bucket = RateLimiter::full(Rate { interval: secs(1), burst: 0 }, began);
        assert_eq!(bucket.take(began), Ok(()), "no burst is one");
        assert_eq!(bucket.take(began), Err(secs(1)));
        let never = Rate { interval: Duration::MAX, burst: u32::MAX };
        assert_eq!(RateLimiter::full(never, began).take(began), Ok(()));
        let mut bucket = RateLimiter::full(SLOW, began + secs(5));
        assert_eq!(bucket.take(began), Ok(()), "a clock that goes back");
        assert_eq!(bucket.take(began), Err(secs(10)));
        assert_eq!(bucket.take(began + secs(15)), Ok(()));
    }

    /// Times to wait before each try, as parts of the interval: often none, seldom long.
    fn pauses() -> impl Strategy<Value = Vec<u64>> {
        let pause = prop_oneof![4 => Just(0), 4 => 0u64..1500, 1 => 0u64..20_000];
        prop::collection::vec(pause, 1..200)
    }

    proptest! {
        #[test]
        fn no_span_has_more_than_the_burst_and_the_rate(
            interval in 1u64..1_000_000,
            burst in 1u32..8,
            starts_full in any::<bool>(),
            pauses in pauses(),
        ) {
            let interval = Duration::from_nanos(interval);
            let rate = Rate { interval, burst };
            let (began, mut passed) = (Instant::now(), Duration::ZERO);
            let new = if starts_full { RateLimiter::full } else { empty };
            let mut bucket = new(rate, began);
            let mut taken: Vec<Duration> = Vec::new();
            for pause in pauses {
                passed += interval * u32::try_from(pause).unwrap() / 1000;
                let ready = bucket.ready(began + passed);
                prop_assert_eq!(bucket.take(began + passed), ready);
                match ready {
                    Ok(()) => taken.push(passed),
                    Err(wait) => {
                        let (then, almost) = (passed + wait, passed + wait.saturating_sub(NANO));
                        prop_assert!(wait > Duration::ZERO && wait <= interval, "{:?}", wait);
                        prop_assert_eq!(bucket.clone().take(began + then), Ok(()));
                        prop_assert_eq!(bucket.clone().take(began + almost), Err(NANO));
                    }
                }
            }
            let allowed = |span: Duration, burst: u32| {
                u128::from(burst) + span.as_nanos() / interval.as_nanos()
            };
            for (i, first) in taken.iter().enumerate() {
                for (j, last) in taken.iter().enumerate().skip(i) {
                    let count = (j - i + 1) as u128;
                    prop_assert!(count <= allowed(last.saturating_sub(*first), burst), "{count}: {taken:?}");
                }
                let held = if starts_full { burst } else { 0 };
                prop_assert!((i as u128) < allowed(*first, held), "since the start: {taken:?}");
            }
        }
    }
}
