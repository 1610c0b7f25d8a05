//! HTTP/2 pings find a peer that is gone without a word.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// How long nothing may come in before the peer is asked.
const INTERVAL: Duration = Duration::from_secs(20);

/// How long nothing may come in after that.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One connection's pings.
pub(super) struct KeepAlive {
    pings: PingPong,
    watch: Watch,
    timer: Pin<Box<Sleep>>,
}

/// Since when nothing came in, and when the peer was asked.
#[derive(Debug)]
struct Watch {
    received: usize,
    heard: Instant,
    asked: Option<Instant>,
}

impl Watch {
    /// So many bytes ever came in. Whatever they say: the peer is there.
    fn hear(&mut self, received: usize, now: Instant) {
        if received != self.received {
            *self = Self { received, heard: now, asked: None };
        }
    }

    /// When something is to be done. Who was asked has all the time to answer, however late it was
    /// that he was asked: this process may have been paused.
    fn due(&self) -> Instant {
        self.asked.map_or(self.heard + INTERVAL, |asked| asked + TIMEOUT)
    }
}

impl KeepAlive {
    pub(super) fn new(pings: PingPong) -> Self {
        let watch = Watch { received: 0, heard: Instant::now(), asked: None };
        Self { pings, watch, timer: Box::pin(sleep(INTERVAL)) }
    }

    /// Notes how many bytes ever came in until now, and asks when there were none for long. `Ready`
    /// when there is no answer either.
    pub(super) fn poll(&mut self, received: usize, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.hear(received, now);
        // The timer is not moved for everything that comes in, only when it fires.
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.watch.due() {
                if self.watch.asked.is_some() {
                    return Poll::Ready(());
                }
                self.ask();
            }
            self.timer.as_mut().reset(self.watch.due());
        }
    }

    fn ask(&mut self) {
        // The answer to the one before; that it came in was heard already.
        let _ = self.pings.poll_pong(&mut Context::from_waker(Waker::noop()));
        // An answer that did not come is not asked for twice.
        let _ = self.pings.send_ping(Ping::opaque());
        self.watch.asked = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_asked_when_nothing_came_in_and_is_gone_when_nothing_does() {
        let began = Instant::now();
        let mut watch = Watch { received: 0, heard: began, asked: None };
        assert_eq!(watch.due(), began + INTERVAL);
        let later = began + Duration::from_secs(7);
        watch.hear(10, later);
        watch.hear(10, later + Duration::from_secs(1));
        assert_eq!(watch.due(), later + INTERVAL, "nothing came since");
        // Long after it was due.
        let asked = later + 10 * INTERVAL;
        watch.asked = Some(asked);
        assert_eq!(watch.due(), asked + TIMEOUT);
        watch.hear(27, asked);
        assert_eq!((watch.due(), watch.asked), (asked + INTERVAL, None));
    }
}
