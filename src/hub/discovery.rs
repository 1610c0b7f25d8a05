//! Finds out which rooms there are, for those who watch all of them, and looks after rooms that nobody on this replica
//! is a member of.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{Hub, room::Room};
use crate::{
    backplane::{LIST_BATCH, ListError, ListPage, PageLimit},
    domain::RoomName,
};

/// How often rooms are listed, at the most, while anybody watches.
const EVERY: Duration = Duration::from_secs(1);

/// How many rooms are asked at a time where they stand.
const LOOKS: usize = 16;

/// What is listed for all who watch on this replica.
#[derive(Debug)]
pub(super) struct Discovery {
    /// What they watch.
    prefixes: Mutex<BTreeMap<String, usize>>,
    /// Somebody is the first.
    begins: Notify,
    listed: watch::Sender<Option<Arc<Listed>>>,
}

/// The rooms that there were at some moment.
#[derive(Debug)]
struct Listed {
    /// Those whose names begin so.
    prefix: String,
    rooms: BTreeSet<RoomName>,
}

/// Rooms whose names begin as somebody has asked for.
pub(super) struct Discovered {
    listed: Arc<Listed>,
    prefix: Arc<str>,
}

impl Discovered {
    /// In the order of their names.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        // Every beginning of a name is one.
        let from = RoomName::parse(&self.prefix).map_or(Bound::Unbounded, Bound::Included);
        let prefix = self.prefix.clone();
        let rooms = self.listed.rooms.range((from, Bound::Unbounded));
        rooms.take_while(move |room| room.as_str().starts_with(&*prefix))
    }

    pub(super) fn contains(&self, room: &RoomName) -> bool {
        self.listed.rooms.contains(room)
    }
}

/// Somebody wants rooms listed, until this is dropped.
struct Wanted {
    hub: Arc<Hub>,
    prefix: Arc<str>,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut prefixes = self.hub.discovery.prefixes();
        if let Some(count) = prefixes.get_mut(&*self.prefix) {
            *count -= 1;
            if *count == 0 {
                prefixes.remove(&*self.prefix);
            }
        }
    }
}

impl Discovery {
    pub(super) fn new() -> Self {
        Self { prefixes: Mutex::default(), begins: Notify::new(), listed: watch::Sender::new(None) }
    }

    fn prefixes(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all that is watched has in common; `None` when nothing is.
    fn prefix(&self) -> Option<String> {
        let prefixes = self.prefixes();
        // In their order, the first and the last one differ the soonest.
        let (first, last) = (prefixes.keys().next()?, prefixes.keys().next_back()?);
        let common = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        Some(first[..common].to_owned())
    }
}

impl Hub {
    /// The rooms whose names begin so, as they are listed from now on.
    pub(super) fn discover(self: &Arc<Self>, prefix: String) -> BoxStream<'static, Discovered> {
        {
            let mut prefixes = self.discovery.prefixes();
            if prefixes.is_empty() {
                self.discovery.begins.notify_one();
            }
            *prefixes.entry(prefix.clone()).or_default() += 1;
        }
        let wanted = Wanted { hub: self.clone(), prefix: prefix.into() };
        let mut listed = self.discovery.listed.subscribe();
        // One that is there already may be old.
        listed.borrow_and_update();
        let listings = stream::unfold((listed, wanted), |(mut listed, wanted)| async {
            loop {
                listed.changed().await.ok()?;
                let now = listed.borrow_and_update().clone();
                if let Some(now) = now
                    && wanted.prefix.starts_with(&now.prefix)
                {
                    let found = Discovered { listed: now, prefix: wanted.prefix.clone() };
                    return Some((found, (listed, wanted)));
                }
            }
        });
        listings.boxed()
    }

    /// All rooms whose names begin so.
    async fn list(&self, prefix: &str) -> Result<BTreeSet<RoomName>, ListError> {
        let (mut rooms, mut from) = (BTreeSet::new(), None::<String>);
        loop {
            let page = ListPage { prefix, from: from.as_deref(), limit: LIST_BATCH };
            let page = self.backplane.room_names(page).await?;
            rooms.extend(page.names);
            from = page.next;
            if from.is_none() {
                return Ok(rooms);
            }
        }
    }

    /// Asks where rooms stand that are only watched, as far as that is due. It must not keep them from being forgotten.
    async fn look_at_watched_rooms(&self) {
        let now = Instant::now();
        let due = |room: &Arc<Room>| !room.has_members() && room.is_look_due(now);
        let rooms: Vec<_> = self.rooms().all().into_iter().filter(due).collect();
        let look = async |room: Arc<Room>| {
            let nothing = PageLimit { events: 0, bytes: 0 };
            let page = self.backplane.read(room.name(), 0, nothing).await;
            match page.map(|page| page.head) {
                Ok(Some(head)) => self.report_head(&room, head),
                Ok(None) => {}
                Err(_) => room.look_again(),
            }
        };
        stream::iter(rooms).map(look).buffer_unordered(LOOKS).collect::<()>().await;
    }
}

/// Lists rooms, and looks at those that are watched, for as long as anybody watches.
pub(super) async fn run(hub: Arc<Hub>) {
    let list = async {
        loop {
            let began = Instant::now();
            match hub.discovery.prefix() {
                Some(prefix) => {
                    // One that is not told is told with the next ones.
                    if let Ok(rooms) = hub.list(&prefix).await {
                        hub.discovery.listed.send_replace(Some(Arc::new(Listed { prefix, rooms })));
                    }
                }
                None => {
                    hub.discovery.listed.send_if_modified(|listed| listed.take().is_some());
                }
            }
            // Whoever is the first need not wait.
            let _ = timeout_at(began + EVERY, hub.discovery.begins.notified()).await;
        }
    };
    let look = async {
        loop {
            sleep(EVERY).await;
            if hub.metrics.watched_rooms.get() > 0 {
                hub.look_at_watched_rooms().await;
            }
        }
    };
    tokio::join!(list, look);
}
