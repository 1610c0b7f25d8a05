//! roomcast: a chat service over gRPC streams whose replicas behave as one room.
//!
//! Start reading at `ARCHITECTURE.md`, which has the map; the rules that hold everywhere are
//! written on [`backplane::Backplane`].

pub mod admin;
pub mod app;
pub mod backoff;
pub mod backplane;
pub mod cli;
pub mod config;
pub mod descriptors;
pub mod domain;
pub mod gateway;
pub mod health;
pub mod hub;
pub mod lifecycle;
pub mod memory;
pub mod metrics;
pub mod proto;
pub mod room;
pub mod session;
pub mod telemetry;
pub mod terminal;
pub mod tls;
pub mod token;
pub mod trace;
pub mod transport;
pub mod wakers;
