//! What backends do with rooms, by way of `roomcast.v1.AdminService`.

mod publishing;
mod rooms;
mod users;
mod watching;

use roomcast_proto::room::{PublishRequest, admin_service_client::AdminServiceClient};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    service::interceptor::{InterceptedService, Interceptor},
    transport::Channel,
};

use tonic_types::StatusExt as _;

use crate::harness::{Cluster, Endpoint};

/// The key of backends.
const KEY: &str = "a-key-that-only-backends-know-0123456789";

/// Shows who asks, with every call.
#[derive(Clone)]
struct Bearing(MetadataValue<Ascii>);

impl Interceptor for Bearing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A backend's way in to a replica.
type Backend = AdminServiceClient<InterceptedService<Channel, Bearing>>;

/// A backend that shows this token.
async fn bearing(endpoint: &Endpoint, token: &str) -> Backend {
    let bearing = Bearing(format!("Bearer {token}").parse().expect("a header value"));
    AdminServiceClient::with_interceptor(endpoint.channel().await, bearing)
}

/// A backend at a replica.
async fn backend(cluster: &Cluster, replica: usize) -> Backend {
    bearing(&cluster.endpoint(replica), KEY).await
}

/// A message under the server's own name.
fn message(room: &str, content: &str) -> PublishRequest {
    let (room, content) = (room.to_owned(), content.to_owned());
    PublishRequest { room, content, ..PublishRequest::default() }
}

/// The same with an idempotency key.
fn keyed(room: &str, content: &str, key: &str) -> PublishRequest {
    PublishRequest { idempotency_key: key.to_owned(), ..message(room, content) }
}

/// The reason in a status.
fn reason(status: &tonic::Status) -> String {
    status.get_details_error_info().expect("a reason").reason
}
