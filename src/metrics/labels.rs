//! Labels, all of them bounded, and counters by label.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    marker::PhantomData,
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    encoding::EncodeMetric,
    metrics::{TypedMetric, counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// A label whose values are known beforehand.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Its values, each at the index that `index` gives.
    const VALUES: &'static [&'static str];

    /// Which value this is.
    fn index(self) -> usize;

    /// The value, as it is written.
    fn value(self) -> &'static str {
        Self::VALUES[self.index()]
    }
}

macro_rules! label {
    ($(#[$about:meta])* $type:ident as $name:literal {
        $($(#[$meaning:meta])* $variant:ident = $value:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $type {
            $($(#[$meaning])* $variant,)+
        }

        impl Label for $type {
            const NAME: &'static str = $name;
            const VALUES: &'static [&'static str] = &[$($value),+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// How a node of a Redis Cluster refers to another one.
    Redirected as "kind" {
        /// The slot is there.
        Moved = "moved",
        /// The slot is on its way there, and what was asked for is there.
        Ask = "ask",
        /// The slot is on its way, and some of what was asked for is there.
        TryAgain = "try_again",
    }
}

label! {
    /// Why a stream was refused, or ended by the server.
    Refusal as "reason" {
        /// A first or later message could not be read.
        Unreadable = "unreadable",
        /// A user name that is not allowed.
        NameInvalid = "name_invalid",
        /// A user name that is held.
        NameTaken = "name_taken",
        /// A user name that somebody else took while its holder was cut off.
        NameLost = "name_lost",
        /// A newer stream carries the session.
        Superseded = "superseded",
        /// A session that has ended.
        SessionEnded = "session_ended",
        /// A token that is not the session's.
        TokenInvalid = "token_invalid",
        /// No token, or one that is not good; beside those of sessions.
        Unauthenticated = "unauthenticated",
        /// A token that has expired while its stream was open.
        TokenExpired = "token_expired",
        /// What the token gives no right to.
        Forbidden = "forbidden",
        /// Put out by a moderator.
        Kicked = "kicked",
        /// Banned from the room.
        Banned = "banned",
        /// Silenced by a moderator, in the chat protocol.
        Muted = "muted",
        /// All streams of a subject were ended by a backend.
        Disconnected = "disconnected",
        /// The keys that verify tokens are not known yet.
        KeysUnavailable = "keys_unavailable",
        /// The client sent nothing for too long.
        Silent = "silent",
        /// A room name that is not allowed.
        RoomInvalid = "room_invalid",
        /// A room with as many members as it may have.
        RoomFull = "room_full",
        /// A room that is not open on this replica, which has too many.
        Rooms = "rooms",
        /// Content over the limit.
        ContentTooLarge = "content_too_large",
        /// Too many streams on this replica.
        Streams = "streams",
        /// Too many streams of one peer address.
        StreamsPerPeer = "streams_per_peer",
        /// Too many streams of one subject of tokens.
        StreamsPerUser = "streams_per_user",
        /// Too many connections of one peer address; the whole connection was refused.
        ConnectionsPerPeer = "connections_per_peer",
        /// Too many rooms in which one peer address has members here.
        RoomsPerPeer = "rooms_per_peer",
        /// Too many members of one peer address in one room here.
        RoomMembersPerPeer = "room_members_per_peer",
        /// Too many pages asked for by one peer address.
        Queries = "queries",
        /// Too much was received and not stored.
        InputBytes = "input_bytes",
        /// A peer address that comes, or opens rooms, too often.
        TooOften = "too_often",
        /// Too many connections; the whole connection was refused.
        Connections = "connections",
        /// Resets, pings or the like in great number; the whole connection was ended.
        Flood = "flood",
        /// A TLS handshake failed or took too long; the whole connection was refused.
        TlsHandshake = "tls_handshake",
        /// No PROXY protocol header where there has to be one; the whole connection was refused.
        ProxyHeader = "proxy_header",
        /// The reader could not keep up.
        SlowReader = "slow_reader",
        /// The backplane did not answer in time.
        Unavailable = "unavailable",
        /// The server is shutting down.
        ShuttingDown = "shutting_down",
    }
}

label! {
    /// What came of a lease that ended under a live stream.
    LeaseLoss as "outcome" {
        /// The name was free and is held again.
        Rejoined = "rejoined",
        /// Somebody else holds it.
        Taken = "taken",
    }
}

label! {
    /// Why a member of this replica went.
    Leave as "cause" {
        /// The client ended its stream.
        Asked = "asked",
        /// The client's connection broke, or it cancelled.
        Disconnected = "disconnected",
        /// The server ended the stream.
        Ended = "ended",
        /// This replica was told to stop.
        Shutdown = "shutdown",
        /// Somebody else holds the name.
        NameLost = "name_lost",
        /// A newer stream carries the session.
        Superseded = "superseded",
        /// A moderator put it out.
        Kicked = "kicked",
        /// The stream is gone, the session waits to be resumed.
        Lingering = "lingering",
    }
}

label! {
    /// Why a message was refused that its client may send again.
    Nack as "reason" {
        /// No content.
        Empty = "empty",
        /// Content over the limit.
        TooLarge = "too_large",
        /// Too many messages.
        TooFast = "too_fast",
        /// One before it is missing.
        OutOfOrder = "out_of_order",
        /// From somebody who may only read.
        Forbidden = "forbidden",
        /// Silenced by a moderator.
        Muted = "muted",
        /// The backplane does not answer.
        Unavailable = "unavailable",
    }
}

label! {
    /// A bounded queue; docs/internals.md tells the bounds.
    Queue as "queue" {
        /// Operations that wait for Redis, sent or not.
        Lanes = "lanes",
        /// Live messages between the subscriber's connection and its reader.
        Subscriber = "subscriber",
        /// Signals of the backplane for the hub.
        Signals = "signals",
        /// Heads and reads that the hub's listener has yet to look at.
        Findings = "findings",
        /// Names that are still to be given back.
        Departures = "departures",
        /// Spans that wait to be exported.
        Spans = "spans",
    }
}

label! {
    /// What became of holes in live delivery. Each one is found, then healed or lost.
    Hole as "outcome" {
        /// Events were missed.
        Found = "found",
        /// The log had them all, or nobody is left here to miss them.
        Healed = "healed",
        /// The log no longer had all of them.
        Lost = "lost",
    }
}

label! {
    /// What came of TLS files that changed.
    TlsReload as "outcome" {
        /// They are in force.
        Reloaded = "reloaded",
        /// They cannot be used; the old ones stay in force.
        Refused = "refused",
    }
}

/// One metric for each value of a label, all of them there from the start, so that a rate can be
/// computed from the first event on.
#[derive(Debug)]
pub struct ByLabel<L, M> {
    metrics: Vec<M>,
    label: PhantomData<fn(L)>,
}

/// One counter for each value of a label.
pub type Counters<L> = ByLabel<L, Counter>;

/// One gauge for each value of a label.
pub type Gauges<L> = ByLabel<L, Gauge>;

impl<L, M> ByLabel<L, M>
where
    L: Label,
    M: Default + Clone + Debug + EncodeMetric + TypedMetric + Send + Sync + 'static,
{
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], M>::default();
        let metrics = L::VALUES
            .iter()
            .map(|value| family.get_or_create_owned(&[(L::NAME, *value)]))
            .collect();
        registry.register(name, help, family);
        Self { metrics, label: PhantomData }
    }

    /// The metric of one value.
    pub fn of(&self, label: L) -> &M {
        &self.metrics[label.index()]
    }
}

/// A gauge for each node of a Redis Cluster. There are as many as the cluster has masters.
#[derive(Debug)]
pub struct Nodes {
    family: Family<[(&'static str, String); 1], Gauge>,
    known: Mutex<BTreeSet<String>>,
}

impl Nodes {
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self { family, known: Mutex::default() }
    }

    /// Sets that of a node.
    pub fn set(&self, node: &str, value: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.family.get_or_create(&[("node", node.to_owned())]).set(value);
        known.insert(node.to_owned());
    }

    /// Tells nothing more of nodes that are not among these.
    pub fn retain(&self, nodes: &[String]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|node| {
            let stays = nodes.contains(node);
            if !stays {
                self.family.remove(&[("node", node.clone())]);
            }
            stays
        });
    }
}
