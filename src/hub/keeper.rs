//! Renews leases, and reaps those that others stopped renewing.

use std::{
    collections::HashSet,
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
use tracing::{Instrument as _, Span, info, warn};

use super::{
    Hub, Member, Notice,
    lease_manager::{Done, Due, LeaseManager, Watch},
    room::Room,
};
use crate::{
    backplane::{Hold, Overdue, REAP_BATCH, RENEW_BATCH, Renewal, Shard, Unavailable, Verdict},
    domain::RoomName,
    trace,
};

/// How many rooms are worked on at a time.
const CONCURRENCY: usize = 256;

/// How many calls of one room are under way at a time.
const BATCHES: usize = 8;

/// The soonest that a room is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// The longest pause between two looks whether the backplane answers.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many rooms wait to be watched; then those who join wait.
pub(super) const QUEUE: usize = 1024;

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
        // The lease manager ends only with the hub.
        let _ = self.watches.send(Watch { room: room.clone(), next_deadline, lingers }).await;
    }
}

/// One timer a room, however many members it has. A healthy room costs one renewal call for
/// hundreds of names every third of a lease, and nothing else.
pub(super) async fn run(hub: Arc<Hub>, mut watches: mpsc::Receiver<Watch>) {
    let mut manager = LeaseManager::new(hub.config.lease, hub.config.rooms.saturating_mul(2));
    let mut works = FuturesUnordered::new();
    let mut contact = pin!(keep_contact(&hub));
    loop {
        tokio::select! {
            biased;
            never = &mut contact => match never {},
            Some(watch) = watches.recv() => manager.watch(watch),
            Some(due) = manager.next(), if works.len() < CONCURRENCY => works.push(work(&hub, due)),
            Some(done) = works.next() => manager.follow(done),
        }
    }
}

/// Asks all parts of the backplane for their time again and again: whoever has had an answer throughout may reap.
async fn keep_contact(hub: &Hub) -> Infallible {
    let pause = (hub.config.lease / 10).min(LONGEST_PAUSE);
    let mut shards: HashSet<Shard> = HashSet::new();
    let mut asked = FuturesUnordered::new();
    loop {
        // Each at its own pace: one that is away holds up no other one.
        let now = HashSet::from_iter(hub.backplane.shards());
        let contact = async |shard| {
            hub.keep_contact(shard).await;
            sleep(pause).await;
            shard
        };
        asked.extend(now.difference(&shards).map(|shard| contact(*shard)));
        hub.reap_guards().retain(|shard, _| now.contains(shard));
        shards.extend(now);
        tokio::select! {
            Some(shard) = asked.next() => { shards.remove(&shard); }
            () = sleep(pause) => {}
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
        hub.break_contact(room.name());
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
        hub.keep_contact(hub.backplane.shard(name)).await;
        let overdue = hub.backplane.overdue(name).await?;
        let more = overdue.len() == REAP_BATCH;
        let (gone, soonest) = hub.reapable(name, overdue);
        let Some(contact) = hub.reap_guard(name).contact() else {
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
    fn reapable(&self, room: &RoomName, overdue: Vec<Overdue>) -> (Vec<Overdue>, Option<Duration>) {
        let (reap_guard, mut soonest) = (self.reap_guard(room), None::<Duration>);
        let may_be = |overdue: &Overdue| match reap_guard.lasted(overdue.needs(self.config.lease)) {
            Ok(_) => true,
            Err(wait) => {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
                false
            }
        };
        (overdue.into_iter().filter(may_be).collect(), soonest)
    }
}
