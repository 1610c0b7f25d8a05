//! Everything on the gRPC port: the doors, health and reflection.

use std::sync::Arc;

use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server;

use super::{
    admission::{Admission, Caps},
    plain::{Plain, PlainConfig},
    rich::{Rich, RichConfig},
    stream::Hall,
};
use crate::{hub::Hub, proto::PUBLIC_DESCRIPTORS};

/// The services' names in health checks; the empty one stands for the whole server.
const NAMES: [&str; 3] = ["", "chat.ChatService", "roomcast.v1.RoomService"];

/// The descriptors that were compiled in cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("reflection: {0}")]
pub struct ServicesError(#[from] server::Error);

/// The services and their health.
#[derive(Debug)]
pub struct Services {
    /// Ready to be served.
    pub routes: Routes,
    health: HealthReporter,
}

impl Services {
    /// All services of the gRPC port, not serving yet as far as health is concerned.
    pub async fn new(
        hub: Arc<Hub>,
        caps: Caps,
        plain: PlainConfig,
        rich: RichConfig,
    ) -> Result<Self, ServicesError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            server::Builder::configure()
                .register_encoded_file_descriptor_set(PUBLIC_DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let admission = Admission::new(caps, hub.metrics().clone());
        let hall = Hall::new(hub, admission);
        let routes = Routes::new(Plain::new(hall.clone(), plain))
            .add_service(Rich::new(hall, rich))
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let services = Self { routes, health };
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
