//! Renews leases, and reaps those that others stopped renewing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt, StreamExt,
    stream::{self, FuturesUnordered},
};
use tokio::sync::mpsc;
use tokio_util::time::{DelayQueue, delay_queue::Key};
use tracing::{Instrument as _, Span, info, warn};

use super::{Hub, Member, Notice, room::Room};
use crate::{
    backoff::jitter,
    backplane::{Hold, REAP_BATCH, RENEW_BATCH, Renewal, Unavailable, Verdict},
    domain::RoomName,
    trace,
};

/// How many rooms are worked on at a time.
const CONCURRENCY: usize = 256;

/// Rooms are renewed at so many moments of a lease, so that those of one moment share calls.
const MOMENTS: u32 = 300;

/// How many calls of one room are under way at a time.
const BATCHES: usize = 8;

/// The soonest that a room is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// How many rooms wait to be watched; then those who join wait.
pub(super) const QUEUE: usize = 1024;

/// A room in which somebody joined here, and when its earliest lease ends.
#[derive(Debug)]
pub(super) struct Watch {
    room: RoomName,
    next_deadline: Duration,
}

/// What falls due in a room.
#[derive(Debug)]
enum Due {
    Renew(RoomName),
    Reap(RoomName),
}

/// What was done, and what follows.
enum Done {
    Renewed { room: RoomName, answered: bool, next_deadline: Option<Duration> },
    Reaped { room: RoomName, next: Option<Duration> },
    Empty { room: RoomName },
}

/// The timers of one room.
struct Timers {
    renew: Option<Key>,
    reap: Option<Key>,
}

impl Hub {
    /// Has the leases of a room renewed, and its deaths noticed.
    pub(super) async fn watch(&self, room: &RoomName, next_deadline: Duration) {
        // The keeper ends only with the hub.
        let _ = self.watches.send(Watch { room: room.clone(), next_deadline }).await;
    }
}

/// One timer a room, however many members it has. A healthy room costs one renewal call for
/// hundreds of names every third of a lease, and nothing else.
pub(super) async fn run(hub: Arc<Hub>, mut watches: mpsc::Receiver<Watch>) {
    let mut keeper = Keeper {
        began: tokio::time::Instant::now(),
        lease: hub.config.lease,
        due: DelayQueue::new(),
        rooms: HashMap::new(),
    };
    let mut works = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(watch) = watches.recv() => keeper.watch(watch),
            Some(due) = keeper.due.next(), if works.len() < CONCURRENCY => {
                works.push(work(&hub, keeper.begin(due.into_inner())));
            }
            Some(done) = works.next() => keeper.follow(done),
        }
    }
}

struct Keeper {
    began: tokio::time::Instant,
    lease: Duration,
    due: DelayQueue<Due>,
    rooms: HashMap<RoomName, Timers>,
}

impl Keeper {
    fn watch(&mut self, watch: Watch) {
        let Watch { room, next_deadline } = watch;
        if !self.rooms.contains_key(&room) {
            let renew =
                self.due.insert_at(Due::Renew(room.clone()), self.after(self.renew_pause()));
            self.rooms.insert(room.clone(), Timers { renew: Some(renew), reap: None });
        }
        // Another deadline may be sooner than the one that whoever came or went knows.
        let known = self.rooms.get(&room).and_then(|timers| timers.reap.as_ref());
        let known = known.map(|key| self.due.deadline(key));
        if known.is_none_or(|known| known > tokio::time::Instant::now() + next_deadline) {
            self.set_reap(room, Some(next_deadline));
        }
    }

    /// A third of a lease, so that two renewals may fail.
    fn renew_pause(&self) -> Duration {
        jitter(self.lease / 3, 0.8, 1.0)
    }

    /// The last moment within this time.
    fn after(&self, pause: Duration) -> tokio::time::Instant {
        let until = (self.began.elapsed() + pause).as_micros();
        let moment = (self.lease / MOMENTS).as_micros().max(1);
        let late = u64::try_from(until % moment).unwrap_or(0);
        tokio::time::Instant::now() + pause.saturating_sub(Duration::from_micros(late))
    }

    fn begin(&mut self, due: Due) -> Due {
        if let Due::Renew(room) | Due::Reap(room) = &due
            && let Some(timers) = self.rooms.get_mut(room)
        {
            match due {
                Due::Renew(_) => timers.renew = None,
                Due::Reap(_) => timers.reap = None,
            }
        }
        due
    }

    fn follow(&mut self, done: Done) {
        match done {
            Done::Renewed { room, answered, next_deadline } => {
                let pause = if answered { self.renew_pause() } else { self.renew_pause() / 4 };
                let at = self.after(pause);
                if let Some(timers) = self.rooms.get_mut(&room)
                    && timers.renew.is_none()
                {
                    timers.renew = Some(self.due.insert_at(Due::Renew(room.clone()), at));
                }
                if answered {
                    self.set_reap(room, next_deadline);
                }
            }
            Done::Reaped { room, next } => self.set_reap(room, next),
            Done::Empty { room } => {
                if let Some(timers) = self.rooms.remove(&room) {
                    for key in [timers.renew, timers.reap].into_iter().flatten() {
                        self.due.try_remove(&key);
                    }
                }
            }
        }
    }

    /// Looks for the dead when the earliest lease has ended, unless a renewal tells before that it
    /// was renewed. The jitter lets one replica do it for all.
    fn set_reap(&mut self, room: RoomName, next_deadline: Option<Duration>) {
        let Some(timers) = self.rooms.get_mut(&room) else { return };
        if let Some(key) = timers.reap.take() {
            self.due.try_remove(&key);
        }
        if let Some(wait) = next_deadline {
            let spread = jitter(Duration::from_millis(400), 0.1, 1.0);
            timers.reap = Some(self.due.insert(Due::Reap(room), wait + spread));
        }
    }
}

async fn work(hub: &Hub, due: Due) -> Done {
    let (Due::Renew(name) | Due::Reap(name)) = &due;
    let Some(room) = hub.room(name) else { return Done::Empty { room: name.clone() } };
    match due {
        Due::Renew(name) => match renew(hub, &room).await {
            Ok(next_deadline) => Done::Renewed { room: name, answered: true, next_deadline },
            Err(Unavailable) => Done::Renewed { room: name, answered: false, next_deadline: None },
        },
        Due::Reap(name) => {
            let next = reap(hub, &room).await.unwrap_or(Some(hub.config.lease / 2));
            Done::Reaped { room: name, next }
        }
    }
}

/// Renews all leases of a room, a few hundred in a call and several calls at a time.
async fn renew(hub: &Hub, room: &Arc<Room>) -> Result<Option<Duration>, Unavailable> {
    let began = Instant::now();
    room.end_overdue_deliveries();
    let held = room.holds();
    let mut next_deadline = None;
    let mut head = None;
    let batches: Vec<_> =
        held.chunks(RENEW_BATCH).map(|batch| renew_batch(hub, room, batch).boxed()).collect();
    let mut renewals = stream::iter(batches).buffer_unordered(BATCHES);
    while let Some(renewal) = renewals.next().await {
        let renewal = renewal?;
        next_deadline = renewal.next_deadline;
        head = Some(renewal.head);
    }
    if !room.note_renewed(began, hub.config.lease) {
        // This replica was late itself: it has no right to call others gone.
        hub.steady().failed();
        warn!(room = %room.name(), "leases were not renewed in time");
    }
    if let Some(head) = head {
        hub.report_head(room, head);
    }
    Ok(next_deadline)
}

async fn renew_batch(
    hub: &Hub,
    room: &Room,
    batch: &[(Arc<Member>, Hold)],
) -> Result<Renewal, Unavailable> {
    let holds: Vec<_> = batch.iter().map(|(_, hold)| hold.clone()).collect();
    let answer = hub.backplane.renew(room.name(), &holds).await;
    hub.note_contact(&answer);
    let renewal = answer?;
    for ((member, hold), verdict) in batch.iter().zip(&renewal.verdicts) {
        match verdict {
            Verdict::Held => member.confirm(hold.token, renewal.head.position),
            Verdict::Gone if member.holds(hold.token) => member.notify(Notice::Gone),
            Verdict::Taken if member.holds(hold.token) => member.notify(Notice::Taken),
            Verdict::Moved if member.holds(hold.token) => member.notify(Notice::Moved),
            // It was taken again, or given back, meanwhile.
            Verdict::Gone | Verdict::Taken | Verdict::Moved => {}
        }
    }
    hub.metrics.lease_renewals.inc_by(batch.len() as u64);
    Ok(renewal)
}

/// Declares gone whoever is overdue, a burst at a time. Returns when to look again.
async fn reap(hub: &Hub, room: &Arc<Room>) -> Result<Option<Duration>, Unavailable> {
    loop {
        if let Err(wait) = hub.may_reap() {
            return Ok(Some(wait));
        }
        let overdue = hub.backplane.overdue(room.name()).await?;
        let more = overdue.len() == REAP_BATCH;
        // The answer may have taken long: a backplane that was away gives everybody a lease's time.
        if let Err(wait) = hub.may_reap() {
            return Ok(Some(wait));
        }
        let reaping = match overdue.len() {
            0 => Span::none(),
            count => hub.sampler.reap(room.name(), count),
        };
        let evictions = reaping.in_scope(|| Hub::evictions(room, overdue));
        let reap = hub.backplane.reap(room.name(), &evictions).instrument(reaping.clone());
        let reaped = reap.await.inspect_err(|_| trace::failed(&reaping, "unavailable"))?;
        reaping.record("roomcast.reaped", reaped.count);
        if reaped.count > 0 {
            hub.metrics.reaped.inc_by(reaped.count as u64);
            info!(room = %room.name(), count = reaped.count, "members whose leases ended are gone");
        }
        // Members of this very replica that are late are renewed, not reaped.
        if !more || evictions.is_empty() {
            return Ok(reaped.next_deadline.map(|wait| wait.max(SECOND_LOOK)));
        }
    }
}
