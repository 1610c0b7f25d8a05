//! The rooms that have members on this replica.

use std::{collections::HashMap, sync::Arc};

use super::room::Room;
use crate::{backplane::Partition, domain::RoomName};

/// By name, and by partition.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    by_name: HashMap<RoomName, Arc<Room>>,
    by_partition: HashMap<Partition, HashMap<u64, Arc<Room>>>,
}

impl Rooms {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn get(&self, name: &RoomName) -> Option<&Arc<Room>> {
        self.by_name.get(name)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Room>> {
        self.by_name.values().cloned().collect()
    }

    /// Those of a partition.
    pub(super) fn of(&self, partition: Partition) -> Vec<Arc<Room>> {
        let rooms = self.by_partition.get(&partition);
        rooms.map_or_else(Vec::new, |rooms| rooms.values().cloned().collect())
    }

    /// Adds one that was not there.
    pub(super) fn insert(&mut self, partition: Partition, room: Arc<Room>) {
        self.by_partition.entry(partition).or_default().insert(room.number(), room.clone());
        self.by_name.insert(room.name().clone(), room);
    }

    pub(super) fn remove(&mut self, partition: Partition, room: &Room) {
        self.by_name.remove(room.name());
        if let Some(rooms) = self.by_partition.get_mut(&partition) {
            rooms.remove(&room.number());
            if rooms.is_empty() {
                self.by_partition.remove(&partition);
            }
        }
    }
}
