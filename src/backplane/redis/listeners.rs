//! A subscriber for each server that keeps any rooms.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    address::Endpoint,
    connect::Connector,
    status::Status,
    subscriber::Subscriber,
    subscriptions::{Listening, Subscriptions},
};
use crate::{backplane::Signal, domain::ReplicaId};

/// What all subscribers are made of.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) connector: Arc<Connector>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) status: Arc<Status>,
    pub(super) replica: ReplicaId,
    pub(super) queue: usize,
    /// Until it is closed.
    pub(super) signals: Mutex<Option<mpsc::Sender<Signal>>>,
    pub(super) tasks: TaskTracker,
    pub(super) close: CancellationToken,
    pub(super) by_server: Mutex<HashMap<Option<Endpoint>, Listener>>,
}

/// One of them. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    listening: Arc<Listening>,
    close: CancellationToken,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, HashMap<Option<Endpoint>, Listener>> {
        self.by_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the one that listens to a server is to know, if there is one.
    pub(super) fn at(&self, server: Option<&Endpoint>) -> Option<Arc<Listening>> {
        self.lock().get(&server.cloned()).map(|it| it.listening.clone())
    }

    /// Starts those that are missing, ends those that are not needed any more, and has all look where their rooms are.
    pub(super) fn follow(&self) {
        let servers = self.connector.servers();
        let mut by_server = self.lock();
        by_server.retain(|server, _| servers.contains(server));
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(signals) = signals.as_ref() else { return };
        for server in servers {
            let start = || self.start(server.clone(), signals.clone());
            by_server.entry(server.clone()).or_insert_with(start).listening.slots_moved();
        }
    }

    /// Ends all of them, and their signals, and starts none any more.
    pub(super) fn close(&self) {
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.lock().clear();
    }

    fn start(&self, node: Option<Endpoint>, signals: mpsc::Sender<Signal>) -> Listener {
        let (listening, close) = (Arc::new(Listening::default()), self.close.child_token());
        let subscriber = Subscriber {
            node,
            connector: self.connector.clone(),
            subscriptions: self.subscriptions.clone(),
            listening: listening.clone(),
            status: self.status.clone(),
            replica: self.replica,
            queue: self.queue,
            signals,
            close: close.clone(),
        };
        self.tasks.spawn(subscriber.run());
        Listener { listening, close }
    }
}
