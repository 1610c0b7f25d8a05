//! What is known about Redis, told once: logs, and the refusal that ends the process.

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::RedisError;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::{RedisRefusal, address::Endpoint, connect_error::ConnectError, reply::ReplyError};
use crate::metrics::{Metrics, items};

/// Nothing was refused for so long: it is over, and not only in between.
const CALM: Duration = Duration::from_secs(2);

/// Shared by all connections of one backplane.
#[derive(Debug)]
pub(super) struct Status {
    /// The servers of which an outage was logged that is not over.
    down: Mutex<HashSet<Option<Endpoint>>>,
    /// It was said that no replica of Redis has what is appended.
    unreplicated: AtomicBool,
    /// It was said that it drops keys.
    evicting: AtomicBool,
    /// What Redis refuses, if that was logged and is not over.
    refusing: Mutex<Option<Refusing>>,
    /// Some connection for commands worked once, and one for subscriptions.
    commands: AtomicBool,
    subscription: AtomicBool,
    /// Connections for commands opened so far.
    opened: AtomicU64,
    refusal: watch::Sender<Option<RedisRefusal>>,
    pub(super) metrics: Metrics,
}

/// Redis answers, but does not do what it is asked.
#[derive(Debug)]
struct Refusing {
    /// In its own words.
    words: String,
    /// When it last did so.
    latest: Instant,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Commands,
    Subscription,
}

impl Status {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            down: Mutex::default(),
            unreplicated: AtomicBool::new(false),
            evicting: AtomicBool::new(false),
            refusing: Mutex::new(None),
            commands: AtomicBool::new(false),
            subscription: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            refusal: watch::Sender::new(None),
            metrics,
        }
    }

    fn refusing(&self) -> MutexGuard<'_, Option<Refusing>> {
        self.refusing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn down(&self) -> MutexGuard<'_, HashSet<Option<Endpoint>>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worked(&self, purpose: Purpose) -> &AtomicBool {
        match purpose {
            Purpose::Commands => &self.commands,
            Purpose::Subscription => &self.subscription,
        }
    }

    /// A connection works: to this server, if there are several.
    pub(super) fn connected(&self, purpose: Purpose, server: Option<&Endpoint>) {
        self.worked(purpose).store(true, Ordering::Relaxed);
        if purpose == Purpose::Subscription {
            return;
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        let mut down = self.down();
        if down.remove(&server.cloned()) {
            match server {
                Some(server) => info!(%server, "redis is back"),
                None => info!("redis is back"),
            }
        }
        // Where it is was not known.
        down.remove(&None);
    }

    /// These are the nodes of the cluster now, with so many slots each; others are forgotten.
    pub(super) fn nodes(&self, nodes: &[(Endpoint, usize)]) {
        let there = |server: &Endpoint| nodes.iter().any(|(node, _)| node == server);
        self.down().retain(|server| server.as_ref().is_none_or(there));
        let names: Vec<_> = nodes.iter().map(|(node, _)| node.to_string()).collect();
        self.metrics.redis_nodes.retain(&names);
        self.metrics.redis_node_slots.retain(&names);
        for (name, (_, slots)) in names.iter().zip(nodes) {
            self.metrics.redis_node_slots.set(name, items(*slots));
        }
    }

    /// Whether live delivery from a node of a cluster works.
    pub(super) fn hears(&self, node: Option<&Endpoint>, works: bool) {
        if let Some(node) = node {
            self.metrics.redis_nodes.set(&node.to_string(), i64::from(works));
        }
    }

    /// Whether it drops keys when it is full, and by what policy.
    pub(super) fn evicts(&self, policy: Option<&str>) {
        let told = self.evicting.swap(policy.is_some(), Ordering::Relaxed);
        if let (Some(policy), false) = (policy, told) {
            warn!(
                policy,
                "redis drops rooms and names when its memory is full; maxmemory-policy has to be noeviction"
            );
        }
    }

    /// A connection could not be opened. Where time does not help, that ends the process, unless such a
    /// connection worked before.
    pub(super) fn connect_failed(
        &self,
        purpose: Purpose,
        error: &ConnectError,
        server: Option<&Endpoint>,
    ) {
        self.metrics.backplane_errors.inc();
        let worked = self.worked(purpose).load(Ordering::Relaxed);
        let refusal = error.refusal();
        if !worked && let Some(refusal) = refusal {
            self.refusal.send_replace(Some(refusal));
        } else if let Some(refusal) = refusal {
            self.log_outage(&refusal, server);
        } else if !worked && error.is_cut_short() {
            let words = format_args!(
                "{error}; redis.url has to say rediss:// where Redis speaks TLS, and redis:// where not"
            );
            self.log_outage(&words, server);
        } else {
            self.log_outage(error, server);
        }
    }

    /// A connection broke, or an answer took too long. Nobody is to be woken unless it cannot be
    /// opened anew.
    pub(super) fn lost(&self, error: &RedisError) {
        self.metrics.backplane_errors.inc();
        debug!(%error, "a connection to redis was lost");
    }

    /// Redis answered, but will not do it for now.
    pub(super) fn refused(&self, words: &str) {
        self.metrics.backplane_errors.inc();
        let now = Instant::now();
        if let Some(refusing) = &mut *self.refusing() {
            refusing.latest = now;
            return;
        }
        *self.refusing() = Some(Refusing { words: words.to_owned(), latest: now });
        warn!(error = %words, "redis refuses commands; streams stay open, messages wait");
    }

    /// Redis did what an append needs.
    pub(super) fn accepted(&self) {
        let mut refusing = self.refusing();
        if refusing.as_ref().is_some_and(|it| it.latest.elapsed() > CALM) {
            *refusing = None;
            info!("redis takes commands again");
        }
    }

    /// Why nothing can be appended, as far as Redis said.
    pub(super) fn write_error(&self) -> Option<String> {
        let refused = self.refusing().as_ref().map(|it| format!("redis refuses: {}", it.words));
        let unreplicated = self.unreplicated.load(Ordering::Relaxed);
        refused.or_else(|| unreplicated.then(|| "no replica of redis has what is said".to_owned()))
    }

    /// Whether a replica of Redis has what was appended, where one has to.
    pub(super) fn replicated(&self, replicated: bool) {
        if !replicated {
            self.metrics.backplane_errors.inc();
        }
        let told = self.unreplicated.swap(!replicated, Ordering::Relaxed);
        match (told, replicated) {
            (false, false) => warn!("no replica of redis has what is said; messages are refused"),
            (true, true) => info!("a replica of redis has what is said again"),
            (false, true) | (true, false) => {}
        }
    }

    /// An answer made no sense: a bug, or keys that somebody else wrote.
    pub(super) fn misunderstood(&self, error: &ReplyError) {
        self.metrics.backplane_errors.inc();
        error!(%error, "redis answered something unexpected");
    }

    fn log_outage(&self, error: &dyn std::fmt::Display, server: Option<&Endpoint>) {
        if !self.down().insert(server.cloned()) {
            debug!(%error, "redis is still away");
            return;
        }
        match server {
            Some(server) => {
                warn!(%server, %error, "redis is away; streams stay open, messages wait");
            }
            None => warn!(%error, "redis is away; streams stay open, messages wait"),
        }
    }

    /// Resolves when Redis can never be used as it is, and never could.
    pub(super) async fn refusal(&self) -> RedisRefusal {
        let mut refusal = self.refusal.subscribe();
        loop {
            if let Some(reason) = refusal.borrow_and_update().clone() {
                return reason;
            }
            // The sender lives as long as `self`.
            let _ = refusal.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_only_after_a_while_without_a_refusal() {
        let status = Status::new(Metrics::new());
        assert_eq!(status.write_error(), None);
        status.refused("OOM full");
        status.refused("NOREPLICAS few");
        status.accepted();
        assert_eq!(status.write_error().unwrap(), "redis refuses: OOM full", "a moment ago");
        if let Some(refusing) = &mut *status.refusing() {
            refusing.latest -= CALM + Duration::from_millis(1);
        }
        status.accepted();
        assert_eq!(status.write_error(), None);
    }
}
