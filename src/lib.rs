//! roomcast: a chat service over gRPC streams whose replicas behave as one room.
//!
//! Start reading at `ARCHITECTURE.md`, which has the map; the rules that hold everywhere are
//! written on [`backplane::Backplane`].

pub mod domain;
pub mod proto;
