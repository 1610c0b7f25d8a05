//! The connections to the nodes of a cluster, which the partitions of a node share.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use tokio::{sync::Mutex, time::Instant};

use super::{
    address::Endpoint,
    connect_error::ConnectError,
    link::{Commands, LinkKind},
};

/// One connection to each node for each purpose, opened when it is first needed.
#[derive(Debug, Default)]
pub(super) struct NodeConnections {
    by_node: std::sync::Mutex<HashMap<(Endpoint, LinkKind), Shared>>,
}

/// Held while it is being opened.
type Shared = Arc<Mutex<Entry>>;

#[derive(Debug, Default)]
struct Entry {
    open: Option<Commands>,
    /// When the last try came to nothing, and why.
    failed: Option<(Instant, String)>,
}

impl NodeConnections {
    /// The connection as it is, or else the one that `open` opens. Who waits while somebody else tries in vain has
    /// the same answer.
    pub(super) async fn get(
        &self,
        node: &Endpoint,
        kind: LinkKind,
        open: impl Future<Output = Result<Commands, ConnectError>>,
    ) -> Result<Commands, ConnectError> {
        let came = Instant::now();
        let entry = {
            let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
            by_node.entry((node.clone(), kind)).or_default().clone()
        };
        let mut entry = entry.lock().await;
        if let Some(open) = &entry.open
            && !open.is_broken()
        {
            return Ok(open.clone());
        }
        if let Some((at, words)) = &entry.failed
            && *at >= came
        {
            return Err(ConnectError::NoNode(words.clone()));
        }
        match open.await {
            Ok(opened) => {
                let opened = opened.shared();
                *entry = Entry { open: Some(opened.clone()), failed: None };
                Ok(opened)
            }
            Err(error) => {
                *entry = Entry { open: None, failed: Some((Instant::now(), error.to_string())) };
                Err(error)
            }
        }
    }

    /// Forgets the connections to all other nodes.
    pub(super) fn retain(&self, wanted: impl Fn(&Endpoint) -> bool) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        by_node.retain(|(node, _), _| wanted(node));
    }
}
