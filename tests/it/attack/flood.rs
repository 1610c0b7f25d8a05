//! Frames as fast as they go.

use std::time::Duration;

use tokio::{task::JoinSet, time::sleep};

use super::{
    raw::Raw,
    target::{Target, tell},
};

/// How long an attacker waits after its connection was closed.
const AGAIN: Duration = Duration::from_millis(20);

/// A flood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flood {
    /// On so many connections at a time.
    pub(super) connections: usize,
    /// What is written next to a connection.
    pub(super) next: fn(&mut Raw) -> Vec<u8>,
    /// How long it waits between writes.
    pub(super) pause: Duration,
}

impl Flood {
    /// As fast as it goes, on a few connections.
    pub(super) const fn of(next: fn(&mut Raw) -> Vec<u8>) -> Self {
        Self { connections: 4, next, pause: Duration::ZERO }
    }

    /// On each connection until it is closed, then on another one.
    pub(super) async fn run(self, target: Target) {
        let mut floods = JoinSet::new();
        for _ in 0..self.connections {
            floods.spawn(self.one(target));
        }
        let (mut connections, mut bytes) = (0, 0);
        for (opened, written) in floods.join_all().await {
            connections += opened;
            bytes += written;
        }
        tell(&format!("{connections} connections, {} MB", bytes / 1_000_000));
    }

    async fn one(self, target: Target) -> (usize, usize) {
        let (mut connections, mut bytes) = (0, 0);
        while !target.is_over() {
            if let Some(Ok(mut raw)) = target.until_over(Raw::connect(target)).await {
                connections += 1;
                loop {
                    let next = (self.next)(&mut raw);
                    match target.until_over(raw.write(&next)).await {
                        Some(Ok(())) => bytes += next.len(),
                        _ => break,
                    }
                    if !self.pause.is_zero() {
                        sleep(self.pause).await;
                    }
                }
            }
            sleep(AGAIN).await;
        }
        (connections, bytes)
    }
}
