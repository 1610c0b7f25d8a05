//! How much each of many may do: a bucket for each, in a table that stays small.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use super::rate_limiter::{Rate, RateLimiter};

/// How long buckets that are full again are kept at least, once the table is full.
const SWEEP: Duration = Duration::from_secs(1);

/// How long somebody waits at the most who took more than there was.
const LONGEST: Duration = Duration::from_secs(300);

/// A [`RateLimiter`] for each key. Those that are full again are forgotten when room is needed: they are as good as
/// new ones. Whoever finds no room shares one bucket with all others who do not.
#[derive(Debug)]
pub struct RateLimiters<K> {
    rate: Rate,
    most: usize,
    by_key: HashMap<K, RateLimiter>,
    others: Option<RateLimiter>,
    swept: Option<Instant>,
}

impl<K: Eq + Hash> RateLimiters<K> {
    /// None yet, and at most so many.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, by_key: HashMap::new(), others: None, swept: None }
    }

    /// Whether one can be taken from a key's bucket. See [`RateLimiter::ready`].
    pub fn ready(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let others = self.others.as_ref().filter(|_| self.by_key.len() >= self.most);
        self.by_key.get(key).or(others).map_or(Ok(()), |bucket| bucket.ready(now))
    }

    /// Takes one from a key's bucket. See [`RateLimiter::take`].
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.rate.interval.is_zero() {
            return Ok(());
        }
        self.bucket(key, now).take(now)
    }

    /// Takes so many from a key's bucket whether or not they are there: whoever comes next waits for them, five
    /// minutes at the most.
    pub fn charge(&mut self, key: K, count: u32, now: Instant) {
        if count > 0 && !self.rate.interval.is_zero() {
            self.bucket(key, now).charge_up_to(count, LONGEST, now);
        }
    }

    fn bucket(&mut self, key: K, now: Instant) -> &mut RateLimiter {
        let full = RateLimiter::full(self.rate, now);
        if !self.by_key.contains_key(&key) {
            if self.by_key.len() >= self.most {
                self.sweep(now);
            }
            if self.by_key.len() >= self.most {
                return self.others.get_or_insert(full);
            }
        }
        self.by_key.entry(key).or_insert(full)
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.by_key.retain(|_, bucket| !bucket.is_full(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { interval: Duration::from_secs(10), burst: 2 };

    #[test]
    fn each_has_its_own() {
        let (began, mut buckets) = (Instant::now(), RateLimiters::new(RATE, 10));
        for key in ["a", "b"] {
            assert_eq!(buckets.take(key, began), Ok(()));
            assert_eq!(buckets.take(key, began), Ok(()));
            assert_eq!(buckets.take(key, began), Err(Duration::from_secs(10)));
        }
    }

    #[test]
    fn there_are_never_more_than_there_may_be() {
        let (began, mut buckets) = (Instant::now(), RateLimiters::new(RATE, 10));
        let taken = (0..1000).filter(|key| buckets.take(*key, began).is_ok()).count();
        assert_eq!(
            (buckets.by_key.len(), taken),
            (10, 12),
            "ten of their own, and one for the rest"
        );
        // All are full again.
        let later = began + Duration::from_secs(20);
        assert_eq!(buckets.take(2000, later), Ok(()));
        assert_eq!(buckets.by_key.len(), 1);
    }

    #[test]
    fn what_was_taken_beforehand_is_waited_for_but_not_for_ever() {
        let (began, mut buckets) = (Instant::now(), RateLimiters::new(RATE, 10));
        buckets.charge("a", 5, began);
        assert_eq!(buckets.ready(&"a", began), Err(Duration::from_secs(40)));
        assert_eq!(buckets.ready(&"b", began), Ok(()));
        buckets.charge("a", 1_000_000, began);
        assert_eq!(buckets.ready(&"a", began), Err(LONGEST + RATE.interval));
    }

    #[test]
    fn no_interval_is_no_limit_and_costs_nothing() {
        let rate = Rate { interval: Duration::ZERO, burst: 1 };
        let (began, mut buckets) = (Instant::now(), RateLimiters::new(rate, 10));
        assert!((0..1000).all(|_| buckets.take(1, began).is_ok()));
        buckets.charge(1, 7, began);
        assert!(buckets.by_key.is_empty());
    }
}
