//! Proves that a message published now is delivered by this replica now: canaries.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::Hub;
use crate::metrics::Metrics;

/// How long a canary may take before delivery counts as broken.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long what a canary came to answers those who ask.
const FRESH: Duration = Duration::from_millis(100);

/// A canary did not come back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Silent {
    /// None ever did.
    #[error("no canary has come back yet")]
    Never,
    /// The last one came back so long ago.
    #[error("the last canary came back {} ms ago", .0.as_millis())]
    Since(Duration),
    /// It cannot even be sent, and neither can a message: in the backplane's words.
    #[error("{0}")]
    Refused(String),
}

/// The canaries of a replica, of which one is under way at a time: whoever asks meanwhile is told what
/// comes of it.
#[derive(Debug)]
pub struct DeliveryProbe {
    next: AtomicU64,
    heard: watch::Sender<u64>,
    last: Mutex<Option<Instant>>,
    alive: watch::Sender<bool>,
    proof: watch::Sender<Option<Proof>>,
    /// Somebody asks, and what is known is too old.
    asked: Notify,
    interval: Duration,
}

/// What the latest canary came to.
#[derive(Clone, Debug)]
struct Proof {
    /// When that was known.
    at: Instant,
    came: Result<(), Silent>,
}

impl DeliveryProbe {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            next: AtomicU64::new(1),
            heard: watch::Sender::new(0),
            last: Mutex::new(None),
            alive: watch::Sender::new(false),
            proof: watch::Sender::new(None),
            asked: Notify::new(),
            interval: (lease / 6).clamp(Duration::from_millis(200), Duration::from_secs(1)),
        }
    }

    /// Whether the last canary came back, as it changes.
    pub fn alive(&self) -> watch::Receiver<bool> {
        self.alive.subscribe()
    }

    pub(super) fn heard(&self, number: u64, metrics: &Metrics) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        metrics.canary_returned();
        self.heard.send_if_modified(|heard| {
            let newer = number > *heard;
            *heard = number.max(*heard);
            newer
        });
    }

    /// What a canary comes to that is under way now, or was a moment ago, or else one that is sent now.
    pub(super) async fn prove(&self) -> Result<(), Silent> {
        let asked = Instant::now();
        let mut proofs = self.proof.subscribe();
        let fresh = |proof: &Option<Proof>| proof.as_ref().is_some_and(|it| it.at + FRESH >= asked);
        if !fresh(&proofs.borrow()) {
            self.asked.notify_one();
        }
        match proofs.wait_for(fresh).await.as_deref() {
            Ok(Some(proof)) => proof.came.clone(),
            // The sender lives as long as `self`, and none is fresh that is not there.
            Ok(None) | Err(_) => Err(self.silence()),
        }
    }

    fn silence(&self) -> Silent {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Silent::Never, |last| Silent::Since(last.elapsed()))
    }
}

/// A canary every now and then, and when somebody asks.
pub(super) async fn run(hub: Arc<Hub>) {
    let delivery_probe = &hub.delivery_probe;
    loop {
        let came = send_one(&hub).await;
        let alive = came.is_ok();
        delivery_probe.proof.send_replace(Some(Proof { at: Instant::now(), came }));
        delivery_probe.alive.send_if_modified(|before| std::mem::replace(before, alive) != alive);
        let least = Instant::now() + FRESH;
        tokio::select! {
            () = sleep(delivery_probe.interval) => {}
            () = delivery_probe.asked.notified() => sleep_until(least).await,
        }
    }
}

async fn send_one(hub: &Hub) -> Result<(), Silent> {
    let delivery_probe = &hub.delivery_probe;
    let deadline = Instant::now() + PATIENCE;
    let number = delivery_probe.next.fetch_add(1, Ordering::Relaxed);
    let mut heard = delivery_probe.heard.subscribe();
    let sent = timeout_at(deadline, hub.backplane.canary(number)).await;
    if let Ok(Ok(())) = sent
        && timeout_at(deadline, heard.wait_for(|&heard| heard >= number)).await.is_ok()
    {
        return Ok(());
    }
    let refused = hub.backplane.write_error().map(Silent::Refused);
    Err(refused.unwrap_or_else(|| delivery_probe.silence()))
}
