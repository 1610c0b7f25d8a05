//! The other end of a connection, as its streams and calls know it.

use std::{net::SocketAddr, sync::Arc};

use super::spawner::Spawner;

/// Who is at the other end, and where a stream's session runs.
#[derive(Debug)]
pub(crate) struct Peer<Connected, Cycle> {
    pub(crate) remote: Remote<Connected>,
    pub(crate) spawner: Spawner,
    /// What its streams share.
    pub(crate) cycle: Arc<Cycle>,
}

/// Who is at the other end.
#[derive(Debug)]
pub(crate) struct Remote<Connected> {
    pub(crate) addr: SocketAddr,
    /// Whom its certificate names, if it had to show one.
    pub(crate) certificate: Option<Arc<str>>,
    /// It is counted.
    pub(crate) connected: Connected,
}
