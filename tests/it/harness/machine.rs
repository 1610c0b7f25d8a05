//! Who may use the machine at the same time.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// Held by a test's cluster for as long as it runs.
#[expect(dead_code, reason = "held for its Drop")]
#[derive(Debug)]
pub(crate) enum Machine {
    /// Others that share may run beside it.
    Shared(RwLockReadGuard<'static, ()>),
    /// Nobody else runs: what it measures is its own doing.
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Machine {
    /// Waits until no load test runs.
    pub(crate) async fn shared() -> Self {
        Self::Shared(MACHINE.read().await)
    }

    /// Waits until no other test runs.
    pub(crate) async fn alone() -> Self {
        Self::Alone(MACHINE.write().await)
    }
}
