//! The key set that counts at the moment.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::key_set::KeySet;

/// A key set that can be replaced while tokens are verified with it.
#[derive(Debug, Default)]
pub struct KeyStore {
    /// Held only to clone or to replace the pointer.
    current: RwLock<Option<Arc<KeySet>>>,
    refresh: Notify,
}

impl KeyStore {
    /// Has no set yet: every token is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set, if one was had.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses another set from now on. Tokens that are being verified keep the one they began with.
    pub fn replace(&self, set: KeySet) {
        let set = Some(Arc::new(set));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = set;
    }

    /// Whether the set has a key with this `kid`.
    pub fn knows(&self, kid: &str) -> bool {
        self.current().is_some_and(|it| it.contains(kid))
    }

    /// Asks whoever refreshes the set to do so soon. Returns at once; asking often is like asking once.
    pub fn request_refresh(&self) {
        self.refresh.notify_one();
    }

    /// Until somebody has asked for a refresh since the last time that this returned.
    pub async fn refresh_requested(&self) {
        self.refresh.notified().await;
    }
}
