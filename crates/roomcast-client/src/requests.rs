//! What goes between the handles that an application holds and the task behind them.

use std::{sync::Arc, time::Duration};

use roomcast_common::Position;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, transport::Channel};

use super::{
    access_token::AccessToken,
    error::{Error, LeaveError, SayError},
    update::Update,
};

/// How long leaving may take. Longer than a server holds a message while its store is away.
pub(super) const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// A message that is in the room's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// Where it is; none if the log no longer says.
    pub position: Option<Position>,
    /// It was in the log already when it was sent again: an earlier answer got lost.
    pub duplicate: bool,
}

/// How a client came in.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) username: Arc<str>,
    pub(super) at: Position,
}

/// Whom to tell of a message.
pub(super) type Answer = oneshot::Sender<Result<Said, SayError>>;
/// What is told to the application.
pub(super) type Told = Result<Update, Error>;

/// How coming in went.
pub(super) type Joined = Result<Entered, Error>;

/// What comes through the queue.
pub(super) enum Command {
    /// Something to say.
    Say { content: String, answer: Answer },
    /// There is nothing more to say.
    End,
}

/// Somebody wants to leave.
pub(super) type Leave = oneshot::Sender<Result<(), LeaveError>>;

/// What others may know of the client: how to ask the server something, while it is reached.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    pub(super) channel: Channel,
    pub(super) room: String,
    pub(super) access_token: Option<AccessToken>,
}

impl Connected {
    /// A call that says who asks.
    pub(super) fn request<T>(&self, asked: T) -> Request<T> {
        let mut request = Request::new(asked);
        if let Some(token) = &self.access_token {
            token.authorize(&mut request);
        }
        request
    }
}

/// The ends of the handles.
pub(super) struct Ends {
    pub(super) says: mpsc::Receiver<Command>,
    pub(super) leaves: mpsc::Receiver<Leave>,
    pub(super) updates: mpsc::Sender<Told>,
    pub(super) here: watch::Sender<Option<Connected>>,
}
