//! What the tasks of a run share.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use tokio::sync::watch;

use super::plan::Plan;

/// What senders are to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Find out who has joined.
    Joining,
    /// Send, counting from this instant.
    Running(Instant),
}

/// What all connections of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) phase: watch::Sender<Phase>,
    /// Clients below this number may join.
    pub(super) admitted: watch::Sender<u32>,
    pub(super) base: Instant,
    pub(super) joined: AtomicU32,
    /// The measured window, in microseconds since the base.
    pub(super) window: (AtomicU64, AtomicU64),
}

impl Shared {
    /// Microseconds since the run's base.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether a message that was sent then is measured.
    pub(super) fn is_measured(&self, micros: u64) -> bool {
        self.window.0.load(Relaxed) <= micros && micros < self.window.1.load(Relaxed)
    }

    /// One more client is known to be in its room.
    pub(super) fn count_joined(&self) {
        self.joined.fetch_add(1, Relaxed);
    }
}
