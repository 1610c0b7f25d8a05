//! For how long each partition has been in contact, beside the part of the backplane that keeps it: a partition that is
//! on its way from one to another is with neither.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::backplane::{Partition, Shard};

/// What renewals came to in the partitions that this replica has members in.
#[derive(Debug, Default)]
pub(super) struct Steadiness(Mutex<HashMap<Partition, Contact>>);

#[derive(Debug)]
struct Contact {
    shard: Shard,
    /// Which server answered last.
    server: Option<u64>,
    /// When a renewal last came to nothing, or the partition was found somewhere else.
    broken: Option<Instant>,
}

impl Steadiness {
    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Contact>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A renewal was answered by a server. Returns whether another one had answered before.
    pub(super) fn answered(&self, partition: Partition, shard: Shard, server: u64) -> bool {
        let mut contacts = self.lock();
        let contact =
            contacts.entry(partition).or_insert(Contact { shard, server: None, broken: None });
        contact.follow(shard);
        contact.server.replace(server).is_some_and(|former| former != server)
    }

    /// A renewal was not answered.
    pub(super) fn failed(&self, partition: Partition, shard: Shard) {
        let mut contacts = self.lock();
        let new = Contact { shard, server: None, broken: None };
        contacts.entry(partition).or_insert(new).broken = Some(Instant::now());
    }

    /// When contact was last broken, if it was.
    pub(super) fn broken(&self, partition: Partition, shard: Shard) -> Option<Instant> {
        let mut contacts = self.lock();
        let contact = contacts.get_mut(&partition)?;
        contact.follow(shard);
        contact.broken
    }
}

impl Contact {
    fn follow(&mut self, shard: Shard) {
        if self.shard != shard {
            (self.shard, self.broken) = (shard, Some(Instant::now()));
        }
    }
}
