//! Everything that one stream was told.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use roomcast_proto::room::{ConnectResponse, connect_response::Frame as Tell};
use tokio::{sync::Notify, time::timeout};
use tonic::{Status, Streaming};

use super::{Answer, News};
use crate::harness::record::Ended;

/// What one stream was told and how it ended; filled by the client's own task.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrival: Notify,
}

/// The content of an inbox.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// In order of arrival.
    pub(crate) told: Vec<Told>,
    /// Once the stream has ended.
    pub(crate) ended: Option<Ended>,
}

/// One frame from the server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Told {
    /// What it says.
    pub(crate) frame: Tell,
    /// When it arrived here.
    pub(crate) at: Instant,
}

impl Inbox {
    /// A look at it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("inbox lock")
    }

    /// Reads a stream to its end; answers how it ended.
    pub(super) async fn read(&self, mut frames: Streaming<ConnectResponse>) -> Status {
        loop {
            match frames.message().await {
                Ok(Some(ConnectResponse { frame: Some(frame) })) => {
                    self.state().told.push(Told { frame, at: Instant::now() });
                    self.arrival.notify_waiters();
                }
                Ok(Some(ConnectResponse { frame: None })) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    /// Notes the end; only the first one counts.
    pub(super) fn end(&self, status: &Status) {
        let (code, message) = (status.code(), status.message().to_owned());
        self.state().ended.get_or_insert(Ended { code, message, at: Instant::now() });
        self.arrival.notify_waiters();
    }

    /// Waits until `look` finds what it looks for; `None` after `within`.
    pub(crate) async fn wait<T>(
        &self,
        within: Duration,
        mut look: impl FnMut(&State) -> Option<T>,
    ) -> Option<T> {
        let found = async {
            loop {
                let arrival = self.arrival.notified();
                tokio::pin!(arrival);
                arrival.as_mut().enable();
                if let Some(found) = look(&self.state()) {
                    return found;
                }
                arrival.await;
            }
        };
        timeout(within, found).await.ok()
    }

    /// Waits for the next frame of a kind, `seen` being how many frames were looked at for it
    /// already; `None` when none comes or the stream ends.
    pub(super) async fn next<T>(
        &self,
        seen: &mut usize,
        within: Duration,
        kind: impl Fn(&Tell) -> Option<T>,
    ) -> Option<T> {
        let look = |state: &State| {
            for told in &state.told[*seen..] {
                *seen += 1;
                if let Some(found) = kind(&told.frame) {
                    return Some(Some(found));
                }
            }
            state.ended.is_some().then_some(None)
        };
        self.wait(within, look).await.flatten()
    }
}

/// The frame as an answer to a message.
pub(super) fn answer(frame: &Tell) -> Option<Answer> {
    match frame {
        Tell::Ack(ack) => Some(Answer::Ack(*ack)),
        Tell::Nack(nack) => Some(Answer::Nack(nack.clone())),
        _ => None,
    }
}

/// The frame as news of the room.
pub(super) fn news(frame: &Tell) -> Option<News> {
    match frame {
        Tell::Event(event) => Some(News::Event(event.clone())),
        Tell::Gap(gap) => Some(News::Gap(*gap)),
        _ => None,
    }
}

/// The frame as anything else.
pub(super) fn sign(frame: &Tell) -> Option<Tell> {
    let is_sign = matches!(
        frame,
        Tell::Welcome(_) | Tell::Reconnect(_) | Tell::Pong(_) | Tell::TokenExpiring(_)
    );
    is_sign.then(|| frame.clone())
}
