//! A held connection on which operations of many sessions go out in batches.
//!
//! One pipeline is under way at a time; what arrives meanwhile makes the next one, and where much does,
//! it waits a little for more. So batches grow with the load, order is kept without further care, and what was not answered
//! is simply sent again: every operation is repeatable.

mod exchange;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::coop::unconstrained,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    connect::Connector,
    fair::Fair,
    link::{Commands, Link},
    location::Changes,
    op::{Op, Work},
    reply::Reply,
    scripts::Scripts,
    status::{Purpose, Status},
    wire::BATCH_BYTES,
};
use crate::{
    backoff::Backoff,
    backplane::Unavailable,
    metrics::{InGauge, Queue},
};

/// The most operations that wait to be put in line; then callers wait.
const QUEUE: usize = 8192;

/// What takes no longer than this was no burden for Redis, and the longest that a lane leaves it to others.
const BRIEF: Duration = Duration::from_millis(4);
const PAUSE: Duration = Duration::from_millis(100);

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
    /// An append succeeds only if a replica of Redis has it.
    pub(super) replicated: bool,
    /// It leaves Redis to others for half of the time.
    pub(super) yields: bool,
}

impl Pipeline {
    /// A lane, and the work that drives it, which ends after `close`, once all is done.
    pub(super) fn new(
        config: PipelineConfig,
        link: Link,
        connector: Arc<Connector>,
        status: Arc<Status>,
        close: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (ops, queue) = mpsc::channel(QUEUE);
        let lane = Self { ops, status: status.clone() };
        let driver = Driver {
            queue,
            config,
            link,
            waiting: Fair::default(),
            pending: VecDeque::new(),
            connection: None,
            backoff: super::reconnect_backoff(),
            redirected: false,
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
            let op = Op { work, deadline, reply, asking: None };
            // What a task has done before must not have others overtake it.
            unconstrained(self.ops.send(op)).await.map_err(|_| Unavailable)?;
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
    /// Where it leads.
    link: Link,
    /// What does not fit into the next pipeline.
    waiting: Fair,
    /// What goes out next, or went out and is not answered, in order.
    pending: VecDeque<Op>,
    connection: Option<Commands>,
    backoff: Backoff,
    /// The last try was referred to another node.
    redirected: bool,
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
            let lost = |it: &Commands| it.tenure.is_over() || it.is_broken();
            if self.connection.as_ref().is_some_and(lost) {
                self.connection = None;
            }
            if self.connection.is_none() {
                self.connect_once().await;
            }
            if let Some(connection) = self.connection.take() {
                let began = Instant::now();
                self.connection = match self.pending.iter().find_map(|op| op.asking.clone()) {
                    Some(node) => {
                        self.ask(&node).await;
                        Some(connection)
                    }
                    None => self.send_all(connection).await,
                };
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
        let Some(connection) = &self.connection else { return };
        if self.pending.len() >= self.config.batch {
            return;
        }
        let wait = connection.pace.wait(Instant::now().into_std(), self.pending.len());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
            self.top_up();
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
        match self.connector.commands(self.link).await {
            Ok(connection) => {
                self.status.connected(Purpose::Commands, connection.node.as_ref());
                self.status.evicts(connection.evicts.as_deref());
                if let Some(words) = &connection.refused {
                    self.status.refused(words);
                }
                self.connection = Some(connection);
            }
            Err(error) => {
                let node = self.connector.node_of(self.link.partition);
                self.status.connect_failed(Purpose::Commands, &error, node.as_ref());
                self.connector.look_again();
                self.wait = Some(self.backoff.next_wait());
            }
        }
    }
}
