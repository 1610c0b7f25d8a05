//! Where requests come in: streams go straight to their protocol, everything else by way of tonic.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as HttpBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, service::Routes};
use tower::ServiceExt;

use super::{
    Answer, Peer, Remote,
    admin_service::{self, AdminService},
    admission::{Admitted, Connected, Full, Party},
    chat::Chat,
    flush_cycle::FlushCycle,
    http_api::{Dialect, HttpApi},
    principal::Principal,
    small::Small,
    status::Outcome,
    stream::{Protocol, StreamAcceptor, not_post},
    stream_sender::StreamSender,
    v1::V1,
};
use crate::{
    metrics::Refusal,
    transport::{Incoming, Service},
};

/// What the paths of calls begin with that need a token where any do.
const V1_CALLS: &str = "/roomcast.v1.";

/// How a load balancer asks whether this replica is well.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// How many that ask so need no place among the streams.
const HEALTH_CHECKS: usize = 64;

/// The most bytes of a request's headers.
const HEADER_LIST: usize = 16 * 1024;

/// Where requests come in.
#[derive(Debug)]
pub struct Router {
    acceptor: Arc<StreamAcceptor>,
    chat: Chat,
    v1: V1,
    admin: AdminService,
    routes: Routes,
    http_api: HttpApi,
    health_checks: Arc<Semaphore>,
}

/// What a call takes up until its answer is sent.
#[derive(Debug)]
#[expect(dead_code, reason = "they are kept to be dropped")]
enum Place {
    Call(Admitted),
    HealthCheck(OwnedSemaphorePermit),
}

/// The body of a call.
trait CallBody:
    HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static
{
    /// Waits until the client has said what it was about to say, where it would not hear an answer before.
    fn settle(&mut self) -> impl Future<Output = ()> + Send;
}

impl CallBody for Incoming {
    fn settle(&mut self) -> impl Future<Output = ()> + Send {
        Incoming::settle(self)
    }
}

impl CallBody for hyper::body::Incoming {
    /// The connection reads the rest.
    async fn settle(&mut self) {}
}

impl Service for Router {
    type Connected = Arc<Connected>;
    type Cycle = FlushCycle;
    type Sender = StreamSender;
    type Body = Body;

    fn may_speak_for_others(&self, peer: IpAddr) -> bool {
        let trusted = &self.acceptor.trusted;
        trusted.is_empty() || trusted.iter().any(|it| it.contains(peer))
    }

    fn connect(&self, peer: SocketAddr) -> Option<Arc<Connected>> {
        let connected = self.acceptor.connect(peer);
        let refused = |full: &Full| self.refused(peer, Refusal::ConnectionsPerPeer, full);
        connected.inspect_err(refused).ok().map(Arc::new)
    }

    fn refused(&self, peer: SocketAddr, reason: Refusal, why: &dyn fmt::Display) {
        self.acceptor.audit.refused(peer, reason, why);
    }

    fn cycle(&self, retire: CancellationToken) -> FlushCycle {
        FlushCycle::new(retire, self.acceptor.hub.unread().clone())
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: Arc<Peer>,
    ) -> Response<Answer> {
        if request.method() != Method::POST {
            return not_post().map(Answer::Other);
        }
        if header_list(&request) > HEADER_LIST {
            request.body_mut().settle().await;
            return self.refuse_head(&request, &peer.remote).map(Answer::Other);
        }
        let path = request.uri().path();
        if Chat::is_asked(path) {
            return self.acceptor.open(&self.chat, request, &peer).await;
        }
        if V1::is_asked(path) {
            return self.acceptor.open(&self.v1, request, &peer).await;
        }
        self.call(request, &peer.remote).await.map(Answer::Other)
    }

    async fn answer_http1(
        self: Arc<Self>,
        request: Request<hyper::body::Incoming>,
        remote: Arc<Remote>,
    ) -> Response<Body> {
        if request.method() != Method::POST {
            return not_post();
        }
        if header_list(&request) > HEADER_LIST {
            return self.refuse_head(&request, &remote);
        }
        self.call(request, &remote).await
    }
}

impl Router {
    /// One that answers calls by these routes.
    pub(super) fn new(
        acceptor: Arc<StreamAcceptor>,
        (chat, v1, admin): (Chat, V1, AdminService),
        routes: Routes,
        http_api: HttpApi,
    ) -> Self {
        let health_checks = Arc::new(Semaphore::new(HEALTH_CHECKS));
        Self { acceptor, chat, v1, admin, routes, http_api, health_checks }
    }

    /// Answers what is no stream of a protocol.
    async fn call<B: CallBody>(&self, mut request: Request<B>, remote: &Remote) -> Response<Body> {
        let dialect = match self.http_api.dialect(&request) {
            Ok(dialect) => dialect,
            Err(refused) => return *refused,
        };
        let (path, headers) = (request.uri().path(), request.headers());
        let (place, party) = match self.admit(path, headers, remote) {
            Ok(admitted) => admitted,
            Err(full) => return self.http_api.refuse(&dialect, &full),
        };
        let principal = match self.principal(path, headers) {
            Ok(principal) => principal,
            Err(outcome) => {
                request.body_mut().settle().await;
                let status = self.acceptor.refuse_call(request.headers(), remote, &outcome);
                return self.http_api.refuse(&dialect, &status);
            }
        };
        let (intake, max) = (party.intake.clone(), self.admin.request_bytes(path));
        request.extensions_mut().insert((party, principal));
        let request = request.map(|body| Small::of(max, body, intake));
        // They are large, and streams have to carry as much.
        let mut response = match dialect {
            Dialect::Grpc => Box::pin(self.route(request.map(Body::new))).await,
            Dialect::Http(call) => {
                let route = |request| self.route(request);
                Box::pin(self.http_api.call(call, request, max, route)).await
            }
        };
        // Until it is sent.
        response.extensions_mut().insert(Arc::new(place));
        response
    }

    /// Answers a gRPC call.
    async fn route(&self, request: Request<Body>) -> Response<Body> {
        let answered = self.routes.clone().oneshot(request).await;
        answered.unwrap_or_else(|never| match never {})
    }

    /// Admits a call. A replica that is full still says how it is.
    fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        remote: &Remote,
    ) -> Result<(Place, Arc<Party>), Status> {
        if path == HEALTH_CHECK
            && let Ok(spare) = self.health_checks.clone().try_acquire_owned()
        {
            return Ok((Place::HealthCheck(spare), remote.connected.party.clone()));
        }
        let (admitted, party) = self.acceptor.admit_call(headers, remote)?;
        Ok((Place::Call(admitted), party))
    }

    /// Whom a call is from, if that one may make it. Health and reflection are open.
    fn principal(&self, path: &str, headers: &HeaderMap) -> Result<Principal, Outcome> {
        if !path.starts_with(V1_CALLS) {
            return Ok(Principal::Anonymous);
        }
        let principal = self.acceptor.authenticator.principal(headers)?;
        if admin_service::is_asked(path) {
            principal.may_administer()?;
        }
        Ok(principal)
    }

    /// Refuses a request whose headers are too large.
    fn refuse_head<B>(&self, request: &Request<B>, remote: &Remote) -> Response<Body> {
        let outcome = Outcome::HeadersTooLarge { max: HEADER_LIST };
        let status = self.acceptor.refuse_call(request.headers(), remote, &outcome);
        match self.http_api.dialect(request) {
            Ok(dialect) => self.http_api.refuse(&dialect, &status),
            Err(refused) => *refused,
        }
    }
}

/// The size of a request's headers, as HTTP/2 counts it.
fn header_list<B>(request: &Request<B>) -> usize {
    let size = |name: usize, value: usize| name + value + 32;
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| size(name.as_str().len(), value.len()));
    // Method, scheme and the like are short.
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    headers.sum::<usize>() + size(":path".len(), path) + size(":authority".len(), authority)
}
