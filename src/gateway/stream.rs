//! What the streams of all protocols have in common: how they are let in, run in their connection's task,
//! and end.
//!
//! A request is answered at once: some proxies hold a request until its first message, and clients
//! wait for the response's headers. Everything that can go wrong is told in the trailers.

use std::{future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Empty;
use tokio::time::timeout;
use tonic::{Code, Status, body::Body};
use tracing::{Instrument, Span, field, info, info_span};

use super::{
    Answer, Peer, Remote,
    admission::{Admission, Admitted, Connected, Full, Party},
    arrivals::{Arrivals, Came},
    audit::{Audit, Caller},
    authentication::Authenticator,
    egress::{Egress, EgressSource, Rest},
    encoding::Encoding,
    frames::{Frames, Receiver, frames},
    http_api::{is_grpc, not_grpc},
    principal::Principal,
    status::{Denial, Outcome, code, code_name, refusal, status},
    users::{UserStream, Users},
};
use crate::{
    domain::{Network, RoomName, TraceParent, Username, forwarded_for},
    hub::{Arrived, Claim, EnterError, Hub, slow_readers::LAST_CHANCE},
    session::Ending,
    trace,
    transport::{GRACE, Incoming},
};

/// Log lines and the span keep this target, whatever the module is called.
const TARGET: &str = "roomcast::grpc::stream";

/// How long the end of a stream waits for its member's `left` to come by the way of live events, behind
/// what happened before it.
const LEFT_COMES: Duration = Duration::from_secs(1);

/// How long a client may take to send its first message. Until then it costs a stream, and says nothing.
pub(super) const FIRST_MESSAGE: Duration = Duration::from_secs(30);

/// What proxies add; Envoy the second one, whatever it is configured to.
const FORWARDED: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "forwarded", "via"];

/// What all protocols let their streams in to.
#[derive(Debug)]
pub(super) struct StreamAcceptor {
    pub(super) hub: Arc<Hub>,
    pub(super) audit: Arc<Audit>,
    /// The proxies that are believed when they say whom they speak for.
    pub(super) trusted: Arc<[Network]>,
    admission: Arc<Admission>,
    arrivals: Arc<Arrivals>,
    content_bytes: usize,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) users: Arc<Users>,
}

/// A way in: what is spoken on a stream, from its first message to its last.
pub(super) trait Protocol: Clone + Send + Sync + 'static {
    /// The method, as traces name it.
    const METHOD: &'static str;

    /// What a request's metadata says. The metadata itself is large, and not kept.
    type Asked: Send + 'static;

    /// Reads a request's metadata.
    fn read(headers: &HeaderMap) -> Self::Asked;

    /// Serves one stream to its end.
    fn serve(
        &self,
        stream: &mut ProtocolStream,
        asked: Self::Asked,
        frames: &mut Frames<Incoming>,
    ) -> impl Future<Output = Outcome> + Send;

    /// Whether a request is for it.
    fn is_asked(path: &str) -> bool {
        path.strip_prefix('/') == Some(Self::METHOD)
    }

    /// What a stream that ends so still gets.
    fn rest(outcome: &Outcome) -> Rest;
}

/// One stream of a protocol.
pub(super) struct ProtocolStream {
    pub(super) acceptor: Arc<StreamAcceptor>,
    pub(super) egress: Arc<Egress>,
    pub(super) caller: Caller,
    pub(super) party: Arc<Party>,
    pub(super) principal: Principal,
    /// Counts it among those of its subject.
    pub(super) user: Option<UserStream>,
    peer: SocketAddr,
    /// Its room counts it among those of its address.
    in_room: Option<Admitted>,
    /// Its session, once it is in.
    came: Option<Came>,
}

impl StreamAcceptor {
    pub(super) fn new(
        hub: Arc<Hub>,
        admission: Arc<Admission>,
        arrivals: Arc<Arrivals>,
        audit: Arc<Audit>,
        trusted: Vec<Network>,
        content_bytes: usize,
        users: Arc<Users>,
    ) -> Self {
        let (trusted, authenticator) = (trusted.into(), users.authenticator().clone());
        Self { hub, audit, trusted, admission, arrivals, content_bytes, authenticator, users }
    }

    /// Whose a request is: the other side's of the connection, or the one's that a proxy names which is trusted.
    /// The port of such a client is not known.
    pub(super) fn client(&self, peer: &Remote, headers: &HeaderMap) -> SocketAddr {
        if !self.trusted.iter().any(|it| it.contains(peer.addr.ip())) {
            return peer.addr;
        }
        // What cannot be read is no address, rather than not there.
        let lines = headers.get_all("x-forwarded-for").iter();
        let lines = lines.map(|line| line.to_str().unwrap_or("?"));
        let client = forwarded_for(&self.trusted, lines);
        client.map_or(peer.addr, |client| SocketAddr::new(client, 0))
    }

    /// Whose part of what an address may have something takes that a client has sent on a connection.
    fn party(&self, peer: &Remote, client: SocketAddr) -> Arc<Party> {
        let own = || peer.connected.party.clone();
        if client == peer.addr {
            return own();
        }
        self.admission.forwarded(client.ip()).unwrap_or_else(own)
    }

    /// Opens a stream of a protocol.
    pub(super) async fn open<D: Protocol>(
        self: &Arc<Self>,
        protocol: &D,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Response<Answer> {
        let (parts, mut body) = request.into_parts();
        if !is_grpc(&parts.headers) {
            return not_grpc(&parts.headers, D::METHOD).map(Answer::Other);
        }
        let remote = &peer.remote;
        let (audit, certificate) = (self.audit.clone(), remote.certificate.clone());
        let client = self.client(remote, &parts.headers);
        let mut caller = Caller::new(audit, client, certificate, &parts.headers);
        let encoding = match Encoding::of(&parts.headers, self.content_bytes) {
            Ok(encoding) => encoding,
            Err(unknown) => {
                body.settle().await;
                return self.refuse(&mut caller, &Outcome::Encoding(unknown));
            }
        };
        if self.hub.draining().is_cancelled() {
            // Without response headers, so that a load balancer may try another replica.
            return self.refuse(&mut caller, &Outcome::Ended(Ending::ShuttingDown));
        }
        // Whoever is too many costs no more than that.
        let admitted = self.admission.admit(client.ip());
        let asked = match &admitted {
            Ok(_) => self.authenticator.principal(&parts.headers),
            Err(_) => Ok(Principal::Anonymous),
        };
        let principal = match asked {
            Ok(principal) => principal,
            Err(outcome) => {
                body.settle().await;
                return self.refuse(&mut caller, &outcome);
            }
        };
        caller.shows(&principal);
        let user = match self.users.enter(&principal) {
            Ok(user) => user,
            Err(full) => {
                body.settle().await;
                return self.refuse(&mut caller, &Outcome::Full(full));
            }
        };
        let forwarded = is_forwarded(&parts.headers);
        let egress = Egress::new(peer.spawner.current_waker(), peer.cycle.clone(), forwarded);
        let party = self.party(remote, client);
        let intake = party.intake.clone();
        let mut stream = ProtocolStream {
            acceptor: self.clone(),
            egress: egress.clone(),
            caller,
            party,
            principal,
            user,
            peer: client,
            in_room: None,
            came: None,
        };
        let [room, user, session, trace_id] = [const { field::Empty }; 4];
        let span =
            info_span!(target: TARGET, "stream", peer = %client, room, user, session, trace_id);
        match admitted {
            Ok(admitted) => {
                let body = frames(body, encoding, intake);
                let run = stream.run(protocol.clone(), D::read(&parts.headers), body, admitted);
                peer.spawner.spawn(run.instrument(span));
            }
            Err(full) => peer.spawner.spawn(async move {
                body.settle().await;
                stream.end::<D>(&Outcome::Full(full));
            }),
        }
        let mut response = Response::new(Answer::Stream(EgressSource::new(egress)));
        let grpc = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        response
    }

    /// Refuses a stream by its headers alone.
    fn refuse(&self, caller: &mut Caller, outcome: &Outcome) -> Response<Answer> {
        self.note(caller, outcome).into_http().map(Answer::Other)
    }

    /// Notes that a request is refused, and says how.
    fn note(&self, caller: &mut Caller, outcome: &Outcome) -> Status {
        self.count(outcome);
        let status = status(outcome);
        caller.ended(&status, refusal(outcome));
        status
    }

    /// Notes that a call is refused, and says how.
    pub(super) fn refuse_call(
        &self,
        headers: &HeaderMap,
        peer: &Remote,
        outcome: &Outcome,
    ) -> Status {
        let (audit, certificate) = (self.audit.clone(), peer.certificate.clone());
        let client = self.client(peer, headers);
        self.note(&mut Caller::new(audit, client, certificate, headers), outcome)
    }

    /// Counts one more connection of a peer, if there may be one.
    pub(super) fn connect(&self, peer: SocketAddr) -> Result<Connected, Full> {
        let connected = self.admission.connect(peer.ip());
        if let Err(full) = &connected {
            self.count(&Outcome::Full(*full));
        }
        connected
    }

    /// Admits a call that is no stream of a protocol's, for as long as what is returned lives, and says whose it is.
    pub(super) fn admit_call(
        &self,
        headers: &HeaderMap,
        peer: &Remote,
    ) -> Result<(Admitted, Arc<Party>), Status> {
        let client = self.client(peer, headers);
        match self.admission.admit(client.ip()) {
            Ok(admitted) => Ok((admitted, self.party(peer, client))),
            Err(full) => Err(self.refuse_call(headers, peer, &Outcome::Full(full))),
        }
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        if let Some(refusal) = refusal(outcome) {
            self.hub.metrics().refusals.of(refusal).inc();
        }
    }
}

/// The first message of a stream. `None` when it did not come in time.
pub(super) fn in_time<'a, M: Send>(
    first: impl Future<Output = M> + Send + 'a,
) -> BoxFuture<'a, Option<M>> {
    // Boxed: a stream would have to carry it to its end.
    Box::pin(async move {
        let mut first = pin!(first);
        if let Ok(first) = timeout(FIRST_MESSAGE, &mut first).await {
            return Some(first);
        }
        // After a pause of this process the timer fires before the socket is read.
        timeout(GRACE, first).await.ok()
    })
}

/// How a session ends that does not read: its client takes no more, what it has sent is given up, or all streams of its
/// subject are ended.
pub(super) fn gone<'a>(
    egress: &'a Egress,
    is_given_up: impl Fn() -> bool + 'a,
    user: Option<&'a UserStream>,
) -> impl Future<Output = Ending> + 'a {
    // Boxed: few have it, and it is large.
    let mut ended = user.map(|user| Box::pin(user.ended()));
    poll_fn(move |cx| {
        if let Some(ended) = &mut ended
            && let Poll::Ready(ending) = ended.as_mut().poll(cx)
        {
            return Poll::Ready(ending);
        }
        match egress.poll_finished(cx) {
            Poll::Ready(()) => Poll::Ready(Ending::Disconnected),
            Poll::Pending if is_given_up() => Poll::Ready(Ending::Crowded),
            Poll::Pending => Poll::Pending,
        }
    })
}

/// The answer to what is not a call.
pub(super) fn not_post() -> Response<Body> {
    let mut response = Response::new(Body::new(Empty::<Bytes>::new()));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("POST"));
    response
}

/// Whether a request says that it came through a proxy.
fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

impl ProtocolStream {
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps what it is given twice")]
    fn run<D: Protocol>(
        mut self,
        protocol: D,
        asked: D::Asked,
        (mut frames, receiver): (Frames<Incoming>, Receiver<Incoming>),
        admitted: Admitted,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let outcome = {
                let mut served = pin!(protocol.serve(&mut self, asked, &mut frames));
                // What arrives is taken in, and counted, whether or not it is read.
                poll_fn(|cx| {
                    receiver.receive(cx);
                    served.as_mut().poll(cx)
                })
                .await
            };
            drop(self.came.take());
            // Boxed: a stream would have to carry it from its beginning.
            Box::pin(self.finish::<D>(outcome, frames.stop())).await;
            // Only now does it cost nothing any more.
            drop(admitted);
        }
    }

    /// Says how it ended, as soon as the client has sent the `rest` of what it was about to send, and waits until
    /// that is taken.
    async fn finish<D: Protocol>(&mut self, outcome: Outcome, mut rest: Option<Incoming>) {
        if let (Some(rest), false) = (&mut rest, matches!(outcome, Outcome::Ended(_))) {
            rest.settle().await;
        }
        self.end::<D>(&outcome);
        // A client that took nothing while it was served has had its chance.
        let chance = match outcome {
            Outcome::Ended(Ending::Stalled(_)) => Duration::ZERO,
            _ => LAST_CHANCE,
        };
        // Until then, and a moment longer, the stream is not reset, whatever the client still sends.
        let finished = async {
            if timeout(LEFT_COMES.min(chance), self.egress.finished()).await.is_err() {
                self.egress.stop_waiting();
            }
            timeout(chance, self.egress.finished()).await
        };
        let finished = match &mut rest {
            Some(rest) => rest.discard_until(finished).await,
            None => finished.await,
        };
        if finished.is_err() {
            info!(target: TARGET, "the client takes nothing; its stream is reset");
            rest.iter_mut().for_each(Incoming::give_up);
            self.egress.give_up();
        }
    }

    fn end<D: Protocol>(&mut self, outcome: &Outcome) {
        self.acceptor.count(outcome);
        if *outcome == Outcome::Ended(Ending::TooOld) {
            self.egress.retire();
        }
        let status = status(outcome);
        self.caller.ended(&status, refusal(outcome));
        self.egress.end(status, D::rest(outcome));
    }

    /// Takes a place in a room among those of its address.
    pub(super) fn take_place(&mut self, room: &RoomName) -> Result<(), Outcome> {
        let entered = self.acceptor.admission.enter(self.peer.ip(), room);
        self.in_room = Some(entered.map_err(Outcome::Full)?);
        Ok(())
    }

    /// Whether its address may bring a new session into a room.
    pub(super) fn may_come(&self, room: &RoomName) -> Result<(), Outcome> {
        let opens = !self.acceptor.hub.is_open(room);
        self.acceptor.arrivals.may_come(self.peer.ip(), opens).map_err(Outcome::Full)
    }

    /// Comes in as who is `asked` for, which is a span of its own, and tells the log who it is from now on.
    pub(super) async fn enter<D: Protocol>(
        &mut self,
        claim: Claim,
        asked: String,
        trace: Option<&TraceParent>,
    ) -> Result<Arrived, Outcome> {
        let hub = &self.acceptor.hub;
        let (stream, name, room) = (Span::current(), claim.name.clone(), claim.room.clone());
        // As text, so that it is quoted: a name may look like the end of the span.
        stream.record("room", claim.room.as_str()).record("user", name.display().as_str());
        let join = hub.sampler().join(trace, &claim.room, D::METHOD, self.peer);
        let entered = tokio::select! {
            biased;
            // A client that has given up must not be heard to come, nor take its session from a stream that
            // it has since.
            () = self.egress.finished() => {
                let outcome = Outcome::Ended(Ending::Disconnected);
                trace::answered(&join, code_name(code(&outcome)));
                return Err(outcome);
            }
            entered = hub.enter(claim, self.egress.reader()).instrument(join.clone()) => entered,
        };
        tell_answer(&join, &entered);
        let arrived = entered.map_err(|error| match error {
            EnterError::Forbidden => Outcome::Denied(Denial::NoAccess(room)),
            EnterError::Banned(until) => Outcome::Denied(Denial::Banned(until)),
            error => Outcome::NotEntered(error, asked),
        })?;
        self.came = Some(Came::now(self.acceptor.arrivals.clone(), self.peer.ip()));
        let (session, trace) = (arrived.membership.member().session(), trace::traceparent(&join));
        let trace_id = trace.as_ref().map(TraceParent::trace_id);
        stream.record("session", field::display(session)).record("trace_id", trace_id);
        self.tell_joined(&name, &arrived, trace_id);
        Ok(arrived)
    }

    fn tell_joined(&mut self, name: &Username, arrived: &Arrived, trace_id: Option<&str>) {
        self.caller.joined(name, arrived.membership.member().session(), arrived.resumed, trace_id);
    }
}

/// Notes how the call is answered. That a name is taken or a limit reached is no error of the server.
fn tell_answer(join: &Span, entered: &Result<Arrived, EnterError>) {
    let code = match entered {
        Ok(_) => Code::Ok,
        Err(error) => code(&Outcome::NotEntered(*error, String::new())),
    };
    let name = code_name(code);
    trace::answered(join, name);
    if code == Code::Unavailable {
        trace::failed(join, name);
    }
}

/// The trace that a stream belongs to.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get("traceparent")?.to_str().ok()?)
}
