//! What is asked of each server that keeps any rooms: whether it delivers, and its time.

use std::{hash::BuildHasher, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{Redis, address::Endpoint, op::Work};
use crate::{
    backplane::{Shard, Unavailable},
    domain::RoomName,
};

impl Redis {
    /// Whoever listens to a room's server has to look at the room.
    pub(super) fn listeners_follow(&self, room: &RoomName) {
        let node = self.connector.node_of(self.keys().partition(room));
        if let Some(listening) = self.listeners.at(node.as_ref()) {
            listening.change(room);
        }
    }

    pub(super) fn shard_at(&self, server: Option<&Endpoint>) -> Shard {
        Shard(self.hasher.hash_one(server))
    }

    /// See [`crate::backplane::Backplane::clock`].
    pub(super) async fn clock_at(&self, shard: Shard) -> Result<Duration, Unavailable> {
        let mut servers = self.connector.servers().into_iter();
        let server = servers.find(|it| self.shard_at(it.as_ref()) == shard).ok_or(Unavailable)?;
        let partition = self.connector.partition_at(server.as_ref()).ok_or(Unavailable)?;
        let work = Work::Contact { key: self.keys().contact(partition, self.replica) };
        let lane = self.upkeep(partition);
        let reply = lane.submit(work, Instant::now() + self.timeout).await?;
        let number = |index| u64::try_from(reply.int(index).ok()?).ok();
        let (Some(seconds), Some(micros)) = (number(0), number(1)) else { return Err(Unavailable) };
        Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
    }

    /// Sends a canary by way of each server, and waits until one of them has taken it.
    pub(super) async fn send_canaries(&self, number: u64) -> Result<(), Unavailable> {
        let mut sent: FuturesUnordered<_> = self
            .connector
            .servers()
            .into_iter()
            // One that is away shall hold up no other one, and those that are slow are sent all the same.
            .map(|server| self.tasks.spawn(self.send_canary(server.as_ref(), number)))
            .collect();
        while let Some(sent) = sent.next().await {
            if let Ok(Ok(())) = sent {
                return Ok(());
            }
        }
        Err(Unavailable)
    }

    fn send_canary(
        &self,
        server: Option<&Endpoint>,
        number: u64,
    ) -> impl Future<Output = Result<(), Unavailable>> + use<> {
        let partition = self.connector.partition_at(server);
        let lane = partition.map(|partition| self.canaries.of(partition, 0).clone());
        let listening = self.listeners.at(server);
        let (replica, status, timeout) = (self.replica, self.status.clone(), self.timeout);
        async move {
            let (Some(partition), Some(lane)) = (partition, lane) else { return Err(Unavailable) };
            let work = Work::Canary { partition, replica, number };
            lane.submit(work, Instant::now() + timeout).await?;
            status.accepted();
            if let Some(listening) = listening {
                listening.canary_sent(number);
            }
            Ok(())
        }
    }
}
