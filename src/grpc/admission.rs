//! How many streams there may be.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::metrics::Metrics;

/// The caps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// The most streams of this replica.
    pub streams: usize,
    /// The most streams of one peer address. Behind a load balancer the peer is its address.
    pub streams_per_peer: usize,
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
    /// One address's.
    #[error("your address has {max} streams here, the limit (limits.streams_per_peer)")]
    StreamsPerPeer {
        /// The cap.
        max: usize,
    },
}

/// Counts streams.
#[derive(Debug)]
pub(super) struct Admission {
    caps: Caps,
    counts: Mutex<Counts>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Counts {
    streams: usize,
    peers: HashMap<IpAddr, usize>,
}

impl Admission {
    pub(super) fn new(caps: Caps, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { caps, counts: Mutex::default(), metrics })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits one more stream of a peer, for as long as what is returned lives.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Admitted, Full> {
        let mut counts = self.lock();
        if counts.streams >= self.caps.streams {
            return Err(Full::Streams { max: self.caps.streams });
        }
        let of_peer = counts.peers.entry(peer).or_default();
        if *of_peer >= self.caps.streams_per_peer {
            return Err(Full::StreamsPerPeer { max: self.caps.streams_per_peer });
        }
        *of_peer += 1;
        counts.streams += 1;
        self.metrics.streams.inc();
        Ok(Admitted { admission: self.clone(), peer })
    }
}

/// One stream.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    peer: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.streams -= 1;
        if let Some(of_peer) = counts.peers.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                counts.peers.remove(&self.peer);
            }
        }
        self.admission.metrics.streams.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_and_places_come_back() {
        let caps = Caps { streams: 3, streams_per_peer: 2 };
        let admission = Admission::new(caps, Metrics::new());
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = admission.admit(one).unwrap();
        let _second = admission.admit(one).unwrap();
        assert_eq!(admission.admit(one).unwrap_err(), Full::StreamsPerPeer { max: 2 });
        let _third = admission.admit(two).unwrap();
        assert_eq!(admission.admit(two).unwrap_err(), Full::Streams { max: 3 });
        drop(first);
        let _again = admission.admit(one).unwrap();
    }
}
