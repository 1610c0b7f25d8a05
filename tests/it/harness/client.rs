//! A chat client that remembers everything.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::stream;
use roomcast_proto::chat::ChatMessage;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};
use tonic::{Code, Status, Streaming, client::Grpc, transport::Channel};

use super::{
    Endpoint, Heard, Payload, RawCodec, SOON,
    record::{Ended, Record},
};

const METHOD: &str = "/chat.ChatService/ChatStream";

/// One stream through the `chat` protocol. A task of its own reads it into a record; the `expect…`
/// methods go through that record in order, so nothing unexpected is ever passed over.
///
/// Dropped, it cancels its stream and closes its connection, unless others share that.
pub(crate) struct ChatClient {
    name: String,
    record: Arc<Record>,
    /// How much of the record has been looked at.
    seen: usize,
    outgoing: Option<mpsc::Sender<Payload>>,
    stream: JoinSet<()>,
    reading: Arc<Notify>,
    channel: Option<Channel>,
}

impl ChatClient {
    /// Opens a stream that is read from the start. The first message is queued before the call,
    /// as proxies need it.
    pub(crate) async fn open(endpoint: &Endpoint, name: &str, first: Option<Payload>) -> Self {
        let client = Self::open_unread(endpoint, name, first).await;
        client.drain();
        client
    }

    /// Opens a stream that is not read until [`Self::drain`].
    pub(crate) async fn open_stalled(endpoint: &Endpoint, name: &str, first: Payload) -> Self {
        Self::open_unread(endpoint, name, Some(first)).await
    }

    async fn open_unread(endpoint: &Endpoint, name: &str, first: Option<Payload>) -> Self {
        let channel = endpoint.channel().await;
        let (outgoing, mut queue) = mpsc::channel(16);
        if let Some(first) = first {
            outgoing.try_send(first).expect("room for the first message");
        }
        let frames = stream::poll_fn(move |context| queue.poll_recv(context));
        let mut request = endpoint.authorized(frames);
        if let Some(room) = &endpoint.room {
            request.metadata_mut().insert("chat-room", room.clone());
        }
        if let Some(forwarded_for) = &endpoint.forwarded_for {
            request.metadata_mut().insert("x-forwarded-for", forwarded_for.clone());
        }
        if let Some(traceparent) = &endpoint.traceparent {
            request.metadata_mut().insert("traceparent", traceparent.clone());
        }
        let record = Arc::new(Record::default());
        let reading = Arc::new(Notify::new());
        let mut stream = JoinSet::new();
        let mut grpc = Grpc::new(channel.clone());
        let (codec, to, start) =
            (RawCodec(endpoint.dialect), Arc::clone(&record), Arc::clone(&reading));
        stream.spawn(async move {
            let call = async {
                let ready = grpc.ready().await;
                ready.map_err(|error| Status::unavailable(error.to_string()))?;
                grpc.streaming(request, METHOD.parse().expect("a path"), codec).await
            };
            let ended = match call.await {
                Ok(answers) => {
                    start.notified().await;
                    read(answers.into_inner(), &to).await
                }
                Err(status) => Err(status),
            };
            let status = ended.err().unwrap_or_else(|| Status::ok(""));
            to.end(status.code(), status.message());
        });
        let (name, outgoing, channel) = (name.to_owned(), Some(outgoing), Some(channel));
        Self { name, record, seen: 0, outgoing, stream, reading, channel }
    }

    /// The name it asked for.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it has heard so far, from the beginning.
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Says something; waits while the server takes no more.
    pub(crate) async fn say(&self, content: &str) {
        self.send(Payload::message("", content, "")).await;
    }

    /// Sends a payload of any kind; waits while the server takes no more.
    pub(crate) async fn send(&self, payload: Payload) {
        assert!(self.offer(payload).await, "the stream has ended: {self:?}");
    }

    /// Sends a payload; `false` when the stream has ended.
    pub(crate) async fn offer(&self, payload: Payload) -> bool {
        let outgoing = self.outgoing.as_ref().expect("not half-closed");
        let sent = timeout(Duration::from_secs(20), outgoing.send(payload)).await;
        sent.unwrap_or_else(|_| panic!("the server takes nothing: {self:?}")).is_ok()
    }

    /// Begins to read a stream that was opened unread.
    pub(crate) fn drain(&self) {
        self.reading.notify_one();
    }

    /// Says that no more comes; answers are still read.
    pub(crate) fn half_close(&mut self) {
        self.outgoing = None;
    }

    /// Drops the stream as tonic's users do: its request ends and its answers are cancelled. The
    /// connection stays. A reset with nothing before it is [`super::RawCall::reset`].
    pub(crate) fn cancel(&mut self) {
        self.stream.abort_all();
        self.outgoing = None;
    }

    /// Cancels the stream and gives up the connection.
    pub(crate) fn disconnect(&mut self) {
        self.cancel();
        self.channel = None;
    }

    /// The next message that was not looked at yet; `None` when none comes or the stream ends.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<Heard> {
        let seen = self.seen;
        let next = self.record.wait(within, |state| {
            let next = state.heard.get(seen).cloned();
            (next.is_some() || state.ended.is_some()).then_some(next)
        });
        let next = next.await.flatten();
        self.seen += usize::from(next.is_some());
        next
    }

    /// The next message must be this one.
    pub(crate) async fn expect_said(&mut self, from: &str, content: &str) -> Heard {
        let next = self.next(SOON).await;
        match next {
            Some(heard) if heard.username == from && heard.content == content => heard,
            other => panic!("expected {content:?} from {from:?}, got {other:?}: {self:?}"),
        }
    }

    /// The next message must be this one from the server.
    pub(crate) async fn expect_system(&mut self, content: &str) -> Heard {
        self.expect_said("System", content).await
    }

    /// Passes over messages until the server says this; whether it did in time.
    pub(crate) async fn hears(&mut self, content: &str, within: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            match self.next(left).await {
                Some(heard) if heard.username == "System" && heard.content == content => {
                    return true;
                }
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Waits until the server has said this, at any time since the beginning; passes over nothing.
    pub(crate) async fn until_heard(&self, content: &str) -> Heard {
        let said = |heard: &&Heard| heard.username == "System" && heard.content == content;
        let heard = self.record.wait(SOON, |state| state.heard.iter().find(said).cloned()).await;
        heard.unwrap_or_else(|| panic!("never told {content:?}: {self:?}"))
    }

    /// Passes over all that has been heard.
    pub(crate) fn forget(&mut self) {
        self.seen = self.record.state().heard.len();
    }

    /// How often the server has said this, from the beginning.
    pub(crate) fn times(&self, content: &str) -> usize {
        let said = |heard: &&Heard| heard.username == "System" && heard.content == content;
        self.record.state().heard.iter().filter(said).count()
    }

    /// Waits for the end of the stream.
    pub(crate) async fn ended(&self, within: Duration) -> Ended {
        let ended = self.record.wait(within, |state| state.ended.clone()).await;
        ended.unwrap_or_else(|| panic!("still open after {within:?}: {self:?}"))
    }

    /// The stream must end with this code; answers the message.
    pub(crate) async fn expect_end(&self, code: Code) -> String {
        let ended = self.ended(SOON).await;
        assert_eq!(ended.code, code, "{self:?}");
        ended.message
    }

    /// The stream must not have ended.
    pub(crate) fn assert_open(&self) {
        assert!(self.record.state().ended.is_none(), "{self:?}");
    }
}

/// Everybody who listens hears what the speaker says next, and nothing before it: what was
/// going to be heard has been.
pub(crate) async fn quiet(speaker: &ChatClient, listeners: &mut [&mut ChatClient]) {
    static MARKS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let mark = MARKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mark = format!("nothing before mark {mark}");
    speaker.say(&mark).await;
    for listener in listeners {
        listener.expect_said(speaker.name(), &mark).await;
    }
}

/// The room works in both directions, and nothing but what was said is heard.
pub(crate) async fn undisturbed(alice: &mut ChatClient, bob: &mut ChatClient) {
    quiet(alice, &mut [bob]).await;
    quiet(bob, &mut [alice]).await;
}

async fn read(mut answers: Streaming<ChatMessage>, to: &Record) -> Result<(), Status> {
    while let Some(message) = answers.message().await? {
        to.hear(message);
    }
    Ok(())
}

impl fmt::Debug for ChatClient {
    /// The end of the record, which says why an expectation failed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.record.state();
        let last = state.heard.len().saturating_sub(12);
        let brief = |text: &str| text.chars().take(100).collect::<String>();
        let lines: Vec<_> = state.heard[last..]
            .iter()
            .map(|heard| format!("{}: {}", brief(&heard.username), brief(&heard.content)))
            .collect();
        f.debug_struct("ChatClient")
            .field("name", &self.name)
            .field("heard", &state.heard.len())
            .field("seen", &self.seen)
            .field("last", &lines)
            .field("ended", &state.ended)
            .finish_non_exhaustive()
    }
}
