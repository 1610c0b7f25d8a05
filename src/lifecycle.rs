//! Signals: the first one asks for an orderly end, the second one ends at once, and those that other
//! servers reload by end nothing.

use std::{
    io::{self, IsTerminal as _},
    process, thread,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The signals that a replica acts on, or that would end it if it did not take them.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user: [Signal; 2],
    /// Whether somebody sits at a terminal, whose closing is a SIGHUP, too.
    attended: bool,
}

impl Signals {
    /// Takes the signals over from the system's defaults, which are to end the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            attended: io::stdin().is_terminal(),
        })
    }

    /// Waits for the next one that ends the process; its exit code is 128 plus its number.
    async fn next(&mut self) -> u8 {
        loop {
            let [user1, user2] = &mut self.user;
            let kind = tokio::select! {
                _ = self.terminate.recv() => SignalKind::terminate(),
                _ = self.interrupt.recv() => SignalKind::interrupt(),
                _ = self.quit.recv() => SignalKind::quit(),
                _ = self.hangup.recv() => SignalKind::hangup(),
                _ = user1.recv() => SignalKind::user_defined1(),
                _ = user2.recv() => SignalKind::user_defined2(),
            };
            let number = kind.as_raw_value();
            if self.ends(kind) {
                return u8::try_from(128 + number).unwrap_or(u8::MAX);
            }
            info!(
                signal = number,
                "nothing is reloaded by signals: changed certificates are followed, a changed \
                 configuration needs a restart"
            );
        }
    }

    fn ends(&self, kind: SignalKind) -> bool {
        let ignored = [SignalKind::user_defined1(), SignalKind::user_defined2()];
        !ignored.contains(&kind) && (kind != SignalKind::hangup() || self.attended)
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
