//! Brings in what happens in the rooms that have members here.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{self, sleep},
};
use tokio_util::time::DelayQueue;
use tracing::{Instrument as _, Span, info, warn};

use super::{
    Hub,
    room::{Fed, REREAD, Room},
    shard_limits::ShardLimits,
    slow_readers::PAUSE,
};
use crate::{
    backplane::{Live, Signal, Signals, Unavailable},
    domain::{Head, Page, RoomName},
    metrics::{Hole, Queue, items},
    room::Sequencer,
    trace,
};

/// How many rooms of a part of the backplane read from the log at a time.
const READERS: usize = 16;

/// How many signals are handled before readers are woken, and others have their turn.
const SIGNALS: usize = 8;

/// How often rooms are looked at, at the most, whose windows hold too much together.
const RELIEF: Duration = Duration::from_millis(100);

/// How many findings wait for the listener; then their finders wait.
pub(super) const QUEUE: usize = 1024;

/// Something found out about a room beside its signals.
#[derive(Debug)]
pub(super) enum Finding {
    /// Where its log ends.
    Head(Arc<Room>, Head),
    /// Its feed asked for a read.
    Read(Arc<Room>, u64),
}

/// Handles one signal after another, so that order is kept, and waits for no room. Reads from the log
/// go on beside it, at most one a room, and so do pauses of rooms whose readers have much to take.
pub(super) async fn run(
    hub: Arc<Hub>,
    mut signals: Signals,
    mut findings: mpsc::Receiver<Finding>,
) {
    let slots = ShardLimits::new(READERS);
    let mut reads = FuturesUnordered::new();
    let mut gathering = DelayQueue::new();
    let mut pauses = FuturesUnordered::new();
    let mut batch = Vec::with_capacity(SIGNALS);
    let queues = &hub.metrics.queue_items;
    let mut relieved: Option<time::Instant> = None;
    loop {
        if hub.windows_are_over() && relieved.is_none_or(|at| at.elapsed() >= RELIEF) {
            hub.relieve_windows();
            relieved = Some(time::Instant::now());
        }
        let wanted = tokio::select! {
            biased;
            Some((heal, page)) = reads.next() => {
                let heal: Heal = heal;
                let room = heal.room.clone();
                let wanted = finish_read(&hub, heal, page);
                if wanted.is_none() {
                    pauses.extend(announce(room));
                }
                reads.extend(wanted.map(|heal| read(&hub, &slots, heal)));
                continue;
            }
            Some(due) = gathering.next(), if !gathering.is_empty() => {
                let room: Arc<Room> = due.into_inner();
                room.stop_awaiting();
                pauses.extend(announce(room));
                continue;
            }
            Some(paused) = pauses.next() => {
                let room: Arc<Room> = paused;
                let wanted = room.sequencer(Sequencer::go_on).read.map(|after| Heal::look(&hub, room.clone(), after));
                pauses.extend(announce(room));
                Vec::from_iter(wanted)
            }
            taken = signals.recv_many(&mut batch, SIGNALS) => {
                if taken == 0 {
                    return;
                }
                queues.of(Queue::Signals).set(items(signals.len()));
                let (touched, wanted) = handle(&hub, batch.drain(..));
                for room in touched {
                    match room.gather(Instant::now()) {
                        None => {}
                        Some(Duration::ZERO) => pauses.extend(announce(room)),
                        Some(wait) => drop(gathering.insert(room, wait)),
                    }
                }
                wanted
            }
            Some(finding) = findings.recv() => {
                queues.of(Queue::Findings).set(items(findings.len()));
                Vec::from_iter(look_into(&hub, finding))
            }
            () = sleep(RELIEF), if hub.windows_are_over() => continue,
        };
        reads.extend(wanted.into_iter().map(|heal| read(&hub, &slots, heal)));
    }
}

/// A room that reads from the log.
struct Heal {
    room: Arc<Room>,
    /// The sequence number after which it reads.
    after: u64,
    /// Something was missed: it counts as a hole.
    hole: bool,
    /// Some of it is gone for good.
    lost: bool,
    /// How many events were read.
    events: usize,
    /// Readers have much to take before more is read.
    crowded: bool,
    span: Span,
}

impl Heal {
    /// Something was surely missed.
    fn hole(hub: &Hub, room: Arc<Room>, after: u64) -> Self {
        hub.metrics.holes.of(Hole::Found).inc();
        Self { hole: true, ..Self::look(hub, room, after) }
    }

    /// Looks whether anything was missed.
    fn look(hub: &Hub, room: Arc<Room>, after: u64) -> Self {
        let span = hub.sampler.heal(room.name(), after);
        Self { room, after, hole: false, lost: false, events: 0, crowded: false, span }
    }

    fn found(&mut self, hub: &Hub) {
        if !std::mem::replace(&mut self.hole, true) {
            hub.metrics.holes.of(Hole::Found).inc();
        }
    }

    fn end(self, hub: &Hub) {
        self.span.record("roomcast.events", self.events);
        let outcome = match (self.hole, self.lost) {
            (false, _) => "nothing missed",
            (true, false) => "healed",
            (true, true) => "lost",
        };
        self.span.record("roomcast.outcome", outcome);
        if self.hole {
            let outcome = if self.lost { Hole::Lost } else { Hole::Healed };
            hub.metrics.holes.of(outcome).inc();
        }
    }
}

/// Takes signals in. Returns the rooms in which something is new, and what has to be read.
fn handle(hub: &Hub, signals: impl Iterator<Item = Signal>) -> (Vec<Arc<Room>>, Vec<Heal>) {
    let mut touched: HashMap<RoomName, Arc<Room>> = HashMap::new();
    let mut wanted = Vec::new();
    for signal in signals {
        match signal {
            Signal::Live(Live { room: name, epoch, first, events }) => {
                let Some(room) = touched.get(&name).cloned().or_else(|| hub.room(&name)) else {
                    continue;
                };
                let read = room.sequencer(|sequencer| sequencer.live(epoch, first, events)).read;
                wanted.extend(read.map(|after| Heal::hole(hub, room.clone(), after)));
                touched.insert(name, room);
            }
            Signal::Resumed(names) => {
                let rooms = match names {
                    None => hub.rooms().all(),
                    Some(names) => names.iter().filter_map(|name| hub.room(name)).collect(),
                };
                info!(rooms = rooms.len(), "live delivery goes on; looking for what was missed");
                wanted.extend(rooms.into_iter().filter_map(|room| {
                    room.look_again();
                    let after = room.sequencer(Sequencer::resumed).read?;
                    Some(Heal::look(hub, room, after))
                }));
            }
            Signal::Moved(moved) => {
                if let Some(room) = hub.room(&moved.room) {
                    room.supersede(moved.session, moved.from);
                }
            }
            Signal::Canary(number) => hub.delivery_probe.heard(number, &hub.metrics),
        }
    }
    (touched.into_values().collect(), wanted)
}

fn look_into(hub: &Hub, finding: Finding) -> Option<Heal> {
    match finding {
        Finding::Head(room, head) => {
            let after = room.sequencer(|sequencer| sequencer.head(&head)).read?;
            Some(Heal::hole(hub, room, after))
        }
        Finding::Read(room, after) => Some(Heal::look(hub, room, after)),
    }
}

/// Wakes a room's readers and, where even the fastest of them has much to take, has the room pause: what
/// comes next must not push them off the window. A room that paused in vain does not do so again for a
/// while.
fn announce(room: Arc<Room>) -> Option<impl Future<Output = Arc<Room>>> {
    (room.announce() && room.pause()).then_some(async {
        until_taken(&room).await;
        room
    })
}

/// Waits until the fastest reader has taken much of what there is, for a moment at the most.
async fn until_taken(room: &Room) {
    let end = time::Instant::now() + PAUSE;
    let mut wait = Duration::from_millis(1);
    while room.is_crowded() {
        if time::Instant::now() >= end {
            room.note_stuck();
            return;
        }
        sleep(wait).await;
        wait = (2 * wait).min(PAUSE / 4);
    }
}

async fn read(hub: &Hub, slots: &ShardLimits, heal: Heal) -> (Heal, Result<Page, Unavailable>) {
    if heal.crowded {
        until_taken(&heal.room).await;
    }
    let slot = slots.acquire(&*hub.backplane, hub.shard(heal.room.name())).await;
    let page = hub.backplane.read(heal.room.name(), heal.after, heal.room.page_limit());
    let page = page.instrument(heal.span.clone()).await;
    drop(slot);
    if page.is_err() {
        sleep(REREAD).await;
    }
    (heal, page)
}

/// Passes a page on. Returns what to read next, while the room is still here.
fn finish_read(hub: &Hub, mut heal: Heal, page: Result<Page, Unavailable>) -> Option<Heal> {
    let room = heal.room.clone();
    let after = match page {
        Ok(page) => {
            let fed = room.sequencer(|sequencer| sequencer.page(page));
            count(hub, &mut heal, &fed);
            heal.crowded = fed.read.is_some() && room.announce();
            fed.read
        }
        Err(Unavailable) => {
            // A span for each try: the backplane may be away for long.
            trace::failed(&heal.span, "unavailable");
            heal.span = hub.sampler.heal(room.name(), heal.after);
            room.read_failed()
        }
    };
    // A room without members heals nothing.
    match after.filter(|_| room.has_refs()) {
        Some(after) => Some(Heal { after, ..heal }),
        None => {
            heal.end(hub);
            None
        }
    }
}

fn count(hub: &Hub, heal: &mut Heal, fed: &Fed) {
    heal.events += fed.items;
    if fed.items > 0 {
        heal.found(hub);
    }
    if fed.lost {
        warn!(room = %heal.room.name(), "the log no longer has all that was missed");
        heal.lost = true;
    }
}

#[cfg(test)]
mod tests;
