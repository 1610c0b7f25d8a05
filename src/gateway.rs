//! What all protocols share, and the protocols: who is let in, what their streams are sent, and how they end. Of
//! the server only this module knows gRPC, and the exporter of spans.

mod admin_service;
mod admission;
mod arrivals;
mod asking;
mod audit;
mod authentication;
mod chat;
mod egress;
mod encoding;
mod flush_cycle;
mod frames;
mod http_api;
mod intake;
mod principal;
mod router;
mod scan;
mod services;
mod small;
mod status;
mod stream;
mod stream_sender;
mod users;
mod v1;

pub use self::{
    admin_service::AdminServiceConfig,
    admission::Caps,
    arrivals::ArrivalRates,
    audit::Audit,
    authentication::Authenticator,
    chat::ChatConfig,
    intake::IntakeLimits,
    router::Router,
    services::{Services, ServicesError, Terms},
    users::Users,
    v1::V1Config,
};

/// How many addresses are told apart.
const ADDRESSES: usize = 16_384;

/// The other end of a connection that has streams.
type Peer = crate::transport::PeerOf<Router>;

/// The other end of a connection.
type Remote = crate::transport::RemoteOf<Router>;

/// The body of a response.
type Answer = crate::transport::Answer<Router>;
