//! How long to wait before trying again.

use std::time::Duration;

use rand::RngExt;

/// Exponential backoff with full jitter: each wait is uniform between nothing and a bound that
/// doubles up to a maximum.
///
/// Source: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    bound: Duration,
}

impl Backoff {
    /// Bounds from `first` to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, bound: first }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.bound.mul_f64(rand::rng().random());
        self.bound = (self.bound * 2).min(self.max);
        wait
    }

    /// It worked: start over.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

/// A duration spread evenly between `low` and `high` times `base`, so that replicas do not act
/// in step.
pub fn jitter(base: Duration, low: f64, high: f64) -> Duration {
    base.mul_f64(rand::rng().random_range(low..high))
}
