//! The handles: what an application holds of its client.

use std::sync::Arc;

use roomcast_common::Position;
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{JoinSet, coop::unconstrained},
};

use super::{
    Connector,
    driver::Driver,
    error::{Error, LeaveError, SayError},
    options::Options,
    requests::{Command, Connected, Ends, Entered, LEAVE_PATIENCE, Leave, Said},
    update::Update,
};

/// How many updates wait for the application.
const UPDATES: usize = 64;
/// How many messages wait for their turn behind those without an answer.
const SAYS: usize = 16;

/// A member of a room. Clones are the same member.
///
/// Its task ends when it has left, when it cannot stay, or when all clones and its [`Events`] are
/// dropped; then the server keeps the session for as long as it lingers.
#[derive(Clone, Debug)]
pub struct Client {
    says: mpsc::Sender<Command>,
    turn: Arc<Mutex<()>>,
    leaves: mpsc::Sender<Leave>,
    pub(super) here: watch::Receiver<Option<Connected>>,
    entered: Entered,
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
        if let Some(addr) = connector.insecure() {
            return Err(Error::InsecureToken { addr: addr.clone() });
        }
        let (say, says) = mpsc::channel(SAYS);
        let (leave, leaves) = mpsc::channel(1);
        let (told, updates) = mpsc::channel(UPDATES);
        let (there, here) = watch::channel(None);
        let (report, joined) = oneshot::channel();
        let ends = Ends { says, leaves, updates: told, here: there };
        let driver = Driver::new(connector, options, ends);
        let mut task = JoinSet::new();
        task.spawn(driver.run(report));
        let entered = match joined.await {
            Ok(outcome) => outcome?,
            // The task does not end without a word but with the runtime.
            Err(_) => std::future::pending().await,
        };
        let task = Arc::new(task);
        let events = Events { updates, _task: Arc::clone(&task) };
        Ok((Self { says: say, turn: Arc::default(), leaves: leave, here, entered, task }, events))
    }

    /// The name, as it is held.
    pub fn username(&self) -> &str {
        &self.entered.username
    }

    /// Where the room was when the client first came in: events up to it are of the past.
    pub fn entered_at(&self) -> Position {
        self.entered.at
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
        let say = Command::Say { content: text.into(), answer };
        self.queue(say).await.map_err(|_| SayError::NotSent)?;
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
        // Behind all that waits to be said.
        let _ = self.queue(Command::End).await;
        let unconfirmed = LeaveError { waited: LEAVE_PATIENCE };
        let outcome = outcome.await.unwrap_or(Err(unconfirmed));
        drop(self.task);
        outcome
    }

    /// Queues in the order of first polls. A place in the queue alone would not keep it: whoever is
    /// given one has yet to be polled to take it.
    async fn queue(&self, command: Command) -> Result<(), mpsc::error::SendError<Command>> {
        // Unconstrained: a poll that the task's budget puts off would lose its turn.
        let _turn = unconstrained(self.turn.lock()).await;
        self.says.send(command).await
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
