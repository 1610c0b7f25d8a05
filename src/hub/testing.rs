//! What tests start a hub with, who comes into it, and what readers take, in a form that can be compared.

use std::{sync::Arc, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Claim, Encoder, Hub, HubConfig, Membership, SessionClaim, StartFrom};
use crate::{
    backplane::{
        LogBounds,
        conformance::{
            Replica,
            odd::{Odd, Oddity},
        },
        memory::{Memory, MemoryConfig},
    },
    domain::{
        Epoch, Event, EventKind, Identity, Position, ReplicaId, RoomName, RoomRole, SecretHash,
        SessionId, Username, UsernameLimits,
    },
    metrics::Metrics,
    room::{Lost, Rate},
    trace::Sampler,
    wakers::{ReaderWaker, Wakers},
};

pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// Nobody has to be woken: tests take when they like.
#[derive(Debug)]
struct Nobody;

impl Wakers for Nobody {
    fn wake(&self, _: &[usize]) {}
}

pub(crate) fn nobody() -> ReaderWaker {
    ReaderWaker::new(Arc::new(Nobody), 0)
}

pub(crate) fn config() -> HubConfig {
    HubConfig {
        lease: LEASE,
        held_at_most: Duration::from_secs(100),
        window_events: 1_000,
        window_bytes: 1 << 30,
        unread_bytes: 1 << 30,
        gather: Duration::ZERO,
        watchers: 100,
        watched_rooms: 100,
        room_rate: Rate { interval: Duration::ZERO, burst: 1 },
        rooms: 1_000,
        release_timeout: Duration::from_secs(1),
    }
}

/// A hub on memory, what can take its backplane away, and another replica there. So many signals wait for the hub.
pub(crate) fn start(config: HubConfig, signal_queue: usize) -> (Arc<Hub>, Arc<Odd>, Replica) {
    let memory = Memory::new(MemoryConfig {
        lease: config.lease,
        log: LogBounds {
            length: 1_000_000,
            bytes: usize::MAX,
            age: Duration::from_secs(24 * 3600),
        },
        bytes: usize::MAX,
        members_per_room: 1_000,
        signal_queue,
    });
    let id = ReplicaId::from_bytes([1; 16]);
    let (backplane, signals) = memory.attach(id);
    let odd = Odd::new(backplane, Oddity::Switched);
    let hub = Hub::start(odd.clone(), signals, id, config, Metrics::new(), Sampler::off());
    let id = ReplicaId::from_bytes([2; 16]);
    let (backplane, signals) = memory.attach(id);
    (hub, odd, Replica { id, backplane, signals })
}

/// A member who gets what comes from now on, and whose session lingers for so long.
pub(crate) async fn enter(
    hub: &Arc<Hub>,
    room: &RoomName,
    name: &str,
    linger: Duration,
) -> Membership {
    let id = SessionId::from_bytes(rand::random());
    let session = SessionClaim::New(id, SecretHash::of(&[7; 32]));
    enter_as(hub, room, name, session, linger).await
}

/// The same, by a session of this kind.
pub(crate) async fn enter_as(
    hub: &Arc<Hub>,
    room: &RoomName,
    name: &str,
    session: SessionClaim,
    linger: Duration,
) -> Membership {
    let name = Username::parse(name, UsernameLimits { max_chars: 64 }).expect("a good name");
    let (room, since, told) = (room.clone(), StartFrom::Now, Arc::new(true.into()));
    let (identity, role) = (Some(Identity::Name(name.skeleton().into())), RoomRole::Member);
    let attempt = 0;
    let claim = Claim { room, name, identity, role, session, since, linger, attempt, told };
    hub.enter(claim, nobody()).await.expect("the name is free").membership
}

/// What a reader is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    /// An event: its position and, if it is a message, its content.
    Event(Position, String),
    Lost(Position, Position),
}

/// Writes what is given so that tests can [read](Plain::read) it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

impl Plain {
    fn write(kind: u8, numbers: [u64; 4], text: &str) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(kind);
        for number in numbers {
            bytes.put_u64(number);
        }
        bytes.put_u8(u8::try_from(text.len()).expect("a short text"));
        bytes.put_slice(text.as_bytes());
        bytes.freeze()
    }

    pub(crate) fn read(mut bytes: &[u8]) -> Vec<Given> {
        let mut given = vec![];
        while !bytes.is_empty() {
            let kind = bytes.get_u8();
            let [a, b, c, d] = std::array::from_fn(|_| bytes.get_u64());
            let length = usize::from(bytes.get_u8());
            let text = String::from_utf8(bytes[..length].to_vec()).expect("it was text");
            bytes.advance(length);
            let first = Position::new(Epoch(a), b);
            given.push(match kind {
                0 => Given::Event(first, text),
                _ => Given::Lost(first, Position::new(Epoch(c), d)),
            });
        }
        given
    }
}

impl Encoder for Plain {
    fn index(&self) -> usize {
        0
    }

    fn encode(&self, at: Position, event: &Event) -> Bytes {
        let text = match &event.what {
            EventKind::Said { content } => content,
            _ => "",
        };
        Self::write(0, [at.epoch.0, at.seq, 0, 0], text)
    }

    fn encode_lost(&self, lost: &Lost) -> Bytes {
        match *lost {
            Lost::Range { from, to } => {
                Self::write(1, [from.epoch.0, from.seq, to.epoch.0, to.seq], "")
            }
            Lost::Log { after } => Self::write(1, [after.epoch.0, after.seq, 0, 0], ""),
        }
    }
}
