//! Whoever watches rooms without being a member of them: a reader of each that misses nothing.
//!
//! It takes from the rooms' windows what is there, and is served from the log where they do not reach, as sessions are
//! that come back. What it has in its hands is bounded however many rooms it watches: a chunk, and pages of a few
//! rooms; nothing is taken before it is asked for.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use slab::Slab;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use self::ready::Ready;
use super::{
    Encoder, EnterError, Hub, Member, RoomRef, catch_up::read_page, discovery::Discovered,
    reader::Reader, room::REREAD, slow_readers,
};
use crate::{
    backplane::{PageLimit, Unavailable},
    domain::{Epoch, Position, RoomName},
    metrics::InGauge,
    room::LogCursor,
    wakers::ReaderWaker,
};

mod ready;

/// How many rooms are opened at a time, of how many the log is read, and how many are asked whether they are still there.
const OPENING: usize = 16;
const READING: usize = 4;
const CHECKING: usize = 4;

/// How long to wait before a room that cannot be reached is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// A room that is not listed so many times in a row is looked for.
const MISSING: u32 = 2;

/// The position before everything that there is.
const BEGINNING: Position = Position::new(Epoch(0), 0);

/// What is watched, and from where.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Which rooms.
    pub rooms: WatchedRooms,
    /// Where those begin of which that is known.
    pub after: HashMap<RoomName, Position>,
    /// Where the others begin that are there already: at their beginning, or with what comes next. Those that come
    /// into being later are watched from their beginning.
    pub from_beginning: bool,
}

/// Which rooms are watched.
#[derive(Clone, Debug)]
pub enum WatchedRooms {
    /// These, whether or not they are there.
    Named(Vec<RoomName>),
    /// All whose names begin with this.
    Prefix(String),
}

/// Something of what is watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Watched {
    /// A room is watched from now on: all that comes after this position.
    Began(RoomName, Position),
    /// All rooms that were there at first are watched.
    Ready,
    /// What happened next in a room: encoded events, one after another, and how many.
    Events(RoomName, Bytes, usize),
}

/// Why nobody watches, or not any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WatchError {
    /// There are as many who watch as there may be.
    #[error("this replica has {max} watchers already")]
    TooManyWatchers {
        /// As many as there may be.
        max: usize,
    },
    /// As many rooms are watched, or open, as may be.
    #[error("this replica has {max} rooms to watch already")]
    TooManyRooms {
        /// As many as there may be.
        max: usize,
    },
}

/// Watches rooms until it is dropped.
pub struct Watcher {
    hub: Arc<Hub>,
    after: HashMap<RoomName, Position>,
    from_beginning: bool,
    /// The rooms that there are, told again and again; `None` where rooms are named.
    listings: Option<BoxStream<'static, Discovered>>,
    /// Rooms were listed before: others have come into being since.
    listed: bool,
    /// It was told that those that were there at first are watched.
    told_ready: bool,
    watching: Slab<WatchedRoom>,
    /// The rooms that are watched, or about to be.
    known: HashMap<RoomName, Known>,
    /// Rooms that wait to be opened, and where they begin; `None`: with what comes next.
    unopened: VecDeque<(RoomName, Option<Position>)>,
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
    began: VecDeque<(RoomName, Position)>,
    ready: Arc<Ready>,
    /// Rooms that wait for a page of their log, and those that have one that is not taken yet.
    asking: VecDeque<usize>,
    reading: FuturesUnordered<BoxFuture<'static, (usize, bool)>>,
    served: VecDeque<usize>,
    /// Rooms that were not listed any more, and are looked for.
    missing: VecDeque<RoomName>,
    checking: FuturesUnordered<BoxFuture<'static, (RoomName, bool)>>,
    _watching: (OwnedSemaphorePermit, InGauge),
}

/// A room that is watched.
struct WatchedRoom {
    name: RoomName,
    reader: Reader,
    /// The last page had nothing new: the room on this replica has yet to notice what this reader knows.
    pause: bool,
    _counted: (OwnedSemaphorePermit, InGauge),
}

/// A room that is watched or about to be.
#[derive(Default)]
struct Known {
    /// Its place, once it is watched.
    at: Option<usize>,
    /// How often in a row it was not listed.
    missing: u32,
}

/// What came of opening a room.
type Opened = (RoomName, Option<Position>, Result<RoomRef, usize>);

impl Hub {
    /// Begins to watch.
    pub fn watch_rooms(self: &Arc<Self>, request: WatchRequest) -> Result<Watcher, WatchError> {
        let max = self.config.watchers;
        let permit = self.watchers.clone().try_acquire_owned();
        let permit = permit.map_err(|_| WatchError::TooManyWatchers { max })?;
        let WatchRequest { rooms, after, from_beginning } = request;
        let mut watcher = Watcher {
            hub: self.clone(),
            after,
            from_beginning,
            listings: None,
            listed: false,
            told_ready: false,
            watching: Slab::new(),
            known: HashMap::new(),
            unopened: VecDeque::new(),
            opening: FuturesUnordered::new(),
            began: VecDeque::new(),
            ready: Arc::default(),
            asking: VecDeque::new(),
            reading: FuturesUnordered::new(),
            served: VecDeque::new(),
            missing: VecDeque::new(),
            checking: FuturesUnordered::new(),
            _watching: (permit, InGauge::new(&self.metrics.watchers)),
        };
        match rooms {
            WatchedRooms::Named(rooms) => rooms.into_iter().for_each(|room| watcher.add(room)),
            WatchedRooms::Prefix(prefix) => watcher.listings = Some(self.discover(prefix)),
        }
        Ok(watcher)
    }
}

impl Watcher {
    /// What comes next. Not before it is taken is anything prepared for later.
    pub fn poll_next(
        &mut self,
        encoder: &dyn Encoder,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Watched, WatchError>> {
        self.ready.register(cx.waker());
        loop {
            self.poll_listings(cx);
            if let Err(error) = self.poll_opening(cx) {
                return Poll::Ready(Err(error));
            }
            if let Some((room, position)) = self.began.pop_front() {
                return Poll::Ready(Ok(Watched::Began(room, position)));
            }
            if self.is_ready() && !std::mem::replace(&mut self.told_ready, true) {
                return Poll::Ready(Ok(Watched::Ready));
            }
            self.poll_checking(cx);
            while let Poll::Ready(Some((at, new))) = self.reading.poll_next_unpin(cx) {
                if let Some(watched) = self.watching.get_mut(at) {
                    watched.pause = !new;
                    self.served.push_back(at);
                }
            }
            // What is begun has to be polled once. Rooms that are behind do not wait until others are silent.
            if self.read_more() {
                continue;
            }
            if let Some(events) = self.take(encoder) {
                return Poll::Ready(Ok(events));
            }
            if !self.read_more() {
                return Poll::Pending;
            }
        }
    }

    /// Whether all rooms are watched that are known of.
    fn is_ready(&self) -> bool {
        let listed = self.listings.is_none() || self.listed;
        listed && self.unopened.is_empty() && self.opening.is_empty()
    }

    /// A room is to be watched, unless it is.
    fn add(&mut self, room: RoomName) {
        if self.known.contains_key(&room) {
            return;
        }
        self.known.insert(room.clone(), Known::default());
        let given = self.after.remove(&room);
        let begins = given.or_else(|| (self.listed || self.from_beginning).then_some(BEGINNING));
        self.unopened.push_back((room, begins));
    }

    fn poll_listings(&mut self, cx: &mut Context<'_>) {
        while let Some(Poll::Ready(Some(there))) =
            self.listings.as_mut().map(|it| it.poll_next_unpin(cx))
        {
            for room in there.rooms() {
                match self.known.get_mut(room) {
                    Some(known) => known.missing = 0,
                    None => self.add(room.clone()),
                }
            }
            for (room, known) in &mut self.known {
                if known.at.is_some() && !there.contains(room) {
                    known.missing += 1;
                    if known.missing == MISSING {
                        self.missing.push_back(room.clone());
                    }
                }
            }
            self.listed = true;
        }
    }

    /// Forgets rooms that are gone: what comes under their names later is another room.
    fn poll_checking(&mut self, cx: &mut Context<'_>) {
        loop {
            while self.checking.len() < CHECKING
                && let Some(room) = self.missing.pop_front()
            {
                let hub = self.hub.clone();
                self.checking.push(Box::pin(async move {
                    let nothing = PageLimit { events: 0, bytes: 0 };
                    let page = hub.backplane.read(&room, 0, nothing).await;
                    (room, page.is_ok_and(|page| page.head.is_none()))
                }));
            }
            let Poll::Ready(Some((room, gone))) = self.checking.poll_next_unpin(cx) else { return };
            let Some(known) = self.known.get_mut(&room) else { continue };
            let is_done = |at: &usize| !self.watching[*at].reader.has_more();
            match known.at.filter(is_done) {
                Some(at) if gone && known.missing >= MISSING => {
                    self.known.remove(&room);
                    self.watching.remove(at);
                }
                // It is looked for again if it stays away.
                Some(_) | None => known.missing = 0,
            }
        }
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Result<(), WatchError> {
        loop {
            while self.opening.len() < OPENING
                && let Some((room, begins)) = self.unopened.pop_front()
            {
                let hub = self.hub.clone();
                self.opening.push(Box::pin(async move {
                    let opened = open(&hub, &room).await;
                    (room, begins, opened)
                }));
            }
            let Poll::Ready(Some((room, begins, opened))) = self.opening.poll_next_unpin(cx) else {
                return Ok(());
            };
            let room_ref = opened.map_err(|max| WatchError::TooManyRooms { max })?;
            self.begin(room, begins, room_ref)?;
        }
    }

    /// A room is open, and is watched from there.
    fn begin(
        &mut self,
        name: RoomName,
        begins: Option<Position>,
        room_ref: RoomRef,
    ) -> Result<(), WatchError> {
        let max = self.hub.config.watched_rooms;
        let permit = self.hub.watched_rooms.clone().try_acquire_owned();
        let permit = permit.map_err(|_| WatchError::TooManyRooms { max })?;
        let place = begins.map_or_else(|| room_ref.room.place(), LogCursor::claimed);
        let position = place.position().unwrap_or(BEGINNING);
        let at = self.watching.vacant_key();
        let waker = ReaderWaker::new(self.ready.clone(), at);
        let member =
            Arc::new(Member::watcher(&name, room_ref.room.number(), self.hub.replica, waker));
        let reader = Reader::new(member, room_ref);
        reader.member().admit(position, place);
        reader.admit(position);
        // It is no member: it has no name that is to be kept.
        reader.member().end();
        let counted = (permit, InGauge::new(&self.hub.metrics.watched_rooms));
        self.watching.insert(WatchedRoom {
            name: name.clone(),
            reader,
            pause: false,
            _counted: counted,
        });
        self.known.entry(name.clone()).or_default().at = Some(at);
        self.began.push_back((name, position));
        self.ready.add(at);
        Ok(())
    }

    /// What there is of the next room that has something.
    fn take(&mut self, encoder: &dyn Encoder) -> Option<Watched> {
        loop {
            // Pages first: there are only so many.
            let served = self.served.pop_front();
            let at = served.or_else(|| self.ready.next())?;
            let Some(WatchedRoom { name, reader, .. }) = self.watching.get(at) else { continue };
            let most = slow_readers::chunk(self.hub.unread.is_over());
            // A reader that misses nothing does not fall.
            let chunk = reader.take(encoder, u64::MAX, most, None).unwrap_or_default();
            let (asks, has_page) = reader
                .member()
                .with_catch_up_reader(|it| (it.is_asking(), it.has_read()))
                .unwrap_or_default();
            if has_page {
                self.served.push_front(at);
            } else if asks {
                self.asking.push_back(at);
            } else if reader.has_more() {
                self.ready.add(at);
            }
            if chunk.events > 0 {
                return Some(Watched::Events(name.clone(), chunk.bytes, chunk.events));
            }
        }
    }

    /// Reads pages of rooms that wait for one, once all that were read are taken. Returns whether any was begun.
    fn read_more(&mut self) -> bool {
        let mut begun = false;
        while self.served.is_empty()
            && self.reading.len() < READING
            && let Some(at) = self.asking.pop_front()
        {
            let Some(watched) = self.watching.get(at) else { continue };
            let (reader, pause, hub) = (watched.reader.clone(), watched.pause, self.hub.clone());
            self.reading.push(Box::pin(async move {
                if pause {
                    sleep(REREAD).await;
                }
                (at, read_page(&hub, &reader.room_ref().room, reader.member()).await)
            }));
            begun = true;
        }
        begun
    }
}

/// Opens a room, however long that takes; fails where there are too many.
async fn open(hub: &Arc<Hub>, room: &RoomName) -> Result<RoomRef, usize> {
    loop {
        let room_ref = match hub.take_room_ref(room) {
            Ok(room_ref) => room_ref,
            Err(EnterError::TooManyRooms { max }) => return Err(max),
            Err(_) => return Err(hub.config.rooms),
        };
        match room_ref.room.open(&*hub.backplane).await {
            Ok(after) => {
                if let Some(after) = after {
                    hub.report_read(&room_ref.room, after);
                }
                return Ok(room_ref);
            }
            Err(Unavailable) => sleep(RETRY).await,
        }
    }
}

/// As many as there may be.
pub(super) fn permits(max: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests;
