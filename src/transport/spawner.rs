//! How futures are added to a connection's task from within it.

use std::{pin::Pin, sync::Arc};

use super::task_id::TaskId;
use crate::wakers::{ReaderWaker, Wakers};

/// A future that runs in a connection's task.
pub(super) type Spawned = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection's task, to which futures can be added.
pub(super) trait Tasks: Wakers {
    fn spawn(&self, future: Spawned);
}

/// Adds futures to a connection's task.
#[derive(Clone, Debug)]
pub(crate) struct Spawner(Arc<dyn Tasks>);

impl Spawner {
    pub(super) fn new(tasks: Arc<dyn Tasks>) -> Self {
        Self(tasks)
    }

    /// Wakes the future that is being polled. Only to be asked for within one.
    pub(crate) fn current_waker(&self) -> ReaderWaker {
        ReaderWaker::new(self.0.clone(), TaskId::current().0)
    }

    /// Adds a future; it ends with the connection at the latest.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(Box::pin(future));
    }
}
