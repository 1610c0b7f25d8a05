//! The local registry: the rooms that have members on this replica, and everything that keeps
//! them in step with the backplane.
//!
//! `room` is one room's window and readers, `member` one member, `reader` what its stream takes, `slow_readers` the rule
//! for those that do not; `entry` and `membership` are a member's way in and out, and `watcher` reads rooms for who is no
//! member. Five loops run beside them: `listener` brings in what happens, `keeper` renews leases and reaps, `release_queue`
//! gives names back, `delivery_probe` proves that delivery works, `discovery` lists rooms for those who watch.

mod catch_up;
mod catch_up_reader;
mod chunk;
mod delivery;
mod delivery_probe;
mod discovery;
mod entry;
mod keeper;
mod lease_manager;
mod listener;
mod look;
mod member;
mod membership;
mod moderation;
mod reader;
mod release_queue;
mod room;
mod rooms;
mod shard_limits;
mod slot;
pub mod slow_readers;
mod steadiness;
#[cfg(test)]
pub(crate) mod testing;
mod unread;
mod wakers;
mod watcher;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    chunk::{Chunk, ChunkCache},
    delivery_probe::{DeliveryProbe, Silent},
    entry::{Arrived, Claim, EnterError, SessionClaim, StartFrom},
    member::{Member, Notice},
    membership::{Membership, PutOut, Reacquired},
    moderation::{Authority, Carried, Order, Target},
    reader::Reader,
    slot::{ENCODINGS, Encoder},
    unread::{Held, Unread},
    watcher::{WatchError, WatchRequest, Watched, WatchedRooms, Watcher},
};
use self::{
    discovery::Discovery, lease_manager::Watch, listener::Finding, release_queue::ReleaseQueue,
    room::Room, rooms::Rooms, shard_limits::ShardLimits, steadiness::Steadiness,
};
use crate::{
    backplane::{Backplane, Eviction, Hold, Overdue, Partition, Shard, Signals, Unavailable},
    domain::{Event, EventKind, Head, Member as Who, ReplicaId, RoomName, SessionId},
    metrics::Metrics,
    room::{Rate, ReapGuard},
    trace::{self, Sampler},
};

/// What a hub needs to know.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The length of a lease, the same for all replicas.
    pub lease: Duration,
    /// How many events a reader may be behind its room.
    pub window_events: usize,
    /// How many bytes of events a reader may be behind its room.
    pub window_bytes: usize,
    /// How many bytes of events the windows of all rooms may hold together, and how many may be on their way to
    /// single readers.
    pub unread_bytes: usize,
    /// The longest that an event waits for others in a busy room, so that they go out together.
    pub gather: Duration,
    /// How much may be said in a room by members of this replica.
    pub room_rate: Rate,
    /// The most rooms that are open here.
    pub rooms: usize,
    /// The most who watch rooms here.
    pub watchers: usize,
    /// The most rooms that all of them watch together.
    pub watched_rooms: usize,
    /// How long giving a name back may hold up the end of a stream.
    pub release_timeout: Duration,
    /// How long a name may be held whose client is gone, at the most: until that is noticed, and on.
    pub held_at_most: Duration,
}

/// The rooms with members on this replica.
#[derive(Debug)]
pub struct Hub {
    backplane: Arc<dyn Backplane>,
    config: HubConfig,
    replica: ReplicaId,
    metrics: Metrics,
    sampler: Arc<Sampler>,
    rooms: Mutex<Rooms>,
    /// For each part of the backplane.
    reap_guards: Mutex<HashMap<Shard, ReapGuard>>,
    steadiness: Steadiness,
    /// When the log last told of a lease.
    told_of_leases: Mutex<Option<tokio::time::Instant>>,
    /// Held by who looks for overdue members of a partition because a room is full.
    making_room: Mutex<HashMap<Partition, Arc<tokio::sync::Mutex<()>>>>,
    releases: ReleaseQueue,
    watches: mpsc::Sender<Watch>,
    findings: mpsc::Sender<Finding>,
    delivery_probe: DeliveryProbe,
    /// Readers that are served from the log.
    catch_ups: ShardLimits,
    unread: Arc<Unread>,
    watchers: Arc<Semaphore>,
    watched_rooms: Arc<Semaphore>,
    discovery: Discovery,
    draining: CancellationToken,
    /// One token for each membership.
    stays: TaskTracker,
    loops: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when a loop ends, on whatever path.
    ended: CancellationToken,
}

impl std::fmt::Debug for dyn Backplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backplane")
    }
}

impl Hub {
    /// Starts the hub and its loops.
    pub fn start(
        backplane: Arc<dyn Backplane>,
        signals: Signals,
        replica: ReplicaId,
        config: HubConfig,
        metrics: Metrics,
        sampler: Sampler,
    ) -> Arc<Self> {
        let (watches, watched) = mpsc::channel(keeper::QUEUE);
        let (findings, found) = mpsc::channel(listener::QUEUE);
        let [watchers, watched_rooms] =
            [config.watchers, config.watched_rooms].map(watcher::permits);
        let hub = Arc::new(Self {
            reap_guards: Mutex::default(),
            steadiness: Steadiness::default(),
            told_of_leases: Mutex::default(),
            delivery_probe: DeliveryProbe::new(config.lease),
            unread: Unread::new(config.unread_bytes),
            backplane,
            config,
            replica,
            metrics,
            sampler: Arc::new(sampler),
            rooms: Mutex::default(),
            making_room: Mutex::default(),
            releases: ReleaseQueue::default(),
            watches,
            findings,
            catch_ups: ShardLimits::new(slow_readers::CATCH_UPS),
            watchers,
            watched_rooms,
            discovery: Discovery::new(),
            draining: CancellationToken::new(),
            stays: TaskTracker::new(),
            loops: TaskTracker::new(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        hub.run(listener::run(hub.clone(), signals, found));
        hub.run(keeper::run(hub.clone(), watched));
        hub.run(release_queue::run(hub.clone()));
        hub.run(delivery_probe::run(hub.clone()));
        hub.run(discovery::run(hub.clone()));
        hub
    }

    /// Runs one of the loops until the hub is stopped.
    fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (stop, ended) = (self.stop.clone(), self.ended.clone().drop_guard());
        self.loops.spawn(async move {
            let _ended = ended;
            stop.run_until_cancelled(work).await;
        });
    }

    /// Resolves when a loop ended although nobody asked it to: a bug, and the end of the process.
    pub async fn crashed(&self) {
        self.ended.cancelled().await;
    }

    /// Whether a message published now would be delivered by this replica now.
    pub async fn prove_delivery(&self) -> Result<(), Silent> {
        self.delivery_probe.prove().await
    }

    /// How delivery stands, as of the last canary.
    pub fn delivery_probe(&self) -> &DeliveryProbe {
        &self.delivery_probe
    }

    /// Asks all sessions to end. Nobody gets in from now on.
    pub fn drain(&self) {
        self.draining.cancel();
        self.stays.close();
    }

    /// Cancelled once the hub drains.
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Waits until every member is gone and its name given back.
    pub async fn drained(&self) {
        self.stays.wait().await;
        self.releases.done().await;
    }

    /// How many members are still here, and how many names are not given back yet.
    pub fn remaining(&self) -> (usize, usize) {
        (self.stays.len(), self.releases.len())
    }

    /// Ends the loops.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.loops.close();
        self.loops.wait().await;
    }

    /// What the replicas share.
    pub fn backplane(&self) -> &dyn Backplane {
        &*self.backplane
    }

    /// What is on its way to single readers.
    pub fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Which traces are recorded.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, name: &RoomName) -> Option<Arc<Room>> {
        self.rooms().get(name).cloned()
    }

    /// Whether anybody here is in a room.
    pub fn is_open(&self, name: &RoomName) -> bool {
        self.rooms().get(name).is_some()
    }

    /// Takes a seat in a room, which keeps the room here until it is given up.
    fn take_room_ref(self: &Arc<Self>, name: &RoomName) -> Result<RoomRef, EnterError> {
        let mut rooms = self.rooms();
        let max = self.config.rooms;
        let room = match rooms.get(name) {
            Some(room) => room.clone(),
            None if rooms.len() >= max => return Err(EnterError::TooManyRooms { max }),
            None => {
                self.metrics.rooms.inc();
                let (metrics, sampler) = (self.metrics.clone(), self.sampler.clone());
                let room = Arc::new(Room::new(name.clone(), &self.config, metrics, sampler));
                rooms.insert(self.backplane.partition(name), room.clone());
                room
            }
        };
        room.add_ref();
        Ok(RoomRef { hub: self.clone(), room })
    }

    /// Whether the windows of all rooms hold too much together.
    fn windows_are_over(&self) -> bool {
        usize::try_from(self.metrics.window_bytes.get()).unwrap_or(0) > self.config.unread_bytes
    }

    /// Has each room keep no more than a share, such that all together keep three quarters of what they may: those
    /// that hold much have readers that are far behind.
    fn relieve_windows(&self) {
        let rooms = self.rooms().all();
        let sizes = rooms.into_iter().map(|room| (room.window_bytes(), room));
        let sizes: Vec<_> = sizes.filter(|(bytes, _)| *bytes > 0).collect();
        let kept = |share: usize| sizes.iter().map(|(bytes, _)| share.min(*bytes)).sum::<usize>();
        let mut share = self.config.window_bytes;
        while share > 0 && kept(share) > self.config.unread_bytes / 4 * 3 {
            share /= 2;
        }
        for (_, room) in sizes.iter().filter(|(bytes, _)| *bytes > share) {
            room.trim(share);
        }
    }

    /// Which part of the backplane keeps a room.
    fn shard(&self, room: &RoomName) -> Shard {
        self.backplane.shard(self.backplane.partition(room))
    }

    fn reap_guards(&self) -> MutexGuard<'_, HashMap<Shard, ReapGuard>> {
        self.reap_guards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may be reaped in a partition.
    fn reap_guard(&self, partition: Partition) -> ReapGuard {
        let shard = self.backplane.shard(partition);
        let guard = self.reap_guards().get(&shard).cloned();
        let guard = guard.unwrap_or_else(|| ReapGuard::new(self.config.lease));
        match self.steadiness.broken(partition, shard) {
            Some(broken) => guard.at_most(broken.elapsed()),
            None => guard,
        }
    }

    /// This replica was late itself: it has no right to call others gone that have names where this partition is kept.
    fn break_contact(&self, partition: Partition) {
        if let Some(guard) = self.reap_guards().get_mut(&self.backplane.shard(partition)) {
            guard.failed();
        }
    }

    /// Takes note of whether a part of the backplane answers, and of its time.
    async fn keep_contact(&self, shard: Shard) {
        let told = self.backplane.clock(shard).await;
        let mut guards = self.reap_guards();
        let guard = guards.entry(shard).or_insert_with(|| ReapGuard::new(self.config.lease));
        match told {
            Ok(at) => guard.told(at),
            Err(Unavailable) => guard.failed(),
        }
    }

    /// Tells the listener where a room's log ends. When it is busy, the next look tells again.
    fn report_head(&self, room: &Arc<Room>, head: Head) {
        let _ = self.findings.try_send(Finding::Head(room.clone(), head));
    }

    /// Has the listener read a room's log, whether or not its finder lives to see it.
    fn report_read(&self, room: &Arc<Room>, after: u64) {
        let (findings, finding) = (self.findings.clone(), Finding::Read(room.clone(), after));
        self.loops.spawn(async move {
            // The listener ends only with the hub.
            let _ = findings.send(finding).await;
        });
    }

    /// Evictions of members whose replica stopped renewing, or whom nobody resumed. Members whose
    /// streams are here are not among them, however late they are. In the trace of the span that is entered.
    fn evictions(&self, overdue: &[Overdue]) -> Vec<Eviction> {
        let (at, trace) = (jiff::Timestamp::now(), trace::current());
        let mut here: HashMap<RoomName, HashSet<SessionId>> = HashMap::new();
        let evict = |overdue: &Overdue| {
            let sessions = here.entry(overdue.room.clone()).or_insert_with_key(|room| {
                self.room(room).map(|room| room.sessions()).unwrap_or_default()
            });
            let gone = !sessions.contains(&overdue.member.session);
            gone.then(|| {
                let what = EventKind::Left { cause: overdue.cause() };
                let event =
                    Event { at, member: overdue.member.clone(), what, trace: trace.clone() };
                Eviction { overdue: overdue.clone(), event: Arc::new(event) }
            })
        };
        overdue.iter().filter_map(evict).collect()
    }
}

/// An event of a hold's member that happens now, in the trace of the span that is entered.
fn event_now(hold: &Hold, what: EventKind) -> Arc<Event> {
    let member = Who { name: hold.name.display().clone(), session: hold.session };
    Arc::new(Event { at: jiff::Timestamp::now(), member, what, trace: trace::current() })
}

/// Keeps a room on this replica; when the last one is dropped, the room goes.
#[derive(Debug)]
struct RoomRef {
    hub: Arc<Hub>,
    room: Arc<Room>,
}

impl Drop for RoomRef {
    fn drop(&mut self) {
        let mut rooms = self.hub.rooms();
        if self.room.drop_ref() {
            rooms.remove(self.hub.backplane.partition(self.room.name()), &self.room);
            // Under the lock, so that it comes before the subscription of a new room of that name.
            self.hub.backplane.unsubscribe(self.room.name());
            self.hub.metrics.rooms.dec();
        }
    }
}
