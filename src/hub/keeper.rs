//! Renews leases, sees that rooms are not forgotten and miss nothing, and reaps those that others stopped renewing.

use std::{
    collections::HashSet,
    convert::Infallible,
    pin::pin,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{Instrument as _, debug, info, warn};

use super::{
    Hub, Member, Notice,
    lease_manager::{Done, Due, LeaseManager, Watch},
    look::Whom,
    room::Room,
};
use crate::{
    backplane::{
        CHECK_BATCH, HEADS_BATCH, Hold, Overdue, Partition, REAP_BATCH, ReapStep, RoomHead, Shard,
        Unavailable, Verdict,
    },
    domain::{Contact, RoomName},
    trace,
};

/// How many partitions are worked on at a time: all that there can be, each in two ways. Those of a part of the
/// backplane that does not answer hold up no others.
const CONCURRENCY: usize = 2 * 4096;

/// The soonest that a partition is looked through again.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// The longest pause between two looks whether the backplane answers.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the log is silent about leases once it told of one: there is one in each partition.
const SILENCE: Duration = Duration::from_secs(10);

/// How many partitions wait to be watched; then those who join wait.
pub(super) const QUEUE: usize = 1024;

impl Hub {
    /// Has the lease of a room's partition renewed, and deaths in it noticed.
    pub(super) async fn watch(&self, room: &RoomName) {
        self.send_watch(room, None).await;
    }

    /// Has it noticed when somebody's time to linger is over.
    pub(super) async fn watch_lingering(&self, room: &RoomName, time: Duration) {
        self.send_watch(room, Some(time)).await;
    }

    /// Whether the log is to tell of a lease.
    fn tells_of_leases(&self) -> bool {
        let mut told = self.told_of_leases.lock().unwrap_or_else(PoisonError::into_inner);
        let tells = told.is_none_or(|told| told.elapsed() >= SILENCE);
        if tells {
            *told = Some(Instant::now());
        }
        tells
    }

    async fn send_watch(&self, room: &RoomName, lingers: Option<Duration>) {
        let partition = self.backplane.partition(room);
        // The lease manager ends only with the hub.
        let _ = self.watches.send(Watch { partition, lingers }).await;
    }
}

/// Two timers a partition, however many rooms and members it has. A healthy one costs its part of a renewal call every
/// third of a lease, and of the calls that ask for the heads of quiet rooms.
pub(super) async fn run(hub: Arc<Hub>, mut watches: mpsc::Receiver<Watch>) {
    let mut manager = LeaseManager::new(hub.config.lease);
    let mut works = FuturesUnordered::new();
    let (mut looks, mut looking) = (FuturesUnordered::new(), HashSet::new());
    let mut contact = pin!(keep_contact(&hub));
    loop {
        tokio::select! {
            biased;
            never = &mut contact => match never {},
            Some(watch) = watches.recv() => manager.watch(watch),
            Some(due) = manager.next(), if works.len() < CONCURRENCY => works.push(work(&hub, due)),
            Some(partition) = looks.next() => drop(looking.remove(&partition)),
            Some(done) = works.next() => {
                if let Done::Renewed { partition, answered: true, .. } = done
                    && looking.insert(partition)
                {
                    looks.push(look_at_rooms(&hub, partition));
                }
                let partition = done.partition();
                if !manager.follow(done) {
                    // This replica was late itself: it has no right to call others gone.
                    hub.break_contact(partition);
                    if hub.tells_of_leases() {
                        warn!("leases were not renewed in time");
                    }
                }
            }
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
        Due::Renew(partition) => {
            let began = Instant::now();
            let renewed = renew(hub, partition).await;
            let (answered, next_deadline) = (renewed.is_ok(), renewed.unwrap_or(None));
            Done::Renewed { partition, began, answered, next_deadline }
        }
        Due::Reap(partition) => {
            let next = reap(hub, partition, ReapStep::Begin).await;
            Done::Reaped { partition, next: next.unwrap_or(Some(hub.config.lease / 2)) }
        }
    }
}

/// Renews the lease of a partition. Returns in how long somebody there is overdue, if anybody will be.
async fn renew(hub: &Hub, partition: Partition) -> Result<Option<Duration>, Unavailable> {
    let shard = hub.backplane.shard(partition);
    let renewal = hub.backplane.renew(partition).await.inspect_err(|_| {
        hub.steadiness.failed(partition, shard);
    })?;
    hub.metrics.lease_renewals.inc();
    if hub.steadiness.answered(partition, hub.backplane.shard(partition), renewal.server) {
        hub.releases.repeat(|room| hub.backplane.partition(room) == partition, &hub.metrics);
    }
    if !renewal.held {
        let rooms = hub.rooms().of(partition);
        debug!(rooms = rooms.len(), "a lease was lost; its names are taken again");
        if hub.tells_of_leases() {
            warn!("leases were lost; their names are taken again");
        }
        for room in rooms {
            // Once they had the time for that.
            room.doubt(hub.config.lease / 3);
            for (member, _) in room.holds() {
                member.notify(Notice::Gone);
            }
        }
    }
    Ok(renewal.next_deadline)
}

/// Asks where the rooms of a partition stand, as far as that is due. Renewals do not wait for it.
async fn look_at_rooms(hub: &Hub, partition: Partition) -> Partition {
    let (now, rooms) = (Instant::now(), hub.rooms().of(partition));
    // Asking keeps a room from being forgotten, which those who only watch must not.
    let is_due = |room: &Arc<Room>| room.has_members() && room.is_look_due(now);
    let due: Vec<Arc<Room>> = rooms.into_iter().filter(is_due).collect();
    for batch in due.chunks(HEADS_BATCH) {
        let names: Vec<_> = batch.iter().map(|room| room.name().clone()).collect();
        let heads = hub.backplane.heads(partition, &names).await.unwrap_or_default();
        for (nth, room) in batch.iter().enumerate() {
            let judged = match heads.get(nth) {
                Some(head) => judge(hub, room, head.as_ref()).await,
                None => Err(Unavailable),
            };
            if judged.is_err() {
                room.doubt(Duration::ZERO);
            }
        }
    }
    partition
}

/// Acts on where a room stands, or on its being forgotten.
async fn judge(hub: &Hub, room: &Arc<Room>, head: Option<&RoomHead>) -> Result<(), Unavailable> {
    let whom = head.map_or(Whom::All, |head| room.whom_to_check(head));
    if let Some(head) = head {
        hub.report_head(room, head.log.clone());
    }
    let mut held = if whom == Whom::Nobody { Vec::new() } else { room.holds() };
    if let (Whom::Others, Some(head)) = (whom, head) {
        let epoch = head.log.position.epoch;
        held.retain(|(_, hold)| hold.confirmed.is_none_or(|at| at.epoch != epoch));
    }
    let mut head = head.cloned();
    for batch in held.chunks(CHECK_BATCH) {
        let now = check(hub, room, batch).await?;
        let differs = |head: &RoomHead| {
            head.log.position.epoch != now.log.position.epoch || head.takeovers != now.takeovers
        };
        if head.is_some_and(|head| differs(&head)) {
            // Those who were checked before may not be in by now.
            room.doubt(Duration::ZERO);
        }
        head = Some(now);
    }
    if let Some(head) = head.filter(|_| whom != Whom::Nobody) {
        room.note_confirmed(&head);
    }
    Ok(())
}

/// Has members told what became of their holds.
async fn check(
    hub: &Hub,
    room: &Room,
    batch: &[(Arc<Member>, Hold)],
) -> Result<RoomHead, Unavailable> {
    let holds: Vec<_> = batch.iter().map(|(_, hold)| hold.clone()).collect();
    let checked = hub.backplane.check(room.name(), &holds).await?;
    for ((member, hold), verdict) in batch.iter().zip(&checked.verdicts) {
        match verdict {
            Verdict::Held => member.confirm(hold.token, checked.head.log.position),
            Verdict::Gone if member.holds(hold.token) => member.notify(Notice::Gone),
            Verdict::Taken if member.holds(hold.token) => member.notify(Notice::Taken),
            Verdict::Moved if member.holds(hold.token) => member.notify(Notice::Moved),
            // It was taken again, or given back, meanwhile.
            Verdict::Gone | Verdict::Taken | Verdict::Moved => {}
        }
    }
    Ok(checked.head)
}

/// Declares gone whoever is overdue in a partition and may be, a burst at a time. Returns when to look again.
pub(super) async fn reap(
    hub: &Hub,
    partition: Partition,
    mut step: ReapStep,
) -> Result<Option<Duration>, Unavailable> {
    let (mut next_deadline, mut soonest) = (None, None::<Duration>);
    // Somebody is overdue, and nobody was reaped; members of the dead were looked for.
    let (mut in_vain, mut sought) = (false, false);
    loop {
        hub.keep_contact(hub.backplane.shard(partition)).await;
        let Some(contact) = hub.reap_guard(partition).contact() else {
            return Ok(Some(hub.config.lease / 2));
        };
        sought |= matches!(step, ReapStep::Rooms(_));
        let survey = hub.backplane.overdue(partition, contact, step).await?;
        next_deadline = survey.next_deadline.or(next_deadline);
        let found = !survey.overdue.is_empty();
        let (gone, wait) = hub.reapable(partition, survey.overdue);
        soonest = soonest.into_iter().chain(wait).min();
        let mut tried = 0;
        for batch in gone.chunks(REAP_BATCH) {
            tried += remove(hub, partition, contact, batch).await?;
        }
        in_vain |= found && tried == 0;
        match survey.next {
            Some(ReapStep::Begin | ReapStep::BeginNow) if tried == 0 => break,
            Some(next) => step = next,
            None => break,
        }
    }
    if let Err(wait) = hub.reap_guard(partition).lasted(hub.config.lease) {
        soonest = soonest.into_iter().chain([wait]).min();
    }
    // What is due already and could not be done is next when it can be. Who was found to linger is told of then.
    let next = match (next_deadline, soonest) {
        _ if sought && !in_vain => Some(SECOND_LOOK),
        (Some(Duration::ZERO), Some(wait)) => Some(wait),
        // Members of this very replica that are late come back by themselves.
        (Some(Duration::ZERO), None) if in_vain => Some(hub.config.lease / 2),
        (next, None) => next,
        (next, soonest) => next.into_iter().chain(soonest).min(),
    };
    Ok(next.map(|wait| wait.max(SECOND_LOOK)))
}

/// Has members removed that are not here. Returns how many these are.
async fn remove(
    hub: &Hub,
    partition: Partition,
    contact: Contact,
    overdue: &[Overdue],
) -> Result<usize, Unavailable> {
    let reaping = hub.sampler.reap(overdue.len());
    let evictions = reaping.in_scope(|| hub.evictions(overdue));
    let reap = hub.backplane.reap(partition, contact, &evictions).instrument(reaping.clone());
    let reaped = reap.await.inspect_err(|_| trace::failed(&reaping, "unavailable"))?;
    reaping.record("roomcast.reaped", reaped);
    if reaped > 0 {
        hub.metrics.reaped.inc_by(reaped as u64);
        info!(count = reaped, "members whose time had passed are gone");
    }
    Ok(evictions.len())
}

impl Hub {
    /// Those who may be reaped, and how long until another one may be.
    fn reapable(
        &self,
        partition: Partition,
        overdue: Vec<Overdue>,
    ) -> (Vec<Overdue>, Option<Duration>) {
        let (reap_guard, mut soonest) = (self.reap_guard(partition), None::<Duration>);
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

#[cfg(test)]
mod tests;
