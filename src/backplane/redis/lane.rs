//! A held connection on which operations of many sessions go out in batches.
//!
//! One pipeline is under way at a time; what arrives meanwhile makes the next one, and where much does,
//! it waits a little for more. So batches grow with the load, order is kept without further care, and what was not answered
//! is simply sent again: every operation is repeatable.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use redis::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    batch::{self, Group},
    connect::{Commands, Connector},
    fair::Fair,
    op::{Op, Work},
    pace::Pace,
    remedy::{self, Remedy},
    reply::{self, Reply},
    scripts::{Scripts, millis},
    status::{Purpose, Status},
    target::Changes,
};
use crate::{
    backoff::Backoff,
    backplane::Unavailable,
    domain::RoomName,
    metrics::{InGauge, Queue},
};

/// About the most bytes of requests in one pipeline: what comes meanwhile waits for all of them.
const BATCH_BYTES: usize = 1024 * 1024;

/// The most operations that wait to be put in line; then callers wait.
const QUEUE: usize = 8192;

/// What takes no longer than this was no burden for Redis, and the longest that a lane leaves it to others.
const BRIEF: Duration = Duration::from_millis(4);
const PAUSE: Duration = Duration::from_millis(100);

/// How long a replica of Redis may take to have what was appended, where one has to. Less than a
/// connection's patience with an answer.
const REPLICATED_WITHIN: Duration = Duration::from_secs(1);

/// The sending side of a lane.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    ops: mpsc::Sender<Op>,
    status: Arc<Status>,
}

/// What a lane is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PipelineConfig {
    /// The most operations that it sends at a time.
    pub(super) batch: usize,
    /// While it is busy, it sends once in this time.
    pub(super) gather: Duration,
    /// An append succeeds only if a replica of Redis has it.
    pub(super) replicated: bool,
    /// It leaves Redis to others for half of the time.
    pub(super) yields: bool,
}

impl Pipeline {
    /// A lane, and the work that drives it, which ends after `close`, once all is done.
    pub(super) fn new(
        config: PipelineConfig,
        connector: Arc<Connector>,
        status: Arc<Status>,
        close: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (ops, queue) = mpsc::channel(QUEUE);
        let lane = Self { ops, status: status.clone() };
        let driver = Driver {
            queue,
            config,
            pace: Pace::new(config.gather),
            waiting: Fair::default(),
            pending: VecDeque::new(),
            connection: None,
            backoff: super::reconnect_backoff(),
            wait: None,
            changes: connector.changes(),
            scripts: connector.scripts().clone(),
            connector,
            status,
            close,
        };
        (lane, driver.run())
    }

    /// Queues an operation and waits for its answer, both until its deadline at the longest.
    pub(super) async fn submit(&self, work: Work, deadline: Instant) -> Result<Reply, Unavailable> {
        let _waiting = InGauge::new(self.status.metrics.queue_items.of(Queue::Lanes));
        let (reply, answer) = oneshot::channel();
        let answered = async {
            self.ops.send(Op { work, deadline, reply }).await.map_err(|_| Unavailable)?;
            answer.await.map_err(|_| Unavailable)?
        };
        tokio::time::timeout_at(deadline, answered).await.map_err(|_| Unavailable)?
    }
}

/// Resolves when a connection leads to a Redis that is not the master any more.
async fn over(connection: &mut Option<Commands>) {
    match connection {
        Some(connection) => connection.tenure.over().await,
        None => std::future::pending().await,
    }
}

struct Driver {
    queue: mpsc::Receiver<Op>,
    config: PipelineConfig,
    pace: Pace,
    /// What does not fit into the next pipeline.
    waiting: Fair,
    /// What goes out next, or went out and is not answered, in order.
    pending: VecDeque<Op>,
    connection: Option<Commands>,
    backoff: Backoff,
    /// How long nothing is tried, since the last try came to nothing.
    wait: Option<Duration>,
    /// Then it is tried at once.
    changes: Changes,
    connector: Arc<Connector>,
    scripts: Arc<Scripts>,
    status: Arc<Status>,
    close: CancellationToken,
}

impl Driver {
    async fn run(mut self) {
        // Connected before there is anything to do, so that a wrong password shows at once.
        self.connect_once().await;
        while self.fill().await {
            self.gather().await;
            if self.connection.as_ref().is_some_and(|it| it.tenure.is_over()) {
                self.connection = None;
            }
            if self.connection.is_none() {
                self.connect_once().await;
            }
            if let Some(connection) = self.connection.take() {
                let began = Instant::now();
                self.connection = self.send(connection).await;
                if self.config.yields {
                    // As long as Redis was busy with it, it is for others.
                    tokio::time::sleep(began.elapsed().saturating_sub(BRIEF).min(PAUSE)).await;
                }
            }
        }
    }

    /// Waits until there is something to do. False when there never will be.
    async fn fill(&mut self) -> bool {
        if let Some(wait) = self.wait.take() {
            self.changes.or_after(wait).await;
        }
        let now = Instant::now();
        self.pending.retain(|op| op.deadline > now);
        self.top_up();
        while self.pending.is_empty() {
            let op = tokio::select! {
                biased;
                op = self.queue.recv() => op,
                () = self.close.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
                () = over(&mut self.connection) => {
                    self.connection = None;
                    self.connect_once().await;
                    continue;
                }
            };
            let Some(op) = op else { return false };
            self.pending.extend((op.deadline > Instant::now()).then_some(op));
        }
        self.top_up();
        true
    }

    /// Waits for more where much comes.
    async fn gather(&mut self) {
        let wait = self.pace.wait(Instant::now().into_std(), self.pending.len());
        if !wait.is_zero() && self.pending.len() < self.config.batch {
            let before = self.pending.len();
            tokio::time::sleep(wait).await;
            self.top_up();
            self.pace.waited(wait, self.pending.len() - before);
        }
    }

    /// Takes what goes out at once. Where there is more than that, senders take turns.
    fn top_up(&mut self) {
        let now = Instant::now();
        let mut bytes: usize = self.pending.iter().map(|op| op.work.size()).sum();
        while self.waiting.is_empty()
            && self.has_room(bytes)
            && let Ok(op) = self.queue.try_recv()
        {
            bytes += self.put(op, now);
        }
        if self.waiting.is_empty() && self.has_room(bytes) {
            return;
        }
        while self.waiting.has_room()
            && let Ok(op) = self.queue.try_recv()
        {
            self.waiting.push(op);
        }
        while self.has_room(bytes)
            && let Some(op) = self.waiting.pop()
        {
            bytes += self.put(op, now);
        }
    }

    /// Whether the next pipeline, of so many bytes, has room for more.
    fn has_room(&self, bytes: usize) -> bool {
        self.pending.len() < self.config.batch && bytes < BATCH_BYTES
    }

    /// Puts an operation into the next pipeline if anybody still waits for it. Returns its size there.
    fn put(&mut self, op: Op, now: Instant) -> usize {
        if op.deadline <= now {
            return 0;
        }
        let size = op.work.size();
        self.pending.push_back(op);
        size
    }

    /// One try to connect.
    async fn connect_once(&mut self) {
        match self.connector.commands().await {
            Ok(connection) => {
                self.status.connected(Purpose::Commands);
                self.status.evicts(connection.evicts.as_deref());
                if let Some(words) = &connection.refused {
                    self.status.refused(words);
                }
                self.connection = Some(connection);
            }
            Err(error) => {
                self.status.connect_failed(Purpose::Commands, &error);
                self.wait = Some(self.backoff.next_wait());
            }
        }
    }

    /// Sends all that is pending in one pipeline. Gives the connection back if it is still good. Where
    /// anything has to be sent again, that waits, and the longer the more often it was in vain.
    async fn send(&mut self, mut connection: Commands) -> Option<Commands> {
        let ops: Vec<Op> = self.pending.drain(..).collect();
        self.pace.sent(Instant::now().into_std(), ops.len());
        let (groups, mut pipeline) = batch::build(&ops, &self.scripts, &connection.replid);
        let waits = self.config.replicated && groups.iter().any(Group::is_stored);
        if waits {
            // For all that this connection wrote, which a duplicate is too: its script sets times to live.
            pipeline.cmd("WAIT").arg(1).arg(millis(REPLICATED_WITHIN));
        }
        let answers = groups.len() + usize::from(waits);
        let began = Instant::now();
        let answered = tokio::select! {
            answered = connection.connection.send_packed_commands(&pipeline, 0, answers) => answered,
            () = connection.tenure.over() => {
                // Whatever it answers, the one that is the master now has to be asked.
                self.pending.extend(ops);
                return None;
            }
        };
        if answered.is_ok() {
            let appended = groups.iter().filter_map(Group::appended);
            self.status.metrics.observe_pipeline(began.elapsed(), appended);
        }
        let mut values = match answered {
            Ok(values) if values.len() == answers => values,
            answered => {
                if let Err(error) = answered {
                    self.status.lost(&error);
                }
                self.pending.extend(ops);
                self.wait = Some(self.backoff.next_wait());
                return None;
            }
        };
        let durable = !waits || self.note_replicated(values.pop().as_ref());
        let remedy = self.distribute(ops, groups, values, durable, &mut connection);
        if remedy == Remedy::Nothing {
            self.backoff.reset();
            return Some(connection);
        }
        self.wait = Some(self.backoff.next_wait());
        match remedy {
            Remedy::Nothing | Remedy::Wait => Some(connection),
            Remedy::Scripts => {
                let loaded = self.scripts.load(&mut connection.connection).await;
                loaded.is_ok().then_some(connection)
            }
            // A new one is tried out, and says what is missing.
            Remedy::Configure | Remedy::Connection => None,
        }
    }

    /// Whether a replica of Redis has what was appended, as `WAIT` answered.
    fn note_replicated(&self, replicas: Option<&Value>) -> bool {
        let replicated = replicas.and_then(reply::as_int).is_some_and(|count| count > 0);
        self.status.replicated(replicated);
        replicated
    }

    /// Hands out the answers; what Redis could not do for now is pending again. Returns what helps there.
    /// Appends that are not `durable` have failed, whatever came of them.
    fn distribute(
        &mut self,
        ops: Vec<Op>,
        groups: Vec<Group>,
        values: Vec<Value>,
        durable: bool,
        connection: &mut Commands,
    ) -> Remedy {
        let mut ops: Vec<Option<Op>> = ops.into_iter().map(Some).collect();
        let mut again: Vec<usize> = Vec::new();
        let mut worst = Remedy::Nothing;
        let mut refused: HashSet<RoomName> = HashSet::new();
        let mut answered = Vec::new();
        for (mut group, value) in groups.into_iter().zip(values) {
            let parts = group.answered(value, &mut connection.replid);
            let group = Arc::new(group);
            answered.extend(parts.into_iter().map(|(part, value)| (group.clone(), part, value)));
        }
        for (group, part, value) in answered {
            if let Value::ServerError(error) = &value
                && let remedy = Remedy::of_answer(error)
                && remedy > Remedy::Nothing
            {
                match remedy {
                    Remedy::Scripts => debug!("redis forgot the scripts; loading them again"),
                    _ => self.status.refused(&remedy::words(error)),
                }
                worst = worst.max(remedy);
                let rooms = part.ops.iter().filter_map(|&index| ops[index].as_ref()?.work.room());
                refused.extend(rooms.cloned());
                again.extend(part.ops);
                continue;
            }
            let lost = !durable && group.is_stored();
            let appends = group.appended().is_some();
            let replid = &mut connection.replid;
            let mut replies = batch::split(&group, &part, value, replid, &self.status);
            for index in part.ops {
                let reply = replies.next().unwrap_or(Err(Unavailable));
                let stale =
                    appends && reply.as_ref().is_ok_and(|it| it.int(1).is_ok_and(|seq| seq == 0));
                // Perhaps only because what was said before it was refused just now.
                if stale
                    && ops[index]
                        .as_ref()
                        .and_then(|op| op.work.room())
                        .is_some_and(|room| refused.contains(room))
                {
                    again.push(index);
                    worst = worst.max(Remedy::Wait);
                } else if let Some(op) = ops[index].take() {
                    // One that was refused as stale needs no replica.
                    let reply = if lost && !stale { Err(Unavailable) } else { reply };
                    // Nobody waiting is fine: a member that is gone.
                    let _ = op.reply.send(reply);
                }
            }
        }
        again.sort_unstable();
        self.pending.extend(again.into_iter().filter_map(|index| ops[index].take()));
        worst
    }
}
