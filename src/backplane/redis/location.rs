//! Which server keeps which slot, as far as is known, and for how long a connection leads to the right one.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{address::Endpoint, slots::SlotMap};

/// Where the data is, by what Sentinels or the nodes of a cluster say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Location {
    /// Nobody has said yet.
    Unknown,
    /// All of it is on a master; the number counts the failovers by which it came to be so.
    Master(Endpoint, u64),
    /// It is spread over the nodes of a cluster.
    Cluster(Arc<SlotMap>),
}

impl Location {
    /// Which server keeps a slot.
    pub(super) fn endpoint(&self, slot: u16) -> Option<&Endpoint> {
        match self {
            Self::Unknown => None,
            Self::Master(endpoint, _) => Some(endpoint),
            Self::Cluster(slots) => slots.owner(slot),
        }
    }

    /// The nodes of a cluster that keep any slots, and how many each.
    pub(super) fn counts(&self) -> Vec<(Endpoint, usize)> {
        match self {
            Self::Unknown | Self::Master(..) => Vec::new(),
            Self::Cluster(slots) => slots.counts(),
        }
    }

    /// Whether a server keeps any slot.
    pub(super) fn is_anywhere(&self, server: &Endpoint) -> bool {
        match self {
            Self::Unknown => false,
            Self::Master(endpoint, _) => endpoint == server,
            Self::Cluster(slots) => slots.nodes().contains(server),
        }
    }
}

/// For how long a server keeps the slot that a connection was opened for.
#[derive(Clone, Debug)]
pub(super) struct Tenure(Option<Keeper>);

#[derive(Clone, Debug)]
struct Keeper {
    known: watch::Receiver<Location>,
    slot: u16,
    endpoint: Endpoint,
}

impl Tenure {
    /// Of the only server that there is, or of one that is wanted whatever it keeps.
    pub(super) fn for_ever() -> Self {
        Self(None)
    }

    /// Of this server, for that slot.
    pub(super) fn of(known: watch::Receiver<Location>, slot: u16, endpoint: Endpoint) -> Self {
        Self(Some(Keeper { known, slot, endpoint }))
    }

    /// Whether another server keeps the slot now.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(|it| is_elsewhere(&it.known.borrow(), it.slot, &it.endpoint))
    }

    /// Resolves when another one does.
    pub(super) async fn over(&mut self) {
        if let Some(keeper) = &mut self.0 {
            let Keeper { known, slot, endpoint } = keeper;
            if known.wait_for(|it| is_elsewhere(it, *slot, endpoint)).await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Whether another server than this one keeps a slot. While nobody does, it may be that one again.
fn is_elsewhere(location: &Location, slot: u16, endpoint: &Endpoint) -> bool {
    location.endpoint(slot).is_some_and(|keeper| keeper != endpoint)
}

/// Says when it is worth while to try again at once.
#[derive(Clone, Debug)]
pub(super) struct Changes(Option<watch::Receiver<Location>>);

impl Changes {
    pub(super) fn new(known: Option<watch::Receiver<Location>>) -> Self {
        Self(known)
    }

    /// Waits for so long, or until something has moved.
    pub(super) async fn or_after(&mut self, time: Duration) {
        let changed = async {
            if let Some(known) = &mut self.0
                && known.changed().await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        };
        let _ = timeout(time, changed).await;
    }
}
