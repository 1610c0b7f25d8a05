//! Behind balancers that tell whom they speak for: clients have their own addresses, and nobody else is believed.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tonic::Code;

use roomcast_proto::room::ListMembersRequest;

use crate::harness::{ChatClient, Cluster, Dialect, Endpoint, Proxy, RichClient, SOON, eventually};

/// A TCP balancer that says by the PROXY protocol that all it forwards is from `client`.
struct Balancer {
    addr: SocketAddr,
    _forwarding: JoinSet<()>,
}

impl Balancer {
    async fn before(server: SocketAddr, client: [u8; 4]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("an address");
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut upstream = TcpStream::connect(server).await.expect("connect");
                    upstream.write_all(&header(client)).await.expect("a header");
                    let _ = copy_bidirectional(&mut socket, &mut upstream).await;
                });
            }
        });
        Self { addr, _forwarding: forwarding }
    }
}

/// TCP over IPv4 from this address, port 4711.
fn header(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[127, 0, 0, 1], &4711_u16.to_be_bytes(), &[0, 80]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0, 12], &addresses].concat()
}

async fn until_audited(cluster: &Cluster, texts: &[&str]) {
    eventually(SOON, &format!("an audit line with {texts:?}"), async || {
        let lines = cluster.replicas[0].log().with("\"target\":\"audit\"");
        lines.iter().any(|line| texts.iter().all(|text| line.contains(text))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_tells_whose_a_connection_is() {
    let plan = Cluster::memory()
        .with("ROOMCAST_SERVER__PROXY_PROTOCOL", "true")
        .with("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.1")
        .with("ROOMCAST_LIMITS__STREAMS_PER_PEER", "1");
    let cluster = plan.start().await;
    let server = cluster.replicas[0].grpc();
    let near = Balancer::before(server, [192, 0, 2, 7]).await;
    let far = Balancer::before(server, [192, 0, 2, 8]).await;
    let endpoint = |balancer: &Balancer| Endpoint::at(balancer.addr, Dialect::Typed);
    let mut alice = endpoint(&near).join("alice").await;
    until_audited(&cluster, &["joined", "alice", "\"peer\":\"192.0.2.7:4711\""]).await;
    // Caps go by whom the balancer names.
    endpoint(&near).join("bob").await.expect_end(Code::ResourceExhausted).await;
    let bob = endpoint(&far).join("bob").await;
    alice.expect_system("bob joined").await;
    bob.say("hello").await;
    alice.expect_said("bob", "hello").await;

    // Who says nothing of the kind does not get in, nor does one who is no proxy.
    let mut plain = TcpStream::connect(server).await.expect("connect");
    plain.write_all(crate::harness::PREFACE).await.expect("a greeting");
    let mut answer = Vec::new();
    // Closed, or reset, as there was more to read.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    until_audited(&cluster, &["refused", "127.0.0.1:", "it begins otherwise"]).await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 9], 0).into()).expect("bind");
    let mut stranger = socket.connect(server).await.expect("connect");
    let _ = stranger.write_all(&header([10, 0, 0, 1])).await;
    let _ = stranger.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    until_audited(&cluster, &["refused", "127.0.0.9:", "server.trusted_proxies"]).await;
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarded_addresses_are_believed_from_listed_proxies_only() {
    let plan = Cluster::memory()
        .with("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
        .with("ROOMCAST_LIMITS__STREAMS_PER_PEER", "1");
    let cluster = plan.start().await;
    let endpoint = cluster.endpoint(0);
    let from = |client: &str| endpoint.clone().on_behalf_of(client);
    let mut alice = from("192.0.2.7").join("alice").await;
    until_audited(&cluster, &["joined", "alice", "\"peer\":\"192.0.2.7:0\""]).await;
    // What stands before it, the client may have made up.
    let refused = async |client: ChatClient| {
        let message = client.expect_end(Code::ResourceExhausted).await;
        assert!(message.contains("limits.streams_per_peer"), "{message}");
    };
    refused(from("198.51.100.1, 192.0.2.7, 10.1.2.3").join("bob").await).await;
    let _bob = from("192.0.2.8").join("bob").await;
    alice.expect_system("bob joined").await;

    // Others may say what they like.
    let stranger = |client: &str| from(client).coming_from([127, 0, 0, 9]);
    let _carol = stranger("192.0.2.9").join("carol").await;
    alice.expect_system("carol joined").await;
    until_audited(&cluster, &["joined", "carol", "\"peer\":\"127.0.0.9:"]).await;
    refused(stranger("192.0.2.10").join("dave").await).await;
    cluster.assert_no_errors();
}

/// Envoy as we ship it says whose a stream is, also where the client has an address of its networks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_up_an_address_behind_envoy() {
    let trusted = "127.0.0.0/8, 10.0.0.0/8";
    let plan = Cluster::memory().with("ROOMCAST_SERVER__TRUSTED_PROXIES", trusted);
    let cluster = plan.start().await;
    let proxy = Proxy::start(&cluster).await;
    let endpoint = proxy.endpoint(Dialect::Typed).coming_from([127, 0, 0, 9]);
    let mut alice = endpoint.join("alice").await;
    until_audited(&cluster, &["joined", "alice", "\"peer\":\"127.0.0.9:0\""]).await;
    for (name, made_up) in [("bob", "192.0.2.7"), ("carol", "192.0.2.7, 10.1.2.3")] {
        let guest = endpoint.clone().on_behalf_of(made_up).join(name).await;
        alice.expect_system(&format!("{name} joined")).await;
        until_audited(&cluster, &["joined", name, "\"peer\":\"127.0.0.9:0\""]).await;
        drop(guest);
        alice.expect_system(&format!("{name} left")).await;
    }
    cluster.assert_no_errors();
}

/// What one client asks by way of a proxy, others may still ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_counted_for_whom_a_proxy_names() {
    let plan = Cluster::memory()
        .with("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.1")
        .with("ROOMCAST_LIMITS__QUERY_INTERVAL", "1h")
        .with("ROOMCAST_LIMITS__QUERY_BURST", "1");
    let cluster = plan.start().await;
    let mut calls = RichClient::calls(&cluster.endpoint(0)).await;
    let mut ask = async |client: &str| {
        let mut request = tonic::Request::new(ListMembersRequest::default());
        request.metadata_mut().insert("x-forwarded-for", client.parse().expect("a header value"));
        calls.list_members(request).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(ask("192.0.2.7").await, Ok(()));
    assert_eq!(ask("192.0.2.7").await, Err(Code::ResourceExhausted));
    assert_eq!(ask("192.0.2.8").await, Ok(()));
    cluster.assert_no_errors();
}
