//! Connections over HTTP/1.1: how long they may do nothing, and whose they are.

use std::time::{Duration, Instant};

use super::LIST_MEMBERS;
use crate::harness::{
    Cluster, SOON, eventually,
    http1::{Http1, post},
};

const DEN: &str = r#"{"room":"den"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_end_is_given_up() {
    let plan = Cluster::memory().with("ROOMCAST_SERVER__HANDSHAKE_TIMEOUT", "1s");
    let cluster = plan.start().await;
    let addr = cluster.replicas[0].grpc();
    let request = post(LIST_MEMBERS, &[], DEN);
    // The first one of a connection, and a later one.
    for before in [0, 1] {
        let mut client = Http1::open(addr).await;
        for _ in 0..before {
            assert_eq!(client.ask(&request).await.status, 200);
        }
        let began = Instant::now();
        client.send(&request[..30]).await;
        client.until_closed().await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900) && took < SOON, "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_call_is_closed_after_a_while() {
    let plan = Cluster::memory()
        .with("ROOMCAST_SERVER__HANDSHAKE_TIMEOUT", "1s")
        .with("ROOMCAST_SERVER__CONNECTION_IDLE_TIMEOUT", "2s");
    let cluster = plan.start().await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    assert_eq!(client.post(LIST_MEMBERS, &[], DEN).await.status, 200);
    let began = Instant::now();
    client.until_closed().await;
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_counted_with_those_of_http2() {
    let plan = Cluster::memory().with("ROOMCAST_LIMITS__CONNECTIONS_PER_PEER", "2");
    let cluster = plan.start().await;
    let addr = cluster.replicas[0].grpc();
    let alice = cluster.endpoint(0).join("alice").await;
    let mut first = Http1::open(addr).await;
    assert_eq!(first.post(LIST_MEMBERS, &[], DEN).await.status, 200);
    Http1::open(addr).await.until_closed().await;
    drop(first);
    eventually(SOON, "there is room again", async || {
        let mut again = Http1::open(addr).await;
        again.try_ask(post(LIST_MEMBERS, &[], DEN)).await.filter(|it| it.status == 200)
    })
    .await;
    alice.assert_open();
}

/// Calls count as those over gRPC do, for the client that a trusted proxy names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_tells_whose_a_call_is() {
    let plan = Cluster::memory()
        .with("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.1")
        .with("ROOMCAST_LIMITS__STREAMS_PER_PEER", "1")
        .with("ROOMCAST_LIMITS__QUERY_INTERVAL", "1h")
        .with("ROOMCAST_LIMITS__QUERY_BURST", "1");
    let cluster = plan.start().await;
    let endpoint = cluster.endpoint(0).on_behalf_of("192.0.2.7");
    let alice = endpoint.join("alice").await;
    eventually(SOON, "alice is in", async || {
        (!cluster.replicas[0].log().with("\"joined\"").is_empty()).then_some(())
    })
    .await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    let mut ask = async |from: &str| {
        let forwarded = format!("x-forwarded-for: {from}");
        client.post(LIST_MEMBERS, &[&forwarded], DEN).await
    };
    let (status, code, text) = ask("192.0.2.7").await.error();
    assert_eq!((status, &*code), (429, "resource_exhausted"), "{text}");
    assert!(text.contains("limits.streams_per_peer"), "{text}");
    assert_eq!(ask("192.0.2.8").await.status, 200);
    let (status, _, text) = ask("192.0.2.8").await.error();
    assert_eq!(status, 429, "{text}");
    assert!(text.contains("limits.query_interval"), "{text}");
    alice.assert_open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_goes_before_http1() {
    let plan = Cluster::memory()
        .with("ROOMCAST_SERVER__PROXY_PROTOCOL", "true")
        .with("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.1")
        .with("ROOMCAST_LIMITS__CONNECTIONS_PER_PEER", "1");
    let cluster = plan.start().await;
    let addr = cluster.replicas[0].grpc();
    let from = |last: u8| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend([203, 0, 113, last, 127, 0, 0, 1, 0x12, 0x67, 0, 80]);
        header
    };
    let request = post(LIST_MEMBERS, &[], DEN);
    let mut first = Http1::open(addr).await;
    assert_eq!(first.ask([&from(7)[..], request.as_bytes()].concat()).await.status, 200);
    let mut second = Http1::open(addr).await;
    second.send(from(7)).await;
    second.until_closed().await;
    let mut other = Http1::open(addr).await;
    assert_eq!(other.ask([&from(8)[..], request.as_bytes()].concat()).await.status, 200);
}
