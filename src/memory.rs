//! Memory that a burst of clients has taken, given back to the system once they have gone.
//!
//! glibc keeps what is freed, except at the end of its heaps: 100 MB after 20,000 streams with unfinished
//! messages.

use std::time::Duration;

use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::Metrics;

/// How often it is looked how many are there: often enough to see a crowd that stays for a second.
const INTERVAL: Duration = Duration::from_millis(200);

/// At which looks after many have gone memory is given back: what they held may be freed after them.
const LOOKS: [u32; 3] = [5, 15, 40];

/// So many fewer than there were make a difference.
const FEWER: i64 = 64;

/// Gives memory back whenever many streams, calls or connections have ended, until it is stopped.
pub async fn give_back(metrics: Metrics, stop: CancellationToken) {
    let (mut crowd, mut looks) = (Crowd::default(), u32::MAX);
    while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
        looks = looks.saturating_add(1);
        if crowd.has_gone(metrics.streams.get() + metrics.connections.get()) {
            looks = 0;
        }
        if LOOKS.contains(&looks) {
            let released = spawn_blocking(roomcast_heap::release).await;
            debug!(released = released.is_ok_and(|it| it), "gave free memory back");
        }
    }
}

/// The most that were there since memory was given back.
#[derive(Default)]
struct Crowd(i64);

impl Crowd {
    /// Whether a quarter of them or more, and not just a few, have gone.
    fn has_gone(&mut self, there: i64) -> bool {
        self.0 = self.0.max(there);
        let gone = self.0 - there;
        let many = gone >= FEWER && gone >= self.0 / 4;
        if many {
            self.0 = there;
        }
        many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_crowd_that_has_gone_counts() {
        let mut crowd = Crowd::default();
        assert!(!crowd.has_gone(1_000));
        assert!(!crowd.has_gone(800), "a fifth");
        assert!(crowd.has_gone(750));
        assert!(!crowd.has_gone(700), "since then");
        assert!(!crowd.has_gone(1_200));
        assert!(crowd.has_gone(0));
        assert!(!crowd.has_gone(FEWER - 1));
        assert!(!crowd.has_gone(0), "a few");
    }
}
