//! The listener of the gRPC port: an accept loop of our own, TLS, HTTP/2 and HTTP/1.1, and a connection as one task. It
//! knows sockets and streams of bytes; what requests mean is for the `Service` that answers them.

mod buffered_socket;
mod connection;
mod executor;
mod http1;
mod http1_socket;
mod http2;
mod inbound;
mod incoming;
mod keepalive;
mod listener;
mod patience;
mod peer;
mod pending_response;
mod proxy_protocol;
mod service;
mod socket;
mod spawner;
mod task_id;

#[cfg(test)]
pub(crate) use self::executor::Executor;
pub use self::listener::{Listener, ListenerConfig};
pub(crate) use self::{
    incoming::Incoming,
    patience::GRACE,
    service::{Answer, Cycle, PeerOf, RemoteOf, Sender, Service},
    task_id::TaskId,
};
