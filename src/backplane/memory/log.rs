//! One room's log: events at dense positions, bounded by length and age.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use crate::{
    backplane::{LogBounds, PageLimit},
    domain::{Epoch, Event, Head, Position},
};

/// The events of one epoch, as far as the bounds keep them.
#[derive(Debug)]
pub(super) struct Log {
    epoch: Epoch,
    /// The sequence number of the last event ever pushed, kept or not.
    seq: u64,
    bounds: LogBounds,
    /// The newest events; the last one has `seq`.
    kept: VecDeque<Kept>,
    /// Their bytes.
    bytes: usize,
    /// Events that nobody was told of yet; the last one has `seq`.
    fresh: Vec<Arc<Event>>,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    event: Arc<Event>,
}

impl Log {
    /// An empty log.
    pub(super) fn new(epoch: Epoch, bounds: LogBounds) -> Self {
        Self { epoch, seq: 0, bounds, kept: VecDeque::new(), bytes: 0, fresh: Vec::new() }
    }

    /// Where it ends. Memory never rolls back, so an epoch never goes on from another.
    pub(super) fn head(&self) -> Head {
        Head { position: Position::new(self.epoch, self.seq), past: Vec::new() }
    }

    /// Adds an event.
    pub(super) fn push(&mut self, now: Instant, event: Arc<Event>) -> Position {
        self.seq += 1;
        self.fresh.push(Arc::clone(&event));
        self.bytes += event.size();
        self.kept.push_back(Kept { at: now, event });
        self.trim(now);
        self.head().position
    }

    /// Drops what the bounds no longer keep.
    pub(super) fn trim(&mut self, now: Instant) {
        let LogBounds { length, bytes, age } = self.bounds;
        while self.kept.len() > length
            || self.kept.front().is_some_and(|kept| now.duration_since(kept.at) >= age)
        {
            self.drop_oldest();
        }
        self.shrink(bytes);
    }

    /// The last event, if it is kept.
    pub(super) fn last(&self) -> Option<&Arc<Event>> {
        self.kept.back().map(|kept| &kept.event)
    }

    /// How many bytes of events are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the oldest events until those that are kept have no more bytes than that.
    pub(super) fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            self.drop_oldest();
        }
        if self.kept.capacity() > 4 * self.kept.len().max(16) {
            self.kept.shrink_to(2 * self.kept.len());
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(Kept { event, .. }) = self.kept.pop_front() {
            self.bytes -= event.size();
        }
    }

    /// Kept events above `after`, at most `limit`, with their sequence numbers.
    pub(super) fn read(&self, after: u64, limit: PageLimit) -> Vec<(u64, Arc<Event>)> {
        let gone = self.seq - self.kept.len() as u64;
        let skip = usize::try_from(after.saturating_sub(gone)).unwrap_or(usize::MAX);
        (gone + 1..)
            .zip(&self.kept)
            .skip(skip)
            .take(limit.events)
            .scan(0, |bytes, (seq, kept)| {
                let first = *bytes == 0;
                *bytes += kept.event.size();
                (first || *bytes <= limit.bytes).then(|| (seq, Arc::clone(&kept.event)))
            })
            .collect()
    }

    /// The events pushed since the last call and the sequence number of the first of them.
    pub(super) fn take_fresh(&mut self) -> Option<(u64, Vec<Arc<Event>>)> {
        let fresh = std::mem::take(&mut self.fresh);
        (!fresh.is_empty()).then(|| (self.seq + 1 - fresh.len() as u64, fresh))
    }
}
