//! The `v1` protocol: `/roomcast.v1.RoomService`.

mod join;
pub(super) mod moderation;
mod queries;
mod tokens;
pub(super) mod translate;

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tonic::{
    Status,
    body::Body,
    codec::CompressionEncoding,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use self::{join::Asked, queries::QueryLimits, tokens::Tokens};
use super::{
    admission::Party,
    egress::{Egress, Rest},
    frames::{self, FrameError, Frames},
    principal::Principal,
    scan::{self, ScanError},
    small,
    status::{Outcome, status},
    stream::{Protocol, ProtocolStream, StreamAcceptor, gone, in_time, traceparent},
    users::UserStream,
};
use crate::{
    domain::{Event, Position, TraceParent, UsernameLimits},
    hub::{Arrived, Encoder, SessionClaim},
    proto::room::{
        self as proto, ConnectRequest, ConnectResponse, connect_request::Frame as Request_,
        connect_response::Frame as Response_,
    },
    room::Lost,
    session::{
        self, Allowed, Answer, ClientLink, Ending, Input, ReconnectReason, Responder, Say,
        SessionLimits,
    },
    transport::Incoming,
};

/// How many unary calls are worked on, or sent, at a time; others wait, for so long.
const QUERIES: usize = 64;
const TURN_COMES: Duration = Duration::from_secs(10);

/// What the `v1` protocol needs to know.
#[derive(Clone, Copy, Debug)]
pub struct V1Config {
    /// What a name may be.
    pub names: UsernameLimits,
    /// What a session may do.
    pub session: SessionLimits,
    /// The most events, or members, that are asked for at once.
    pub page_size: usize,
    /// How long a session outlives its stream, at the most and unless its client asks for less.
    pub linger: Duration,
    /// When a side that has nothing to say says so.
    pub ping_interval: Duration,
    /// How long a client may be silent, or take nothing.
    pub idle_timeout: Duration,
    /// Over which time clients are sent elsewhere at the end.
    pub drain_spread: Duration,
}

/// The service; as one of tonic's, its unary calls.
#[derive(Clone, Debug)]
pub(super) struct V1 {
    acceptor: Arc<StreamAcceptor>,
    config: Arc<V1Config>,
    queries: Arc<Semaphore>,
}

impl V1 {
    pub(super) fn new(acceptor: Arc<StreamAcceptor>, config: V1Config) -> Self {
        let queries = Arc::new(Semaphore::new(QUERIES));
        Self { acceptor, config: Arc::new(config), queries }
    }

    /// Has who asks in its first frame come in.
    async fn enter(
        &self,
        stream: &mut ProtocolStream,
        trace: Option<TraceParent>,
        frames: &mut Frames<Incoming>,
    ) -> Result<Box<Entered>, Outcome> {
        let first = tokio::select! {
            biased;
            () = self.acceptor.hub.draining().cancelled() => {
                return Err(Outcome::Ended(Ending::ShuttingDown));
            }
            first = in_time(first_frame(frames)) => first,
        };
        let join = first.ok_or_else(|| Outcome::NoJoin("none came".to_owned()))??;
        let asked =
            Asked::read(join, trace, &self.config, &stream.principal, stream.egress.begun())?;
        let Asked { claim, token, name, trace } = asked;
        stream.caller.asks(&claim.room, &name);
        stream.principal.may_be_called(&claim.name)?;
        // Whoever comes back was let in before.
        if matches!(claim.session, SessionClaim::New(..)) {
            stream.may_come(&claim.room)?;
        }
        let (room, linger) = (claim.room.clone(), claim.linger);
        stream.take_place(&room)?;
        let arrived = stream.enter::<Self>(claim, name, trace.as_ref()).await?;
        let welcome = proto::Welcome {
            session_token: token.to_bytes(),
            head: Some(translate::position(arrived.head)),
            resumed: arrived.resumed,
            last_client_seq: arrived.client_seq,
            ping_interval: Some(translate::duration(self.config.ping_interval)),
            idle_timeout: Some(translate::duration(self.config.idle_timeout)),
            linger: Some(translate::duration(linger)),
            limits: Some(self.limits()),
            username: arrived.membership.member().hold().name.to_string(),
            room: room.to_string(),
        };
        let welcome = encode(Response_::Welcome(welcome));
        Ok(Box::new(Entered { arrived, welcome, trace }))
    }
}

/// Who is in.
struct Entered {
    arrived: Arrived,
    /// What its client is told first.
    welcome: Bytes,
    trace: Option<TraceParent>,
}

impl NamedService for V1 {
    const NAME: &'static str = "roomcast.v1.RoomService";
}

impl Service<Request<Body>> for V1 {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path() {
            "/roomcast.v1.RoomService/ListMembers" => self.clone().list_members(request).boxed(),
            "/roomcast.v1.RoomService/ListEvents" => self.clone().list_events(request).boxed(),
            _ => ready(Ok(status(&Outcome::NoMethod).into_http())).boxed(),
        }
    }
}

impl Protocol for V1 {
    const METHOD: &'static str = "roomcast.v1.RoomService/Connect";

    type Asked = Option<TraceParent>;

    fn read(headers: &HeaderMap) -> Self::Asked {
        traceparent(headers)
    }

    async fn serve(
        &self,
        stream: &mut ProtocolStream,
        trace: Self::Asked,
        frames: &mut Frames<Incoming>,
    ) -> Outcome {
        let hub = self.acceptor.hub.clone();
        // Boxed, as is the session: a stream would have to carry it to its end.
        let Entered { arrived, welcome, trace } =
            match Box::pin(self.enter(stream, trace, frames)).await {
                Ok(entered) => *entered,
                Err(outcome) => return outcome,
            };
        let Arrived { membership, head, resumed, client_seq } = arrived;
        let egress = stream.egress.clone();
        egress.push(&welcome);
        drop(welcome);
        egress.open(membership.reader().clone(), &RichEncoder);
        let link = ClientLink {
            answers: &*egress,
            repeats: &*stream.party.asking,
            appended: (client_seq, head),
            resumed,
            ping_interval: self.config.ping_interval,
            idle_timeout: self.config.idle_timeout,
            drain_spread: self.config.drain_spread,
        };
        let gone = gone(&egress, frames.given_up(), stream.user.as_ref());
        let hold = membership.member().hold();
        let user = stream.user.as_ref();
        let mut tokens = Tokens::new(&self.acceptor.authenticator, &stream.principal, user, &hold);
        let allowed = Allowed {
            limits: &self.config.session,
            rights: tokens.rights(),
            user_rate: user.map(UserStream::rate),
        };
        let input = frames.map(|frame| input(frame, trace.as_ref(), &mut tokens));
        let input = std::pin::pin!(input);
        let link = Some(&link);
        let unstored = &*stream.party.intake;
        Outcome::Ended(
            Box::pin(session::run(&hub, membership, input, gone, allowed, unstored, link)).await,
        )
    }

    /// A session that goes on gets the rest with its next stream.
    fn rest(_: &Outcome) -> Rest {
        Rest::UntilLeft
    }
}

/// What answers a unary call. Requests are small, also unpacked.
fn unary<T, U>() -> Grpc<ProstCodec<T, U>>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(small::BYTES)
}

impl V1 {
    fn query_limits(&self) -> QueryLimits {
        QueryLimits { page_size: self.config.page_size }
    }

    async fn list_members(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let answer = service_fn(|asked: tonic::Request<proto::ListMembersRequest>| {
            let (v1, limits) = (self.clone(), self.query_limits());
            async move {
                let (party, principal) = caller(&asked)?;
                let asked = asked.into_inner();
                let backplane = v1.acceptor.hub.backplane();
                let answer = queries::list_members(backplane, &limits, &principal, asked);
                v1.query(party, &principal, answer).await
            }
        });
        Ok(unary().unary(answer, request).await)
    }

    async fn list_events(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let answer = service_fn(|asked: tonic::Request<proto::ListEventsRequest>| {
            let (v1, limits) = (self.clone(), self.query_limits());
            async move {
                let (party, principal) = caller(&asked)?;
                let asked = asked.into_inner();
                let backplane = v1.acceptor.hub.backplane();
                let answer = queries::list_events(backplane, &limits, &principal, asked);
                v1.query(party, &principal, answer).await
            }
        });
        Ok(unary().unary(answer, request).await)
    }

    /// Works on a call when its turn comes, and counts it for its address.
    async fn query<T: Message>(
        &self,
        party: Arc<Party>,
        principal: &Principal,
        answer: impl Future<Output = Result<T, Outcome>>,
    ) -> Result<tonic::Response<T>, Status> {
        let refuse = |outcome| {
            self.acceptor.count(&outcome);
            status(&outcome)
        };
        let turn = timeout(TURN_COMES, async {
            // Backends ask for many, from few addresses.
            let call = match principal {
                Principal::Backend => None,
                Principal::Anonymous | Principal::Bearer(_) => Some(party.asking.begin().await?),
            };
            Ok((call, self.queries.clone().acquire_owned().await))
        });
        let turn = turn.await.map_err(|_| refuse(Outcome::CallsWait(TURN_COMES)))?;
        let (call, slot) = turn.map_err(|wait| refuse(Outcome::TooManyCalls(wait)))?;
        let answer = answer.await.map_err(refuse)?;
        if let Some(call) = &call {
            call.answered(answer.encoded_len());
        }
        Ok(until_taken(answer, (slot, call)))
    }

    fn limits(&self) -> proto::Limits {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let SessionLimits { content_bytes, inflight, .. } = self.config.session;
        proto::Limits {
            content_bytes: count(content_bytes),
            inflight: count(inflight),
            page_size: count(self.config.page_size),
            latest: count(self.config.page_size),
        }
    }
}

/// Whose call it is, and what that one may have. A call that nobody has looked at is nobody's.
fn caller<T>(request: &tonic::Request<T>) -> Result<(Arc<Party>, Principal), Status> {
    let found = request.extensions().get::<(Arc<Party>, Principal)>();
    let unknown =
        || status(&Outcome::Unauthenticated("nobody knows whose call this is".to_owned()));
    found.cloned().ok_or_else(unknown)
}

/// An answer that keeps its slots until the client has taken it: pages are large.
fn until_taken<T>(answer: T, slots: impl Send + Sync + 'static) -> tonic::Response<T> {
    let mut answer = tonic::Response::new(answer);
    answer.extensions_mut().insert(Arc::new(slots));
    answer
}

/// The join that a stream has to begin with. Frames that this version does not know are passed over, as
/// they are later.
async fn first_frame(
    frames: &mut (impl Stream<Item = Result<Bytes, FrameError>> + Unpin),
) -> Result<proto::Join, Outcome> {
    let refuse = |why: &dyn ToString| Outcome::NoJoin(why.to_string());
    loop {
        let payload = match frames.next().await {
            Some(Ok(payload)) => payload,
            Some(Err(FrameError::Reset)) => return Err(Outcome::Ended(Ending::Disconnected)),
            Some(Err(FrameError::Crowded)) => return Err(Outcome::Ended(Ending::Crowded)),
            Some(Err(error)) => return Err(refuse(&error)),
            None => return Err(refuse(&"the stream ended before a first frame")),
        };
        match request(payload).map_err(|error| refuse(&error))?.frame {
            Some(Request_::Join(join)) => return Ok(join),
            Some(_) => return Err(refuse(&"it is something else")),
            None => {}
        }
    }
}

/// What a later frame says.
fn input(
    frame: Result<Bytes, FrameError>,
    stream_trace: Option<&TraceParent>,
    tokens: &mut Tokens<'_>,
) -> Result<Input, Ending> {
    let payload = frame.map_err(|error| match error {
        FrameError::Reset => Ending::Disconnected,
        FrameError::Crowded => Ending::Crowded,
        error => Ending::Unreadable(error.to_string()),
    })?;
    let frame = request(payload).map_err(Ending::Unreadable)?.frame;
    Ok(match frame {
        Some(Request_::Say(say)) => Input::Say(Say {
            client_seq: Some(say.client_seq),
            trace: TraceParent::parse(&say.traceparent),
            content: say.content,
            stream_trace: stream_trace.cloned(),
        }),
        Some(Request_::Ping(ping)) => Input::Ping(ping.nonce),
        Some(Request_::Leave(proto::Leave {})) => Input::Leave,
        Some(Request_::Authenticate(newer)) => Input::Renewed(tokens.renew(&newer.token)?),
        Some(Request_::Join(_)) => {
            return Err(Ending::Unreadable("a join comes first, and only then".to_owned()));
        }
        None => Input::Unknown,
    })
}

/// Decodes a frame, unless that would be more work than any frame is.
fn request(payload: Bytes) -> Result<ConnectRequest, String> {
    /// The frames that are messages, and what is a message in a join.
    const MESSAGES: [&[u32]; 2] = [&[1, 2, 3, 4, 5], &[4, 6]];
    /// What is shorter has few fields.
    const SHORT: usize = 256;
    if payload.len() > SHORT && !scan::has_few_fields(&payload, &MESSAGES) {
        return Err(ScanError::TooManyFields.to_string());
    }
    ConnectRequest::decode(payload).map_err(|error| error.to_string())
}

fn encode(frame: Response_) -> Bytes {
    frames::encode(&ConnectResponse { frame: Some(frame) })
}

impl Responder for Egress {
    fn answer(&self, answer: &Answer) {
        if matches!(answer, Answer::Reconnect(_, ReconnectReason::TooOld)) {
            self.retire();
        }
        self.push(&encode(translate::answer(answer)));
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_pushable(cx)
    }

    fn is_full(&self) -> bool {
        Egress::is_full(self)
    }

    fn last_taken(&self) -> Instant {
        Egress::last_taken(self)
    }

    fn is_waiting(&self) -> bool {
        self.has_more()
    }
}

/// How the `v1` protocol writes events.
#[derive(Clone, Copy, Debug)]
struct RichEncoder;

impl Encoder for RichEncoder {
    fn index(&self) -> usize {
        // After the dialects of the `chat` protocol.
        2
    }

    fn encode(&self, position: Position, event: &Event) -> Bytes {
        encode(Response_::Event(translate::event(position, event)))
    }

    fn encode_lost(&self, lost: &Lost) -> Bytes {
        encode(Response_::Gap(translate::gap(lost)))
    }
}
