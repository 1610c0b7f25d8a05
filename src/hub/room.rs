//! One room on this replica.

mod catching_up;
mod heeding;
mod looking;
mod reading;
mod watching;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::time;

use self::{
    heeding::Heeding,
    reading::{Gate, Reading},
};
use super::{
    HubConfig, Member, Notice,
    chunk::{Chunk, ChunkBuilder, ChunkCache, SharedChunk},
    delivery::Delivery,
    look::Look,
    slot::{Encoder, Slot},
    slow_readers::{EVENT_OVERHEAD, PAUSED_IN_VAIN, weight},
    wakers::WakerGroups,
};
use crate::{
    backplane::{Backplane, Hold, PageLimit, Unavailable},
    domain::{Epoch, Event, Position, RoomName, SessionId, StreamId},
    metrics::{Metrics, items},
    room::{Coalescer, Fallen, Item, LogCursor, Moves, RateLimiter, RingBuffer, Sequencer},
    trace::Sampler,
};

/// How many rooms there were.
static ROOMS: AtomicU64 = AtomicU64::new(0);

/// A room that has members on this replica.
#[derive(Debug)]
pub(super) struct Room {
    name: RoomName,
    number: u64,
    metrics: Metrics,
    sampler: Arc<Sampler>,
    state: Mutex<State>,
    opened: AtomicBool,
    /// Held by who opens it.
    opening: tokio::sync::Mutex<()>,
    /// How often that has failed.
    failures: AtomicU64,
    /// Whether it is bounded how much may be said.
    limited: bool,
    /// Members, and those who are about to be. Changed under the lock of the hub's rooms.
    refs: AtomicUsize,
}

#[derive(Debug)]
struct State {
    sequencer: Sequencer<Arc<Event>>,
    window: RingBuffer<Slot>,
    readings: Slab<Reading>,
    wakers: WakerGroups,
    looked: Looked,
    /// How much is said here.
    bucket: RateLimiter,
    /// What was pushed that readers were not woken for.
    fresh: Fresh,
    /// How long it waits for more.
    gather: Coalescer,
    /// Somebody is going to announce it.
    awaited: bool,
    /// When its readers were last waited for in vain.
    stuck: Option<Instant>,
    /// When to ask where it stands.
    look: Look,
    /// What moderators do to members here.
    heeding: Heeding,
}

/// The window's bounds when it was last looked how far all readers have come.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    start: u64,
    end: u64,
}

/// What was pushed.
#[derive(Debug, Default)]
struct Fresh {
    events: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn new(
        name: RoomName,
        config: &HubConfig,
        metrics: Metrics,
        sampler: Arc<Sampler>,
    ) -> Self {
        let state = State {
            // A quarter of the window, which readers are always given that much time to take.
            sequencer: Sequencer::opening(
                (config.window_events / 4, config.window_bytes / 4),
                |event| weight(event),
            ),
            window: RingBuffer::new(config.window_events, config.window_bytes),
            readings: Slab::new(),
            wakers: WakerGroups::default(),
            looked: Looked::default(),
            bucket: RateLimiter::full(config.room_rate, Instant::now()),
            fresh: Fresh::default(),
            gather: Coalescer::new(config.gather),
            awaited: false,
            stuck: None,
            look: Look::new(config.lease, time::Instant::now()),
            heeding: Heeding::default(),
        };
        let (opened, opening) = (AtomicBool::new(false), tokio::sync::Mutex::default());
        let (failures, refs) = (AtomicU64::new(0), AtomicUsize::new(0));
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let limited = !config.room_rate.interval.is_zero();
        Self {
            name,
            number,
            metrics,
            sampler,
            state: Mutex::new(state),
            opened,
            opening,
            failures,
            limited,
            refs,
        }
    }

    pub(super) fn name(&self) -> &RoomName {
        &self.name
    }

    pub(super) fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// True when that was the last one.
    pub(super) fn drop_ref(&self) -> bool {
        self.refs.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message. An error tells when there is room for it.
    pub(super) fn may_say(&self, now: Instant) -> Result<(), Duration> {
        if self.limited { self.lock().bucket.take(now) } else { Ok(()) }
    }

    /// True while somebody is here or about to be.
    pub(super) fn has_refs(&self) -> bool {
        self.refs.load(Ordering::Relaxed) > 0
    }

    /// Subscribes and finds the place from which the room is followed; once, whoever comes
    /// first. Returns what to read, for the one who did it. Whoever waited for one that failed has failed as
    /// well: with the backplane away, everybody is told so after the time of one try.
    pub(super) async fn open(&self, backplane: &dyn Backplane) -> Result<Option<u64>, Unavailable> {
        if self.opened.load(Ordering::Acquire) {
            return Ok(None);
        }
        let failures = self.failures.load(Ordering::Acquire);
        let _turn = self.opening.lock().await;
        if self.opened.load(Ordering::Acquire) {
            return Ok(None);
        }
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(Unavailable);
        }
        let opened = self.subscribe(backplane).await;
        match opened {
            Ok(_) => self.opened.store(true, Ordering::Release),
            Err(Unavailable) => {
                self.failures.fetch_add(1, Ordering::Release);
            }
        }
        opened
    }

    async fn subscribe(&self, backplane: &dyn Backplane) -> Result<Option<u64>, Unavailable> {
        backplane.subscribe(&self.name).await?;
        let nothing = PageLimit { events: 0, bytes: 0 };
        let page = backplane.read(&self.name, 0, nothing).await?;
        Ok(self.sequencer(|sequencer| sequencer.start(page.head)).read)
    }

    /// Lets something happen to the feed and takes in what comes of it. Readers are woken by
    /// [`Room::announce`], once for many events.
    pub(super) fn sequencer(
        &self,
        happen: impl FnOnce(&mut Sequencer<Arc<Event>>) -> Moves<Arc<Event>>,
    ) -> Fed {
        let mut state = self.lock();
        let state = &mut *state;
        let moves = happen(&mut state.sequencer);
        let mut fed = Fed { read: moves.read, items: moves.items.len(), lost: false };
        let before = state.window.bytes();
        // A feed goes over to another log with what it reads of it, and tells nothing of the former then.
        let log = state.sequencer.place().position().map_or(Epoch(0), |at| at.epoch);
        for item in moves.items {
            let mut delivery = None;
            let bytes = match &item {
                Item::Event(position, event) => {
                    state.heeding.heed(*position, event, &state.readings);
                    if let Some(trace) = &event.trace {
                        let span = self.sampler.deliver(trace, &self.name, *position);
                        delivery = Delivery::begin(span, state.readings.len());
                    }
                    weight(event)
                }
                Item::Lost(_) => {
                    fed.lost = true;
                    EVENT_OVERHEAD
                }
            };
            state.fresh.events += 1;
            state.fresh.bytes += bytes;
            state.window.push(Slot::new(item, log, delivery), bytes);
        }
        self.count_bytes(before, state.window.bytes());
        fed
    }

    /// After how long the caller has to [announce](Room::announce) what is new; `None` when there is
    /// nothing new, or somebody else is going to.
    pub(super) fn gather(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        if state.fresh.events == 0 {
            return None;
        }
        let connections = state.wakers.connections();
        let wait = state.gather.arrived(now, connections);
        if wait.is_zero() || state.is_pressing() {
            return Some(Duration::ZERO);
        }
        if std::mem::replace(&mut state.awaited, true) { None } else { Some(wait) }
    }

    /// Somebody else has to announce what comes from now on.
    pub(super) fn stop_awaiting(&self) {
        self.lock().awaited = false;
    }

    /// Wakes the readers, if there is something new for them. True when even the fastest of them has
    /// much to take: then it is time to let them run, unless that was in vain a moment ago.
    pub(super) fn announce(&self) -> bool {
        let mut state = self.lock();
        if std::mem::take(&mut state.fresh).events == 0 {
            return false;
        }
        let before = state.window.bytes();
        state.look_at_readers();
        state.wakers.wake();
        self.count_bytes(before, state.window.bytes());
        state.is_crowded() && state.stuck.is_none_or(|stuck| stuck.elapsed() > PAUSED_IN_VAIN)
    }

    /// How much its window holds.
    pub(super) fn window_bytes(&self) -> usize {
        self.lock().window.bytes()
    }

    /// Keeps no more than this in its window: readers that are further behind fall off.
    pub(super) fn trim(&self, bytes: usize) {
        let mut state = self.lock();
        let before = state.window.bytes();
        state.window.trim(bytes);
        state.look_at_readers();
        self.count_bytes(before, state.window.bytes());
    }

    fn count_bytes(&self, before: usize, after: usize) {
        if before != after {
            self.metrics.window_bytes.inc_by(items(after) - items(before));
        }
    }

    /// Keeps what comes next from readers that have much to take, until the feed goes on. False while
    /// the log is read, which can wait itself.
    pub(super) fn pause(&self) -> bool {
        self.lock().sequencer.pause()
    }

    /// Readers were waited for in vain.
    pub(super) fn note_stuck(&self) {
        self.lock().stuck = Some(Instant::now());
    }

    /// Whether even the fastest reader has much to take.
    pub(super) fn is_crowded(&self) -> bool {
        self.lock().is_crowded()
    }

    /// How much of the log fits into a window whose readers have caught up.
    pub(super) fn page_limit(&self) -> PageLimit {
        let state = self.lock();
        let (events, bytes) = state.window.bounds();
        // An event weighs up to twice its bytes and some more.
        PageLimit { events: (events / 4).clamp(1, 256), bytes: bytes / 16 }
    }

    /// The sessions that are on this replica.
    pub(super) fn sessions(&self) -> HashSet<SessionId> {
        let state = self.lock();
        let here = state.readings.iter().filter(|(_, reading)| !reading.member.is_over());
        here.map(|(_, reading)| reading.member.session()).collect()
    }

    /// Tells the member whose stream lost its session to a newer one.
    pub(super) fn supersede(&self, session: SessionId, from: StreamId) {
        let mut state = self.lock();
        state.look.heard_of_takeover();
        for (_, reading) in &state.readings {
            if reading.member.session() == session && reading.member.hold().token.stream() == from {
                reading.member.notify(Notice::Moved);
            }
        }
    }

    /// A read that could not be done: what to ask for again.
    pub(super) fn read_failed(&self) -> Option<u64> {
        self.lock().sequencer.read_failed()
    }

    /// Adds a reader that begins with what comes next, once its member is in.
    pub(super) fn add_member(&self, member: &Arc<Member>) -> usize {
        let mut state = self.lock();
        state.wakers.add(member.reader_waker());
        member.set_cursor(state.window.head());
        state.readings.insert(Reading { member: member.clone(), gate: Gate::Shut })
    }

    /// A member is in, with the room's head there.
    pub(super) fn admit(&self, key: usize, position: Position) {
        if let Some(reading) = self.lock().readings.get_mut(key) {
            let misses_nothing = reading.member.misses_nothing();
            reading.gate = if misses_nothing { Gate::CatchUp } else { Gate::After(position) };
        }
    }

    pub(super) fn remove_member(&self, key: usize) {
        let mut state = self.lock();
        if let Some(Reading { member, .. }) = state.readings.try_remove(key) {
            state.wakers.remove(member.reader_waker());
            let cursor = member.cursor().max(state.window.first());
            for slot in state.window.since(cursor).into_iter().flatten() {
                slot.pass(false);
            }
        }
        if state.readings.capacity() > 64 && state.readings.len() * 4 < state.readings.capacity() {
            state.readings.shrink_to_fit();
        }
    }

    /// The holds of its members.
    pub(super) fn holds(&self) -> Vec<(Arc<Member>, Hold)> {
        let state = self.lock();
        let members = state.readings.iter().map(|(_, reading)| &reading.member);
        let held = members.filter(|member| member.is_held());
        held.map(|member| (member.clone(), member.hold())).collect()
    }

    /// How far the room has come here.
    pub(super) fn place(&self) -> LogCursor {
        self.lock().sequencer.place()
    }

    /// The index of what comes next, for a reader that shall get all until now and no more.
    pub(super) fn head(&self) -> u64 {
        self.lock().window.head()
    }

    /// Whether a reader has come to its member's end.
    pub(super) fn is_at_end(&self, key: usize) -> bool {
        self.lock().readings.get(key).is_none_or(|reading| reading.gate == Gate::Closed)
    }

    /// Whether there is something that a reader has not taken.
    pub(super) fn has_more(&self, key: usize) -> bool {
        let state = self.lock();
        state.readings.get(key).is_some_and(|reading| reading.has_more(&state.window))
    }

    /// Takes everything from a reader's cursor to the head, or to `until`, but about
    /// `max_bytes` at the most and at least one event. For one that misses nothing, what comes next.
    /// What others of its connection may get as well is left in `cache`.
    pub(super) fn take(
        &self,
        key: usize,
        encoder: &dyn Encoder,
        until: u64,
        max_bytes: usize,
        cache: Option<&mut ChunkCache>,
    ) -> Result<Chunk, Fallen> {
        let State { window, readings, sequencer, .. } = &mut *self.lock();
        let Some(reading) = readings.get_mut(key) else { return Ok(Chunk::default()) };
        let begin = reading.member.cursor();
        let expected = usize::try_from(window.head().saturating_sub(begin)).unwrap_or(0);
        let mut chunk = ChunkBuilder::new(encoder, max_bytes, expected, cache.is_some());
        match reading.gate {
            Gate::Shut | Gate::Closed => {}
            Gate::After(_) | Gate::Open => {
                reading.take(window, until, &mut chunk)?;
            }
            Gate::CatchUp => {
                reading.take_catching_up(window, sequencer.place(), &mut chunk);
            }
        }
        let end = reading.member.cursor();
        let (mut chunk, audience) = chunk.finish();
        chunk.all = !reading.has_more(window);
        if let (Some(cache), Some((last, sessions))) = (cache, audience) {
            let (bytes, events, all) = (chunk.bytes.clone(), chunk.events, chunk.all);
            let (room, encoding, indices) = (self.number(), encoder.index(), begin..end);
            cache.put(SharedChunk { room, encoding, indices, last, bytes, events, all, sessions });
        }
        Ok(chunk)
    }

    /// Which of all rooms that ever were here it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.count_bytes(self.lock().window.bytes(), 0);
    }
}

/// What came of feeding a room.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// Read the log after this.
    pub(super) read: Option<u64>,
    /// How many items it brought.
    pub(super) items: usize,
    /// Some of them tell of a loss.
    pub(super) lost: bool,
}

/// How long to wait before a failed read is tried again.
pub(super) const REREAD: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests;
