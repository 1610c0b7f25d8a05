//! A traced event on its way to the streams of this replica.

use std::time::{Duration, Instant};

use tracing::Span;

/// How long an event is followed. Whoever takes longer counts as still waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Follows one event until every reader that was there has taken it. The span ends with it.
#[derive(Debug)]
pub(super) struct Delivery {
    span: Span,
    began: Instant,
    /// Readers that have it.
    streams: usize,
    /// Readers that have not come to it.
    waiting: usize,
}

impl Delivery {
    /// So many readers are to come to it. `None` where it is not traced.
    pub(super) fn begin(span: Span, readers: usize) -> Option<Self> {
        let traced = !span.is_none() && readers > 0;
        traced.then(|| Self { span, began: Instant::now(), streams: 0, waiting: readers })
    }

    /// A reader has come past it, and took it or had no use for it. True when it was the last one.
    pub(super) fn pass(&mut self, taken: bool) -> bool {
        self.streams += usize::from(taken);
        self.waiting = self.waiting.saturating_sub(1);
        self.waiting == 0
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.began.elapsed() > PATIENCE
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.span.record("roomcast.streams", self.streams);
        self.span.record("roomcast.streams.waiting", self.waiting);
    }
}
