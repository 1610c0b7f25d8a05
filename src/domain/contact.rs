//! What shows that the backplane was at work.

use std::time::Duration;

/// Unbroken contact with the backplane, by the backplane's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contact {
    /// Since when.
    pub since: Duration,
    /// Until when it counts; later on it may have been broken.
    pub until: Duration,
}

impl Contact {
    /// Whether it counts now and has lasted for so long.
    pub fn has_lasted(self, time: Duration, now: Duration) -> bool {
        self.since.saturating_add(time) <= now && now <= self.until
    }
}
