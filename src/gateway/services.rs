//! Everything on the gRPC port: the protocols, health and reflection.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{Method, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server;
use tower::ServiceExt;

use super::{
    Answer, Peer,
    admin_service::{self, AdminService, AdminServiceConfig},
    admission::{Admission, Admitted, Caps, Connected, Full, Party},
    arrivals::{ArrivalRates, Arrivals},
    audit::Audit,
    chat::{Chat, ChatConfig},
    flush_cycle::FlushCycle,
    principal::Principal,
    small::{self, Small},
    stream::{Protocol, StreamAcceptor, not_post},
    stream_sender::StreamSender,
    users::Users,
    v1::{V1, V1Config, moderation::Moderators},
};
use crate::{
    domain::Network,
    hub::Hub,
    metrics::Refusal,
    proto::{PUBLIC_DESCRIPTORS, room::moderation_service_server::ModerationServiceServer},
    transport::{Incoming, Service},
};

/// The services' names in health checks; the empty one stands for the whole server.
const NAMES: [&str; 5] = [
    "",
    "chat.ChatService",
    "roomcast.v1.RoomService",
    "roomcast.v1.ModerationService",
    "roomcast.v1.AdminService",
];

/// What the paths of calls begin with that need a token where any do.
const V1_CALLS: &str = "/roomcast.v1.";

/// How a load balancer asks whether this replica is well.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// How many that ask so need no place among the streams.
const HEALTH_CHECKS: usize = 64;

/// The most bytes of a request's headers.
const HEADER_LIST: usize = 16 * 1024;

/// The descriptors that were compiled in cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("reflection: {0}")]
pub struct ServicesError(#[from] server::Error);

/// The services and their health.
#[derive(Debug)]
pub struct Services {
    /// Ready to be served.
    pub router: Arc<Router>,
    health: HealthReporter,
}

/// Who is let in, and how many.
#[derive(Debug)]
pub struct Terms {
    /// How many at a time.
    pub caps: Caps,
    /// How often.
    pub rates: ArrivalRates,
    /// The proxies that are believed when they say whom they speak for.
    pub trusted: Vec<Network>,
    /// Who they are.
    pub users: Arc<Users>,
}

/// Where requests come in: streams go straight to their protocol, everything else by way of tonic.
#[derive(Debug)]
pub struct Router {
    acceptor: Arc<StreamAcceptor>,
    chat: Chat,
    v1: V1,
    admin: AdminService,
    routes: Routes,
    health_checks: Arc<Semaphore>,
}

/// What a call takes up until its answer is sent.
#[derive(Debug)]
#[expect(dead_code, reason = "they are kept to be dropped")]
enum Place {
    Call(Admitted),
    HealthCheck(OwnedSemaphorePermit),
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
            return self.acceptor.refuse_head(&request, &peer, HEADER_LIST);
        }
        let path = request.uri().path();
        if Chat::is_asked(path) {
            return self.acceptor.open(&self.chat, request, &peer).await;
        }
        if V1::is_asked(path) {
            return self.acceptor.open(&self.v1, request, &peer).await;
        }
        self.call(request, &peer).await
    }
}

impl Router {
    /// Answers what is no stream of a protocol.
    async fn call(&self, mut request: Request<Incoming>, peer: &Peer) -> Response<Answer> {
        let (place, party) = match self.admit(&request, peer) {
            Ok(admitted) => admitted,
            Err(full) => return full.into_http().map(Answer::Other),
        };
        let intake = party.intake.clone();
        // Health and reflection are open.
        let path = request.uri().path();
        let (is_for_admins, max) = (admin_service::is_asked(path), self.admin.request_bytes(path));
        let principal = if path.starts_with(V1_CALLS) {
            let principal = self.acceptor.authenticator.principal(request.headers());
            let may = |it: &Principal| if is_for_admins { it.may_administer() } else { Ok(()) };
            match principal.and_then(|principal| may(&principal).map(|()| principal)) {
                Ok(principal) => principal,
                Err(outcome) => {
                    request.body_mut().settle().await;
                    return self.acceptor.refuse_call(&request, peer, &outcome);
                }
            }
        } else {
            Principal::Anonymous
        };
        request.extensions_mut().insert((party, principal));
        let request = request.map(|body| Body::new(Small::of(max, body, intake)));
        // It is large, and streams have to carry as much.
        let answered = Box::pin(self.routes.clone().oneshot(request)).await;
        let mut response = answered.unwrap_or_else(|never| match never {});
        // Until it is sent.
        response.extensions_mut().insert(Arc::new(place));
        response.map(Answer::Other)
    }

    /// Admits a call. A replica that is full still says how it is.
    fn admit(
        &self,
        request: &Request<Incoming>,
        peer: &Peer,
    ) -> Result<(Place, Arc<Party>), Status> {
        if request.uri().path() == HEALTH_CHECK
            && let Ok(spare) = self.health_checks.clone().try_acquire_owned()
        {
            return Ok((Place::HealthCheck(spare), peer.connected.party.clone()));
        }
        let (admitted, party) = self.acceptor.admit_call(request, peer)?;
        Ok((Place::Call(admitted), party))
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

impl Services {
    /// All services of the gRPC port, not serving yet as far as health is concerned.
    pub async fn new(
        hub: Arc<Hub>,
        terms: Terms,
        audit: Arc<Audit>,
        chat: ChatConfig,
        v1: V1Config,
        admin: AdminServiceConfig,
    ) -> Result<Self, ServicesError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            server::Builder::configure()
                .register_encoded_file_descriptor_set(PUBLIC_DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (reflect, alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        let (gzip, most) = (CompressionEncoding::Gzip, small::BYTES);
        let Terms { caps, rates, trusted, users } = terms;
        let admission = Admission::new(caps, hub.metrics().clone());
        let acceptor = Arc::new(StreamAcceptor::new(
            hub,
            admission,
            Arrivals::new(rates),
            audit,
            trusted,
            v1.session.content_bytes,
            users,
        ));
        let (chat, v1) = (Chat::new(acceptor.clone(), chat), V1::new(acceptor.clone(), v1));
        let moderation = ModerationServiceServer::new(Moderators(v1.clone()));
        let admin = AdminService::new(acceptor.clone(), admin);
        let routes = Routes::new(v1.clone())
            .add_service(moderation.accept_compressed(gzip).max_decoding_message_size(most))
            .add_service(admin.clone())
            .add_service(health_service.accept_compressed(gzip).max_decoding_message_size(most))
            .add_service(reflect.accept_compressed(gzip).max_decoding_message_size(most))
            .add_service(alpha.accept_compressed(gzip).max_decoding_message_size(most))
            .prepare();
        let health_checks = Arc::new(Semaphore::new(HEALTH_CHECKS));
        let router = Router { acceptor, chat, v1, admin, routes, health_checks };
        let services = Self { router: Arc::new(router), health };
        services.set_serving(false).await;
        Ok(services)
    }

    /// Sets the health of all services.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in NAMES {
            self.health.set_service_status(name, status).await;
        }
    }
}
