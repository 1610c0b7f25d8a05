//! The plain door: `/chat.ChatService/ChatStream`, in both dialects.
//!
//! A request is answered at once: some proxies hold a request until its first message, and clients
//! wait for the response's headers. Everything that can go wrong is told in the trailers.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Empty;
use tokio::time::timeout;
use tonic::{body::Body, server::NamedService};
use tower::Service;
use tracing::{Instrument, Span, field, info, info_span};

use super::{
    admission::{Admission, Admitted},
    audit::Caller,
    connection::Peer,
    dialect::Dialect,
    frames::{FrameError, Frames, Places},
    outlet::{Outlet, OutletBody},
    status::{Outcome, refusal, status},
    tasks::Spawner,
};
use crate::{
    domain::{RoomName, TraceParent, Username, UsernameLimits},
    hub::{EnterError, Hub, Stay},
    session::{self, Ending, Say, SessionLimits},
    trace,
};

/// The method, as traces name it.
const METHOD: &str = "chat.ChatService/ChatStream";

/// The metadata key that names a room.
const ROOM: &str = "chat-room";

/// How long a client may take to take the end of its stream. Until then it costs one chunk of
/// events, whatever happens in the room.
const LAST_CHANCE: Duration = Duration::from_secs(60);

/// What the plain door needs to know.
#[derive(Clone, Copy, Debug)]
pub struct PlainConfig {
    /// What a name may be.
    pub names: UsernameLimits,
    /// What a session may do.
    pub session: SessionLimits,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    hub: Arc<Hub>,
    admission: Arc<Admission>,
    places: Places,
    config: PlainConfig,
}

impl Plain {
    pub(super) fn new(hub: Arc<Hub>, admission: Arc<Admission>, config: PlainConfig) -> Self {
        Self { hub, admission, places: Places::new(), config }
    }
}

impl NamedService for Plain {
    const NAME: &'static str = "chat.ChatService";
}

impl Service<Request<Body>> for Plain {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.answer(request)))
    }
}

impl Plain {
    fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if !is_grpc(&parts.headers) {
            let mut response = Response::new(Body::new(Empty::new()));
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        // Only requests of our own listener come here, and it names the peer.
        let peer = parts.extensions.get::<Peer>();
        let (true, Some(peer)) = (parts.uri.path() == "/chat.ChatService/ChatStream", peer) else {
            return tonic::Status::unimplemented("").into_http();
        };
        let mut caller = Caller::new(peer.addr, peer.certificate.clone(), &parts.headers);
        if self.hub.draining().is_cancelled() {
            // Without response headers, so that a load balancer may try another replica.
            let outcome = Outcome::Ended(Ending::ShuttingDown);
            self.count(&outcome);
            let status = status(&outcome);
            caller.ended(&status);
            return status.into_http();
        }
        let outlet = Outlet::new();
        let (door, spawner) = (self.clone(), peer.spawner.clone());
        let mut stream =
            PlainStream { door, spawner, outlet: outlet.clone(), peer: peer.addr, caller };
        let [room, user, session, trace_id] = [const { field::Empty }; 4];
        let span = info_span!("stream", peer = %peer.addr, room, user, session, trace_id);
        match self.admission.admit(peer.addr.ip()) {
            Ok(admitted) => {
                let frames = Frames::new(body, self.places.clone());
                peer.spawner.spawn(stream.run(parts.headers, frames, admitted).instrument(span));
            }
            Err(full) => stream.end(&Outcome::Full(full)),
        }
        let body = Body::new(OutletBody::new(outlet, self.hub.metrics().clone()));
        let mut response = Response::new(body);
        let grpc = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        response
    }

    fn count(&self, outcome: &Outcome) {
        if let Some(refusal) = refusal(outcome) {
            self.hub.metrics().refusals.of(refusal).inc();
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let codec = content_type.and_then(|value| value.strip_prefix("application/grpc"));
    // `application/grpc-web` is another protocol.
    codec.is_some_and(|codec| codec.is_empty() || codec.starts_with(['+', ';']))
}

/// One stream of the plain door.
struct PlainStream {
    door: Plain,
    spawner: Spawner,
    outlet: Arc<Outlet>,
    peer: SocketAddr,
    caller: Caller,
}

impl PlainStream {
    async fn run(mut self, headers: HeaderMap, mut frames: Frames<Body>, admitted: Admitted) {
        let outcome = self.serve(&headers, &mut frames).await;
        frames.stop();
        self.end(&outcome);
        // Until then the stream is not reset, whatever the client still sends.
        if timeout(LAST_CHANCE, self.outlet.finished()).await.is_err()
            && let Some(job) = self.outlet.job()
        {
            info!("the client takes nothing; its stream is reset");
            self.spawner.abort(job);
        }
        // Only now does it cost nothing any more.
        drop(admitted);
    }

    fn end(&mut self, outcome: &Outcome) {
        self.door.count(outcome);
        let status = status(outcome);
        self.caller.ended(&status);
        // Whoever is too slow has no use for more.
        self.outlet.end(status, !matches!(outcome, Outcome::Ended(Ending::TooSlow)));
    }

    async fn serve(&mut self, headers: &HeaderMap, frames: &mut Frames<Body>) -> Outcome {
        let hub = self.door.hub.clone();
        let room = match room(headers) {
            Ok(room) => room,
            Err(outcome) => return outcome,
        };
        let first = tokio::select! {
            biased;
            () = hub.draining().cancelled() => return Outcome::Ended(Ending::ShuttingDown),
            first = frames.next() => first,
        };
        let (dialect, asked) = match registration(first) {
            Ok(registration) => registration,
            Err(outcome) => return outcome,
        };
        self.caller.asks(&room, &asked);
        let name = match Username::parse(&asked, self.door.config.names) {
            Ok(name) => name,
            Err(error) => return Outcome::Name(error),
        };
        let trace = traceparent(headers);
        let stay = match self.enter(&hub, &room, name, trace.as_ref()).await {
            Ok(stay) => stay,
            Err(error) => return Outcome::NotEntered(error, asked),
        };
        self.outlet.open(stay.reader().clone(), dialect);
        let said = frames.map(move |frame| said(frame, dialect, trace.clone()));
        Outcome::Ended(session::run(&hub, stay, said, self.door.config.session).await)
    }

    /// Comes in, which is a span of its own, and tells the log who it is from now on.
    async fn enter(
        &mut self,
        hub: &Arc<Hub>,
        room: &RoomName,
        name: Username,
        trace: Option<&TraceParent>,
    ) -> Result<Stay, EnterError> {
        let stream = Span::current();
        stream.record("room", field::display(room)).record("user", field::display(&name));
        let join = hub.sampler().join(trace, room, METHOD, self.peer);
        let entered = hub.enter(room, name.clone(), self.outlet.reader()).instrument(join.clone());
        let entered = entered.await;
        tell_answer(&join, &entered);
        let stay = entered?;
        let (session, trace) = (stay.member().session(), trace::traceparent(&join));
        let trace_id = trace.as_ref().map(TraceParent::trace_id);
        stream.record("session", field::display(session)).record("trace_id", trace_id);
        self.caller.joined(&name, session, trace_id);
        Ok(stay)
    }
}

/// Notes how the call is answered. That a name is taken or a limit reached is no error of the server.
fn tell_answer(join: &Span, entered: &Result<Stay, EnterError>) {
    match entered {
        Ok(_) => trace::answered(join, "OK"),
        Err(EnterError::Taken) => trace::answered(join, "ALREADY_EXISTS"),
        Err(EnterError::Full { .. } | EnterError::TooManyRooms { .. }) => {
            trace::answered(join, "RESOURCE_EXHAUSTED");
        }
        Err(EnterError::Unavailable(_) | EnterError::Draining) => {
            trace::answered(join, "UNAVAILABLE");
            trace::failed(join, "UNAVAILABLE");
        }
    }
}

fn room(headers: &HeaderMap) -> Result<RoomName, Outcome> {
    let Some(room) = headers.get(ROOM) else { return Ok(RoomName::lobby()) };
    let room = room.to_str().map_err(|_| Outcome::RoomNotText)?;
    RoomName::parse(room).map_err(Outcome::Room)
}

fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get("traceparent")?.to_str().ok()?)
}

/// The dialect of a stream and the name that is asked for.
fn registration(first: Option<Result<Bytes, FrameError>>) -> Result<(Dialect, String), Outcome> {
    let refuse = |why: &dyn ToString| Outcome::NoRegistration(why.to_string());
    let payload = match first {
        Some(Ok(payload)) => payload,
        Some(Err(error)) => return Err(refuse(&error)),
        None => return Err(refuse(&"the stream ended before a first message")),
    };
    let dialect = Dialect::of(&payload);
    let message = dialect.decode(payload).map_err(|error| refuse(&error))?;
    Ok((dialect, message.username))
}

/// What a later message says.
fn said(
    frame: Result<Bytes, FrameError>,
    dialect: Dialect,
    stream_trace: Option<TraceParent>,
) -> Result<Say, Ending> {
    let payload = frame.map_err(|error| match error {
        FrameError::Reset => Ending::Disconnected,
        error => Ending::Unreadable(error.to_string()),
    })?;
    let message = dialect.decode(payload).map_err(|error| Ending::Unreadable(error.to_string()))?;
    Ok(Say { content: message.content, stream_trace })
}
