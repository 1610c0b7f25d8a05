//! The gRPC listener: an accept loop of our own in which a connection is one task, and the protocols
//! behind it. Only this module knows gRPC.

mod admission;
mod arrivals;
mod asking;
mod audit;
mod buffered_socket;
mod connection;
mod dialect;
mod egress;
mod encoding;
mod executor;
mod flush_cycle;
mod frames;
mod http2;
mod inbound;
mod incoming;
mod intake;
mod keepalive;
mod listener;
mod patience;
mod peer;
mod pending_response;
mod plain;
mod proxy_protocol;
mod queries;
mod rich;
mod scan;
mod services;
mod small;
mod socket;
mod status;
mod stream;
mod stream_sender;
mod task_id;
mod translate;

pub use self::{
    admission::Caps,
    arrivals::ArrivalRates,
    audit::Audit,
    intake::IntakeLimits,
    listener::{Listener, ListenerConfig},
    plain::ChatConfig,
    rich::V1Config,
    services::{Services, ServicesError},
};

/// How many addresses are told apart.
const ADDRESSES: usize = 16_384;
