//! Loads, for how long they go on, and what they are put on.

use std::{net::SocketAddr, time::Duration};

use crate::plan::Plan;
use http::HeaderMap;

/// A load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) clients: u32,
    pub(super) connections: u32,
    pub(super) senders: u32,
    pub(super) rooms: u32,
    /// Messages a second.
    pub(super) rate: u32,
    pub(super) content_bytes: usize,
    /// The least that is measured, where a short run says nothing.
    pub(super) seconds: u32,
}

impl Load {
    /// 200 clients with a connection each, of whom 20 send 480 messages a second.
    pub(super) const BASE: Self = Self {
        clients: 200,
        connections: 200,
        senders: 20,
        rooms: 1,
        rate: 480,
        content_bytes: 64,
        seconds: 1,
    };

    /// 4,000 clients over 40 connections, two in each of 2,000 rooms, of whom one says 5 messages a second.
    pub(super) const PAIRS: Self = Self {
        clients: 4000,
        connections: 40,
        senders: 2000,
        rooms: 2000,
        rate: 10_000,
        ..Self::BASE
    };

    /// Streams of one room that share connections, a hundred each, and get about so many deliveries
    /// a second.
    pub(super) fn streams(clients: u32, deliveries: u32) -> Self {
        let (connections, rate) = (clients.div_ceil(100), deliveries.div_ceil(clients - 1));
        Self { clients, connections, senders: 20.min(clients - 1), rate, ..Self::BASE }
    }

    /// The same in more rooms, with as many deliveries in all.
    pub(super) fn in_rooms(self, rooms: u32) -> Self {
        let others = |rooms: u32| self.clients / rooms - 1;
        let rate = self.rate * others(self.rooms) / others(rooms);
        Self { rooms, rate, senders: self.senders.max(rooms), ..self }
    }

    /// A load that shows whether everything works, and takes little time.
    pub(super) fn small(self) -> Self {
        let clients = self.clients.min(200);
        let rooms = self.rooms.min(clients / 2);
        let senders = self.senders.min(clients - rooms);
        let (connections, rate) = (self.connections.min(clients), self.rate.min(2000));
        Self { clients, connections, senders, rooms, rate, ..self }
    }

    /// The load on servers at these addresses.
    pub(super) fn plan(&self, addrs: Vec<SocketAddr>, pace: Pace) -> Plan {
        Plan {
            addrs,
            clients: self.clients,
            connections: self.connections,
            senders: self.senders,
            rooms: self.rooms,
            rate: self.rate,
            content_bytes: self.content_bytes,
            warmup: pace.warmup,
            measured: pace.measured(self),
            tag: rand::random::<u16>() & 0xfff,
            headers: HeaderMap::new(),
        }
    }
}

/// How long loads go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) warmup: Duration,
    pub(super) measured: Duration,
    /// Loads are small, too: only that all is delivered is of interest.
    pub(super) quick: bool,
}

impl Pace {
    /// The load as it is put on servers.
    pub(super) fn scaled(self, load: Load) -> Load {
        if self.quick { load.small() } else { load }
    }

    /// How long it is measured.
    pub(super) fn measured(self, load: &Load) -> Duration {
        let least = Duration::from_secs(load.seconds.into());
        if self.quick { self.measured } else { self.measured.max(least) }
    }
}

/// Where servers keep what they share.
#[derive(Clone, Copy, Debug)]
pub(super) enum Store {
    /// Each for itself, in memory.
    Memory,
    Redis,
    /// A Redis Cluster of three masters.
    Cluster,
}

/// What a load is put on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    pub(super) replicas: u32,
    pub(super) store: Store,
    pub(super) envoy: bool,
    /// Settings of roomcast.
    pub(super) variables: &'static [(&'static str, &'static str)],
}

impl Stage {
    pub(super) const ALONE: Self =
        Self { replicas: 1, store: Store::Memory, envoy: false, variables: &[] };

    pub(super) const fn on_redis(replicas: u32) -> Self {
        Self { replicas, store: Store::Redis, ..Self::ALONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_share_the_deliveries() {
        let one = Load::streams(20_000, 80_000);
        assert_eq!((one.connections, one.rate), (200, 5));
        let deliveries = |load: Load| load.rate * (load.clients / load.rooms - 1);
        for rooms in [1, 10, 1000, 10_000] {
            let load = one.in_rooms(rooms);
            let (all, some) = (deliveries(one), deliveries(load));
            assert!(some <= all && some > all / 10 * 9, "{rooms}: {some} of {all}");
        }
    }
}
