//! A load that leaves nobody behind.

use std::{sync::Arc, time::Duration};

use super::{ChatClient, record::Record};

/// Keeps a sender at most so many messages ahead of every one of its readers, so that a test of
/// order and completeness is not one of slow readers.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    readers: Vec<Arc<Record>>,
    ahead: usize,
}

impl Pace {
    /// Holds a sender to what these readers have heard of it.
    pub(crate) fn of<'a>(readers: impl IntoIterator<Item = &'a ChatClient>, ahead: usize) -> Self {
        Self {
            readers: readers.into_iter().map(|reader| Arc::clone(reader.record())).collect(),
            ahead,
        }
    }

    /// Waits until the one that is furthest behind has heard enough, when `sent` messages are
    /// out. A reader whose stream has ended is not waited for.
    pub(crate) async fn keep(&self, sender: &str, sent: usize) {
        for reader in &self.readers {
            let near = reader.wait(Duration::from_secs(20), |state| {
                let heard = state.counts.get(sender).copied().unwrap_or_default();
                (heard + self.ahead > sent || state.ended.is_some()).then_some(())
            });
            let near = near.await;
            assert!(near.is_some(), "a reader is stuck behind {sender}'s message {sent}");
        }
    }
}
