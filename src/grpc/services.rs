//! Everything on the gRPC port: the protocols, health and reflection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{Method, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body, codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server;
use tower::ServiceExt;

use super::{
    admission::{Admission, Admitted, Caps, Connected, Full, Party},
    arrivals::{ArrivalRates, Arrivals},
    audit::Audit,
    inbound::LargeHeads,
    incoming::Incoming,
    peer::Peer,
    pending_response::Answer,
    plain::{ChatConfig, Plain},
    rich::{Rich, V1Config},
    small::{self, Small},
    stream::{Protocol, StreamAcceptor, not_post},
};
use crate::{
    domain::Network,
    hub::{Hub, Unread},
    proto::PUBLIC_DESCRIPTORS,
};

/// The services' names in health checks; the empty one stands for the whole server.
const NAMES: [&str; 3] = ["", "chat.ChatService", "roomcast.v1.RoomService"];

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

/// Where requests come in: streams go straight to their protocol, everything else by way of tonic.
#[derive(Debug)]
pub struct Router {
    acceptor: Arc<StreamAcceptor>,
    plain: Plain,
    rich: Rich,
    routes: Routes,
    health_checks: Arc<Semaphore>,
    large_heads: LargeHeads,
}

/// What a call takes up until its answer is sent.
#[derive(Debug)]
#[expect(dead_code, reason = "they are kept to be dropped")]
enum Place {
    Call(Admitted),
    HealthCheck(OwnedSemaphorePermit),
}

impl Router {
    /// Whether a connection from there may say, before anything else, whom it is from.
    pub(super) fn may_speak_for_others(&self, peer: IpAddr) -> bool {
        let trusted = &self.acceptor.trusted;
        trusted.is_empty() || trusted.iter().any(|it| it.contains(peer))
    }

    /// Where what clients have not taken is counted.
    pub(super) fn unread(&self) -> Arc<Unread> {
        self.acceptor.hub.unread().clone()
    }

    /// Where large heads of requests are counted.
    pub(super) fn large_heads(&self) -> LargeHeads {
        self.large_heads.clone()
    }

    /// Who is told of whoever is refused before there is a request.
    pub(super) fn audit(&self) -> Arc<Audit> {
        self.acceptor.audit.clone()
    }

    /// Counts one more connection of a peer, if there may be one.
    pub(super) fn connect(&self, peer: SocketAddr) -> Result<Connected, Full> {
        self.acceptor.connect(peer)
    }

    /// Answers a request. A stream's is sent by the future in which this is polled.
    pub(super) async fn answer(
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
        if Plain::is_asked(path) {
            return self.acceptor.open(&self.plain, request, &peer).await;
        }
        if Rich::is_asked(path) {
            return self.acceptor.open(&self.rich, request, &peer).await;
        }
        let (place, party) = match self.admit(&request, &peer) {
            Ok(admitted) => admitted,
            Err(full) => return full.into_http().map(Answer::Other),
        };
        let intake = party.intake.clone();
        request.extensions_mut().insert(party);
        let request = request.map(|body| Body::new(Small::new(body, intake)));
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
        caps: Caps,
        rates: ArrivalRates,
        audit: Arc<Audit>,
        trusted: Vec<Network>,
        plain: ChatConfig,
        rich: V1Config,
    ) -> Result<Self, ServicesError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            server::Builder::configure()
                .register_encoded_file_descriptor_set(PUBLIC_DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        let (gzip, most) = (CompressionEncoding::Gzip, small::BYTES);
        let admission = Admission::new(caps, hub.metrics().clone());
        let acceptor = Arc::new(StreamAcceptor::new(
            hub,
            admission,
            Arrivals::new(rates),
            audit,
            trusted,
            rich.session.content_bytes,
        ));
        let (plain, rich) =
            (Plain::new(acceptor.clone(), plain), Rich::new(acceptor.clone(), rich));
        let routes = Routes::new(rich.clone())
            .add_service(health_service.accept_compressed(gzip).max_decoding_message_size(most))
            .add_service(v1.accept_compressed(gzip).max_decoding_message_size(most))
            .add_service(v1alpha.accept_compressed(gzip).max_decoding_message_size(most))
            .prepare();
        let health_checks = Arc::new(Semaphore::new(HEALTH_CHECKS));
        let large_heads = LargeHeads::default();
        let router = Router { acceptor, plain, rich, routes, health_checks, large_heads };
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
