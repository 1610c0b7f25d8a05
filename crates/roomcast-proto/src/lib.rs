//! roomcast's public protocols: messages, and clients and servers of their services, generated from `proto/`.
#![allow(missing_docs, clippy::pedantic)]

/// The `chat` protocol, `proto/chat.proto`.
pub mod chat {
    tonic::include_proto!("chat");
}

/// The `v1` protocol, `proto/roomcast/v1/`.
pub mod room {
    tonic::include_proto!("roomcast.v1");
}

/// The encoded descriptors of all of them, for reflection.
pub const PUBLIC_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.bin"));
