//! Clients come in over TLS, and only so.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

use super::{CERT, CLIENT_CA, KEY, handshake, serving};
use crate::harness::{Authority, Cluster, Endpoint, FaultProxy, Payload, SOON, eventually, quiet};

const REFUSED: &str = "roomcast_refusals_total{reason=\"tls_handshake\"}";

/// Nobody comes in here: there is no connection, or the stream on it fails.
async fn assert_kept_out(endpoint: &Endpoint) {
    let Ok(channel) = endpoint.try_channel().await else { return };
    drop(channel);
    let ended = match timeout(SOON, endpoint.clone().try_channel()).await.expect("bounded") {
        Ok(_) => endpoint.join("intruder").await.ended(SOON).await,
        Err(_) => return,
    };
    assert!(!matches!(ended.code, Code::Ok), "{ended:?}");
}

/// The peer closes, in order or by a reset; answers after how long.
async fn closed(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    match timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it stays open") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_are_one_room() {
    let authority = Authority::new("servers");
    let files = authority.issue_files("server");
    let cluster = Cluster::redis(2).with(CERT, &files.cert).with(KEY, &files.key).start().await;
    let endpoint = |replica| cluster.endpoint(replica).over_tls(authority.trusted());
    let mut alice = endpoint(0).enter("alice").await;
    let mut bob = endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut bob]).await;
    quiet(&bob, &mut [&mut alice]).await;
    bob.half_close();
    bob.expect_end(Code::Ok).await;
    alice.expect_system("bob left").await;
    let expiry = "roomcast_tls_certificate_expiry_timestamp_seconds";
    let expiry = cluster.replicas[0].metric(expiry).await;
    let left = expiry - jiff::Timestamp::now().as_duration().as_secs_f64();
    assert!((80_000.0..90_000.0).contains(&left), "a day, not {left} s");
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_required_where_a_ca_is_named() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let files = servers.issue_files("server");
    let plan = Cluster::memory().with(CERT, &files.cert).with(KEY, &files.key);
    let cluster = plan.with(CLIENT_CA, &clients.ca_file()).start().await;
    let endpoint = cluster.endpoint(0);
    let mut alice = endpoint
        .clone()
        .over_tls(servers.trusted_with(&clients.issue("alice.example")))
        .enter("alice")
        .await;
    for stranger in [
        servers.trusted(),
        servers.trusted_with(&servers.issue("stranger.example")),
        servers.trusted_with(&clients.issue_expired("late.example")),
    ] {
        assert_kept_out(&endpoint.clone().over_tls(stranger)).await;
    }
    cluster.replicas[0].until_at_least(REFUSED, 3.0).await;
    let tls = servers.trusted_with(&clients.issue("bob.example"));
    let bob = endpoint.over_tls(tls).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
    assert_quiet_log(&cluster);
}

/// What goes wrong with somebody's handshake is nothing to wake anybody for.
fn assert_quiet_log(cluster: &Cluster) {
    cluster.assert_no_errors();
    let mut warned = cluster.replicas[0].log().with("\"level\":\"WARN\"");
    // That depends on the machine.
    warned.retain(|line| !line.contains("limit on open files"));
    assert_eq!(warned, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_gets_a_closed_connection() {
    let authority = Authority::new("servers");
    let cluster = serving(&authority.issue_files("server")).await;
    let tls = authority.trusted();
    let mut alice = cluster.endpoint(0).over_tls(tls.clone()).enter("alice").await;
    assert_kept_out(&cluster.endpoint(0)).await;
    for said in
        ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\0\x05xxxxx"]
    {
        let mut stream = TcpStream::connect(cluster.replicas[0].grpc()).await.expect("connect");
        stream.write_all(said.as_bytes()).await.expect("write");
        let took = closed(stream).await;
        assert!(took < Duration::from_secs(5), "{said:?}: only after {took:?}");
    }
    cluster.replicas[0].until_at_least(REFUSED, 4.0).await;
    let bob = cluster.endpoint(0).over_tls(tls).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
    assert_quiet_log(&cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_tls_and_of_http() {
    let authority = Authority::new("servers");
    let cluster = serving(&authority.issue_files("server")).await;
    let addr = cluster.replicas[0].grpc();
    for version in rustls::ALL_VERSIONS {
        let stream = handshake(addr, &authority, &[*version], &["http/1.1", "h2"]).await;
        let stream = stream.unwrap_or_else(|error| panic!("{version:?}: {error}"));
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(session.protocol_version(), Some(version.version));
    }
    let older = handshake(addr, &authority, rustls::ALL_VERSIONS, &["http/1.1"]).await;
    let session = older.expect("TLS");
    assert_eq!(session.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let error = handshake(addr, &authority, rustls::ALL_VERSIONS, &["h3"]).await;
    let said = error.expect_err("HTTP/3 is not spoken").to_string();
    assert!(said.contains("NoApplicationProtocol"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_handshake_is_cut_and_holds_up_nobody() {
    let authority = Authority::new("servers");
    let files = authority.issue_files("server");
    let plan = Cluster::memory().with(CERT, &files.cert).with(KEY, &files.key);
    let cluster = plan
        .with("ROOMCAST_SERVER__HANDSHAKE_TIMEOUT", "2s")
        .with("ROOMCAST_LIMITS__CONNECTIONS", "6")
        .start()
        .await;
    let addr = cluster.replicas[0].grpc();
    let mut stalled = Vec::new();
    for said in [&b""[..], b"\x16\x03\x01\x02", b"\x16\x03\x01\x00\xff\x01"] {
        let mut stream = TcpStream::connect(addr).await.expect("connect");
        stream.write_all(said).await.expect("write");
        stalled.push(stream);
    }
    // This one finishes its handshake and then says nothing.
    let mut silent = handshake(addr, &authority, rustls::ALL_VERSIONS, &["h2"]).await.expect("TLS");
    cluster.replicas[0].until_at_least("roomcast_connections", 4.0).await;
    let began = Instant::now();
    let endpoint = cluster.endpoint(0).over_tls(authority.trusted()).on_one_connection().await;
    let mut alice = endpoint.enter("alice").await;
    let bob = endpoint.enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "held up for {:?}", began.elapsed());
    // They count against limits.connections.
    let _sixth = TcpStream::connect(addr).await.expect("connect");
    cluster.replicas[0].until_at_least("roomcast_connections", 6.0).await;
    closed(TcpStream::connect(addr).await.expect("connect")).await;
    cluster.replicas[0]
        .until_at_least("roomcast_refusals_total{reason=\"connections\"}", 1.0)
        .await;
    for stream in stalled {
        closed(stream).await;
    }
    // What the server says at the end, and how, is its own affair.
    let _ = timeout(SOON, silent.read_to_end(&mut Vec::new())).await.expect("it stays open");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "only after {took:?}");
    cluster.replicas[0].until_at_most("roomcast_connections", 2.0).await;
    quiet(&bob, &mut [&mut alice]).await;
}

/// More than the buffers of the system hold, so that TLS is left with records that nobody takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_behind_a_frozen_line_gets_all_of_it_after() {
    const MESSAGES: usize = 1500;
    let authority = Authority::new("servers");
    let files = authority.issue_files("server");
    let plan = Cluster::memory().with(CERT, &files.cert).with(KEY, &files.key);
    let cluster = plan.with("ROOMCAST_LIMITS__WINDOW_BYTES", "64MiB").start().await;
    let endpoint = cluster.endpoint(0).over_tls(authority.trusted());
    let line = FaultProxy::to(cluster.replicas[0].grpc()).await;
    let mut alice = endpoint.enter("alice").await;
    let far = endpoint.by_way_of(line.addr()).with_windows(1 << 26, 1 << 26);
    let bob = far.enter_seen_by("bob", &mut [&mut alice]).await;
    line.freeze();
    let filler = "x".repeat(16_000);
    for number in 0..MESSAGES {
        alice.send(Payload::message("", &format!("{number} {filler}"), "")).await;
    }
    let said = "roomcast_events_in_total";
    cluster.replicas[0].until_at_least(said, 1.0).await;
    eventually(SOON, "all is said", async || {
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        (cluster.replicas[0].metric(said).await >= MESSAGES as f64).then_some(())
    })
    .await;
    line.restore();
    let all = bob.record().wait(Duration::from_secs(20), |state| {
        let heard = state.counts.get("alice").copied().unwrap_or_default();
        (heard >= MESSAGES || state.ended.is_some()).then_some(())
    });
    assert!(all.await.is_some(), "{bob:?}");
    bob.assert_open();
    let state = bob.record().state();
    let numbers = state.heard.iter().filter(|heard| heard.username == "alice").map(|heard| {
        let (number, rest) = heard.content.split_once(' ').expect("a number");
        assert_eq!(rest.len(), filler.len());
        number.parse::<usize>().expect("a number")
    });
    assert!(numbers.eq(0..MESSAGES), "in order, each once");
}
