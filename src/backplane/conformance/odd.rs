//! A backplane that does what a broken connection makes of one: what it did is answered late, or asked
//! for twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;

use crate::{
    backplane::{
        AppendError, Appended, Backplane, Bans, Checked, DecideError, Decision, Deletion,
        DirectError, Directives, Enforcement, Eviction, Hold, Join, JoinError, Joined, ListError,
        ListPage, Members, MembersCursor, MembersPage, PageLimit, Partition, Publish, PublishError,
        Published, ReapStep, Renewal, RoomHead, RoomNames, RoomSummary, Seated, Shard, Standing,
        Survey, Unavailable,
    },
    domain::{Contact, Directive, Event, Identity, Page, Position, RoomName, Until, Username},
};

/// How long it takes to show that something cannot be done.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// How it is odd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Oddity {
    /// Appends are asked for a second time before they are answered.
    Twice,
    /// The first append finds the lease gone.
    StaleOnce,
    /// The first append is done and not answered.
    UnansweredOnce,
    /// The first leave is not answered.
    AwayOnce,
    /// No room can be listened to, as shows after [`TIMEOUT`].
    Away,
    /// While it is [told to](Odd::set_away), nothing can be read, given back or left lingering, as shows after a moment.
    Switched,
}

/// See the module.
pub(crate) struct Odd {
    inner: Arc<dyn Backplane>,
    oddity: Oddity,
    first: AtomicBool,
    away: AtomicBool,
    /// How many were tried at a time in vain, now and at most.
    trying: AtomicUsize,
    most: AtomicUsize,
}

impl Odd {
    pub(crate) fn new(inner: Arc<dyn Backplane>, oddity: Oddity) -> Arc<Self> {
        let (first, away) = (AtomicBool::new(true), AtomicBool::new(false));
        Arc::new(Self { inner, oddity, first, away, trying: 0.into(), most: 0.into() })
    }

    /// Whether what is switched is away from now on.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// How many have been tried in vain at a time.
    pub(crate) fn most_at_a_time(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Fails after a moment while it is away.
    async fn is_here(&self) -> Result<(), Unavailable> {
        if self.oddity != Oddity::Switched || !self.away.load(Ordering::Relaxed) {
            return Ok(());
        }
        let trying = self.trying.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(trying, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        self.trying.fetch_sub(1, Ordering::Relaxed);
        Err(Unavailable)
    }
}

#[async_trait]
impl Backplane for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    async fn append(
        &self,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError> {
        if self.oddity == Oddity::StaleOnce {
            if self.first.swap(false, Ordering::Relaxed) {
                sleep(Duration::from_millis(10)).await;
                return Err(AppendError::Stale);
            }
            return self.inner.append(hold, client_seq, event).await;
        }
        if self.oddity == Oddity::UnansweredOnce {
            let appended = self.inner.append(hold, client_seq, event).await;
            if !self.first.swap(false, Ordering::Relaxed) {
                return appended;
            }
            // Others are appended meanwhile.
            sleep(Duration::from_millis(10)).await;
            return Err(Unavailable.into());
        }
        self.inner.append(hold, client_seq, event.clone()).await?;
        // Others are appended meanwhile.
        sleep(Duration::from_millis(10)).await;
        self.inner.append(hold, client_seq, event).await
    }

    async fn decide(&self, room: &RoomName, decision: Decision<'_>) -> Result<Until, DecideError> {
        self.inner.decide(room, decision).await
    }

    async fn enforce(&self, enforcement: Enforcement<'_>) -> Result<usize, Unavailable> {
        self.inner.enforce(enforcement).await
    }

    async fn direct(&self, subject: &str, directive: &Directive) -> Result<(), DirectError> {
        self.inner.direct(subject, directive).await
    }

    async fn directives(&self, known: u64) -> Result<Option<Directives>, Unavailable> {
        self.inner.directives(known).await
    }

    async fn standing(
        &self,
        room: &RoomName,
        identity: Option<&Identity>,
    ) -> Result<Standing, Unavailable> {
        self.inner.standing(room, identity).await
    }

    async fn bans(
        &self,
        room: &RoomName,
        cursor: Option<MembersCursor>,
        limit: usize,
    ) -> Result<Bans, Unavailable> {
        self.inner.bans(room, cursor, limit).await
    }

    async fn subscribe(&self, room: &RoomName) -> Result<(), Unavailable> {
        if self.oddity == Oddity::Away {
            sleep(TIMEOUT).await;
            return Err(Unavailable);
        }
        self.inner.subscribe(room).await
    }

    fn unsubscribe(&self, room: &RoomName) {
        self.inner.unsubscribe(room);
    }

    async fn join(&self, join: Join<'_>) -> Result<Joined, JoinError> {
        self.inner.join(join).await
    }

    async fn leave(&self, hold: &Hold, event: Arc<Event>) -> Result<Option<Position>, Unavailable> {
        if self.oddity == Oddity::AwayOnce && self.first.swap(false, Ordering::Relaxed) {
            return Err(Unavailable);
        }
        self.is_here().await?;
        self.inner.leave(hold, event).await
    }

    async fn linger(&self, hold: &Hold, time: Duration) -> Result<bool, Unavailable> {
        self.is_here().await?;
        self.inner.linger(hold, time).await
    }

    async fn owe(
        &self,
        room: &RoomName,
        name: &Username,
        time: Duration,
    ) -> Result<Duration, Unavailable> {
        self.inner.owe(room, name, time).await
    }

    async fn lookup(
        &self,
        room: &RoomName,
        name: &Username,
    ) -> Result<Option<Seated>, Unavailable> {
        self.inner.lookup(room, name).await
    }

    async fn members(&self, room: &RoomName, page: MembersPage) -> Result<Members, Unavailable> {
        self.inner.members(room, page).await
    }

    fn partition(&self, room: &RoomName) -> Partition {
        self.inner.partition(room)
    }

    async fn renew(&self, partition: Partition) -> Result<Renewal, Unavailable> {
        self.inner.renew(partition).await
    }

    fn renounce(&self, partition: Partition) {
        self.inner.renounce(partition);
    }

    async fn check(&self, room: &RoomName, holds: &[Hold]) -> Result<Checked, Unavailable> {
        self.inner.check(room, holds).await
    }

    async fn heads(
        &self,
        partition: Partition,
        rooms: &[RoomName],
    ) -> Result<Vec<Option<RoomHead>>, Unavailable> {
        self.inner.heads(partition, rooms).await
    }

    async fn overdue(
        &self,
        partition: Partition,
        contact: Contact,
        step: ReapStep,
    ) -> Result<Survey, Unavailable> {
        self.inner.overdue(partition, contact, step).await
    }

    async fn reap(
        &self,
        partition: Partition,
        contact: Contact,
        evict: &[Eviction],
    ) -> Result<usize, Unavailable> {
        self.inner.reap(partition, contact, evict).await
    }

    async fn read(
        &self,
        room: &RoomName,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, Unavailable> {
        self.is_here().await?;
        self.inner.read(room, after, limit).await
    }

    async fn canary(&self, number: u64) -> Result<(), Unavailable> {
        self.inner.canary(number).await
    }

    fn shards(&self) -> Vec<Shard> {
        self.inner.shards()
    }

    fn shard(&self, partition: Partition) -> Shard {
        self.inner.shard(partition)
    }

    async fn clock(&self, shard: Shard) -> Result<Duration, Unavailable> {
        self.inner.clock(shard).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    async fn publish(&self, publish: Publish) -> Result<Published, PublishError> {
        self.inner.publish(publish).await
    }

    async fn room_names(&self, page: ListPage<'_>) -> Result<RoomNames, ListError> {
        self.inner.room_names(page).await
    }

    async fn summaries(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomSummary>>, Unavailable> {
        self.inner.summaries(rooms).await
    }

    async fn delete_room(&self, room: &RoomName) -> Result<Deletion, Unavailable> {
        self.inner.delete_room(room).await
    }
}
