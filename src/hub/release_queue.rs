//! Names to give back, and sessions to be left lingering, that nobody waits for.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::{Instant, sleep},
};

use tracing::{Instrument as _, Span};

use super::{Hub, Member, event_now, shard_limits::ShardLimits};
use crate::{
    backplane::{Hold, Unavailable},
    domain::{Event, EventKind, LeftCause, Position, RoomName},
    metrics::{Metrics, Queue, items},
    trace::{self, Sampler},
};

/// How many names are given back at a time, of those that a part of the backplane keeps.
const CONCURRENCY: usize = 256;

/// After so many leases a name is given up that its lease's end sees to. The backplane may be away for three.
const PATIENCE: u32 = 4;

/// For how long it is remembered what was given back, and how much of it: a failover may take it back. Sessions of
/// which that is not known any more end when this replica does.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
const REMEMBERED: usize = 16_384;

/// How long to wait before a name is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What is to become of a name whose stream is gone.
#[derive(Clone, Debug)]
pub(super) struct Release {
    hold: Hold,
    way: Way,
    /// Until when its name owes what was said, also if another session has it.
    owes: Option<std::time::Instant>,
    /// Of the first try: others may come long after it.
    span: Option<Span>,
    /// It was done once, and is done again in case that was taken back.
    repeated: bool,
}

#[derive(Clone, Debug)]
enum Way {
    /// It is given back, and this tells of it.
    Leave(Arc<Event>),
    /// It stays until then.
    Linger(Instant),
}

impl Release {
    /// A member goes, now.
    pub(super) fn leave(member: &Member, cause: LeftCause, sampler: &Sampler) -> Self {
        let (hold, owes) = (member.hold(), member.owes());
        let span = sampler.leave(&hold.room, cause);
        let event = span.in_scope(|| event_now(&hold, EventKind::Left { cause }));
        Self { hold, way: Way::Leave(event), owes, span: Some(span), repeated: false }
    }

    /// A session lingers for so long from now.
    pub(super) fn linger(member: &Member, time: Duration) -> Self {
        let way = Way::Linger(Instant::now() + time);
        let (hold, owes) = (member.hold(), member.owes());
        Self { hold, way, owes, span: None, repeated: false }
    }

    /// Does it. Returns where `left` is, if it was told now. Fails as
    /// [`crate::backplane::Backplane::leave`] does.
    pub(super) async fn carry_out(&mut self, hub: &Hub) -> Result<Option<Position>, Unavailable> {
        // Before the name is free.
        if let Some(until) = self.owes {
            let time = until.saturating_duration_since(std::time::Instant::now());
            if !time.is_zero() {
                hub.backplane.owe(&self.hold.room, &self.hold.name, time).await?;
            }
            self.owes = None;
        }
        match &self.way {
            Way::Leave(event) => {
                let span = self.span.take().unwrap_or_else(Span::none);
                let leave = hub.backplane.leave(&self.hold, event.clone()).instrument(span.clone());
                leave.await.inspect_err(|_| trace::failed(&span, "unavailable"))
            }
            Way::Linger(until) => {
                let time = until.saturating_duration_since(Instant::now());
                if hub.backplane.linger(&self.hold, time).await? {
                    hub.watch_lingering(&self.hold.room, time).await;
                }
                Ok(None)
            }
        }
    }

    /// Whether it need not be tried for ever: a name whose join was never answered, if it was taken at all, or a session
    /// that did not linger. It ends with the lease once that is renounced.
    fn may_be_given_up(&self) -> bool {
        matches!(self.way, Way::Linger(_)) || self.hold.confirmed.is_none()
    }
}

/// The queue. Bounded by the cap on streams: a stream has one release. Those that nobody was told
/// of are given up after a while; the others were admitted while the backplane was there.
#[derive(Debug, Default)]
pub(super) struct ReleaseQueue {
    state: Mutex<State>,
    pushed: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Release, Instant)>,
    /// Taken from the queue, or held by a guard, and not done.
    under_way: usize,
    /// Done, and when.
    done: VecDeque<(Release, Instant)>,
}

impl State {
    fn remember(&mut self, release: Release) {
        let now = Instant::now();
        let is_old = |it: &(Release, Instant)| now.duration_since(it.1) > REMEMBERED_FOR;
        while self.done.len() >= REMEMBERED || self.done.front().is_some_and(is_old) {
            self.done.pop_front();
        }
        // Where the data is lost as well, the room has heard of it and need not hear again.
        let hold = Hold { confirmed: None, ..release.hold };
        self.done
            .push_back((Release { hold, owes: None, span: None, repeated: true, ..release }, now));
    }
}

impl ReleaseQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a name given back as soon as may be.
    pub(super) fn push(&self, release: Release, metrics: &Metrics) {
        self.lock().queue.push_back((release, Instant::now()));
        metrics.queue_items.of(Queue::Departures).inc();
        self.pushed.notify_one();
    }

    /// Does nothing yet: only if the guard is dropped undone.
    pub(super) fn guard<'a>(&'a self, release: Release, metrics: &'a Metrics) -> ReleaseGuard<'a> {
        self.lock().under_way += 1;
        ReleaseGuard { releases: self, release: Some(release), metrics }
    }

    /// Has done once more what was done in these rooms lately: all of it is safe to repeat, and some of it may have been
    /// taken back.
    pub(super) fn repeat(&self, concerns: impl Fn(&RoomName) -> bool, metrics: &Metrics) {
        let mut state = self.lock();
        let (again, rest) = std::mem::take(&mut state.done)
            .into_iter()
            .partition(|(release, _)| concerns(&release.hold.room));
        state.done = rest;
        let again: VecDeque<(Release, Instant)> = again;
        let now = Instant::now();
        metrics.queue_items.of(Queue::Departures).inc_by(items(again.len()));
        state.queue.extend(again.into_iter().map(|(release, _)| (release, now)));
        drop(state);
        self.pushed.notify_one();
    }

    /// The first one that there is room for, with that.
    fn take(
        &self,
        hub: &Hub,
        limits: &ShardLimits,
    ) -> Option<(Release, Instant, OwnedSemaphorePermit)> {
        let mut state = self.lock();
        let (mut full, shards) = (HashSet::new(), hub.backplane.shards().len());
        for place in 0..state.queue.len() {
            let shard = hub.shard(&state.queue[place].0.hold.room);
            if full.contains(&shard) {
                continue;
            }
            if let Some(permit) = limits.try_acquire(&*hub.backplane, shard) {
                let (release, since) = state.queue.remove(place)?;
                state.under_way += 1;
                return Some((release, since, permit));
            }
            full.insert(shard);
            if full.len() >= shards {
                break;
            }
        }
        None
    }

    fn finish(&self) {
        let mut state = self.lock();
        state.under_way -= 1;
        if state.under_way == 0 && state.queue.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// How many names are not given back yet.
    pub(super) fn len(&self) -> usize {
        let state = self.lock();
        state.queue.len() + state.under_way
    }

    /// Waits until there are none.
    pub(super) async fn done(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A release that somebody takes care of.
#[derive(Debug)]
pub(super) struct ReleaseGuard<'a> {
    releases: &'a ReleaseQueue,
    release: Option<Release>,
    metrics: &'a Metrics,
}

impl ReleaseGuard<'_> {
    /// A copy to work with; the guard's own one has no span any more.
    pub(super) fn release(&mut self) -> Release {
        // Taken only by `done` and `drop`, both of which end the guard.
        let own = self.release.as_mut().expect("a guard has its release");
        Release { span: own.span.take(), ..own.clone() }
    }

    /// The name was given back.
    pub(super) fn done(mut self) {
        if let Some(release) = self.release.take() {
            self.releases.lock().remember(release);
        }
    }
}

impl Drop for ReleaseGuard<'_> {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            self.releases.push(release, self.metrics);
        }
        self.releases.finish();
    }
}

/// Gives names back, many at a time.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut under_way = FuturesUnordered::new();
    let limits = ShardLimits::new(CONCURRENCY);
    loop {
        let pushed = hub.releases.pushed.notified();
        while let Some((release, since, permit)) = hub.releases.take(&hub, &limits) {
            let hub = &hub;
            under_way.push(async move {
                work_off(hub, release, since).await;
                drop(permit);
            });
        }
        tokio::select! {
            () = pushed => {}
            Some(()) = under_way.next() => {}
        }
    }
}

/// Tries until it works, however long the backplane is away: should it come back without its data,
/// nobody else can tell. What [need not be](Release::may_be_given_up) is given up in the end, with the lease.
async fn work_off(hub: &Hub, mut release: Release, since: Instant) {
    loop {
        match release.carry_out(hub).await {
            Ok(_) => {
                hub.releases.lock().remember(release);
                break;
            }
            Err(Unavailable)
                if release.may_be_given_up() && since.elapsed() > hub.config.lease * PATIENCE =>
            {
                if !release.repeated {
                    hub.backplane.renounce(hub.backplane.partition(&release.hold.room));
                }
                break;
            }
            Err(Unavailable) => sleep(RETRY).await,
        }
    }
    hub.metrics.queue_items.of(Queue::Departures).dec();
    hub.releases.finish();
}

#[cfg(test)]
mod tests;
