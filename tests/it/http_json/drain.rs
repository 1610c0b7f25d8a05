//! A replica that ends: what is under way over HTTP/1.1 is answered, and what is idle holds up nobody.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::LIST_MEMBERS;
use crate::harness::{
    Cluster, SOON,
    http1::{Http1, post},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_is_answered_and_idle_connections_end_at_once() {
    let mut cluster = Cluster::memory().start().await;
    let addr = cluster.replicas[0].grpc();
    let request = post(LIST_MEMBERS, &[], r#"{"room":"den"}"#);
    let (mut idle, mut busy) = (Http1::open(addr).await, Http1::open(addr).await);
    let mut silent = Http1::open(addr).await;
    assert_eq!(idle.ask(&request).await.status, 200);
    assert_eq!(busy.ask(&request).await.status, 200);
    // That the server waits for its body shows it to be under way.
    let asked = request.replace("host: x", "host: x\r\nexpect: 100-continue");
    let (head, body) = asked.split_at(asked.len() - 14);
    assert_eq!(busy.ask(head).await.status, 100);
    cluster.replicas[0].signal(Signal::SIGTERM);
    let began = Instant::now();
    idle.until_closed().await;
    silent.until_closed().await;
    let answer = busy.ask(body).await;
    assert_eq!((answer.status, &*answer.headers["connection"]), (200, "close"));
    busy.until_closed().await;
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    assert!(began.elapsed() < Duration::from_secs(2), "nothing had to be cut");
    cluster.assert_no_errors();
}

/// Whoever does not go on with its call is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_end_is_cut() {
    let mut cluster = Cluster::memory().start().await;
    let mut busy = Http1::open(cluster.replicas[0].grpc()).await;
    let asked = post(LIST_MEMBERS, &["expect: 100-continue"], r#"{"room":"den"}"#);
    assert_eq!(busy.ask(&asked[..asked.len() - 14]).await.status, 100);
    cluster.replicas[0].signal(Signal::SIGTERM);
    busy.until_closed().await;
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
}
