//! What connections for commands are for, and how they stand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use redis::aio::MultiplexedConnection;

use super::{address::Endpoint, location::Tenure, pace::Pace, wire::Wire};

/// What a connection for commands is for, and where it has to lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// It leads to the server that keeps this partition.
    pub(super) partition: usize,
    pub(super) kind: LinkKind,
}

/// What a connection for commands is for. In a cluster all partitions of a node share one of each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum LinkKind {
    /// What changes rooms, on one of several.
    Append(usize),
    /// What needs no order with that.
    Upkeep,
    /// Canaries, where they are not part of that.
    Canaries,
    /// Pages of logs.
    Reads,
}

/// An open connection for commands; it is held for as long as it works.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    pub(super) connection: MultiplexedConnection,
    /// How lanes send over it, and how often.
    pub(super) wire: Wire,
    pub(super) pace: Pace,
    /// The replication id of the Redis at the other end, as far as is known.
    pub(super) replid: String,
    /// By what policy it drops keys when it is full, if it does.
    pub(super) evicts: Option<String>,
    /// Why nothing can be written for now, as the trial found.
    pub(super) refused: Option<String>,
    /// For how long it leads to the right Redis.
    pub(super) tenure: Tenure,
    /// Which node of the cluster that is.
    pub(super) node: Option<Endpoint>,
    pub(super) broken: Arc<AtomicBool>,
}

impl Commands {
    /// The same for many lanes.
    pub(super) fn shared(self) -> Self {
        Self { wire: Wire::shared(self.connection.clone()), ..self }
    }

    /// Nobody shall use it any more.
    pub(super) fn give_up(self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}
