//! All rooms, and how they are forgotten.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    ops::Bound,
};

use tokio::time::Instant;

use super::room::{Room, Rules};
use crate::{
    backplane::{Deletion, RoomNames},
    domain::{Epoch, RoomName},
};

/// The most rooms that one operation looks at in order to forget them. More than one, since an
/// operation begins at most one: so forgetting keeps up, whatever comes.
const SWEEP: usize = 4;

/// Rooms by name.
#[derive(Debug)]
pub(super) struct Rooms {
    rules: Rules,
    /// How many bytes all of them may take, and how many they do.
    most_bytes: usize,
    bytes: usize,
    by_name: HashMap<RoomName, Room>,
    /// The same names, in their order.
    names: BTreeSet<RoomName>,
    /// One entry for each room: when to look whether it is to be forgotten. May be
    /// earlier or a little later than the room says by now.
    due: BTreeSet<(Instant, RoomName)>,
}

impl Rooms {
    pub(super) fn new(rules: Rules, most_bytes: usize) -> Self {
        Self {
            rules,
            most_bytes,
            bytes: 0,
            by_name: HashMap::new(),
            names: BTreeSet::new(),
            due: BTreeSet::new(),
        }
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
        let new = || Room::new(name.clone(), draw(), self.rules, now);
        match self.by_name.entry(name.clone()) {
            Entry::Occupied(room) => {
                let room = room.into_mut();
                if room.expires() <= now {
                    // Its entry in `due` serves the next one.
                    self.bytes -= room.bytes();
                    *room = new();
                    self.bytes += room.bytes();
                }
                room
            }
            Entry::Vacant(place) => {
                let room = place.insert(new());
                self.due.insert((room.expires(), name.clone()));
                self.names.insert(name.clone());
                self.bytes += room.bytes();
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
                _ => self.forget(&name),
            }
        }
    }

    /// Whether there is a room like that.
    pub(super) fn any(&self, is_like: impl FnMut(&Room) -> bool) -> bool {
        self.by_name.values().any(is_like)
    }

    /// All rooms that there are.
    pub(super) fn all(&mut self, now: Instant) -> impl Iterator<Item = &mut Room> {
        self.by_name.values_mut().filter(move |room| room.expires() > now)
    }

    fn forget(&mut self, name: &RoomName) {
        if let Some(room) = self.by_name.remove(name) {
            self.bytes -= room.bytes();
            self.names.remove(name);
        }
    }

    /// See [`crate::backplane::Backplane::room_names`]: those that come after a name.
    pub(super) fn names(
        &self,
        prefix: &str,
        after: Option<&RoomName>,
        limit: usize,
        now: Instant,
    ) -> RoomNames {
        let from = match (RoomName::parse(prefix).ok(), after) {
            (Some(prefix), Some(after)) if prefix <= *after => Bound::Excluded(after.clone()),
            (None, Some(after)) => Bound::Excluded(after.clone()),
            (Some(prefix), _) => Bound::Included(prefix),
            (None, None) => Bound::Unbounded,
        };
        let mut looked = self
            .names
            .range((from, Bound::Unbounded))
            .take_while(|name| name.as_str().starts_with(prefix));
        let some: Vec<&RoomName> = looked.by_ref().take(limit).collect();
        let next = looked.next().and_then(|_| some.last()).map(ToString::to_string);
        let is_there =
            |name: &RoomName| self.by_name.get(name).is_some_and(|room| room.expires() > now);
        let names = some.into_iter().filter(|name| is_there(name)).cloned().collect();
        RoomNames { names, next }
    }

    /// See [`crate::backplane::Backplane::delete_room`]. What is left takes no room, and is forgotten in its time.
    pub(super) fn delete(
        &mut self,
        name: &RoomName,
        now: Instant,
        draw: impl FnOnce() -> Epoch,
    ) -> Deletion {
        let rules = self.rules;
        let Some(room) = self.get(name, now) else { return Deletion::NotThere };
        let members = room.summary().members;
        if members > 0 {
            return Deletion::Occupied(members);
        }
        let before = room.bytes();
        *room = Room::new(name.clone(), draw(), rules, now);
        room.end(now);
        let after = room.bytes();
        self.bytes = self.bytes + after - before;
        Deletion::Deleted
    }

    /// A room that took so many bytes takes more, or fewer. Where all of them take too many, room is made for a
    /// while: those with the most lose their oldest events until all have as much as the largest may keep, and
    /// if that is not enough, empty ones are forgotten.
    pub(super) fn changed(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
        if self.bytes <= self.most_bytes {
            return;
        }
        let goal = self.most_bytes / 4 * 3;
        let share = share(self.by_name.values().map(Room::bytes).collect(), goal);
        for room in self.by_name.values_mut().filter(|room| room.bytes() > share) {
            self.bytes -= room.bytes();
            room.shrink(share);
            self.bytes += room.bytes();
        }
        let empty: Vec<_> = self.due.iter().map(|(_, name)| name.clone()).collect();
        for name in empty {
            if self.bytes <= goal {
                return;
            }
            if self.by_name.get(&name).is_some_and(Room::is_empty) {
                self.forget(&name);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.by_name.values().map(Room::bytes).sum()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.by_name.len(), self.due.len())
    }
}

/// How much each may have at the most, so that all together have no more than `goal`; those who have less keep it.
fn share(mut sizes: Vec<usize>, goal: usize) -> usize {
    sizes.sort_unstable();
    let (mut left, mut others) = (goal, sizes.len());
    for size in sizes {
        if size > left / others {
            return left / others;
        }
        left -= size;
        others -= 1;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_less_keep_it() {
        assert_eq!(share(vec![1, 2, 3], 6), usize::MAX);
        assert_eq!(share(vec![100, 2, 100, 3], 25), 10);
        assert_eq!(share(vec![5, 5, 5, 5], 8), 2);
        assert_eq!(share(vec![], 8), usize::MAX);
    }
}
