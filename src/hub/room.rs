//! One room on this replica.

mod following;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::sync::OnceCell;

use super::{
    HubConfig, Member, Notice,
    chunk::{Chunk, Taken},
    delivery::Delivery,
    follower::AWAY,
    slot::{Encoder, Slot},
};
use crate::{
    backplane::{Backplane, Hold, PageLimit, Unavailable},
    domain::{Event, RoomName, SessionId, StreamId, What},
    metrics::{Metrics, items},
    room::{Bucket, Fallen, Feed, Item, Moves, Window},
    trace::Sampler,
};

/// What an event costs in memory beside its content, about: itself, its frames, its slot.
const EVENT_OVERHEAD: usize = 256;

/// A room that has members on this replica.
#[derive(Debug)]
pub(super) struct Room {
    name: RoomName,
    metrics: Metrics,
    sampler: Arc<Sampler>,
    state: Mutex<State>,
    opened: OnceCell<()>,
    /// Whether it is bounded how much may be said.
    limited: bool,
    /// Members, and those who are about to be. Changed under the lock of the hub's rooms.
    seats: AtomicUsize,
}

#[derive(Debug)]
struct State {
    feed: Feed<Arc<Event>>,
    window: Window<Slot>,
    members: Slab<Arc<Member>>,
    /// How much is said here.
    bucket: Bucket,
    /// Something was pushed that readers were not woken for.
    unannounced: bool,
    /// When its readers were last waited for in vain.
    stuck: Option<Instant>,
    /// When its leases were last renewed, all of them.
    renewed: Option<Instant>,
}

impl Room {
    pub(super) fn new(
        name: RoomName,
        config: &HubConfig,
        metrics: Metrics,
        sampler: Arc<Sampler>,
    ) -> Self {
        let state = State {
            feed: Feed::opening(config.window_bytes / 4, |event| weight(event)),
            window: Window::new(config.window_events, config.window_bytes),
            members: Slab::new(),
            bucket: Bucket::full(config.room_rate, Instant::now()),
            unannounced: false,
            stuck: None,
            renewed: None,
        };
        let (opened, seats) = (OnceCell::new(), AtomicUsize::new(0));
        let limited = !config.room_rate.interval.is_zero();
        Self { name, metrics, sampler, state: Mutex::new(state), opened, limited, seats }
    }

    pub(super) fn name(&self) -> &RoomName {
        &self.name
    }

    pub(super) fn add_seat(&self) {
        self.seats.fetch_add(1, Ordering::Relaxed);
    }

    /// True when that was the last one.
    pub(super) fn drop_seat(&self) -> bool {
        self.seats.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message. An error tells when there is room for it.
    pub(super) fn may_say(&self, now: Instant) -> Result<(), Duration> {
        if self.limited { self.lock().bucket.take(now) } else { Ok(()) }
    }

    /// True while somebody is here or about to be.
    pub(super) fn has_seats(&self) -> bool {
        self.seats.load(Ordering::Relaxed) > 0
    }

    /// Subscribes and finds the place from which the room is followed; once, whoever comes
    /// first. Returns what to read, for the one who did it.
    pub(super) async fn open(&self, backplane: &dyn Backplane) -> Result<Option<u64>, Unavailable> {
        let mut read = None;
        let open = async || {
            backplane.subscribe(&self.name).await?;
            let nothing = PageLimit { events: 0, bytes: 0 };
            let page = backplane.read(&self.name, 0, nothing).await?;
            read = self.feed(|feed| feed.start(page.head)).read;
            Ok(())
        };
        self.opened.get_or_try_init(open).await?;
        Ok(read)
    }

    /// Lets something happen to the feed and takes in what comes of it. Readers are woken by
    /// [`Room::announce`], once for many events.
    pub(super) fn feed(
        &self,
        happen: impl FnOnce(&mut Feed<Arc<Event>>) -> Moves<Arc<Event>>,
    ) -> Fed {
        let mut state = self.lock();
        let state = &mut *state;
        let moves = happen(&mut state.feed);
        let mut fed = Fed { read: moves.read, items: moves.items.len(), lost: false };
        let before = state.window.bytes();
        for item in moves.items {
            let mut delivery = None;
            let bytes = match &item {
                Item::Event(position, event) => {
                    if let Some(trace) = &event.trace {
                        let span = self.sampler.deliver(trace, &self.name, *position);
                        delivery = Delivery::begin(span, state.members.len());
                    }
                    weight(event)
                }
                Item::Lost(_) => {
                    fed.lost = true;
                    EVENT_OVERHEAD
                }
            };
            state.unannounced = true;
            state.window.push(Slot::new(item, delivery), bytes);
        }
        self.count_bytes(before, state.window.bytes());
        fed
    }

    /// Wakes the readers, if there is something new for them. True when even the fastest of them has
    /// much to take: then it is time to let them run, unless that was in vain a moment ago.
    pub(super) fn announce(&self) -> bool {
        let mut state = self.lock();
        if !std::mem::take(&mut state.unannounced) {
            return false;
        }
        let before = state.window.bytes();
        state.wake_readers();
        self.count_bytes(before, state.window.bytes());
        state.is_crowded() && state.stuck.is_none_or(|stuck| stuck.elapsed() > STUCK)
    }

    fn count_bytes(&self, before: usize, after: usize) {
        if before != after {
            self.metrics.window_bytes.inc_by(items(after) - items(before));
        }
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

    /// Notes that all leases were renewed, in a round that began at `began`. False when the round
    /// before was so long ago that leases may have ended meanwhile.
    pub(super) fn note_renewed(&self, began: Instant, lease: Duration) -> bool {
        let before = self.lock().renewed.replace(began);
        before.is_none_or(|before| before.elapsed() < lease)
    }

    /// The sessions that are on this replica.
    pub(super) fn sessions(&self) -> HashSet<SessionId> {
        let state = self.lock();
        let here = state.members.iter().filter(|(_, member)| !member.is_over());
        here.map(|(_, member)| member.session()).collect()
    }

    /// Tells the member whose stream lost its session to a newer one.
    pub(super) fn supersede(&self, session: SessionId, from: StreamId) {
        for (_, member) in &self.lock().members {
            if member.session() == session && member.hold().token.stream() == from {
                member.notify(Notice::Moved);
            }
        }
    }

    /// A read that could not be done: what to ask for again.
    pub(super) fn read_failed(&self) -> Option<u64> {
        self.lock().feed.read_failed()
    }

    /// Adds a reader that begins with what comes next.
    pub(super) fn add_member(&self, member: &Arc<Member>) -> usize {
        let mut state = self.lock();
        member.set_cursor(state.window.head());
        state.members.insert(member.clone())
    }

    pub(super) fn remove_member(&self, key: usize) {
        let mut state = self.lock();
        if let Some(member) = state.members.try_remove(key) {
            let cursor = member.cursor().max(state.window.first());
            for slot in state.window.since(cursor).into_iter().flatten() {
                slot.pass(false);
            }
        }
        if state.members.capacity() > 64 && state.members.len() * 4 < state.members.capacity() {
            state.members.shrink_to_fit();
        }
    }

    /// Gives up on readers that do not come to what is traced.
    pub(super) fn end_overdue_deliveries(&self) {
        let state = self.lock();
        for slot in state.window.since(state.window.first()).into_iter().flatten() {
            slot.end_overdue_delivery();
        }
    }

    /// The holds to renew.
    pub(super) fn holds(&self) -> Vec<(Arc<Member>, Hold)> {
        let state = self.lock();
        let admitted = state.members.iter().filter(|(_, member)| member.is_held());
        admitted.map(|(_, member)| (member.clone(), member.hold())).collect()
    }

    /// The index of what comes next, for a reader that shall get all until now and no more.
    pub(super) fn head(&self) -> u64 {
        self.lock().window.head()
    }

    /// Takes everything from a reader's cursor to the head, or to `until`, but about
    /// `max_bytes` at the most and at least one event.
    pub(super) fn take(
        &self,
        member: &Member,
        encoder: &dyn Encoder,
        until: u64,
        max_bytes: usize,
    ) -> Result<Chunk, Fallen> {
        let state = self.lock();
        let mut cursor = member.cursor();
        let mut taken = Taken::default();
        for slot in state.window.since(cursor)? {
            if cursor >= until {
                break;
            }
            let wanted = match slot.item() {
                Item::Event(position, event) if member.wants(*position, event) => Some(event),
                Item::Event(..) | Item::Lost(_) => None,
            };
            if let Some(event) = wanted
                && !taken.add(event, slot.encoded(encoder), max_bytes)
            {
                break;
            }
            slot.pass(wanted.is_some());
            cursor += 1;
        }
        member.set_cursor(cursor);
        Ok(taken.into_chunk())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.count_bytes(self.lock().window.bytes(), 0);
    }
}

impl State {
    /// Whether half of the window is still to be taken, by everybody.
    fn is_crowded(&self) -> bool {
        let (max_events, max_bytes) = self.window.bounds();
        let (first, head) = (self.window.first(), self.window.head());
        let count = |events: u64| usize::try_from(events).unwrap_or(usize::MAX);
        let kept = count(head - first).max(1);
        if kept <= max_events / 2 && self.window.bytes() <= max_bytes / 2 {
            return false;
        }
        let cursors = self.members.iter().map(|(_, member)| member.cursor());
        let fastest = cursors.filter(|cursor| *cursor != AWAY).max();
        fastest.is_some_and(|cursor| {
            let waiting = count(head - cursor).min(kept);
            waiting > max_events / 2 || self.window.bytes() / kept * waiting > max_bytes / 2
        })
    }

    /// Wakes all readers; tells those that fell off the window; forgets what all have taken.
    fn wake_readers(&mut self) {
        let first = self.window.first();
        let mut lowest = self.window.head();
        for (_, member) in &self.members {
            let cursor = member.cursor();
            if cursor < first {
                member.fall_behind();
            } else {
                lowest = lowest.min(cursor);
            }
            member.wake_reader();
        }
        self.window.release(lowest);
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

fn weight(event: &Event) -> usize {
    EVENT_OVERHEAD
        + match &event.what {
            // Once as it came, once encoded.
            What::Said { content } => 2 * content.len(),
            What::Joined | What::Left { .. } | What::Unknown => 0,
        }
}

/// How long a room is not waited for after it was waited for in vain.
const STUCK: Duration = Duration::from_secs(1);

/// How long to wait before a failed read is tried again.
pub(super) const REREAD: Duration = Duration::from_millis(300);
