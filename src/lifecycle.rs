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
    async fn next(&mut self) -> u8 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        u8::try_from(128 + kind.as_raw_value()).unwrap_or(u8::MAX)
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

    /// Waits for the second signal. Returns the exit code that tells which one it was.
    pub async fn second(&mut self) -> u8 {
        let code = self.next().await;
        warn!("told to stop again: ending at once");
        code
    }
}
