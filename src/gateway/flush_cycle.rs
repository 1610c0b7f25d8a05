//! What the streams of a connection take between two writes, counted once for all of them.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::TraceParent,
    hub::{ChunkCache, Encoder, Held, Reader, Unread, slow_readers},
    metrics::Metrics,
    room::Fallen,
    transport::Cycle,
};

/// One connection's. Only its task takes the lock often.
#[derive(Debug)]
pub(crate) struct FlushCycle {
    born: Instant,
    /// Asks the connection to end once its streams have.
    retire: CancellationToken,
    unread: Arc<Unread>,
    /// Clients have much already that they do not take, as of when the turn began.
    tight: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How long after it was born the turn began.
    now: Duration,
    /// How many events were taken in it.
    events: u64,
    /// When the oldest message among them was accepted, and its trace.
    oldest: Option<(Timestamp, Option<TraceParent>)>,
    /// How many streams there are.
    streams: usize,
    /// What one of them took last.
    cache: ChunkCache,
}

impl FlushCycle {
    /// Of a connection that ends once this is cancelled and its streams have ended.
    pub(super) fn new(retire: CancellationToken, unread: Arc<Unread>) -> Self {
        let (tight, state) = (AtomicBool::new(false), Mutex::default());
        Self { born: Instant::now(), retire, unread, tight, state }
    }

    /// Counts what is handed to HTTP/2 for a stream.
    pub(super) fn hold(&self) -> Held {
        self.unread.hold(0)
    }

    /// Whether clients have much already that they do not take.
    pub(super) fn is_tight(&self) -> bool {
        self.tight.load(Relaxed)
    }

    /// The connection takes no new streams, so that clients come by another one, perhaps to another replica.
    pub(super) fn retire(&self) {
        self.retire.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the turn began, counted from some time before the first one.
    pub(super) fn now(&self) -> Duration {
        self.lock().now
    }

    /// What [`FlushCycle::now`] said, as an instant.
    pub(super) fn at(&self, now: Duration) -> Instant {
        self.born + now
    }

    /// A stream begins, or ends.
    pub(super) fn count_stream(&self, more: bool) {
        let mut state = self.lock();
        if more {
            state.streams += 1;
        } else {
            state.streams -= 1;
        }
    }

    /// A stream takes what there is for it, if there is something. With it goes whether that is all
    /// until it is woken.
    pub(super) fn take(
        &self,
        reader: &Reader,
        encoder: &dyn Encoder,
        until: u64,
    ) -> Result<Option<(Bytes, bool)>, Fallen> {
        let state = &mut *self.lock();
        let cache = (state.streams > 1).then_some(&mut state.cache);
        let most = slow_readers::chunk(self.is_tight());
        let chunk = reader.take(encoder, until, most, cache)?;
        if chunk.events == 0 {
            return Ok(None);
        }
        state.took(chunk.events, chunk.oldest);
        Ok(Some((chunk.bytes, chunk.all)))
    }
}

impl Cycle for FlushCycle {
    fn begin(&self) -> Instant {
        let now = Instant::now();
        self.tight.store(self.unread.is_over(), Relaxed);
        self.lock().now = now - self.born;
        now
    }

    fn go_on(&self) {
        self.lock().cache.age();
    }

    fn end(&self, metrics: &Metrics) {
        let mut state = self.lock();
        if state.events == 0 {
            return;
        }
        state.cache.clear();
        let (events, oldest) = (std::mem::take(&mut state.events), state.oldest.take());
        drop(state);
        metrics.events_out.inc_by(events);
        if let Some((accepted, trace)) = oldest {
            let trace = trace.as_ref().filter(|it| it.is_sampled());
            metrics.observe_delivery(accepted, trace.map(TraceParent::trace_id));
        }
    }
}

impl State {
    fn took(&mut self, events: usize, oldest: Option<(Timestamp, Option<TraceParent>)>) {
        self.events += events as u64;
        let older = |(accepted, _): &(Timestamp, _)| {
            self.oldest.as_ref().is_none_or(|(oldest, _)| accepted < oldest)
        };
        if let Some(oldest) = oldest.filter(older) {
            self.oldest = Some(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_turn_is_observed_once() {
        let (cycle, metrics) =
            (FlushCycle::new(CancellationToken::new(), Unread::new(0)), Metrics::default());
        for (events, second) in [(1, 30), (2, 10), (3, 20)] {
            cycle.lock().took(events, Some((Timestamp::from_second(second).unwrap(), None)));
        }
        assert_eq!(cycle.lock().oldest.as_ref().unwrap().0.as_second(), 10);
        cycle.end(&metrics);
        cycle.end(&metrics);
        assert_eq!(metrics.events_out.get(), 6);
        assert!(cycle.lock().oldest.is_none());
    }
}
