//! The handles: what an application holds of its client.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    Connector,
    driver::{Driver, Ends, Here, LEAVE_PATIENCE, Leave, Say},
    error::{Error, LeaveError, SayError},
    update::Update,
};
use crate::domain::Position;

/// How many updates wait for the application.
const UPDATES: usize = 64;
/// How many messages wait for their turn behind those without an answer.
const SAYS: usize = 16;

/// What a client wants. Begin with [`Options::new`] and change what has to be different.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The room, 1 to 64 characters of `A-Z a-z 0-9 . _ -`; empty for `lobby`.
    pub room: String,
    /// The name to speak under.
    pub username: String,
    /// How many past events come first, the client's own `Joined` after them. 0 (the default): only
    /// what is new comes. The server bounds it.
    pub history: u32,
    /// How long the server shall keep the session while the client is out of reach; the server bounds
    /// it. None (the default): the server's choice.
    pub linger: Option<Duration>,
    /// How long coming in is tried when the server cannot be reached, or will not have anybody now.
    /// Zero: each address once. None (the default): as long as `give_up_after` says.
    pub join_within: Option<Duration>,
    /// How long coming back is tried. None (the default): for ever.
    pub give_up_after: Option<Duration>,
}

impl Options {
    /// Of this room, under this name, with defaults for the rest.
    pub fn new(room: impl Into<String>, username: impl Into<String>) -> Self {
        Self {
            room: room.into(),
            username: username.into(),
            history: 0,
            linger: None,
            join_within: None,
            give_up_after: None,
        }
    }
}

/// A message that is in the room's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// Where it is; none if the log no longer says.
    pub position: Option<Position>,
    /// It was in the log already when it was sent again: an earlier answer got lost.
    pub duplicate: bool,
}

/// A member of a room. Clones are the same member.
///
/// Its task ends when it has left, when it cannot stay, or when all clones and its [`Events`] are
/// dropped; then the server keeps the session for as long as it lingers.
#[derive(Clone, Debug)]
pub struct Client {
    says: mpsc::Sender<Say>,
    leaves: mpsc::Sender<Leave>,
    pub(super) here: watch::Receiver<Option<Here>>,
    username: Arc<str>,
    task: Arc<JoinSet<()>>,
}

/// What a client hears. Dropped, the client goes on and hears nothing.
#[derive(Debug)]
pub struct Events {
    updates: mpsc::Receiver<Result<Update, Error>>,
    /// Keeps the client going.
    _task: Arc<JoinSet<()>>,
}

impl Client {
    /// Comes into a room. Resolves when the client is in, or cannot come in: the server refuses it for
    /// good, or [`Options::join_within`] has passed. Dropping the future before takes everything back.
    pub async fn join(connector: Connector, options: Options) -> Result<(Self, Events), Error> {
        let (say, says) = mpsc::channel(SAYS);
        let (leave, leaves) = mpsc::channel(1);
        let (told, updates) = mpsc::channel(UPDATES);
        let (there, here) = watch::channel(None);
        let (report, joined) = oneshot::channel();
        let username = options.username.as_str().into();
        let ends = Ends { says, leaves, updates: told, here: there };
        let driver = Driver::new(connector, options, ends);
        let mut task = JoinSet::new();
        task.spawn(driver.run(report));
        match joined.await {
            Ok(outcome) => outcome?,
            // The task does not end without a word but with the runtime.
            Err(_) => std::future::pending().await,
        }
        let task = Arc::new(task);
        let events = Events { updates, _task: Arc::clone(&task) };
        Ok((Self { says: say, leaves: leave, here, username, task }, events))
    }

    /// The name that was asked for.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Says something. Resolves when it is in the room's log, and not before: over as many streams as
    /// that takes, and while the server is out of reach it waits.
    ///
    /// Messages go into the log in the order in which this is first polled, each of them once. (One
    /// exception, for want of a witness: a message whose answer was lost, whose session then ended while
    /// the client was away, and whose events are told as a gap, is sent again, though it may have been in
    /// the log.) Waits while as many messages as the server allows have no answer. Dropping the future
    /// does not call the message back.
    ///
    /// Answers come with the events: somebody has to read those, or have dropped [`Events`].
    pub async fn say(&self, text: impl Into<String>) -> Result<Said, SayError> {
        let (answer, outcome) = oneshot::channel();
        let say = Say { content: text.into(), answer };
        self.says.send(say).await.map_err(|_| SayError::NotSent)?;
        outcome.await.unwrap_or(Err(SayError::Unknown))
    }

    /// Leaves: what was said before is settled first, then the room hears `Left(Asked)`, and [`Events`]
    /// ends. From here on nothing can be said, and updates that nobody reads are let go. Takes 10 s at
    /// most.
    pub async fn leave(self) -> Result<(), LeaveError> {
        let (answer, outcome) = oneshot::channel();
        // Where nobody takes it, the client is in the room no more.
        if self.leaves.send(answer).await.is_err() {
            return Ok(());
        }
        let unconfirmed = LeaveError { waited: LEAVE_PATIENCE };
        let outcome = outcome.await.unwrap_or(Err(unconfirmed));
        drop(self.task);
        outcome
    }
}

impl Events {
    /// The next update; none when the client has left. An error is the last one: the client cannot stay.
    ///
    /// The buffer is bounded, and nothing is dropped: while nobody reads, the server is made to wait,
    /// and with the events the answers to what is said. A client that takes nothing for longer than the
    /// server's patience (75 s by default) is cut off; it comes back when it reads again, and misses
    /// nothing that the room's log still has. Can be cancelled: no update is lost.
    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        self.updates.recv().await
    }
}
