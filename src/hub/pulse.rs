//! Proves that a message published now is delivered by this replica now: canaries.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::Hub;
use crate::{backplane::Backplane, metrics::Metrics};

/// How long a canary may take before delivery counts as broken.
const PATIENCE: Duration = Duration::from_secs(1);

/// A canary did not come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Silent {
    /// None ever did.
    #[error("no canary has come back yet")]
    Never,
    /// The last one came back so long ago.
    #[error("the last canary came back {} ms ago", .0.as_millis())]
    Since(Duration),
}

/// The canaries of a replica.
#[derive(Debug)]
pub struct Pulse {
    next: AtomicU64,
    heard: watch::Sender<u64>,
    last: Mutex<Option<Instant>>,
    alive: watch::Sender<bool>,
    interval: Duration,
    /// One proof at a time: those who ask meanwhile wait for the next one.
    proving: tokio::sync::Mutex<()>,
}

impl Pulse {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            next: AtomicU64::new(1),
            heard: watch::Sender::new(0),
            last: Mutex::new(None),
            alive: watch::Sender::new(false),
            interval: (lease / 6).clamp(Duration::from_millis(200), Duration::from_secs(1)),
            proving: tokio::sync::Mutex::new(()),
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

    /// Sends a canary now and waits for it.
    pub(super) async fn prove(&self, backplane: &dyn Backplane) -> Result<(), Silent> {
        let proof = async {
            let _one = self.proving.lock().await;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut heard = self.heard.subscribe();
            backplane.canary(number).await.ok()?;
            heard.wait_for(|&heard| heard >= number).await.ok()?;
            Some(())
        };
        match timeout(PATIENCE, proof).await {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(_) => {
                let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
                Err(last.map_or(Silent::Never, |last| Silent::Since(last.elapsed())))
            }
        }
    }
}

/// A canary every now and then.
pub(super) async fn run(hub: Arc<Hub>) {
    let pulse = &hub.pulse;
    loop {
        let number = pulse.next.fetch_add(1, Ordering::Relaxed);
        let mut heard = pulse.heard.subscribe();
        let sent = timeout(PATIENCE, hub.backplane.canary(number)).await;
        let came = match sent {
            Ok(Ok(())) => timeout(PATIENCE, heard.wait_for(|&heard| heard >= number)).await.is_ok(),
            Ok(Err(_)) | Err(_) => false,
        };
        pulse.alive.send_if_modified(|alive| std::mem::replace(alive, came) != came);
        sleep(pulse.interval).await;
    }
}
