//! Live delivery from one server: a connection of its own that is subscribed to the rooms with local members.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    address::Endpoint,
    codec,
    connect::Connector,
    keys::Keys,
    location::Tenure,
    remedy::{Redirection, Remedy},
    status::{Purpose, Status},
    subscriptions::{Changes, Listening, Subscriptions},
};
use crate::{
    backplane::{Live, Moved, Signal},
    domain::{ReplicaId, RoomName, SessionId},
    metrics::{Queue, items},
};

/// The most commands in one pipeline. Each subscribes to one channel, so that each has one answer.
const SUBSCRIBE_BATCH: usize = 512;

/// A canary that was published and did not arrive for so long: this connection is deaf.
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// The task that keeps the connection.
pub(super) struct Subscriber {
    /// The node of the cluster that it leads to. `None`: to where all data is.
    pub(super) node: Option<Endpoint>,
    pub(super) connector: Arc<Connector>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) listening: Arc<Listening>,
    pub(super) status: Arc<Status>,
    pub(super) replica: ReplicaId,
    /// The most messages that wait between the connection and the signals.
    pub(super) queue: usize,
    pub(super) signals: mpsc::Sender<Signal>,
    pub(super) close: CancellationToken,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the connection closed")]
    Closed,
    #[error("canaries do not arrive")]
    Deaf,
    #[error("redis has another master")]
    Demoted,
    #[error("a slot moved while something was asked")]
    Confused,
    #[error("redis refuses: {0}")]
    Refused(String),
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
    #[error("this replica is shutting down")]
    Over,
}

/// The receiving end of a connection's messages.
struct Pushes {
    queue: mpsc::Receiver<PushInfo>,
    overflowed: Arc<AtomicBool>,
}

/// A connection, for as long as it leads to the right Redis.
struct Line {
    connection: MultiplexedConnection,
    tenure: Tenure,
    /// The rooms that it tells of.
    rooms: HashSet<RoomName>,
    /// The partition by whose way canaries come.
    canaries: Option<usize>,
}

impl Subscriber {
    /// Reconnects for ever, with jittered backoff.
    pub(super) async fn run(self) {
        let mut backoff = super::reconnect_backoff();
        let mut changes = self.connector.changes();
        loop {
            let outcome = tokio::select! {
                () = self.close.cancelled() => return,
                outcome = self.connect() => outcome,
            };
            match outcome {
                Ok((line, pushes)) => {
                    self.status.connected(Purpose::Subscription, self.node.as_ref());
                    let began = Instant::now();
                    match self.serve(line, pushes).await {
                        Broken::Over => return,
                        broken => {
                            warn!(reason = %broken, "the subscription was interrupted");
                            self.status.metrics.subscriber_reconnects.inc();
                        }
                    }
                    if began.elapsed() > DEAF_AFTER {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    self.status.connect_failed(Purpose::Subscription, &error, self.node.as_ref());
                }
            }
            self.status.hears(self.node.as_ref(), false);
            changes.or_after(backoff.next_wait()).await;
        }
    }

    async fn connect(&self) -> Result<(Line, Pushes), super::ConnectError> {
        let (sender, queue) = mpsc::channel(self.queue);
        let overflowed = Arc::new(AtomicBool::new(false));
        let flag = overflowed.clone();
        let (connector, status) = (self.connector.clone(), self.status.clone());
        let (listening, node, replica) = (self.listening.clone(), self.node.clone(), self.replica);
        let on_push = move |push: PushInfo| {
            let keys = &connector.scripts().keys;
            match (&push.kind, push.data.as_slice()) {
                // Heard, however long it waits here: what is late on this side makes nobody deaf.
                (PushKind::SMessage, [Value::BulkString(channel), Value::BulkString(number)])
                    if keys.is_canary(channel, replica) =>
                {
                    if let Some(number) = canary_number(number) {
                        listening.canary_heard(number);
                        status.hears(node.as_ref(), true);
                    }
                }
                (PushKind::SUnsubscribe, [Value::BulkString(channel), ..]) => {
                    match keys.room_of(channel) {
                        Some(room) => listening.left(room),
                        None if keys.is_canary(channel, replica) => listening.canaries_left(),
                        // Of a trial.
                        None => {}
                    }
                    return Ok(());
                }
                (PushKind::SMessage | PushKind::Disconnection, _) => {}
                // Other confirmations are the library's affair, and may be many.
                _ => return Ok(()),
            }
            match sender.try_send(push) {
                Err(mpsc::error::TrySendError::Full(_)) => {
                    flag.store(true, Ordering::Relaxed);
                    Ok(())
                }
                sent => sent,
            }
        };
        let partition = self.canary_partition().unwrap_or(0);
        let (connection, tenure) =
            self.connector.subscriber(self.node.as_ref(), partition, on_push).await?;
        let line = Line { connection, tenure, rooms: HashSet::new(), canaries: None };
        Ok((line, Pushes { queue, overflowed }))
    }

    /// Serves one connection until it breaks.
    async fn serve(&self, mut line: Line, mut pushes: Pushes) -> Broken {
        let mut tenure = line.tenure.clone();
        // All rooms first and the canary last: once it is heard, every room is.
        let mut everything = self.listening.take_changes();
        everything.moved = true;
        if let Err(broken) = self.apply(&mut line, everything).await {
            return broken;
        }
        // Those from before the interruption will not come any more.
        self.listening.forget_canaries();
        // Changes are carried out beside the reading: confirmations wait behind messages.
        tokio::select! {
            broken = self.read(&mut pushes) => broken,
            broken = self.apply_changes(&mut line) => broken,
            broken = self.listen_for_deafness() => broken,
            () = tenure.over() => Broken::Demoted,
            () = self.close.cancelled() => Broken::Over,
        }
    }

    async fn apply_changes(&self, line: &mut Line) -> Broken {
        loop {
            self.listening.changed().await;
            let changes = self.listening.take_changes();
            if let Err(broken) = self.apply(line, changes).await {
                return broken;
            }
        }
    }

    /// Has the connection tell of what it is to tell of now.
    async fn apply(&self, line: &mut Line, changes: Changes) -> Result<(), Broken> {
        if changes.canaries_dropped {
            line.canaries = None;
        }
        for room in &changes.dropped {
            if line.rooms.remove(room) {
                self.connector.look_again();
            }
        }
        let mut rooms = changes.rooms;
        rooms.extend(changes.dropped);
        if changes.moved {
            rooms.extend(self.subscriptions.all());
            rooms.extend(line.rooms.iter().cloned());
        }
        let wanted = |room: &RoomName| self.subscriptions.is_wanted(room) && self.is_here(room);
        let (add, remove): (Vec<_>, Vec<_>) = rooms.into_iter().partition(wanted);
        let remove: Vec<_> = remove.into_iter().filter(|it| line.rooms.remove(it)).collect();
        let (known, add): (Vec<_>, Vec<_>) =
            add.into_iter().partition(|room| line.rooms.contains(room));
        // Somebody came back before it was seen that all had gone. Nothing was missed.
        self.subscriptions.confirm(&known);
        for rooms in remove.chunks(SUBSCRIBE_BATCH) {
            self.listening.leaving(rooms);
            let refused = self.command(line, "SUNSUBSCRIBE", &self.channels(rooms)).await?;
            self.listening.have_left();
            if !refused.is_empty() {
                // Their slot has moved: the server may have said so as well, which looks like an answer.
                return Err(Broken::Confused);
            }
        }
        for rooms in add.chunks(SUBSCRIBE_BATCH) {
            let refused = self.command(line, "SSUBSCRIBE", &self.channels(rooms)).await?;
            let is_told = |(index, _): &(usize, _)| !refused.contains(index);
            let told: Vec<_> =
                rooms.iter().enumerate().filter(is_told).map(|(_, room)| room.clone()).collect();
            line.rooms.extend(told.iter().cloned());
            let again = self.subscriptions.confirm(&told);
            if !again.is_empty() {
                self.signal_gap(again).await?;
            }
        }
        self.follow_canaries(line).await
    }

    /// Live events of these rooms may be missing.
    async fn signal_gap(&self, rooms: Vec<RoomName>) -> Result<(), Broken> {
        self.signals.send(Signal::Resumed(Some(rooms))).await.map_err(|_| Broken::Over)
    }

    /// Canaries come by the way of a partition that is here.
    async fn follow_canaries(&self, line: &mut Line) -> Result<(), Broken> {
        let here = self.canary_partition();
        if here == line.canaries {
            return Ok(());
        }
        let channel = |partition| [self.keys().canary(partition, self.replica)];
        if let Some(former) = line.canaries.take() {
            self.listening.leaving_canaries();
            self.command(line, "SUNSUBSCRIBE", &channel(former)).await?;
        }
        if let Some(partition) = here
            && self.command(line, "SSUBSCRIBE", &channel(partition)).await?.is_empty()
        {
            line.canaries = Some(partition);
        }
        Ok(())
    }

    fn canary_partition(&self) -> Option<usize> {
        self.connector.partition_at(self.node.as_ref())
    }

    /// Whether a room's slot is on the server that this leads to.
    fn is_here(&self, room: &RoomName) -> bool {
        let Some(node) = &self.node else { return true };
        self.connector.node_of(self.keys().partition(room)).as_ref() == Some(node)
    }

    /// Sends a command for each channel. Returns those, by index, that are somewhere else.
    async fn command(
        &self,
        line: &mut Line,
        command: &str,
        channels: &[String],
    ) -> Result<HashSet<usize>, Broken> {
        let mut pipeline = redis::Pipeline::with_capacity(channels.len());
        for channel in channels {
            pipeline.cmd(command).arg(channel);
        }
        self.listening.command(true);
        let answered = line.connection.send_packed_commands(&pipeline, 0, channels.len()).await;
        if !self.listening.command(false) {
            return Err(Broken::Confused);
        }
        let mut elsewhere = HashSet::new();
        for (index, answer) in answered?.into_iter().enumerate() {
            let Value::ServerError(error) = answer else { continue };
            if Remedy::of_answer(&error) != Remedy::Elsewhere {
                return Err(Broken::Refused(super::remedy::words(&error)));
            }
            elsewhere.insert(index);
            let there = Redirection::read(&error, self.node.as_ref());
            if let (Some(cluster), Some(Redirection::Moved(slot, node))) =
                (self.connector.cluster(), there)
            {
                cluster.moved(slot, &node);
            }
        }
        Ok(elsewhere)
    }

    fn keys(&self) -> &Keys {
        &self.connector.scripts().keys
    }

    fn channels(&self, rooms: &[RoomName]) -> Vec<String> {
        rooms.iter().map(|room| self.keys().channel(room)).collect()
    }

    /// One message after another, so that order is kept.
    async fn read(&self, pushes: &mut Pushes) -> Broken {
        while let Some(push) = pushes.queue.recv().await {
            self.status.metrics.queue_items.of(Queue::Subscriber).set(items(pushes.queue.len()));
            let signal = match push.kind {
                PushKind::Disconnection => return Broken::Closed,
                PushKind::SMessage => self.signal(&push.data),
                _ => None,
            };
            if let Some(signal) = signal
                && self.signals.send(signal).await.is_err()
            {
                return Broken::Over;
            }
            if pushes.overflowed.swap(false, Ordering::Relaxed) {
                warn!("live messages arrive faster than they are handled; reading from the log");
                if let Err(over) = self.signal_gap(self.rooms_here()).await {
                    return over;
                }
            }
        }
        Broken::Closed
    }

    fn rooms_here(&self) -> Vec<RoomName> {
        self.subscriptions.all().into_iter().filter(|room| self.is_here(room)).collect()
    }

    fn signal(&self, data: &[Value]) -> Option<Signal> {
        let [Value::BulkString(channel), Value::BulkString(payload)] = data else { return None };
        let Some(room) = self.keys().room_of(channel) else {
            return canary_number(payload).map(Signal::Canary);
        };
        match parse(room, payload) {
            Some(signal) => Some(signal),
            None => {
                self.status.metrics.backplane_errors.inc();
                warn!("a live message cannot be read; its events come from the log, if at all");
                None
            }
        }
    }

    /// A subscription can go deaf while everything else works.
    async fn listen_for_deafness(&self) -> Broken {
        loop {
            let (sent, _) = self.listening.canaries();
            tokio::time::sleep(DEAF_AFTER).await;
            let (_, heard) = self.listening.canaries();
            if heard < sent {
                debug!(sent, heard, "canaries are missing");
                return Broken::Deaf;
            }
        }
    }
}

fn canary_number(payload: &[u8]) -> Option<u64> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// `<epoch> <seq of the first>\n<events>`, or `! <session> <the stream that lost it>`.
fn parse(room: RoomName, payload: &[u8]) -> Option<Signal> {
    if let Some(moved) = payload.strip_prefix(b"! ") {
        let (session, from) = std::str::from_utf8(moved).ok()?.split_once(' ')?;
        let session = SessionId::from_bytes(uuid::Uuid::try_parse(session).ok()?.into_bytes());
        return Some(Signal::Moved(Moved { room, session, from: from.parse().ok()? }));
    }
    let end = payload.iter().position(|&byte| byte == b'\n')?;
    let (epoch, first) = std::str::from_utf8(&payload[..end]).ok()?.split_once(' ')?;
    let events = codec::decode(&payload[end + 1..]).ok()?;
    let (epoch, first) = (epoch.parse().ok()?, first.parse().ok()?);
    Some(Signal::Live(Live { room, epoch, first, events }))
}
