//! Generated protocol types.

pub use roomcast_proto::{PUBLIC_DESCRIPTORS, chat, room};

/// What replicas tell each other, `proto/roomcast/internal/v1/envelope.proto`.
pub mod internal {
    #![allow(missing_docs, clippy::pedantic)]
    tonic::include_proto!("roomcast.internal.v1");
}
