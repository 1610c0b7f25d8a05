//! Which future of a connection's task is meant.

use std::cell::Cell;

/// The key of the connection itself among the ready ones.
pub(super) const CONNECTION: usize = usize::MAX;

thread_local! {
    /// The future that is being polled.
    static CURRENT: Cell<TaskId> = const { Cell::new(TaskId(CONNECTION)) };
}

/// Which of a connection's futures, for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskId(pub(super) usize);

impl TaskId {
    /// The future that is being polled. Only to be asked for within one.
    pub(crate) fn current() -> Self {
        CURRENT.get()
    }

    /// This one is polled from now on.
    pub(super) fn begin(self) {
        CURRENT.set(self);
    }
}
