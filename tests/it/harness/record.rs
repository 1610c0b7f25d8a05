//! Everything that one client heard.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use roomcast_proto::chat::ChatMessage;
use tokio::{sync::Notify, time::timeout};
use tonic::Code;

/// One message from the server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Heard {
    /// Who spoke; `System` for the server.
    pub(crate) username: String,
    /// What was said.
    pub(crate) content: String,
    /// When, by the server.
    pub(crate) timestamp: String,
    /// When it arrived here.
    pub(crate) at: Instant,
}

/// How a stream ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    /// The status code; `Ok` for a clean end.
    pub(crate) code: Code,
    /// The status message.
    pub(crate) message: String,
    /// When it arrived here.
    pub(crate) at: Instant,
}

/// What one client heard and how its stream ended; filled by the client's own task.
#[derive(Debug, Default)]
pub(crate) struct Record {
    state: Mutex<State>,
    news: Notify,
}

/// The record's content.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// In order of arrival.
    pub(crate) heard: Vec<Heard>,
    /// How many messages came from each name.
    pub(crate) counts: HashMap<String, usize>,
    /// Once the stream has ended.
    pub(crate) ended: Option<Ended>,
}

impl Record {
    /// A look at it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("record lock")
    }

    /// Adds a message.
    pub(crate) fn hear(&self, message: ChatMessage) {
        let ChatMessage { username, content, timestamp } = message;
        let mut state = self.state();
        if let Some(count) = state.counts.get_mut(&username) {
            *count += 1;
        } else {
            state.counts.insert(username.clone(), 1);
        }
        state.heard.push(Heard { username, content, timestamp, at: Instant::now() });
        drop(state);
        self.news.notify_waiters();
    }

    /// Notes the end.
    pub(crate) fn end(&self, code: Code, message: &str) {
        let ended = Ended { code, message: message.to_owned(), at: Instant::now() };
        self.state().ended.get_or_insert(ended);
        self.news.notify_waiters();
    }

    /// Waits until `look` finds what it looks for; `None` after `within`.
    pub(crate) async fn wait<T>(
        &self,
        within: Duration,
        mut look: impl FnMut(&State) -> Option<T>,
    ) -> Option<T> {
        let found = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(found) = look(&self.state()) {
                    return found;
                }
                news.await;
            }
        };
        timeout(within, found).await.ok()
    }

    /// Waits, however long it takes, until the stream ends.
    pub(crate) async fn ended(&self) {
        while self.wait(Duration::from_secs(60), |state| state.ended.clone()).await.is_none() {}
    }
}
