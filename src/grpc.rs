//! The gRPC listener: an accept loop of our own in which a connection is one task, and the doors
//! behind it. Only this module knows gRPC.

mod admission;
mod arrivals;
mod asking;
mod audit;
mod connection;
mod dialect;
mod encoding;
mod frames;
mod http2;
mod inbound;
mod incoming;
mod intake;
mod job_key;
mod keepalive;
mod listener;
mod outlet;
mod patience;
mod peer;
mod plain;
mod proxy_protocol;
mod queries;
mod responding;
mod rich;
mod scan;
mod sending;
mod services;
mod small;
mod socket;
mod status;
mod stream;
mod tasks;
mod translate;
mod turn;
mod wire;

pub use self::{
    admission::Caps,
    arrivals::ArrivalRates,
    audit::Audit,
    intake::IntakeLimits,
    listener::{Listener, ListenerConfig},
    plain::PlainConfig,
    rich::RichConfig,
    services::{Services, ServicesError},
};

/// How many addresses are told apart.
const ADDRESSES: usize = 16_384;
