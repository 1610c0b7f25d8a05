//! Labels, all of them bounded, and counters by label.

use std::marker::PhantomData;

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
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
        /// A room name that is not allowed.
        RoomInvalid = "room_invalid",
        /// Content over the limit.
        ContentTooLarge = "content_too_large",
        /// Too many streams on this replica.
        Streams = "streams",
        /// Too many streams of one peer address.
        StreamsPerPeer = "streams_per_peer",
        /// Too many connections; the whole connection was refused.
        Connections = "connections",
        /// A TLS handshake failed or took too long; the whole connection was refused.
        TlsHandshake = "tls_handshake",
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
    /// What became of holes in live delivery. Each one is found, then healed or lost.
    Hole as "outcome" {
        /// Events were missed.
        Found = "found",
        /// The log had them all.
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

/// One counter for each value of a label, all of them there from the start, so that a rate can
/// be computed from the first event on.
#[derive(Debug)]
pub struct Counters<L> {
    counters: Vec<Counter>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Counters<L> {
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let counters = L::VALUES
            .iter()
            .map(|value| family.get_or_create_owned(&[(L::NAME, *value)]))
            .collect();
        registry.register(name, help, family);
        Self { counters, label: PhantomData }
    }

    /// The counter of one value.
    pub fn of(&self, label: L) -> &Counter {
        &self.counters[label.index()]
    }
}
