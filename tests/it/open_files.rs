//! Few descriptors: clients take what there is for them, and Redis and the admin port still have theirs.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Dialect, Endpoint, Redis, Replica, SOON, eventually, get, quiet};

const LIMIT: u32 = 160;

/// Connections that say nothing, until the replica closes new ones at once.
async fn take_all(addr: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..2 * LIMIT {
        held.push(TcpStream::connect(addr).await.expect("connect"));
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_leave_descriptors_for_redis_and_for_probes() {
    let mut redis = Redis::start().await;
    let settings = [
        ("ROOMCAST_REDIS__URL".to_owned(), redis.url()),
        ("ROOMCAST_SERVER__HANDSHAKE_TIMEOUT".to_owned(), "60s".to_owned()),
    ];
    let replica = Replica::start_with("A", &settings, Some(LIMIT)).await;
    replica.until_ready(SOON).await;
    assert_eq!(replica.open_files(), (LIMIT.into(), LIMIT.into()), "raised to the hard limit");
    let warned = replica.log().with("limits.connections does not fit");
    assert_eq!(warned.len(), 1, "{warned:?}");
    let endpoint = Endpoint::at(replica.grpc(), Dialect::Typed);
    let mut alice = endpoint.enter("alice").await;
    let bob = endpoint.enter_seen_by("bob", &mut [&mut alice]).await;

    let mut held = take_all(replica.grpc()).await;
    replica.until_at_least("roomcast_connections", 80.0).await;
    let mut last = held.pop().expect("many");
    assert_eq!(last.read(&mut [0]).await.ok(), Some(0), "closed at once");
    redis.kill();
    redis.restart().await;
    assert_eq!(get(replica.admin(), "/livez").await.expect("livez").0, 200);
    replica.until_ready(SOON).await;
    quiet(&bob, &mut [&mut alice]).await;

    drop(held);
    eventually(SOON, "new clients are let in", async || {
        let mut socket = TcpStream::connect(replica.grpc()).await.ok()?;
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.ok()?;
        // Its own settings, once there is a place for a connection.
        socket.read_exact(&mut [0; 9]).await.ok().map(drop)
    })
    .await;
    replica.assert_no_errors();
}
