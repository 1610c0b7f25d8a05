//! A backplane that does what a broken connection makes of one: what it did is answered late, or asked
//! for twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;

use crate::{
    backplane::{
        AppendError, Appended, Backplane, Eviction, Hold, Join, JoinError, Joined, Members,
        MembersPage, Overdue, PageLimit, Reaped, Renewal, Seated, Unavailable,
    },
    domain::{Contact, Event, Page, Position, RoomName, Username},
};

/// How long it takes to show that something cannot be done.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// How it is odd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Oddity {
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
}

/// See the module.
pub(super) struct Odd {
    inner: Arc<dyn Backplane>,
    oddity: Oddity,
    first: AtomicBool,
}

impl Odd {
    pub(super) fn new(inner: Arc<dyn Backplane>, oddity: Oddity) -> Arc<Self> {
        Arc::new(Self { inner, oddity, first: AtomicBool::new(true) })
    }
}

impl Backplane for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn append<'a>(
        &'a self,
        hold: &'a Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        async move {
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
        .boxed()
    }

    fn subscribe<'a>(&'a self, room: &'a RoomName) -> BoxFuture<'a, Result<(), Unavailable>> {
        if self.oddity == Oddity::Away {
            return sleep(TIMEOUT).map(|()| Err(Unavailable)).boxed();
        }
        self.inner.subscribe(room)
    }

    fn unsubscribe(&self, room: &RoomName) {
        self.inner.unsubscribe(room);
    }

    fn join<'a>(&'a self, join: Join<'a>) -> BoxFuture<'a, Result<Joined, JoinError>> {
        self.inner.join(join)
    }

    fn leave<'a>(
        &'a self,
        hold: &'a Hold,
        event: Arc<Event>,
    ) -> BoxFuture<'a, Result<Option<Position>, Unavailable>> {
        if self.oddity == Oddity::AwayOnce && self.first.swap(false, Ordering::Relaxed) {
            return async { Err(Unavailable) }.boxed();
        }
        self.inner.leave(hold, event)
    }

    fn linger<'a>(
        &'a self,
        hold: &'a Hold,
        time: Duration,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        self.inner.linger(hold, time)
    }

    fn owe<'a>(
        &'a self,
        room: &'a RoomName,
        name: &'a Username,
        time: Duration,
    ) -> BoxFuture<'a, Result<Duration, Unavailable>> {
        self.inner.owe(room, name, time)
    }

    fn lookup<'a>(
        &'a self,
        room: &'a RoomName,
        name: &'a Username,
    ) -> BoxFuture<'a, Result<Option<Seated>, Unavailable>> {
        self.inner.lookup(room, name)
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomName,
        page: MembersPage,
    ) -> BoxFuture<'a, Result<Members, Unavailable>> {
        self.inner.members(room, page)
    }

    fn renew<'a>(
        &'a self,
        room: &'a RoomName,
        holds: &'a [Hold],
    ) -> BoxFuture<'a, Result<Renewal, Unavailable>> {
        self.inner.renew(room, holds)
    }

    fn overdue<'a>(
        &'a self,
        room: &'a RoomName,
    ) -> BoxFuture<'a, Result<Vec<Overdue>, Unavailable>> {
        self.inner.overdue(room)
    }

    fn reap<'a>(
        &'a self,
        room: &'a RoomName,
        contact: Contact,
        evict: &'a [Eviction],
    ) -> BoxFuture<'a, Result<Reaped, Unavailable>> {
        self.inner.reap(room, contact, evict)
    }

    fn read<'a>(
        &'a self,
        room: &'a RoomName,
        after: u64,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<Page, Unavailable>> {
        self.inner.read(room, after, limit)
    }

    fn canary(&self, number: u64) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.inner.canary(number)
    }

    fn clock(&self) -> BoxFuture<'_, Result<Duration, Unavailable>> {
        self.inner.clock()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
