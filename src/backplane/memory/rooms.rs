//! All rooms, and how they are forgotten.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use tokio::time::Instant;

use super::room::{Room, Rules};
use crate::domain::{Epoch, RoomName};

/// The most rooms that one operation looks at in order to forget them. More than one, since an
/// operation begins at most one: so forgetting keeps up, whatever comes.
const SWEEP: usize = 4;

/// Rooms by name.
#[derive(Debug)]
pub(super) struct Rooms {
    rules: Rules,
    by_name: HashMap<RoomName, Room>,
    /// One entry for each room: when to look whether it is to be forgotten. May be
    /// earlier or a little later than the room says by now.
    due: BTreeSet<(Instant, RoomName)>,
}

impl Rooms {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, by_name: HashMap::new(), due: BTreeSet::new() }
    }

    /// The room, if there is one.
    pub(super) fn get(&mut self, name: &RoomName, now: Instant) -> Option<&mut Room> {
        self.by_name.get_mut(name).filter(|room| room.expires() > now)
    }

    /// The room; where there is none, it begins, with the epoch that is drawn for it.
    pub(super) fn begin(
        &mut self,
        name: &RoomName,
        now: Instant,
        draw: impl FnOnce() -> Epoch,
    ) -> &mut Room {
        let new = || Room::new(draw(), self.rules, now);
        match self.by_name.entry(name.clone()) {
            Entry::Occupied(room) => {
                let room = room.into_mut();
                if room.expires() <= now {
                    // Its entry in `due` serves the next one.
                    *room = new();
                }
                room
            }
            Entry::Vacant(place) => {
                let room = place.insert(new());
                self.due.insert((room.expires(), name.clone()));
                room
            }
        }
    }

    /// Forgets a few of the rooms whose time has come.
    pub(super) fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            if self.due.first().is_none_or(|(due, _)| *due > now) {
                return;
            }
            let Some((_, name)) = self.due.pop_first() else { return };
            match self.by_name.get(&name).map(Room::expires) {
                Some(expires) if expires > now => {
                    self.due.insert((expires, name));
                }
                _ => {
                    self.by_name.remove(&name);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.by_name.len(), self.due.len())
    }
}
