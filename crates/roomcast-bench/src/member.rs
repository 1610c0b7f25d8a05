//! One connection and the clients on it, in one task: straight on HTTP/2, so that the load
//! program costs little beside the server it measures.

use std::{
    future::{Future, pending, poll_fn},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::{
    RecvStream, SendStream,
    client::{Builder, Connection, SendRequest},
};
use hdrhistogram::Histogram;
use http::{HeaderMap, Request};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, sleep_until},
};

use super::{
    check::Receipts,
    shared::{Phase, Shared},
    wire::{self, Frames, Mark},
};

/// What a stream, and a connection, may have in flight: enough that a busy moment of the load
/// program does not pause the server.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// How often probes are sent, in each room, and less often where there are many rooms: so many a second
/// in all.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
const PROBES_PER_SECOND: u32 = 5000;
/// How long streams may take to notice that their connection is gone.
const END_PATIENCE: Duration = Duration::from_millis(500);
/// A message that its timer brings out by so little late counts from when it was sent, so that
/// the timer's coarseness is not taken for the server's delay; else from when it was due.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// What the clients of one connection have received. Only their task takes the lock often.
#[derive(Debug)]
pub(super) struct Tally {
    /// Microseconds from sending to receipt, of messages sent in the measured window.
    pub(super) delays: Histogram<u32>,
    /// Receipts of the load's messages.
    pub(super) delivered: u64,
    /// In the order of [`super::plan::Plan::on_connection`].
    pub(super) members: Vec<Member>,
}

/// What is known of one client.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) receipts: Receipts,
    /// It has heard a probe, so it is in its room.
    pub(super) joined: bool,
    /// Messages it sent.
    pub(super) sent: u32,
    /// The most a message was sent after it was due.
    pub(super) late: Duration,
    /// Messages that belong to another room.
    pub(super) strayed: u64,
    /// Why the server ended its stream.
    pub(super) ended: Option<String>,
}

impl Tally {
    pub(super) fn new(shared: &Shared, connection: u32) -> Self {
        let plan = &shared.plan;
        let members = plan.on_connection(connection).map(|client| Member {
            receipts: Receipts::new(
                plan.senders_in(plan.room_of(client)).count(),
                plan.is_witness(client),
            ),
            joined: false,
            sent: 0,
            late: Duration::ZERO,
            strayed: 0,
            ended: None,
        });
        let delays = Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are sound");
        Self { delays, delivered: 0, members: members.collect() }
    }
}

/// Runs a connection's clients until it is dropped or all their streams have ended.
pub(super) async fn connection(
    shared: Arc<Shared>,
    tally: Arc<Mutex<Tally>>,
    socket: TcpStream,
    connection: u32,
) {
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // The load program is never in need of protection against small frames.
        .data_frame_budget(1 << 30)
        .enable_push(false)
        .handshake::<_, Bytes>(socket)
        .await;
    let reason = match handshake {
        Ok((requests, driver)) => {
            let clients = shared.plan.on_connection(connection).enumerate();
            let clients = clients.map(|(slot, id)| Client {
                shared: &shared,
                tally: &tally,
                slot,
                id,
                phase: shared.phase.subscribe(),
            });
            drive(driver, clients.map(|client| client.live(requests.clone())).collect()).await
        }
        Err(error) => error.to_string(),
    };
    for member in &mut tally.lock().unwrap_or_else(PoisonError::into_inner).members {
        member.ended.get_or_insert_with(|| reason.clone());
    }
}

/// Polls a connection and its streams in one task: one wake-up for all that a read brings.
/// Ends with them, and says why.
async fn drive(
    connection: Connection<TcpStream>,
    mut streams: FuturesUnordered<impl Future<Output = ()>>,
) -> String {
    let broken = async {
        let result = connection.await;
        // The streams read what has arrived, and are told. One that opens only now is not.
        sleep(END_PATIENCE).await;
        result.map_or_else(|error| error.to_string(), |()| "the connection was closed".to_owned())
    };
    tokio::select! {
        biased;
        reason = broken => reason,
        () = async { while streams.next().await.is_some() {} } => String::new(),
    }
}

struct Client<'a> {
    shared: &'a Shared,
    tally: &'a Mutex<Tally>,
    slot: usize,
    id: u32,
    phase: watch::Receiver<Phase>,
}

impl Client<'_> {
    async fn live(self, requests: SendRequest<Bytes>) {
        let mut admitted = self.shared.admitted.subscribe();
        // The sender is there as long as anybody waits.
        let _ = admitted.wait_for(|&below| self.id < below).await;
        let reason = match self.open(requests).await {
            Ok((response, outgoing)) => tokio::select! {
                end = self.receive(response) => end.unwrap_or_else(|error| error),
                error = self.speak(outgoing) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        self.end(reason);
    }

    fn end(&self, reason: String) {
        self.with_tally(|tally| tally.members[self.slot].ended = Some(reason));
    }

    fn with_tally<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the call, its first message at once behind it.
    async fn open(
        &self,
        requests: SendRequest<Bytes>,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        let plan = &self.shared.plan;
        let addr = plan.addr_of(self.id % plan.connections);
        let mut request = Request::post(format!("http://{addr}/chat.ChatService/ChatStream"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(room) = plan.room_name(plan.room_of(self.id)) {
            request = request.header("chat-room", room);
        }
        let mut request = request.body(()).expect("all its parts are well-formed");
        request.headers_mut().extend(plan.headers.clone());
        let (response, mut outgoing) = requests.ready().await?.send_request(request, false)?;
        send(&mut outgoing, wire::frame(plan.name(self.id), String::new())).await?;
        Ok((response, outgoing))
    }

    /// Receives until the server ends the stream, and says how it did.
    async fn receive(&self, response: h2::client::ResponseFuture) -> Result<String, String> {
        let (head, mut body) = response.await.map_err(|error| error.to_string())?.into_parts();
        if head.status != http::StatusCode::OK {
            return Ok(format!("HTTP status {}", head.status));
        }
        if head.headers.contains_key("grpc-status") {
            return Ok(status(&head.headers));
        }
        self.take_all(&mut body).await?;
        let trailers = body.trailers().await.map_err(|error| error.to_string())?;
        Ok(trailers.map_or_else(|| "no status".to_owned(), |trailers| status(&trailers)))
    }

    async fn take_all(&self, body: &mut RecvStream) -> Result<(), String> {
        let mut frames = Frames::default();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(|error| error.to_string())?;
            let now = self.shared.micros(Instant::now());
            let taken = self
                .with_tally(|tally| frames.push(&chunk, |content| self.take(tally, content, now)));
            taken.map_err(|error| error.to_string())?;
            body.flow_control().release_capacity(chunk.len()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn take(&self, tally: &mut Tally, content: &[u8], now: u64) {
        let plan = &self.shared.plan;
        let member = &mut tally.members[self.slot];
        match wire::mark(plan.tag, content) {
            // Somebody came or went, or somebody else uses the room.
            None => {}
            Some(Mark::Probe) if member.joined => {}
            Some(Mark::Probe) => {
                member.joined = true;
                self.shared.count_joined();
            }
            Some(Mark::Load { sender, seq, micros }) => {
                let room = plan.room_of(self.id);
                if sender >= plan.senders || plan.room_of_sender(sender) != room {
                    member.strayed += 1;
                    return;
                }
                let place = u32::try_from(plan.place_of(sender)).unwrap_or(u32::MAX);
                member.receipts.take(place, seq);
                tally.delivered += 1;
                if self.shared.is_measured(micros) {
                    tally.delays.saturating_record(now.saturating_sub(micros).max(1));
                }
            }
        }
    }

    /// Sends what this client has to send; comes back only with an error.
    async fn speak(&self, mut outgoing: SendStream<Bytes>) -> h2::Error {
        let spoken = async {
            let start = self.probe(&mut outgoing).await?;
            if let Some(sender) = self.shared.plan.sender(self.id) {
                self.load(&mut outgoing, sender, start).await?;
            }
            pending().await
        };
        match spoken.await {
            Ok(never) => never,
            Err(error) => error,
        }
    }

    /// Sends probes if it is this client's task, until the load starts.
    async fn probe(&self, outgoing: &mut SendStream<Bytes>) -> Result<Instant, h2::Error> {
        let plan = &self.shared.plan;
        let mut phase = self.phase.clone();
        let interval =
            (Duration::from_secs(1) * plan.rooms / PROBES_PER_SECOND).max(PROBE_INTERVAL);
        loop {
            if let Phase::Running(start) = *phase.borrow_and_update() {
                return Ok(start);
            }
            if plan.is_prober(self.id) {
                let probe = wire::content(plan.tag, Mark::Probe, 0);
                send(outgoing, wire::frame(String::new(), probe)).await?;
                tokio::select! {
                    () = sleep(interval) => {}
                    _ = phase.changed() => {}
                }
            } else if phase.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Sends a sender's share of the load, each message when it is due.
    async fn load(
        &self,
        outgoing: &mut SendStream<Bytes>,
        sender: u32,
        start: Instant,
    ) -> Result<(), h2::Error> {
        let plan = &self.shared.plan;
        for seq in 0.. {
            let due = plan.due(sender, seq);
            if due >= plan.sending() {
                break;
            }
            let due = start + due;
            let mut now = Instant::now();
            if due > now {
                sleep_until(due.into()).await;
                now = Instant::now();
            }
            let late = now.saturating_duration_since(due);
            let sent = if late < TIMER_SLACK { now } else { due };
            let mark = Mark::Load { sender, seq, micros: self.shared.micros(sent) };
            let content = wire::content(plan.tag, mark, plan.content_bytes);
            // Counted first: it may arrive before this task goes on.
            self.with_tally(|tally| {
                let member = &mut tally.members[self.slot];
                member.sent += 1;
                member.late = member.late.max(late);
            });
            send(outgoing, wire::frame(String::new(), content)).await?;
        }
        Ok(())
    }
}

/// Hands bytes to the connection as the peer's windows allow.
async fn send(outgoing: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        outgoing.reserve_capacity(bytes.len());
        if outgoing.capacity() == 0 {
            match poll_fn(|cx| outgoing.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                None => return Err(h2::Reason::STREAM_CLOSED.into()),
            };
        }
        let size = outgoing.capacity().min(bytes.len());
        outgoing.send_data(bytes.split_to(size), false)?;
    }
    Ok(())
}

/// A gRPC status in words.
fn status(headers: &HeaderMap) -> String {
    let status = tonic::Status::from_header_map(headers);
    status.map_or_else(
        || "no status".to_owned(),
        |status| format!("{:?}: {}", status.code(), status.message()),
    )
}
