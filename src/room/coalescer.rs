//! How long a busy room's readers wait for more, so that much leaves in one write.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// How many arrivals the smoothed time between them looks back on, about.
const MEMORY: u32 = 8;

/// So many writes a second cost next to nothing, and so many are worth the longest wait.
const WRITES: Range<f64> = 5_000.0..20_000.0;

/// Judges how long readers are to wait once something has come. A write is most of what a delivery
/// costs, so they do not wait in a room where that would save few: a quiet one, or one whose readers share
/// a few connections. The more often something comes and the more connections there are, the longer they
/// wait, up to a bound.
#[derive(Debug)]
pub struct Coalescer {
    most: Duration,
    last: Option<Instant>,
    /// The time between arrivals, smoothed; no more than [`Coalescer::quiet`].
    between: Duration,
}

impl Coalescer {
    /// A quiet room, whose readers are never to wait longer than `most`; zero to never have them wait.
    pub fn new(most: Duration) -> Self {
        let mut new = Self { most, last: None, between: Duration::ZERO };
        new.between = new.quiet();
        new
    }

    /// What comes this seldom, or more so, is not worth waiting for: hardly two of it would meet.
    fn quiet(&self) -> Duration {
        self.most * 2
    }

    /// Something has come for readers on so many connections. Returns how long to wait for more.
    pub fn arrived(&mut self, now: Instant, connections: usize) -> Duration {
        let quiet = self.quiet();
        if quiet.is_zero() {
            return Duration::ZERO;
        }
        let since = self.last.map_or(quiet, |last| now.saturating_duration_since(last).min(quiet));
        self.last = Some(now);
        self.between = (self.between * (MEMORY - 1) + since) / MEMORY;
        if since == quiet {
            return Duration::ZERO;
        }
        (quiet.saturating_sub(self.between) / 2).mul_f64(self.worth(connections))
    }

    /// What part of the longest wait the writes are worth that it saves.
    #[expect(clippy::cast_precision_loss, reason = "it is a matter of orders of magnitude")]
    fn worth(&self, connections: usize) -> f64 {
        let writes = connections as f64 / self.between.as_secs_f64().max(1e-6);
        ((writes - WRITES.start) / (WRITES.end - WRITES.start)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: Duration = Duration::from_millis(10);

    /// More connections than these make no difference.
    const MANY: usize = 10_000;

    /// The last wait when so many arrivals come at an interval.
    fn wait_after(
        gather: &mut Coalescer,
        now: &mut Instant,
        count: usize,
        every: Duration,
    ) -> Duration {
        let mut wait = Duration::ZERO;
        for _ in 0..count {
            *now += every;
            wait = gather.arrived(*now, MANY);
        }
        wait
    }

    #[test]
    fn a_quiet_room_never_waits() {
        let (mut gather, mut now) = (Coalescer::new(MOST), Instant::now());
        assert_eq!(gather.arrived(now, MANY), Duration::ZERO);
        assert_eq!(wait_after(&mut gather, &mut now, 100, 2 * MOST), Duration::ZERO);
        // An answer right after a question hardly waits.
        assert!(wait_after(&mut gather, &mut now, 1, MOST / 10) < MOST / 8);
    }

    #[test]
    fn the_wait_grows_with_the_rate_up_to_the_bound() {
        let at = |every| wait_after(&mut Coalescer::new(MOST), &mut Instant::now(), 200, every);
        let waits = [15, 10, 5, 2].map(|millis| at(Duration::from_millis(millis)));
        assert!(waits.is_sorted(), "{waits:?}");
        assert!(waits[0] > MOST / 5 && waits[0] < MOST / 3, "{waits:?}");
        let most = at(Duration::ZERO);
        assert!(most > MOST * 99 / 100 && most <= MOST, "{most:?}");
    }

    #[test]
    fn the_wait_grows_with_the_connections() {
        let at = |connections| {
            let (mut gather, mut now) = (Coalescer::new(MOST), Instant::now());
            let mut wait = Duration::ZERO;
            for _ in 0..200 {
                now += Duration::from_millis(2);
                wait = gather.arrived(now, connections);
            }
            wait
        };
        let waits = [1, 4, 10, 20, 200].map(at);
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(waits[0], Duration::ZERO);
        assert!(
            waits[1] < MOST / 10 && waits[3] > MOST / 4 && waits[4] > MOST * 8 / 10,
            "{waits:?}"
        );
    }

    #[test]
    fn after_a_pause_the_first_one_does_not_wait() {
        let (mut gather, mut now) = (Coalescer::new(MOST), Instant::now());
        assert!(wait_after(&mut gather, &mut now, 100, MOST / 10) > MOST / 2);
        assert_eq!(wait_after(&mut gather, &mut now, 1, 2 * MOST), Duration::ZERO);
    }

    #[test]
    fn it_can_be_turned_off() {
        let (mut gather, mut now) = (Coalescer::new(Duration::ZERO), Instant::now());
        assert_eq!(wait_after(&mut gather, &mut now, 100, Duration::ZERO), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_bound_holds(steps in prop::collection::vec(0u64..50_000, 1..100)) {
            let (mut gather, mut now) = (Coalescer::new(MOST), Instant::now());
            for micros in steps {
                now += Duration::from_micros(micros);
                prop_assert!(gather.arrived(now, MANY) <= MOST);
            }
        }
    }
}
