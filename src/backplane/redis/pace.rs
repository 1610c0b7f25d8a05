//! How long a lane waits for more before it sends what it has.

use std::time::{Duration, Instant};

/// So many operations in one wait make it worth while: most of what a call costs Redis is the call.
const FEW: f64 = 8.0;

/// So many times nothing is waited for once it was in vain, and twice as often each time that it is so
/// again: who says the next thing only when the last one is answered says nothing meanwhile.
const RESPITE: u32 = 16;
const DOUBLINGS: u32 = 6;

/// Judges how much more would come. A lane on which little is asked for never waits; one that is busy
/// sends only so often.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    sent: Option<Instant>,
    /// Operations a second, smoothed.
    rate: f64,
    /// How often it was waited in vain, the last times.
    futile: u32,
    /// How often nothing is waited for yet.
    respite: u32,
}

impl Pace {
    /// A lane that sends no more often than this while it is busy; zero to never wait.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, sent: None, rate: 0.0, futile: 0, respite: 0 }
    }

    /// How long to wait until more is sent. It would be so many operations now.
    pub(super) fn wait(&self, now: Instant, operations: usize) -> Duration {
        let Some(sent) = self.sent else { return Duration::ZERO };
        let since = now.saturating_duration_since(sent);
        // After a pause, what came before it says nothing any more.
        let rate = self.rate.min(per_second(operations, since));
        let worth_while = self.respite == 0 && rate * self.every.as_secs_f64() >= FEW;
        if worth_while { self.every.saturating_sub(since) } else { Duration::ZERO }
    }

    /// It waited so long, and so many operations came meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "it is a matter of orders of magnitude")]
    pub(super) fn waited(&mut self, wait: Duration, came: usize) {
        let expected = FEW * wait.as_secs_f64() / self.every.as_secs_f64();
        if came as f64 * 2.0 >= expected {
            self.futile = 0;
        } else {
            self.respite = RESPITE << self.futile;
            self.futile = DOUBLINGS.min(self.futile + 1);
        }
    }

    /// So many operations are sent.
    pub(super) fn sent(&mut self, now: Instant, operations: usize) {
        self.respite = self.respite.saturating_sub(1);
        if let Some(sent) = self.sent.replace(now) {
            let rate = per_second(operations, now.saturating_duration_since(sent));
            self.rate = (self.rate * 3.0 + rate) / 4.0;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is a matter of orders of magnitude")]
fn per_second(operations: usize, time: Duration) -> f64 {
    operations as f64 / time.as_secs_f64().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(2);

    /// The lane after `rounds`, in each of which so many operations are sent.
    fn after(rounds: usize, operations: usize, apart: Duration) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::new(EVERY), Instant::now());
        for _ in 0..rounds {
            pace.sent(now, operations);
            now += apart;
        }
        (pace, now)
    }

    #[test]
    fn who_asks_for_little_never_waits() {
        let (pace, now) = after(100, 1, EVERY / 4);
        assert_eq!(pace.wait(now, 1), Duration::ZERO);
        assert_eq!(Pace::new(EVERY).wait(now, 1000), Duration::ZERO, "nor does the first");
    }

    #[test]
    fn a_busy_lane_sends_only_so_often() {
        let (pace, now) = after(100, 10, EVERY / 4);
        assert_eq!(pace.wait(now, 10), EVERY * 3 / 4, "the rest of the time");
        assert_eq!(pace.wait(now + EVERY, 100), Duration::ZERO, "which is over");
    }

    #[test]
    fn who_comes_after_a_pause_does_not_wait() {
        let (pace, now) = after(100, 100, EVERY / 4);
        assert_eq!(pace.wait(now + EVERY / 2, 1), Duration::ZERO);
    }

    #[test]
    fn who_says_nothing_before_it_is_answered_is_hardly_waited_for() {
        let (mut pace, mut now) = (Pace::new(EVERY), Instant::now());
        let mut waits = 0;
        for _ in 0..10_000 {
            pace.sent(now, 2);
            now += EVERY / 10;
            let wait = pace.wait(now, 2);
            if !wait.is_zero() {
                waits += 1;
                pace.waited(wait, 0);
                now += wait;
            }
        }
        assert!((1..20).contains(&waits), "{waits}");
        // Once much comes meanwhile, it is worth while again.
        for _ in 0..2 * (RESPITE << DOUBLINGS) {
            pace.sent(now, 20);
            now += EVERY / 2;
            let wait = pace.wait(now, 20);
            if !wait.is_zero() {
                pace.waited(wait, 20);
            }
        }
        assert_eq!(pace.wait(now, 20), EVERY / 2);
    }

    #[test]
    fn nobody_waits_where_it_is_turned_off() {
        let mut pace = Pace::new(Duration::ZERO);
        let now = Instant::now();
        pace.sent(now, 1000);
        pace.sent(now, 1000);
        assert_eq!(pace.wait(now, 1000), Duration::ZERO);
    }
}
