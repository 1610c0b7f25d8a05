//! A small server of the protocol: each stream that comes to it is a [`Line`], on which a test says what it likes.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _, stream::poll_fn};
use roomcast_proto::room::{
    self as proto, ConnectRequest, ConnectResponse, ErrorReason, ListEventsRequest,
    ListEventsResponse, ListMembersRequest, ListMembersResponse,
    connect_request::Frame as Asked,
    connect_response::Frame,
    room_service_server::{RoomService, RoomServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use tonic_types::{ErrorDetails, StatusExt as _};

use crate::*;

pub(super) const SOON: Duration = Duration::from_secs(10);

/// The server's end of a stream.
pub(super) struct Line {
    pub(super) asked: Streaming<ConnectRequest>,
    pub(super) frames: mpsc::Sender<Result<ConnectResponse, Status>>,
    /// The value of `authorization`.
    pub(super) authorization: Option<String>,
}

impl Line {
    pub(super) async fn hears(&mut self) -> Asked {
        loop {
            let next = timeout(SOON, self.asked.next()).await.expect("nothing is asked");
            match next.expect("an end").expect("a frame").frame {
                Some(Asked::Ping(_)) | None => {}
                Some(frame) => return frame,
            }
        }
    }

    pub(super) async fn hears_join(&mut self) -> proto::Join {
        match self.hears().await {
            Asked::Join(join) => join,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn hears_say(&mut self) -> (u64, String) {
        match self.hears().await {
            Asked::Say(say) => (say.client_seq, say.content),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn says(&self, frame: Frame) {
        let _ = self.frames.send(Ok(ConnectResponse { frame: Some(frame) })).await;
    }

    pub(super) async fn welcomes(&self, head: u64, resumed: bool, last: u64) {
        self.says(welcome(head, resumed, last)).await;
    }

    pub(super) async fn tells(&self, seq: u64, who: &str, what: proto::event::What) {
        self.says(event(seq, who, what)).await;
    }

    pub(super) async fn acks(&self, client_seq: u64, seq: u64, duplicate: bool) {
        let position = Some(at(seq));
        self.says(Frame::Ack(proto::Ack { client_seq, position, duplicate })).await;
    }

    /// The stream ends with a reason for programs.
    pub(super) async fn refuses(self, code: Code, reason: ErrorReason, message: &str) {
        let details = ErrorDetails::with_error_info(reason.as_str_name(), "roomcast", []);
        let _ = self.frames.send(Err(Status::with_error_details(code, message, details))).await;
    }

    pub(super) async fn expires_in(&self, left: Duration) {
        let left = Some(left.try_into().unwrap());
        self.says(Frame::TokenExpiring(proto::TokenExpiring { r#in: left })).await;
    }

    pub(super) async fn hears_token(&mut self) -> String {
        match self.hears().await {
            Asked::Authenticate(shown) => shown.token,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn ends(self, code: Code, message: &str) {
        let _ = self.frames.send(Err(Status::new(code, message))).await;
    }
}

pub(super) fn at(seq: u64) -> proto::Position {
    proto::Position { epoch: 1, seq }
}

pub(super) fn welcome(head: u64, resumed: bool, last: u64) -> Frame {
    Frame::Welcome(proto::Welcome {
        session_token: b"secret".to_vec(),
        head: Some(at(head)),
        resumed,
        last_client_seq: last,
        ping_interval: Some(Duration::from_millis(400).try_into().unwrap()),
        limits: Some(proto::Limits { content_bytes: 100, inflight: 4, page_size: 2, latest: 50 }),
        username: "bob".to_owned(),
        room: "lobby".to_owned(),
        ..proto::Welcome::default()
    })
}

pub(super) fn event(seq: u64, who: &str, what: proto::event::What) -> Frame {
    Frame::Event(proto::Event {
        position: Some(at(seq)),
        username: who.to_owned(),
        what: Some(what),
        ..proto::Event::default()
    })
}

pub(super) fn text(content: &str) -> proto::event::What {
    proto::event::What::Said(proto::Said { content: content.to_owned() })
}

fn authorization<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("authorization")?;
    value.to_str().ok().map(str::to_owned)
}

#[derive(Clone)]
pub(super) struct Fake(mpsc::Sender<Line>);

#[tonic::async_trait]
impl RoomService for Fake {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ConnectResponse, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (frames, mut queue) = mpsc::channel(64);
        let authorization = authorization(&request);
        let line = Line { asked: request.into_inner(), frames, authorization };
        self.0.send(line).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(poll_fn(move |cx| queue.poll_recv(cx)))))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        // Who shows a token is told which.
        let name = authorization(&request).unwrap_or_else(|| "m".to_owned());
        let request = request.into_inner();
        assert_eq!(request.room, "lobby");
        let first = request.page_token.parse().unwrap_or(0_u64);
        let member =
            |n| proto::Member { username: format!("{name}{n}"), ..proto::Member::default() };
        Ok(Response::new(ListMembersResponse {
            members: (first..5).take(2).map(member).collect(),
            next_page_token: if first < 3 { (first + 2).to_string() } else { String::new() },
            total_size: 5,
        }))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        use proto::list_events_request::Range;
        let Some(Range::Before(before)) = request.into_inner().range else {
            return Err(Status::internal("not what was asked"));
        };
        let Frame::Event(event) = event(before.seq - 1, "eve", text("old")) else { panic!() };
        Ok(Response::new(ListEventsResponse { events: vec![event], head: Some(at(9)), gap: None }))
    }
}

/// A server, and the streams that come to it.
pub(super) struct Stage {
    pub(super) lines: mpsc::Receiver<Line>,
    pub(super) addr: Address,
    _server: JoinSet<()>,
}

impl Stage {
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let (sender, lines) = mpsc::channel(4);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let service = RoomServiceServer::new(Fake(sender));
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { lines, addr, _server: server }
    }

    pub(super) async fn line(&mut self) -> Line {
        timeout(SOON, self.lines.recv()).await.expect("nobody comes").unwrap()
    }

    pub(super) fn joins(
        &self,
        options: Options,
    ) -> impl Future<Output = Result<(Client, Events), Error>> + use<> {
        Client::join(Connector::new(self.addr.clone()), options)
    }

    /// Bob is in, at position 10.
    pub(super) async fn bob(&mut self) -> (Client, Events, Line) {
        self.bob_by(Connector::new(self.addr.clone())).await
    }

    /// The same by this connector.
    pub(super) async fn bob_by(&mut self, connector: Connector) -> (Client, Events, Line) {
        let joining = Client::join(connector, Options::new("lobby", "bob"));
        let welcoming = async {
            let mut line = self.line().await;
            let join = line.hears_join().await;
            assert_eq!((join.username.as_str(), join.since), ("bob", None));
            line.welcomes(10, false, 0).await;
            line
        };
        let (joined, line) = tokio::join!(joining, welcoming);
        let (client, events) = joined.unwrap();
        (client, events, line)
    }
}
