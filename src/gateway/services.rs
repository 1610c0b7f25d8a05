//! Everything on the gRPC port: the protocols, health and reflection.

use std::sync::Arc;

use prost_reflect::DescriptorError;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server;

use super::{
    admin_service::{AdminService, AdminServiceConfig},
    admission::{Admission, Caps},
    arrivals::{ArrivalRates, Arrivals},
    audit::Audit,
    chat::{Chat, ChatConfig},
    http_api::HttpApi,
    router::Router,
    small,
    stream::StreamAcceptor,
    users::Users,
    v1::{V1, V1Config, moderation::Moderators},
};
use crate::{
    domain::Network,
    hub::Hub,
    proto::{PUBLIC_DESCRIPTORS, room::moderation_service_server::ModerationServiceServer},
};

/// The services' names in health checks; the empty one stands for the whole server.
const NAMES: [&str; 5] = [
    "",
    "chat.ChatService",
    "roomcast.v1.RoomService",
    "roomcast.v1.ModerationService",
    "roomcast.v1.AdminService",
];

/// The descriptors that were compiled in cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// By reflection.
    #[error("reflection: {0}")]
    Reflection(#[from] server::Error),
    /// As calls over plain HTTP.
    #[error("calls over HTTP: {0}")]
    Http(#[from] DescriptorError),
}

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
        let router = Router::new(acceptor, (chat, v1, admin), routes, HttpApi::new()?);
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
