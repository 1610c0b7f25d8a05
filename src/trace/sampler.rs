//! Which traces are recorded.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use crate::domain::TraceParent;

/// How many traces a second are recorded whatever the ratio is.
const FLOOR: u64 = 10;

/// How many traces a second are recorded at the most because a client asked for it.
const ASKED: u64 = 200;

/// Decides whether a trace is recorded, before anything of it is made. The parent's decision holds
/// where there is one, up to a number of traces a second. Else it is a part of all traces, chosen at random, and the first ten of each
/// second, so that a quiet service is seen as a whole and a busy one does not drown its collector.
#[derive(Debug)]
pub struct Sampler(Option<Sampling>);

#[derive(Debug)]
struct Sampling {
    ratio: f64,
    began: Instant,
    /// The second of the last one that was recorded for the floor's sake, and how many there
    /// were in that second, in the lowest byte.
    floor: AtomicU64,
    /// The same of those that were recorded because their parents are.
    asked: AtomicU64,
}

impl Sampler {
    /// Nothing is recorded.
    pub fn off() -> Self {
        Self(None)
    }

    /// A part of the traces that begin here is recorded, from 0 to 1; none at all where it is 0.
    pub fn new(ratio: f64) -> Self {
        Self(Some(Sampling {
            ratio,
            began: Instant::now(),
            floor: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }))
    }

    /// Whether a trace is recorded that another replica, or this one, has begun to record.
    pub(super) fn goes_on(&self, parent: &TraceParent) -> bool {
        self.0.is_some() && parent.is_sampled()
    }

    /// Whether a trace is recorded.
    pub(super) fn samples(&self, parent: Option<&TraceParent>) -> bool {
        let Some(sampling) = &self.0 else { return false };
        match parent {
            Some(parent) => {
                parent.is_sampled() && is_below(&sampling.asked, ASKED, sampling.second())
            }
            None => sampling.begins(rand::random(), sampling.second()),
        }
    }
}

impl Sampling {
    fn second(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// `draw` is from 0 to 1, without the 1; `second` counts from any beginning.
    fn begins(&self, draw: f64, second: u64) -> bool {
        draw < self.ratio || (self.ratio > 0.0 && is_below(&self.floor, FLOOR, second))
    }
}

/// Takes one of the `most` of a second, below 256; `counted` has the second and the count.
fn is_below(counted: &AtomicU64, most: u64, second: u64) -> bool {
    // From 1, so that the first second is not the one that nothing was recorded in.
    let second = second + 1;
    let take = |last: u64| match (last >> 8, last & 0xff) {
        (same, count) if same == second => (count < most).then(|| last + 1),
        _ => Some(second << 8 | 1),
    };
    counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(ratio: f64) -> Sampling {
        Sampler::new(ratio).0.unwrap()
    }

    fn parent(flags: &str) -> TraceParent {
        let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        TraceParent::parse(&text).unwrap()
    }

    #[test]
    fn the_parent_decides() {
        for sampler in [Sampler::new(0.0), Sampler::new(1.0)] {
            assert!(sampler.samples(Some(&parent("01"))));
            assert!(!sampler.samples(Some(&parent("00"))));
        }
        assert!(!Sampler::off().samples(Some(&parent("01"))));
    }

    #[test]
    fn some_of_each_second_whatever_the_ratio() {
        let sampling = sampling(0.25);
        let recorded = |second| (0..1000).filter(|_| sampling.begins(0.25, second)).count();
        assert_eq!([recorded(0), recorded(0), recorded(1), recorded(7)], [10, 0, 10, 10]);
        assert!(sampling.begins(0.249, 7));
    }

    #[test]
    fn none_is_none_and_all_are_all() {
        assert!(!sampling(0.0).begins(0.0, 0));
        assert!((0..100).all(|_| sampling(1.0).begins(0.999_999, 0)));
    }
}
