//! How those who wait on a connection are woken: all of them at once.

use std::{fmt::Debug, sync::Arc};

/// Wakes the readers of one connection.
pub trait Wakers: Send + Sync + Debug {
    /// Has these readers look for what is new. They are numbers of the connection's own.
    fn wake(&self, readers: &[usize]);
}

/// Wakes one reader.
#[derive(Clone, Debug)]
pub struct ReaderWaker {
    connection: Arc<dyn Wakers>,
    reader: usize,
    forwarded: bool,
}

impl ReaderWaker {
    /// Of a reader of a connection.
    pub fn new(connection: Arc<dyn Wakers>, reader: usize) -> Self {
        Self { connection, reader, forwarded: false }
    }

    /// The same, of one that comes through a proxy, behind which it has a connection of its own.
    #[must_use]
    pub fn forwarded(self, forwarded: bool) -> Self {
        Self { forwarded, ..self }
    }

    /// Has it look for what is new.
    pub fn wake(&self) {
        self.connection.wake(&[self.reader]);
    }

    /// The connection, all of whose readers can be woken at once.
    pub fn connection(&self) -> &Arc<dyn Wakers> {
        &self.connection
    }

    /// Its number on the connection.
    pub fn reader(&self) -> usize {
        self.reader
    }

    /// Whether it comes through a proxy.
    pub fn is_forwarded(&self) -> bool {
        self.forwarded
    }
}
