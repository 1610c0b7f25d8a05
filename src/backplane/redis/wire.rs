//! How commands are written to a server: over a connection of one lane's own, or one that many share.
//!
//! In a cluster each partition has a lane, and all lanes of a node share a connection. One pipeline is under way on it at
//! a time; what lanes send meanwhile makes the next one. So a node reads and writes once for many partitions, and
//! waits once for its replica.

use std::sync::Arc;

use redis::{
    Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, yield_now},
};

use super::scripts::{REPLICATED_WITHIN, millis};

/// About the most bytes of requests in one pipeline: what comes meanwhile waits for all of them.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;

/// The most lanes whose commands make one pipeline, and the most requests that are queued for the next one; other
/// lanes wait for a place in that queue.
const MERGED: usize = 64;

/// A way to a server.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    Own(MultiplexedConnection),
    Shared {
        requests: mpsc::Sender<Request>,
        /// Ends when the last lane drops it.
        _task: Arc<JoinSet<()>>,
    },
}

/// What was answered to the commands of one lane.
#[derive(Debug)]
pub(super) struct Sent {
    /// One for each command.
    pub(super) values: Vec<Value>,
    /// How many replicas of the server have what was written, if that was waited for.
    pub(super) replicas: Option<Value>,
}

/// What a lane sends.
#[derive(Debug)]
pub(super) struct Request {
    commands: Vec<Cmd>,
    waits: bool,
    reply: oneshot::Sender<RedisResult<Sent>>,
}

impl Request {
    /// About how many bytes it has.
    fn size(&self) -> usize {
        let arguments = self.commands.iter().flat_map(Cmd::args_iter);
        arguments.map(|it| if let Arg::Simple(bytes) = it { bytes.len() } else { 0 }).sum()
    }
}

impl Wire {
    /// Has lanes share this connection, until the last one drops it.
    pub(super) fn shared(connection: MultiplexedConnection) -> Self {
        let (requests, queue) = mpsc::channel(MERGED);
        let mut task = JoinSet::new();
        task.spawn(merge(connection, queue));
        Self::Shared { requests, _task: Arc::new(task) }
    }

    /// Sends commands, and waits for their answers; also, if it `waits`, for a replica of the server to have all that was
    /// written. Commands of two calls that overlap are in no order. A call that is dropped may have been sent.
    pub(super) async fn send(&mut self, commands: Vec<Cmd>, waits: bool) -> RedisResult<Sent> {
        match self {
            Self::Own(connection) => exchange(connection, commands, waits).await,
            Self::Shared { requests, .. } => {
                let gone = || RedisError::from((ErrorKind::Io, "the connection was given up"));
                let (reply, answer) = oneshot::channel();
                let request = Request { commands, waits, reply };
                requests.send(request).await.map_err(|_| gone())?;
                answer.await.map_err(|_| gone())?
            }
        }
    }
}

/// Sends what comes, until nobody sends any more or the connection breaks.
async fn merge(mut connection: MultiplexedConnection, mut queue: mpsc::Receiver<Request>) {
    let mut requests = Vec::new();
    while let Some(first) = queue.recv().await {
        requests.push(first);
        // Lanes that were woken together with the first one send before.
        yield_now().await;
        let mut bytes: usize = requests.iter().map(Request::size).sum();
        while requests.len() < MERGED
            && bytes < BATCH_BYTES
            && let Ok(request) = queue.try_recv()
        {
            bytes += request.size();
            requests.push(request);
        }
        let (mut commands, mut replies) = (Vec::new(), Vec::new());
        for request in requests.drain(..).filter(|request| !request.reply.is_closed()) {
            replies.push((request.commands.len(), request.waits, request.reply));
            commands.extend(request.commands);
        }
        if replies.is_empty() {
            continue;
        }
        let waits = replies.iter().any(|(_, waits, _)| *waits);
        match exchange(&mut connection, commands, waits).await {
            Ok(Sent { values, replicas }) => {
                let mut values = values.into_iter();
                for (count, waits, reply) in replies {
                    let replicas = replicas.clone().filter(|_| waits);
                    // A lane that is gone needs no answer.
                    let _ = reply
                        .send(Ok(Sent { values: values.by_ref().take(count).collect(), replicas }));
                }
            }
            Err(error) => {
                for (_, _, reply) in replies {
                    let _ = reply.send(Err(error.clone()));
                }
                return;
            }
        }
    }
}

/// Sends commands in one pipeline, and perhaps `WAIT` behind them. Fails unless there are as many answers.
async fn exchange(
    connection: &mut MultiplexedConnection,
    commands: Vec<Cmd>,
    waits: bool,
) -> RedisResult<Sent> {
    let answers = commands.len() + usize::from(waits);
    let mut pipeline = Pipeline::with_capacity(answers);
    for command in commands {
        pipeline.add_command(command);
    }
    if waits {
        // For all that this connection wrote, which a duplicate is too: its script sets times to live.
        pipeline.cmd("WAIT").arg(1).arg(millis(REPLICATED_WITHIN));
    }
    let mut values = connection.send_packed_commands(&pipeline, 0, answers).await?;
    if values.len() != answers {
        return Err(RedisError::from((ErrorKind::UnexpectedReturnType, "not an answer for each")));
    }
    let replicas = if waits { values.pop() } else { None };
    Ok(Sent { values, replicas })
}
