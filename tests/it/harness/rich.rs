//! A client of the `v1` protocol that does only what a test tells it, and remembers everything.
//!
//! It neither reconnects nor resends: [`RichClient::resume`] is one more stream, which the test
//! opens when it wants to.

mod inbox;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::stream;
use roomcast_proto::room::{
    Ack, ConnectRequest, Event, Gap, Join, Leave, LeftCause, Nack, Ping, Position, Reconnect, Say,
    TokenExpiring, Welcome, connect_request::Frame as Ask, connect_response::Frame as Tell,
    event::What, join::Since, room_service_client::RoomServiceClient,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tonic::{Code, Status, transport::Channel};

pub(crate) use self::inbox::{Inbox, Told};
use super::{Endpoint, SOON, eventually, record::Ended};

/// One stream through the `v1` protocol. A task of its own reads it into an [`Inbox`], from which three
/// kinds of frames are taken, each in its order: answers (acks and nacks), news (events and gaps),
/// and signs (welcome, reconnect, pongs). Nothing is passed over within a kind.
///
/// Dropped, it cancels its stream and closes its connection, unless others share that.
pub(crate) struct RichClient {
    name: String,
    room: String,
    inbox: Arc<Inbox>,
    /// How many frames have been looked at for each kind.
    answers: usize,
    news: usize,
    signs: usize,
    outgoing: Option<mpsc::Sender<ConnectRequest>>,
    stream: JoinSet<()>,
    reading: Arc<Notify>,
    channel: Option<Channel>,
}

/// What became of one message.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    /// It is in the log.
    Ack(Ack),
    /// It is not.
    Nack(Nack),
}

/// What a client is told of its room.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum News {
    /// Something happened.
    Event(Event),
    /// Something is gone.
    Gap(Gap),
}

impl RichClient {
    /// A join as it stands in a first frame, to be changed at will.
    pub(crate) fn asking(room: &str, username: &str) -> Join {
        Join { room: room.to_owned(), username: username.to_owned(), ..Join::default() }
    }

    /// Opens a stream with this join. Whether it is let in shows later: [`Self::welcome`].
    pub(crate) async fn open(endpoint: &Endpoint, join: Join) -> Self {
        let client = Self::open_stalled(endpoint, Ask::Join(join)).await;
        client.drain();
        client
    }

    /// Opens a stream with whatever first frame, which is not read until [`Self::drain`].
    pub(crate) async fn open_stalled(endpoint: &Endpoint, first: Ask) -> Self {
        let channel = endpoint.channel().await;
        let (outgoing, mut queue) = mpsc::channel(64);
        let (name, room) = match &first {
            Ask::Join(join) => (join.username.clone(), join.room.clone()),
            other => (format!("{other:?}"), String::new()),
        };
        // Queued before the call, as proxies need it.
        outgoing.try_send(ConnectRequest { frame: Some(first) }).expect("room for a frame");
        let (inbox, reading) = (Arc::<Inbox>::default(), Arc::new(Notify::new()));
        let mut stream = JoinSet::new();
        let mut service = RoomServiceClient::new(channel.clone());
        let (to, start) = (Arc::clone(&inbox), Arc::clone(&reading));
        let frames = stream::poll_fn(move |context| queue.poll_recv(context));
        let request = endpoint.authorized(frames);
        stream.spawn(async move {
            let ended = match service.connect(request).await {
                Ok(told) => {
                    start.notified().await;
                    to.read(told.into_inner()).await
                }
                Err(status) => status,
            };
            to.end(&ended);
        });
        let (outgoing, channel) = (Some(outgoing), Some(channel));
        let (answers, news, signs) = (0, 0, 0);
        Self { name, room, inbox, answers, news, signs, outgoing, stream, reading, channel }
    }

    /// Another stream of the same session by way of `endpoint`, from after this position on.
    pub(crate) async fn resume(&self, endpoint: &Endpoint, after: Option<Position>) -> Self {
        let session_token = self.seen_welcome().expect("it was welcomed").session_token;
        let since = after.map(Since::After);
        let join = Join { session_token, since, ..Self::asking(&self.room, &self.name) };
        Self::open(endpoint, join).await
    }

    /// The name it asked for.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The unary calls, on a connection to `endpoint`.
    pub(crate) async fn calls(endpoint: &Endpoint) -> RoomServiceClient<Channel> {
        RoomServiceClient::new(endpoint.channel().await)
    }

    /// All that it has been told so far, and how the stream ended.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Sends a frame; waits while the server takes no more. Fails if the stream has ended.
    pub(crate) async fn send(&self, frame: Ask) {
        assert!(self.offer(frame).await, "the stream has ended: {self:?}");
    }

    /// Sends a frame; `false` when the stream has ended.
    pub(crate) async fn offer(&self, frame: Ask) -> bool {
        let outgoing = self.outgoing.as_ref().expect("not half-closed");
        let sent = outgoing.send(ConnectRequest { frame: Some(frame) });
        let sent = timeout_at(Instant::now() + Duration::from_secs(20), sent).await;
        assert!(sent.is_ok(), "the server takes nothing: {self:?}");
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// Says something under this number.
    pub(crate) async fn say(&self, client_seq: u64, content: &str) {
        let say = Say { client_seq, content: content.to_owned(), ..Say::default() };
        self.send(Ask::Say(say)).await;
    }

    /// Says it under this number until it is taken in, as clients do while Redis is away.
    pub(crate) async fn say_through(&mut self, client_seq: u64, content: &str) -> Position {
        eventually(2 * SOON, "a message is taken in", async || {
            self.say(client_seq, content).await;
            match self.next_answer(SOON).await {
                Some(Answer::Ack(ack)) => ack.position,
                _ => None,
            }
        })
        .await
    }

    /// Says something under this number; it must be the next answer that it is in the log.
    pub(crate) async fn say_and_wait(&mut self, client_seq: u64, content: &str) -> Position {
        self.say(client_seq, content).await;
        self.expect_ack(client_seq).await.position.expect("a position")
    }

    /// Asks for a pong.
    pub(crate) async fn ping(&self, nonce: u64) {
        self.send(Ask::Ping(Ping { nonce })).await;
    }

    /// Goes for good; the stream must end well.
    pub(crate) async fn leave(&self) {
        self.send(Ask::Leave(Leave {})).await;
        self.expect_end(Code::Ok).await;
    }

    /// Begins to read a stream that was opened stalled.
    pub(crate) fn drain(&self) {
        self.reading.notify_one();
    }

    /// Says that no more comes; what is told is still read.
    pub(crate) fn half_close(&mut self) {
        self.outgoing = None;
    }

    /// Drops the stream as tonic's users do: its request ends and its answers are cancelled. The
    /// connection stays.
    pub(crate) fn cancel(&mut self) {
        self.stream.abort_all();
        self.outgoing = None;
        self.inbox.end(&Status::cancelled("by the test itself"));
    }

    /// Cancels the stream and gives up the connection.
    pub(crate) fn disconnect(&mut self) {
        self.cancel();
        self.channel = None;
    }

    /// The welcome, if it came already.
    pub(crate) fn seen_welcome(&self) -> Option<Welcome> {
        self.inbox.state().told.iter().find_map(|told| match &told.frame {
            Tell::Welcome(welcome) => Some(welcome.clone()),
            _ => None,
        })
    }

    /// Waits for the welcome, which must be the first frame of all.
    pub(crate) async fn welcome(&mut self) -> Welcome {
        let first = self.inbox.wait(SOON, |state| state.told.first().map(|it| it.frame.clone()));
        match first.await {
            Some(Tell::Welcome(welcome)) => {
                self.signs = self.signs.max(1);
                welcome
            }
            other => panic!("no welcome but {other:?}: {self:?}"),
        }
    }
}

/// What a stream was told.
impl RichClient {
    /// The next event or gap that was not looked at yet; `None` when none comes or the stream ends.
    pub(crate) async fn next_news(&mut self, within: Duration) -> Option<News> {
        self.inbox.next(&mut self.news, within, inbox::news).await
    }

    /// The next event; a gap or nothing instead fails the test.
    pub(crate) async fn next_event(&mut self) -> Event {
        match self.next_news(SOON).await {
            Some(News::Event(event)) => event,
            other => panic!("expected an event, got {other:?}: {self:?}"),
        }
    }

    /// The next news must be a gap.
    pub(crate) async fn next_gap(&mut self) -> Gap {
        match self.next_news(SOON).await {
            Some(News::Gap(gap)) => gap,
            other => panic!("expected a gap, got {other:?}: {self:?}"),
        }
    }

    async fn expect(&mut self, username: &str, what: What) -> Position {
        let event = self.next_event().await;
        assert_eq!((&*event.username, event.what), (username, Some(what)), "{self:?}");
        event.position.expect("every event has a position")
    }

    /// The next news must be that somebody said this.
    pub(crate) async fn expect_said(&mut self, from: &str, content: &str) -> Position {
        let said = roomcast_proto::room::Said { content: content.to_owned() };
        self.expect(from, What::Said(said)).await
    }

    /// The next news must be that somebody came.
    pub(crate) async fn expect_joined(&mut self, name: &str) -> Position {
        self.expect(name, What::Joined(roomcast_proto::room::Joined {})).await
    }

    /// The next news must be that somebody went, and why.
    pub(crate) async fn expect_left(&mut self, name: &str, cause: LeftCause) -> Position {
        let left = roomcast_proto::room::Left { cause: cause.into() };
        self.expect(name, What::Left(left)).await
    }

    /// The position of the last event that came, looked at or not; the welcome's head before that.
    pub(crate) fn last_position(&self) -> Option<Position> {
        let state = self.inbox.state();
        state.told.iter().rev().find_map(|told| match &told.frame {
            Tell::Event(event) => event.position,
            Tell::Welcome(welcome) => welcome.head,
            _ => None,
        })
    }

    /// The next ack or nack; `None` when none comes or the stream ends.
    pub(crate) async fn next_answer(&mut self, within: Duration) -> Option<Answer> {
        self.inbox.next(&mut self.answers, within, inbox::answer).await
    }

    /// The next so many acks and nacks.
    pub(crate) async fn answers(&mut self, count: usize) -> Vec<Answer> {
        let mut answers = vec![];
        while answers.len() < count {
            let next = self.next_answer(SOON).await;
            answers.push(next.unwrap_or_else(|| panic!("only {answers:?}: {self:?}")));
        }
        answers
    }

    /// The next answer must be an ack of this message.
    pub(crate) async fn expect_ack(&mut self, client_seq: u64) -> Ack {
        match self.next_answer(SOON).await {
            Some(Answer::Ack(ack)) if ack.client_seq == client_seq => ack,
            other => panic!("expected ack {client_seq}, got {other:?}: {self:?}"),
        }
    }

    /// The next answer must be a nack of this message.
    pub(crate) async fn expect_nack(&mut self, client_seq: u64) -> Nack {
        match self.next_answer(SOON).await {
            Some(Answer::Nack(nack)) if nack.client_seq == client_seq => nack,
            other => panic!("expected nack {client_seq}, got {other:?}: {self:?}"),
        }
    }

    /// Waits until the server says that the client's token expires, and passes over pongs.
    pub(crate) async fn expect_expiring(&mut self) -> TokenExpiring {
        loop {
            match self.next_sign(SOON).await {
                Some(Tell::TokenExpiring(expiring)) => return expiring,
                Some(Tell::Pong(_)) => {}
                other => panic!("{other:?} instead of that its token expires: {self:?}"),
            }
        }
    }

    /// The next welcome, reconnect, pong or word that a token expires; `None` when none comes or the stream ends.
    pub(crate) async fn next_sign(&mut self, within: Duration) -> Option<Tell> {
        self.inbox.next(&mut self.signs, within, inbox::sign).await
    }

    /// Waits for the pong with this nonce, and passes over other signs.
    pub(crate) async fn expect_pong(&mut self, nonce: u64) {
        loop {
            match self.next_sign(SOON).await {
                Some(Tell::Pong(pong)) if pong.nonce == nonce => return,
                Some(_) => {}
                None => panic!("no pong {nonce}: {self:?}"),
            }
        }
    }

    /// Waits until the server asks to connect again, and passes over pongs.
    pub(crate) async fn expect_reconnect(&mut self, within: Duration) -> Reconnect {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_sign(left).await {
                Some(Tell::Reconnect(reconnect)) => return reconnect,
                Some(_) => {}
                None => panic!("not asked to reconnect: {self:?}"),
            }
        }
    }

    /// Waits for the end of the stream.
    pub(crate) async fn ended(&self, within: Duration) -> Ended {
        let ended = self.inbox.wait(within, |state| state.ended.clone()).await;
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
        assert!(self.inbox.state().ended.is_none(), "{self:?}");
    }
}

impl fmt::Debug for RichClient {
    /// The end of what it was told, which says why an expectation failed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inbox.state();
        let last = state.told.len().saturating_sub(12);
        let brief = |told: &Told| {
            let frame = match &told.frame {
                Tell::Welcome(it) => Tell::Welcome(Welcome {
                    session_token: Vec::new(), // To be kept secret, in logs too.
                    ..it.clone()
                }),
                other => other.clone(),
            };
            format!("{frame:?}").chars().take(160).collect::<String>()
        };
        f.debug_struct("RichClient")
            .field("name", &self.name)
            .field("told", &state.told.len())
            .field("looked_at", &[self.signs, self.news, self.answers])
            .field("last", &state.told[last..].iter().map(brief).collect::<Vec<_>>())
            .field("ended", &state.ended)
            .finish_non_exhaustive()
    }
}
