//! Live delivery: one connection of its own that is subscribed to the rooms with local members.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    codec,
    connect::Connector,
    keys::Keys,
    status::{Purpose, Status},
    target::Tenure,
};
use crate::{
    backplane::{Live, Moved, Signal},
    domain::{ReplicaId, RoomName, SessionId},
    metrics::{Queue, items},
};

/// The most channels in one `SUBSCRIBE`.
const SUBSCRIBE_BATCH: usize = 512;

/// A canary that was published and did not arrive for so long: this connection is deaf.
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// What the subscriber is asked to do, and how it stands.
#[derive(Debug)]
pub(super) struct Subscriptions {
    inner: Mutex<Inner>,
    changed: Notify,
    /// The last canary that was published, and that arrived.
    sent: AtomicU64,
    heard: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    /// With those who wait for the confirmation.
    wanted: HashMap<RoomName, Vec<oneshot::Sender<()>>>,
    /// Rooms that were added or removed since the connection last looked.
    changes: HashSet<RoomName>,
}

impl Subscriptions {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            changed: Notify::new(),
            sent: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a room; the answer comes when Redis confirmed it.
    pub(super) fn add(&self, room: &RoomName) -> oneshot::Receiver<()> {
        let (confirmed, answer) = oneshot::channel();
        let mut inner = self.lock();
        let waiting = inner.wanted.entry(room.clone()).or_default();
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(confirmed);
        inner.changes.insert(room.clone());
        drop(inner);
        self.changed.notify_one();
        answer
    }

    /// Does without a room.
    pub(super) fn remove(&self, room: &RoomName) {
        let mut inner = self.lock();
        if inner.wanted.remove(room).is_some() {
            inner.changes.insert(room.clone());
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// A canary is on its way.
    pub(super) fn canary_sent(&self, number: u64) {
        self.sent.fetch_max(number, Ordering::Relaxed);
    }

    /// One came back.
    fn canary_heard(&self, number: &[u8]) {
        if let Some(number) = canary_number(number) {
            self.heard.fetch_max(number, Ordering::Relaxed);
        }
    }

    /// Whether this canary, or a later one, came back.
    #[cfg(test)]
    pub(super) fn has_heard(&self, number: u64) -> bool {
        self.heard.load(Ordering::Relaxed) >= number
    }

    fn take_changes(&self) -> HashSet<RoomName> {
        std::mem::take(&mut self.lock().changes)
    }

    fn all(&self) -> Vec<RoomName> {
        let mut inner = self.lock();
        inner.changes.clear();
        inner.wanted.keys().cloned().collect()
    }

    fn is_wanted(&self, room: &RoomName) -> bool {
        self.lock().wanted.contains_key(room)
    }

    fn confirm(&self, rooms: &[RoomName]) {
        let mut inner = self.lock();
        for room in rooms {
            for confirmed in inner.wanted.get_mut(room).map(std::mem::take).unwrap_or_default() {
                let _ = confirmed.send(());
            }
        }
    }
}

/// The task that keeps the connection.
pub(super) struct Subscriber {
    pub(super) connector: Arc<Connector>,
    pub(super) subscriptions: Arc<Subscriptions>,
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
}

impl Subscriber {
    /// Reconnects for ever, with jittered backoff.
    pub(super) async fn run(self) {
        let mut backoff = super::reconnect_backoff();
        let mut changes = self.connector.changes();
        let mut before = false;
        loop {
            let outcome = tokio::select! {
                () = self.close.cancelled() => return,
                outcome = self.connect() => outcome,
            };
            match outcome {
                Ok((line, pushes)) => {
                    self.status.connected(Purpose::Subscription);
                    let began = Instant::now();
                    match self.serve(line, pushes, before).await {
                        Broken::Over => return,
                        broken => {
                            warn!(reason = %broken, "the subscription was interrupted");
                            self.status.metrics.subscriber_reconnects.inc();
                        }
                    }
                    before = true;
                    if began.elapsed() > DEAF_AFTER {
                        backoff.reset();
                    }
                }
                Err(error) => self.status.connect_failed(Purpose::Subscription, &error),
            }
            changes.or_after(backoff.next_wait()).await;
        }
    }

    async fn connect(&self) -> Result<(Line, Pushes), super::ConnectError> {
        let (sender, queue) = mpsc::channel(self.queue);
        let overflowed = Arc::new(AtomicBool::new(false));
        let flag = overflowed.clone();
        let canary = self.keys().canary(self.replica);
        let subscriptions = self.subscriptions.clone();
        let on_push = move |push: PushInfo| {
            // Confirmations are the library's affair, and may be many.
            if !matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                return Ok(());
            }
            // Heard, however long it waits here: what is late on this side makes nobody deaf.
            if let [Value::BulkString(channel), Value::BulkString(number)] = push.data.as_slice()
                && channel.as_slice() == canary.as_bytes()
            {
                subscriptions.canary_heard(number);
            }
            match sender.try_send(push) {
                Err(mpsc::error::TrySendError::Full(_)) => {
                    flag.store(true, Ordering::Relaxed);
                    Ok(())
                }
                sent => sent,
            }
        };
        let (connection, tenure) = self.connector.subscriber(on_push).await?;
        Ok((Line { connection, tenure }, Pushes { queue, overflowed }))
    }

    /// Serves one connection until it breaks.
    async fn serve(
        &self,
        Line { mut connection, mut tenure }: Line,
        mut pushes: Pushes,
        before: bool,
    ) -> Broken {
        if let Err(error) = self.subscribe_all(&mut connection).await {
            return error.into();
        }
        if before && self.signals.send(Signal::Resumed).await.is_err() {
            return Broken::Over;
        }
        // Changes are carried out beside the reading: confirmations wait behind messages.
        tokio::select! {
            broken = self.read(&mut pushes) => broken,
            broken = self.apply_changes(&mut connection) => broken,
            broken = self.listen_for_deafness() => broken,
            () = tenure.over() => Broken::Demoted,
            () = self.close.cancelled() => Broken::Over,
        }
    }

    /// All rooms first and the canary last: once it is heard, every room is.
    async fn subscribe_all(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> redis::RedisResult<()> {
        let rooms = self.subscriptions.all();
        for rooms in rooms.chunks(SUBSCRIBE_BATCH) {
            connection.subscribe(self.channels(rooms)).await?;
            self.subscriptions.confirm(rooms);
        }
        connection.subscribe(self.keys().canary(self.replica)).await?;
        // Those from before the interruption will not come any more.
        let sent = self.subscriptions.sent.load(Ordering::Relaxed);
        self.subscriptions.heard.fetch_max(sent, Ordering::Relaxed);
        Ok(())
    }

    async fn apply_changes(&self, connection: &mut MultiplexedConnection) -> Broken {
        loop {
            let changed = self.subscriptions.changed.notified();
            let rooms = self.subscriptions.take_changes();
            let (add, remove): (Vec<_>, Vec<_>) =
                rooms.into_iter().partition(|room| self.subscriptions.is_wanted(room));
            if let Err(error) = self.apply(connection, &add, &remove).await {
                return error.into();
            }
            if add.is_empty() && remove.is_empty() {
                changed.await;
            }
        }
    }

    async fn apply(
        &self,
        connection: &mut MultiplexedConnection,
        add: &[RoomName],
        remove: &[RoomName],
    ) -> redis::RedisResult<()> {
        for rooms in remove.chunks(SUBSCRIBE_BATCH) {
            connection.unsubscribe(self.channels(rooms)).await?;
        }
        for rooms in add.chunks(SUBSCRIBE_BATCH) {
            connection.subscribe(self.channels(rooms)).await?;
            self.subscriptions.confirm(rooms);
        }
        Ok(())
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
                PushKind::Message => self.signal(&push.data),
                _ => None,
            };
            if let Some(signal) = signal
                && self.signals.send(signal).await.is_err()
            {
                return Broken::Over;
            }
            if pushes.overflowed.swap(false, Ordering::Relaxed) {
                warn!("live messages arrive faster than they are handled; reading from the log");
                if self.signals.send(Signal::Resumed).await.is_err() {
                    return Broken::Over;
                }
            }
        }
        Broken::Closed
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
            let sent = self.subscriptions.sent.load(Ordering::Relaxed);
            tokio::time::sleep(DEAF_AFTER).await;
            let heard = self.subscriptions.heard.load(Ordering::Relaxed);
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
