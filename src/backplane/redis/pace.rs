//! How long lanes wait for more before they send what they have.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// So many operations in one wait make it worth while: most of what a call costs Redis is the call.
const FEW: f64 = 8.0;

/// So many times nothing is waited for once it was in vain, and twice as often each time that it is so
/// again: who says the next thing only when the last one is answered says nothing meanwhile.
const RESPITE: u32 = 16;
const DOUBLINGS: u32 = 6;

/// Judges how much more would come for a connection. One for which little is asked is never waited for; over one that
/// is busy lanes send only so often, all of them at the same time.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    every: Duration,
    /// When it was last sent for the first time in so long.
    beat: Option<Instant>,
    /// Operations sent since then.
    sent: usize,
    /// Since when the next beat is waited for, and for how many operations at first.
    waiting: Option<(Instant, usize)>,
    /// For how many by now.
    gathered: usize,
    /// Operations a second, smoothed.
    rate: f64,
    /// How often it was waited in vain, the last times.
    futile: u32,
    /// How often nothing is waited for yet.
    respite: u32,
}

impl Pace {
    /// Of a connection over which it is sent no more often than this while it is busy; zero to never wait.
    pub(super) fn new(every: Duration) -> Self {
        Self(Arc::new(Mutex::new(State {
            every,
            beat: None,
            sent: 0,
            waiting: None,
            gathered: 0,
            rate: 0.0,
            futile: 0,
            respite: 0,
        })))
    }

    /// How long to wait until more is sent. A lane would send so many operations now.
    pub(super) fn wait(&self, now: Instant, operations: usize) -> Duration {
        self.state().wait(now, operations)
    }

    /// A lane sends so many operations.
    pub(super) fn sent(&self, now: Instant, operations: usize) {
        self.state().sent(now, operations);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, now: Instant, operations: usize) -> Duration {
        let Some(beat) = self.beat else { return Duration::ZERO };
        let since = now.saturating_duration_since(beat);
        let wait = self.every.saturating_sub(since);
        if self.respite > 0 || self.rate * self.every.as_secs_f64() < FEW || wait.is_zero() {
            return Duration::ZERO;
        }
        self.gathered += operations;
        self.waiting.get_or_insert((now, operations));
        wait
    }

    fn sent(&mut self, now: Instant, operations: usize) {
        self.respite = self.respite.saturating_sub(1);
        if let Some(beat) = self.beat {
            let since = now.saturating_duration_since(beat);
            if since < self.every {
                self.sent += operations;
                return;
            }
            self.rate = (self.rate * 3.0 + per_second(self.sent, since)) / 4.0;
        }
        if let Some((from, few)) = self.waiting.take() {
            self.judge(now.saturating_duration_since(from), self.gathered.max(operations) - few);
        }
        (self.beat, self.sent, self.gathered) = (Some(now), operations, 0);
    }

    /// It was waited so long, and so many operations came meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "it is a matter of orders of magnitude")]
    fn judge(&mut self, wait: Duration, came: usize) {
        let expected = FEW * wait.as_secs_f64() / self.every.as_secs_f64();
        if came as f64 * 2.0 >= expected {
            self.futile = 0;
        } else {
            self.respite = RESPITE << self.futile;
            self.futile = DOUBLINGS.min(self.futile + 1);
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

    /// A pace after so many operations were sent four times in a beat, for many beats, half a beat after the last one.
    fn after(operations: usize) -> (Pace, Instant) {
        let (pace, mut now) = (Pace::new(EVERY), Instant::now());
        for _ in 0..98 {
            pace.sent(now, operations);
            now += EVERY / 4;
        }
        (pace, now)
    }

    #[test]
    fn who_asks_for_little_never_waits() {
        let (pace, now) = after(1);
        assert_eq!(pace.wait(now, 1), Duration::ZERO);
        assert_eq!(Pace::new(EVERY).wait(now, 1000), Duration::ZERO, "nor does the first");
    }

    #[test]
    fn a_busy_lane_sends_only_so_often() {
        let (pace, now) = after(10);
        assert_eq!(pace.wait(now, 10), EVERY / 2, "the rest of the time");
        assert_eq!(pace.wait(now + EVERY / 2, 100), Duration::ZERO, "which is over");
    }

    #[test]
    fn lanes_that_share_a_connection_send_at_the_same_time() {
        let (pace, mut now) = after(4);
        let mut beat = now + EVERY / 2;
        for _ in 0..100 {
            for lane in 0..16 {
                assert_eq!(now + pace.wait(now, 1), beat, "lane {lane}, which is never alone");
                now += EVERY / 32;
            }
            now = beat;
            (0..16).for_each(|_| pace.sent(now, 1));
            beat += EVERY;
        }
    }

    #[test]
    fn who_comes_after_a_pause_does_not_wait() {
        let (pace, now) = after(100);
        assert_eq!(pace.wait(now + EVERY / 2, 1), Duration::ZERO);
    }

    #[test]
    fn who_says_nothing_before_it_is_answered_is_hardly_waited_for() {
        let (pace, mut now) = (Pace::new(EVERY), Instant::now());
        let mut waits = 0;
        for _ in 0..10_000 {
            pace.sent(now, 2);
            now += EVERY / 10;
            let wait = pace.wait(now, 2);
            waits += u32::from(!wait.is_zero());
            now += wait;
        }
        assert!((1..20).contains(&waits), "{waits}");
        // Once much comes meanwhile, it is worth while again.
        for _ in 0..2 * (RESPITE << DOUBLINGS) {
            now += EVERY / 2;
            now += pace.wait(now, 20);
            pace.sent(now, 40);
        }
        assert_eq!(pace.wait(now + EVERY / 2, 20), EVERY / 2);
    }

    #[test]
    fn nobody_waits_where_it_is_turned_off() {
        let pace = Pace::new(Duration::ZERO);
        let now = Instant::now();
        pace.sent(now, 1000);
        pace.sent(now, 1000);
        assert_eq!(pace.wait(now, 1000), Duration::ZERO);
    }
}
