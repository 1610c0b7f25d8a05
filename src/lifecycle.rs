//! Signals: the first one asks for an orderly end, the second one ends at once.

use std::{io, process, thread, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The signals that end a replica.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system's defaults.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one; its exit code is 128 plus its number.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
        }
    }

    /// Waits for the first signal.
    pub async fn first(&mut self) {
        self.next().await;
        info!("told to stop; a second signal ends at once");
    }

    /// From now on, has the process end with exit code 0 after `time`, whatever it is busy with: even
    /// when nothing of it makes progress any more.
    pub fn end_after(&self, time: Duration) {
        thread::spawn(move || {
            thread::sleep(time);
            process::exit(0);
        });
    }

    /// Waits for the second signal and ends the process.
    pub async fn second(&mut self) {
        let code = self.next().await;
        warn!("told to stop again: ending at once");
        process::exit(code);
    }
}
