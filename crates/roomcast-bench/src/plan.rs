//! Who is where and sends what when.

use std::{net::SocketAddr, time::Duration};

use http::HeaderMap;

use super::{Args, Error};

/// The most messages in one run: the order of all is kept in memory.
const MAX_MESSAGES: u64 = 20_000_000;

/// The shape of a run.
///
/// Client `c` is in room `c % rooms` and on connection `c % connections`. The first client of
/// each room only listens and is the room's witness; the next ones are the senders, numbered
/// across the rooms in turn.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) clients: u32,
    pub(super) connections: u32,
    pub(super) senders: u32,
    pub(super) rooms: u32,
    pub(super) rate: u32,
    pub(super) content_bytes: usize,
    pub(super) warmup: Duration,
    pub(super) measured: Duration,
    /// Tells this run's names and messages from those of others on the same server.
    pub(super) tag: u16,
    /// What each request has besides: the token, where there is one.
    pub(super) headers: HeaderMap,
}

impl Plan {
    /// Checks that the arguments go together.
    pub(super) fn new(args: &Args) -> Result<Self, Error> {
        let connections = args.connections.unwrap_or(args.clients);
        let bounds = |flag, got: u64, rule| Err(Error::Bounds { flag, got, rule });
        if !(1..=args.clients).contains(&connections) {
            let rule = format!("1 to {} are allowed, the number of clients", args.clients);
            return bounds("connections", connections.into(), rule);
        }
        if args.rooms > args.clients / 2 {
            let rule = format!("at most {} are allowed, two clients each", args.clients / 2);
            return bounds("rooms", args.rooms.into(), rule);
        }
        if args.senders > args.clients - args.rooms {
            let most = args.clients - args.rooms;
            let rule = format!("at most {most} are allowed, one client of each room only listens");
            return bounds("senders", args.senders.into(), rule);
        }
        let messages = u64::from(args.rate) * u64::from(args.warmup + args.seconds);
        if messages > MAX_MESSAGES {
            let rule = format!("it makes {messages} messages, at most {MAX_MESSAGES} are allowed");
            return bounds("rate", args.rate.into(), rule);
        }
        if args.pid.len() > 16 {
            let rule = "at most 16 processes are measured".to_owned();
            return bounds("pid", args.pid.len() as u64, rule);
        }
        Ok(Self {
            addrs: args.addr.clone(),
            clients: args.clients,
            connections,
            senders: args.senders,
            rooms: args.rooms,
            rate: args.rate,
            content_bytes: args.content_bytes as usize,
            warmup: Duration::from_secs(args.warmup.into()),
            measured: Duration::from_secs(args.seconds.into()),
            tag: rand::random::<u16>() & 0xfff,
            headers: HeaderMap::new(),
        })
    }

    /// How long senders send.
    pub(super) fn sending(&self) -> Duration {
        self.warmup + self.measured
    }

    /// The clients on a connection.
    pub(super) fn on_connection(&self, connection: u32) -> impl Iterator<Item = u32> {
        (connection..self.clients).step_by(self.connections as usize)
    }

    /// The server that a connection leads to.
    pub(super) fn addr_of(&self, connection: u32) -> SocketAddr {
        self.addrs[connection as usize % self.addrs.len()]
    }

    /// How many clients are on the server at `addrs[server]`.
    pub(super) fn clients_on(&self, server: usize) -> usize {
        let on_it = |connection: &u32| *connection as usize % self.addrs.len() == server;
        (0..self.connections).filter(on_it).map(|c| self.on_connection(c).count()).sum()
    }

    /// The room that a client is in.
    pub(super) fn room_of(&self, client: u32) -> u32 {
        client % self.rooms
    }

    /// The number of clients in a room.
    pub(super) fn members(&self, room: u32) -> u32 {
        (self.clients - room).div_ceil(self.rooms)
    }

    /// How often somebody is told that somebody else has joined.
    pub(super) fn join_notices(&self) -> u64 {
        (0..self.rooms).map(|room| u64::from(self.members(room)).pow(2) / 2).sum()
    }

    /// Whether a client is its room's witness.
    pub(super) fn is_witness(&self, client: u32) -> bool {
        client < self.rooms
    }

    /// Whether a client sends probes until all of its room hear them. Two do, so that each of
    /// them hears the other.
    pub(super) fn is_prober(&self, client: u32) -> bool {
        client < 2 * self.rooms
    }

    /// The sender that a client is.
    pub(super) fn sender(&self, client: u32) -> Option<u32> {
        client.checked_sub(self.rooms).filter(|&sender| sender < self.senders)
    }

    /// The client that a sender is.
    pub(super) fn client_of(&self, sender: u32) -> u32 {
        sender + self.rooms
    }

    /// The senders in a room; their place in it is their place in this sequence.
    pub(super) fn senders_in(&self, room: u32) -> impl Iterator<Item = u32> {
        (room..self.senders).step_by(self.rooms as usize)
    }

    /// The room that a sender is in.
    pub(super) fn room_of_sender(&self, sender: u32) -> u32 {
        sender % self.rooms
    }

    /// A sender's place among those of its room.
    pub(super) fn place_of(&self, sender: u32) -> usize {
        (sender / self.rooms) as usize
    }

    /// A client's user name.
    pub(super) fn name(&self, client: u32) -> String {
        format!("bench-{:03x}-{client}", self.tag)
    }

    /// The value of the request metadata that names a room; the lobby needs none.
    pub(super) fn room_name(&self, room: u32) -> Option<String> {
        (self.rooms > 1).then(|| format!("bench-{room}"))
    }

    /// When a sender's message number `seq` is due, counted from the start. Senders take turns.
    pub(super) fn due(&self, sender: u32, seq: u32) -> Duration {
        let turn = u64::from(seq) * u64::from(self.senders) + u64::from(sender);
        Duration::from_nanos(turn * 1_000_000_000 / u64::from(self.rate))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn plan(clients: u32, connections: u32, senders: u32, rooms: u32) -> Plan {
        Plan {
            addrs: vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()],
            clients,
            connections,
            senders,
            rooms,
            rate: 480,
            content_bytes: 64,
            warmup: Duration::ZERO,
            measured: Duration::from_secs(1),
            tag: 0xabc,
            headers: HeaderMap::new(),
        }
    }

    #[test]
    fn everybody_has_one_place() {
        for plan in [plan(200, 200, 20, 1), plan(23, 5, 9, 4), plan(20, 7, 10, 10)] {
            let mut clients: Vec<u32> =
                (0..plan.connections).flat_map(|c| plan.on_connection(c)).collect();
            clients.sort_unstable();
            assert_eq!(clients, (0..plan.clients).collect::<Vec<_>>());
            assert_eq!(plan.clients_on(0) + plan.clients_on(1), plan.clients as usize);
            assert_eq!((0..plan.rooms).map(|r| plan.members(r)).sum::<u32>(), plan.clients);

            let senders: Vec<u32> = (0..plan.clients).filter_map(|c| plan.sender(c)).collect();
            assert_eq!(senders, (0..plan.senders).collect::<Vec<_>>());
            for client in 0..plan.clients {
                let Some(sender) = plan.sender(client) else { continue };
                assert!(!plan.is_witness(client));
                assert_eq!(plan.client_of(sender), client);
                assert_eq!(plan.room_of(client), plan.room_of_sender(sender));
                let room = plan.senders_in(plan.room_of(client)).collect::<Vec<_>>();
                assert_eq!(room[plan.place_of(sender)], sender);
            }
        }
    }

    #[test]
    fn senders_take_turns() {
        let plan = plan(200, 200, 20, 1);
        assert_eq!(plan.due(0, 0), Duration::ZERO);
        assert_eq!(plan.due(0, 24), Duration::from_secs(1));
        assert!(plan.due(1, 0) < plan.due(2, 0) && plan.due(19, 0) < plan.due(0, 1));
    }
}
