//! How many connections and streams there may be, and how much of all of it one address may have.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::{
    asking::{self, Allowances, Asking},
    intake::{Intake, IntakeLimits, OfAddress, Total},
};
use crate::{
    domain::{RoomName, origin},
    metrics::Metrics,
    room::Rate,
};

/// The caps. Behind a load balancer the address of a peer is the balancer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// The most streams of this replica.
    pub streams: usize,
    /// The most streams of one address.
    pub streams_per_peer: usize,
    /// The most connections of one address.
    pub connections_per_peer: usize,
    /// The most rooms in which one address has members here.
    pub rooms_per_peer: usize,
    /// The most members that one address has here in one room.
    pub room_members_per_peer: usize,
    /// How often one address may ask for a page.
    pub queries: Rate,
    /// The most bytes that were received and are not stored.
    pub intake: IntakeLimits,
}

/// A cap is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Full {
    /// This replica's.
    #[error("this replica has {max} streams, its limit (limits.streams); try another one")]
    Streams {
        /// The cap.
        max: usize,
    },
    /// One address comes, or opens rooms, too often.
    #[error("your address comes too often ({limit}); try again in {} ms", wait.as_millis())]
    TooOften {
        /// The key that limits it.
        limit: &'static str,
        /// When it may.
        wait: Duration,
    },
    /// One address's.
    #[error("your address has {max} streams here, the limit (limits.streams_per_peer)")]
    StreamsPerPeer {
        /// The cap.
        max: usize,
    },
    /// One subject's.
    #[error("the token's subject has {max} streams here, the limit (limits.streams_per_user)")]
    StreamsPerUser {
        /// The cap.
        max: usize,
    },
    /// One address's connections.
    #[error("your address has {max} connections here, the limit (limits.connections_per_peer)")]
    ConnectionsPerPeer {
        /// The cap.
        max: usize,
    },
    /// One address's rooms.
    #[error("your address has members in {max} rooms here, the limit (limits.rooms_per_peer)")]
    RoomsPerPeer {
        /// The cap.
        max: usize,
    },
    /// One address's members of one room.
    #[error(
        "your address has {max} members in this room here, the limit (limits.room_members_per_peer)"
    )]
    RoomMembersPerPeer {
        /// The cap.
        max: usize,
    },
}

/// Counts what there is, for each address.
#[derive(Debug)]
pub(super) struct Admission {
    caps: Caps,
    counts: Mutex<Counts>,
    intake: Arc<Total>,
    allowances: Arc<Allowances>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Counts {
    streams: usize,
    peers: HashMap<IpAddr, Peer>,
}

/// What one address has.
#[derive(Debug, Default)]
struct Peer {
    connections: usize,
    streams: usize,
    /// Its members in each room.
    rooms: HashMap<RoomName, usize>,
    intake: Weak<OfAddress>,
    asking: Weak<asking::OfAddress>,
    /// What it has by way of proxies.
    forwarded: Weak<Party>,
}

impl Peer {
    /// One more party of this address.
    fn party(&mut self, peer: IpAddr, intake: &Arc<Total>, allowances: &Arc<Allowances>) -> Party {
        let of_address = self.intake.upgrade().unwrap_or_else(|| {
            let of_address = OfAddress::new(intake);
            self.intake = Arc::downgrade(&of_address);
            of_address
        });
        let asks = self.asking.upgrade().unwrap_or_else(|| {
            let asks = asking::OfAddress::new(peer, allowances);
            self.asking = Arc::downgrade(&asks);
            asks
        });
        Party { intake: Intake::new(of_address), asking: Arc::new(Asking::new(asks)) }
    }
}

impl Admission {
    pub(super) fn new(caps: Caps, metrics: Metrics) -> Arc<Self> {
        let (intake, allowances) = (Total::new(caps.intake), Allowances::new(caps.queries));
        Arc::new(Self { caps, counts: Mutex::default(), intake, allowances, metrics })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits one more connection of a peer, for as long as what is returned lives.
    pub(super) fn connect(self: &Arc<Self>, peer: IpAddr) -> Result<Connected, Full> {
        let (peer, max) = (origin(peer), self.caps.connections_per_peer);
        let mut counts = self.lock();
        let of_peer = counts.peers.entry(peer).or_default();
        if of_peer.connections >= max {
            return Err(Full::ConnectionsPerPeer { max });
        }
        of_peer.connections += 1;
        let party = Arc::new(of_peer.party(peer, &self.intake, &self.allowances));
        Ok(Connected { party, _counted: self.counted(peer, Counted::Connection) })
    }

    /// What all has in common that comes from a client by way of proxies. `None` where nothing of it is counted.
    pub(super) fn forwarded(&self, client: IpAddr) -> Option<Arc<Party>> {
        let client = origin(client);
        let mut counts = self.lock();
        let of_client = counts.peers.get_mut(&client)?;
        Some(of_client.forwarded.upgrade().unwrap_or_else(|| {
            let party = Arc::new(of_client.party(client, &self.intake, &self.allowances));
            of_client.forwarded = Arc::downgrade(&party);
            party
        }))
    }

    /// Admits one more stream of a peer, for as long as what is returned lives.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Admitted, Full> {
        let (peer, max) = (origin(peer), self.caps.streams_per_peer);
        let mut counts = self.lock();
        if counts.streams >= self.caps.streams {
            return Err(Full::Streams { max: self.caps.streams });
        }
        let of_peer = counts.peers.entry(peer).or_default();
        if of_peer.streams >= max {
            return Err(Full::StreamsPerPeer { max });
        }
        of_peer.streams += 1;
        counts.streams += 1;
        self.metrics.streams.inc();
        Ok(self.counted(peer, Counted::Stream))
    }

    /// Admits one more member of a room, for as long as what is returned lives.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, room: &RoomName) -> Result<Admitted, Full> {
        let (peer, caps) = (origin(peer), &self.caps);
        let mut counts = self.lock();
        let rooms = &mut counts.peers.entry(peer).or_default().rooms;
        match rooms.get(room) {
            Some(members) if *members >= caps.room_members_per_peer => {
                return Err(Full::RoomMembersPerPeer { max: caps.room_members_per_peer });
            }
            None if rooms.len() >= caps.rooms_per_peer => {
                return Err(Full::RoomsPerPeer { max: caps.rooms_per_peer });
            }
            Some(_) | None => *rooms.entry(room.clone()).or_default() += 1,
        }
        Ok(self.counted(peer, Counted::Member(room.clone())))
    }

    fn counted(self: &Arc<Self>, peer: IpAddr, what: Counted) -> Admitted {
        Admitted { admission: self.clone(), peer, what }
    }
}

/// Whoever shares a part of what an address may have: a connection, or all that comes by way of proxies.
#[derive(Debug)]
pub(super) struct Party {
    /// What it has sent that is not stored.
    pub(super) intake: Arc<Intake>,
    /// What it asks beside its streams.
    pub(super) asking: Arc<Asking>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(super) party: Arc<Party>,
    _counted: Admitted,
}

/// Something of a peer that is counted while this lives.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    peer: IpAddr,
    what: Counted,
}

#[derive(Debug)]
enum Counted {
    Connection,
    Stream,
    Member(RoomName),
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        let Some(of_peer) = counts.peers.get_mut(&self.peer) else { return };
        match &self.what {
            Counted::Connection => of_peer.connections -= 1,
            Counted::Stream => of_peer.streams -= 1,
            Counted::Member(room) => {
                if let Some(members) = of_peer.rooms.get_mut(room) {
                    *members -= 1;
                    if *members == 0 {
                        of_peer.rooms.remove(room);
                    }
                }
            }
        }
        if of_peer.connections == 0 && of_peer.streams == 0 && of_peer.rooms.is_empty() {
            counts.peers.remove(&self.peer);
        }
        if matches!(self.what, Counted::Stream) {
            counts.streams -= 1;
            self.admission.metrics.streams.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const INTAKE: IntakeLimits = IntakeLimits { replica: 1000, peer: 600, connection: 300 };
    const CAPS: Caps = Caps {
        streams: 3,
        streams_per_peer: 2,
        connections_per_peer: 2,
        rooms_per_peer: 2,
        room_members_per_peer: 2,
        queries: Rate { interval: Duration::from_secs(3600), burst: 2 },
        intake: INTAKE,
    };

    fn admission() -> Arc<Admission> {
        Admission::new(CAPS, Metrics::new())
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn caps_hold_and_places_come_back() {
        let admission = admission();
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = admission.admit(one).unwrap();
        let _second = admission.admit(one).unwrap();
        assert_eq!(admission.admit(one).unwrap_err(), Full::StreamsPerPeer { max: 2 });
        let _third = admission.admit(two).unwrap();
        assert_eq!(admission.admit(two).unwrap_err(), Full::Streams { max: 3 });
        drop(first);
        let _again = admission.admit(one).unwrap();
    }

    #[test]
    fn an_address_has_only_so_many_connections_rooms_and_members_of_a_room() {
        let admission = admission();
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let connections = [(); 2].map(|()| admission.connect(one).unwrap());
        assert_eq!(admission.connect(one).unwrap_err(), Full::ConnectionsPerPeer { max: 2 });
        let _other = admission.connect(two).unwrap();
        let members = ["a", "a", "b"].map(|name| admission.enter(one, &room(name)).unwrap());
        let refused = |name| admission.enter(one, &room(name)).unwrap_err();
        assert_eq!(refused("a"), Full::RoomMembersPerPeer { max: 2 });
        assert_eq!(refused("c"), Full::RoomsPerPeer { max: 2 });
        let _other = admission.enter(two, &room("a")).unwrap();
        drop((connections, members));
        let _again = ["c", "a"].map(|name| admission.enter(one, &room(name)).unwrap());
        let _again = admission.connect(one).unwrap();
    }

    #[test]
    fn who_comes_again_may_ask_no_more_often() {
        let admission = admission();
        let peer: IpAddr = [10, 0, 0, 1].into();
        let ask = || {
            let connected = admission.connect(peer).unwrap();
            connected.party.asking.begin().now_or_never().expect("at once").is_ok()
        };
        assert_eq!([ask(), ask(), ask()], [true, true, false]);
    }

    #[test]
    fn clients_behind_proxies_share_nothing_but_with_themselves() {
        let admission = admission();
        let [one, two] = [1, 2].map(|it| IpAddr::from([10, 0, 0, it]));
        assert!(admission.forwarded(one).is_none(), "nothing is kept of it");
        let admitted = [one, one, two].map(|it| admission.admit(it).unwrap());
        let party = |client| admission.forwarded(client).unwrap();
        let [first, again, other] = [one, one, two].map(party);
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        let ask = |party: &Party| party.asking.begin().now_or_never().unwrap().is_ok();
        assert_eq!([ask(&first), ask(&again), ask(&first)], [true, true, false]);
        assert!(ask(&other));
        drop((admitted, first, again, other));
        assert!(admission.lock().peers.is_empty());
    }

    #[test]
    fn nothing_is_kept_of_an_address_that_has_gone() {
        let admission = admission();
        for peer in 0..100 {
            let peer = IpAddr::from([10, 0, 1, peer]);
            let _connected = admission.connect(peer).unwrap();
            let _admitted = admission.admit(peer).unwrap();
            let _member = admission.enter(peer, &room("a")).unwrap();
        }
        assert!(admission.lock().peers.is_empty());
    }
}
