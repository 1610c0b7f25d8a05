//! The other end of a connection, as its streams know it.

use std::{net::SocketAddr, sync::Arc};

use super::{admission::Connected, executor::Spawner, flush_cycle::FlushCycle};

/// Who is at the other end, and where a stream's session runs.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// Whom its certificate names, if it had to show one.
    pub(super) certificate: Option<Arc<str>>,
    pub(super) spawner: Spawner,
    pub(super) turn: Arc<FlushCycle>,
    /// It is counted among those of its address.
    pub(super) connected: Arc<Connected>,
}
