//! How much is under way at a time with each part of the backplane: one that does not answer holds up no other one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backplane::{Backplane, Shard};

/// So much at a time with each part.
#[derive(Debug)]
pub(super) struct ShardLimits {
    each: usize,
    by_shard: Mutex<HashMap<Shard, Arc<Semaphore>>>,
}

impl ShardLimits {
    pub(super) fn new(each: usize) -> Self {
        Self { each, by_shard: Mutex::default() }
    }

    /// Waits until there is room for one more, and takes it.
    pub(super) async fn acquire(
        &self,
        backplane: &dyn Backplane,
        shard: Shard,
    ) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.of(backplane, shard).acquire_owned().await.ok()
    }

    /// Takes room for one more, if there is some.
    pub(super) fn try_acquire(
        &self,
        backplane: &dyn Backplane,
        shard: Shard,
    ) -> Option<OwnedSemaphorePermit> {
        self.of(backplane, shard).try_acquire_owned().ok()
    }

    fn of(&self, backplane: &dyn Backplane, shard: Shard) -> Arc<Semaphore> {
        let mut by_shard = self.by_shard.lock().unwrap_or_else(PoisonError::into_inner);
        if !by_shard.contains_key(&shard) {
            // Those that are gone; what is under way with them ends by itself.
            let there = backplane.shards();
            by_shard.retain(|known, _| there.contains(known));
        }
        by_shard.entry(shard).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}
