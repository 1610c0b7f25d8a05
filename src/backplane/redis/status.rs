//! What is known about Redis, told once: logs, and the refusal that ends the process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redis::{RedisError, ServerError};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::{RedisRefusal, connect::ConnectError, reply::ReplyError};
use crate::metrics::Metrics;

/// Shared by all connections of one backplane.
#[derive(Debug)]
pub(super) struct Status {
    /// An outage was logged and is not over.
    down: AtomicBool,
    /// It was said that no replica of Redis has what is appended.
    unreplicated: AtomicBool,
    /// It was said that it drops keys.
    evicting: AtomicBool,
    /// Some connection worked once.
    ever: AtomicBool,
    /// Connections for commands opened so far.
    opened: AtomicU64,
    refusal: watch::Sender<Option<RedisRefusal>>,
    pub(super) metrics: Metrics,
}

impl Status {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            down: AtomicBool::new(false),
            unreplicated: AtomicBool::new(false),
            evicting: AtomicBool::new(false),
            ever: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            refusal: watch::Sender::new(None),
            metrics,
        }
    }

    /// A connection works.
    pub(super) fn connected(&self) {
        self.ever.store(true, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
        if self.down.swap(false, Ordering::Relaxed) {
            info!("redis is back");
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

    /// A connection could not be opened. Wrong credentials and certificates are final from the start.
    pub(super) fn connect_failed(&self, error: &ConnectError) {
        self.metrics.backplane_errors.inc();
        if !self.ever.load(Ordering::Relaxed)
            && let Some(refusal) = error.refusal()
        {
            self.refusal.send_replace(Some(refusal));
        }
        if !self.ever.load(Ordering::Relaxed) && error.is_cut_short() {
            self.log_outage(&format_args!(
                "{error}; redis.url has to say rediss:// where Redis speaks TLS, and redis:// where not"
            ));
            return;
        }
        self.log_outage(error);
    }

    /// A connection broke, or an answer took too long. Nobody is to be woken unless it cannot be
    /// opened anew.
    pub(super) fn lost(&self, error: &RedisError) {
        self.metrics.backplane_errors.inc();
        debug!(%error, "a connection to redis was lost");
    }

    /// Redis answered, but will not do it for now.
    pub(super) fn refused(&self, error: &ServerError) {
        self.metrics.backplane_errors.inc();
        if error.code() == "NOSCRIPT" {
            debug!("redis forgot the scripts; loading them again");
        } else {
            self.log_outage(error);
        }
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

    fn log_outage(&self, error: &dyn std::fmt::Display) {
        if self.down.swap(true, Ordering::Relaxed) {
            debug!(%error, "redis is still away");
        } else {
            warn!(%error, "redis is away; streams stay open, messages wait");
        }
    }

    /// Resolves when Redis refuses the credentials or TLS fails for good, and it never worked.
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
