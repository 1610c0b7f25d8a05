//! What the streams of a connection take between two writes, counted once for all of them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{domain::TraceParent, hub::Chunk, metrics::Metrics};

/// One connection's. Only its task takes the lock often.
#[derive(Debug)]
pub(super) struct Turn {
    born: Instant,
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
}

impl Turn {
    pub(super) fn new() -> Self {
        Self { born: Instant::now(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection's task runs.
    pub(super) fn begin(&self) {
        self.lock().now = self.born.elapsed();
    }

    /// When the turn began, counted from some time before the first one.
    pub(super) fn now(&self) -> Duration {
        self.lock().now
    }

    /// What [`Turn::now`] said, as an instant.
    pub(super) fn at(&self, now: Duration) -> Instant {
        self.born + now
    }

    /// A stream has taken something.
    pub(super) fn took(&self, chunk: &mut Chunk) {
        let mut state = self.lock();
        state.events += chunk.events as u64;
        let older = |(accepted, _): &(Timestamp, _)| {
            state.oldest.as_ref().is_none_or(|(oldest, _)| accepted < oldest)
        };
        if let Some(oldest) = chunk.oldest.take_if(|it| older(it)) {
            state.oldest = Some(oldest);
        }
    }

    /// What was taken is written.
    pub(super) fn end(&self, metrics: &Metrics) {
        let mut state = self.lock();
        if state.events == 0 {
            return;
        }
        let (events, oldest) = (std::mem::take(&mut state.events), state.oldest.take());
        drop(state);
        metrics.events_out.inc_by(events);
        if let Some((accepted, trace)) = oldest {
            let trace = trace.as_ref().filter(|it| it.is_sampled());
            metrics.observe_delivery(accepted, trace.map(TraceParent::trace_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_turn_is_observed_once() {
        let (turn, metrics) = (Turn::new(), Metrics::default());
        let chunk = |events, second| Chunk {
            events,
            oldest: Some((Timestamp::from_second(second).unwrap(), None)),
            ..Chunk::default()
        };
        for mut chunk in [chunk(1, 30), chunk(2, 10), chunk(3, 20)] {
            turn.took(&mut chunk);
        }
        assert_eq!(turn.lock().oldest.as_ref().unwrap().0.as_second(), 10);
        turn.end(&metrics);
        turn.end(&metrics);
        assert_eq!(metrics.events_out.get(), 6);
        assert!(turn.lock().oldest.is_none());
    }
}
