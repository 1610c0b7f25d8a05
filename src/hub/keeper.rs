//! Renews leases, and reaps those that others stopped renewing.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt, StreamExt,
    stream::{self, FuturesUnordered},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::time::{DelayQueue, delay_queue::Key};
use tracing::{Instrument as _, Span, info, warn};

use super::{Hub, Member, Notice, room::Room};
use crate::{
    backoff::jitter,
    backplane::{Hold, Overdue, REAP_BATCH, RENEW_BATCH, Renewal, Unavailable, Verdict},
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

/// The longest pause between two looks whether the backplane answers.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many rooms wait to be watched; then those who join wait.
pub(super) const QUEUE: usize = 1024;

/// A room in which somebody joined or lingers here, and when the earliest name ends that is known of.
#[derive(Debug)]
pub(super) struct Watch {
    room: RoomName,
    next_deadline: Duration,
    /// Whose deadline it is lingers: it is to be noticed even if nobody else is here.
    lingers: bool,
}

/// What falls due in a room.
#[derive(Debug)]
enum Due {
    Renew(RoomName),
    Reap(RoomName),
}

/// What was done, and what follows.
enum Done {
    Renewed {
        room: RoomName,
        answered: bool,
        next_deadline: Option<Duration>,
    },
    Reaped {
        room: RoomName,
        here: bool,
        next: Option<Duration>,
    },
    /// There is nobody here to renew.
    Empty {
        room: RoomName,
    },
}

/// The timers of one room.
#[derive(Default)]
struct Timers {
    renew: Option<Key>,
    /// A renewal is under way.
    renewing: bool,
    reap: Option<Key>,
    /// Until when it is looked at for the sake of those who linger, also without members here.
    lingering: Option<tokio::time::Instant>,
}

impl Hub {
    /// Has the leases of a room renewed, and its deaths noticed.
    pub(super) async fn watch(&self, room: &RoomName, next_deadline: Duration) {
        self.send_watch(room, next_deadline, false).await;
    }

    /// Has it noticed when somebody's time to linger is over, whether or not anybody else is here.
    pub(super) async fn watch_lingering(&self, room: &RoomName, time: Duration) {
        self.send_watch(room, time, true).await;
    }

    async fn send_watch(&self, room: &RoomName, next_deadline: Duration, lingers: bool) {
        // The keeper ends only with the hub.
        let _ = self.watches.send(Watch { room: room.clone(), next_deadline, lingers }).await;
    }
}

/// One timer a room, however many members it has. A healthy room costs one renewal call for
/// hundreds of names every third of a lease, and nothing else.
pub(super) async fn run(hub: Arc<Hub>, mut watches: mpsc::Receiver<Watch>) {
    let mut keeper = LeaseManager {
        began: tokio::time::Instant::now(),
        lease: hub.config.lease,
        most: hub.config.rooms.saturating_mul(2),
        due: DelayQueue::new(),
        rooms: HashMap::new(),
    };
    let mut works = FuturesUnordered::new();
    let mut contact = pin!(keep_contact(&hub));
    loop {
        tokio::select! {
            biased;
            never = &mut contact => match never {},
            Some(watch) = watches.recv() => keeper.watch(watch),
            Some(due) = keeper.due.next(), if works.len() < CONCURRENCY => {
                works.push(work(&hub, keeper.begin(due.into_inner())));
            }
            Some(done) = works.next() => keeper.follow(done),
        }
    }
}

/// Asks the backplane for its time again and again: whoever has had an answer throughout may reap.
async fn keep_contact(hub: &Hub) -> Infallible {
    let pause = (hub.config.lease / 10).min(LONGEST_PAUSE);
    loop {
        hub.keep_contact().await;
        sleep(pause).await;
    }
}

struct LeaseManager {
    began: tokio::time::Instant,
    lease: Duration,
    /// The most rooms that are looked at: those with members here, and as many in which somebody lingers.
    most: usize,
    due: DelayQueue<Due>,
    rooms: HashMap<RoomName, Timers>,
}

impl LeaseManager {
    fn watch(&mut self, watch: Watch) {
        let Watch { room, next_deadline, lingers } = watch;
        if lingers && self.rooms.len() >= self.most && !self.rooms.contains_key(&room) {
            // Whoever comes into that room next, or is there on another replica, finds it.
            return;
        }
        let (renew_at, now) = (self.after(self.renew_pause()), tokio::time::Instant::now());
        let timers = self.rooms.entry(room.clone()).or_default();
        if lingers {
            let until = now.checked_add(next_deadline + 2 * self.lease);
            timers.lingering = timers.lingering.max(until);
        } else if timers.renew.is_none() {
            // One that is under way leaves it alone.
            timers.renew = Some(self.due.insert_at(Due::Renew(room.clone()), renew_at));
        }
        // Another deadline may be sooner than the one that whoever came or went knows.
        let known = timers.reap.as_ref().map(|key| self.due.deadline(key));
        if known.is_none_or(|known| known > now + next_deadline) {
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
                Due::Renew(_) => (timers.renew, timers.renewing) = (None, true),
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
                let timers = self.rooms.entry(room.clone()).or_default();
                timers.renewing = false;
                if timers.renew.is_none() {
                    timers.renew = Some(self.due.insert_at(Due::Renew(room.clone()), at));
                }
                if answered {
                    self.set_reap(room, next_deadline);
                }
            }
            Done::Reaped { room, here, next } => {
                let until = self.rooms.get(&room).and_then(|timers| timers.lingering);
                let at = next.and_then(|next| tokio::time::Instant::now().checked_add(next));
                let wanted = here || (at.is_some() && at <= until);
                // Whoever came or went meanwhile may have told of an earlier one.
                let known = self.rooms.get(&room).and_then(|timers| timers.reap.as_ref());
                let known = known.map(|key| self.due.deadline(key));
                if known.is_none_or(|known| wanted && at.is_some_and(|at| at < known)) {
                    self.set_reap(room.clone(), next.filter(|_| wanted));
                }
                self.tidy(&room);
            }
            Done::Empty { room } => {
                if let Some(timers) = self.rooms.get_mut(&room) {
                    timers.renewing = false;
                    if timers.lingering.is_none()
                        && let Some(key) = timers.reap.take()
                    {
                        self.due.try_remove(&key);
                    }
                }
                self.tidy(&room);
            }
        }
    }

    /// Forgets a room in which nothing falls due.
    fn tidy(&mut self, room: &RoomName) {
        let is_idle = |it: &Timers| it.renew.is_none() && !it.renewing && it.reap.is_none();
        if self.rooms.get(room).is_some_and(is_idle) {
            self.rooms.remove(room);
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
    match due {
        Due::Renew(name) => {
            let Some(room) = hub.room(&name) else { return Done::Empty { room: name } };
            let renewed = renew(hub, &room).await;
            let (answered, next_deadline) = (renewed.is_ok(), renewed.unwrap_or(None));
            Done::Renewed { room: name, answered, next_deadline }
        }
        Due::Reap(name) => {
            let next = reap(hub, &name).await.unwrap_or(Some(hub.config.lease / 2));
            Done::Reaped { here: hub.room(&name).is_some(), room: name, next }
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
    let renewal = hub.backplane.renew(room.name(), &holds).await?;
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

/// Declares gone whoever is overdue and may be, a burst at a time. Returns when to look again.
async fn reap(hub: &Hub, name: &RoomName) -> Result<Option<Duration>, Unavailable> {
    let room = hub.room(name);
    loop {
        hub.keep_contact().await;
        let overdue = hub.backplane.overdue(name).await?;
        let more = overdue.len() == REAP_BATCH;
        let (gone, soonest) = hub.reapable(overdue);
        let Some(contact) = hub.steady().contact() else {
            return Ok(Some(soonest.unwrap_or(hub.config.lease / 2)));
        };
        let reaping = match gone.len() {
            0 => Span::none(),
            count => hub.sampler.reap(name, count),
        };
        let evictions = reaping.in_scope(|| Hub::evictions(room.as_deref(), gone));
        let reap = hub.backplane.reap(name, contact, &evictions).instrument(reaping.clone());
        let reaped = reap.await.inspect_err(|_| trace::failed(&reaping, "unavailable"))?;
        reaping.record("roomcast.reaped", reaped.count);
        if reaped.count > 0 {
            hub.metrics.reaped.inc_by(reaped.count as u64);
            info!(room = %name, count = reaped.count, "members whose leases ended are gone");
        }
        // Members of this very replica that are late are renewed, not reaped.
        if !more || evictions.is_empty() {
            // Whoever could not be reaped yet is the first whose time has come.
            let next = soonest.or(reaped.next_deadline);
            return Ok(next.map(|wait| wait.max(SECOND_LOOK)));
        }
    }
}

impl Hub {
    /// Those who may be reaped, and how long until another one may be.
    fn reapable(&self, overdue: Vec<Overdue>) -> (Vec<Overdue>, Option<Duration>) {
        let (steady, mut soonest) = (self.steady(), None::<Duration>);
        let may_be = |overdue: &Overdue| match steady.lasted(overdue.needs(self.config.lease)) {
            Ok(_) => true,
            Err(wait) => {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
                false
            }
        };
        (overdue.into_iter().filter(may_be).collect(), soonest)
    }
}
