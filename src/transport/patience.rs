//! How long a peer may take for what it has to do: begin, finish the head of a request, have a stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// How long after its time was up something may still come: timers fire before sockets are read when
/// this process goes on after a pause.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// How long a peer without a stream may take to end a connection that it was asked to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a peer is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// It has begun to speak HTTP/2, by way of TLS if there is any.
    Preface,
    /// The head of a request has been coming in since then.
    Request(Instant),
    /// It has no stream.
    Stream,
    /// It has one.
    Nothing,
}

/// What is to be done about a peer that let its time pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Overdue {
    /// It did not begin.
    Preface,
    /// Its request's head does not end.
    Request,
    /// It has had no stream for long: it is asked to end the connection.
    Idle,
    /// It was asked and does not.
    Lingers,
}

/// One connection's.
pub(super) struct Patience<'a> {
    /// For the preface, and for the head of each request.
    handshake: Duration,
    /// Without a stream.
    idle: Duration,
    began: Instant,
    /// Since when it has had no stream, once it spoke HTTP/2.
    idle_since: Option<Instant>,
    /// When it was asked to end.
    asked: Option<Instant>,
    /// What was due when the timer fired.
    late: Option<Instant>,
    timer: Pin<&'a mut Sleep>,
}

impl<'a> Patience<'a> {
    /// With a timer that need not be set.
    pub(super) fn new(
        began: Instant,
        handshake: Duration,
        idle: Duration,
        timer: Pin<&'a mut Sleep>,
    ) -> Self {
        Self { handshake, idle, began, idle_since: None, asked: None, late: None, timer }
    }

    /// `Ready` when the time is up for what is waited for, and all that has arrived was read.
    pub(super) fn poll(
        &mut self,
        waited: Waited,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Overdue> {
        let Some((due, overdue)) = self.due(waited, now) else { return Poll::Pending };
        // The timer is moved only when it would fire too late; if it fires too early, it is set again.
        if self.timer.deadline() > due && self.late.is_none() {
            self.timer.as_mut().reset(due);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.late == Some(due) {
                self.late = None;
                if overdue == Overdue::Idle {
                    self.asked = Some(Instant::now());
                }
                return Poll::Ready(overdue);
            }
            let passed = Instant::now();
            self.late = (passed >= due).then_some(due);
            self.timer.as_mut().reset(if passed < due { due } else { passed + GRACE });
        }
    }

    fn due(&mut self, waited: Waited, now: Instant) -> Option<(Instant, Overdue)> {
        match waited {
            Waited::Preface => Some((self.began + self.handshake, Overdue::Preface)),
            Waited::Request(since) => Some((since + self.handshake, Overdue::Request)),
            Waited::Stream => {
                let since = *self.idle_since.get_or_insert(now);
                Some(match self.asked {
                    None => (since + self.idle, Overdue::Idle),
                    Some(asked) => (asked.max(since) + FAREWELL, Overdue::Lingers),
                })
            }
            Waited::Nothing => {
                self.idle_since = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use tokio::time::{sleep, timeout};

    use super::*;

    const HANDSHAKE: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(300);

    /// What is overdue while this is waited for, and after how long.
    async fn overdue(patience: &mut Patience<'_>, waited: Waited) -> (Overdue, Duration) {
        let began = Instant::now();
        let overdue = poll_fn(|cx| patience.poll(waited, Instant::now(), cx)).await;
        (overdue, began.elapsed().saturating_sub(GRACE))
    }

    /// Time passes while this is waited for.
    async fn pass(patience: &mut Patience<'_>, waited: Waited, time: Duration) {
        let polled = poll_fn(|cx| patience.poll(waited, Instant::now(), cx));
        assert!(timeout(time, polled).await.is_err(), "{waited:?} is overdue");
    }

    fn about((overdue, after): (Overdue, Duration), what: Overdue, time: Duration) {
        assert_eq!(overdue, what);
        assert!(after >= time && after < time + 2 * GRACE, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_thing_has_its_time() {
        let timer = pin!(sleep(Duration::ZERO));
        let mut patience = Patience::new(Instant::now(), HANDSHAKE, IDLE, timer);
        pass(&mut patience, Waited::Preface, HANDSHAKE / 2).await;
        // It speaks HTTP/2, and has a stream for a while.
        pass(&mut patience, Waited::Stream, IDLE / 2).await;
        pass(&mut patience, Waited::Nothing, 3 * IDLE).await;
        pass(&mut patience, Waited::Stream, IDLE.saturating_sub(HANDSHAKE)).await;
        // Another request begins and does not end.
        let since = Instant::now();
        pass(&mut patience, Waited::Request(since), HANDSHAKE / 2).await;
        let got = overdue(&mut patience, Waited::Request(since)).await;
        about(got, Overdue::Request, HANDSHAKE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_stream_is_asked_to_end_and_then_cut() {
        let timer = pin!(sleep(Duration::ZERO));
        let mut patience = Patience::new(Instant::now(), HANDSHAKE, IDLE, timer);
        about(overdue(&mut patience, Waited::Stream).await, Overdue::Idle, IDLE);
        pass(&mut patience, Waited::Stream, FAREWELL / 2).await;
        // One more stream came before the client knew.
        pass(&mut patience, Waited::Nothing, 2 * FAREWELL).await;
        about(overdue(&mut patience, Waited::Stream).await, Overdue::Lingers, FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_is_given_up() {
        let timer = pin!(sleep(Duration::ZERO));
        let mut patience = Patience::new(Instant::now(), HANDSHAKE, IDLE, timer);
        about(overdue(&mut patience, Waited::Preface).await, Overdue::Preface, HANDSHAKE);
    }
}
