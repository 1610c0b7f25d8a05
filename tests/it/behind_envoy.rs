//! Three replicas behind a real Envoy with the configuration that `deploy/` ships.

use tonic::{Code, Status};

use roomcast_proto::room::connect_request::Frame;

use crate::harness::{ChatClient, Cluster, Dialect, Proxy, RawCall, RichClient, get};

/// How many streams each replica says that it has.
async fn streams(cluster: &Cluster) -> Vec<u64> {
    let mut counts = vec![];
    for replica in &cluster.replicas {
        let (_, metrics) = get(replica.admin(), "/metrics").await.expect("metrics");
        let count = metrics.lines().find_map(|line| line.strip_prefix("roomcast_streams "));
        counts.push(count.and_then(|count| count.parse().ok()).expect("a gauge of streams"));
    }
    counts
}

/// Comes in by way of the proxy; everybody who is there hears it, and nobody anything else.
async fn gather(proxy: &Proxy, size: usize) -> Vec<ChatClient> {
    // Half of them on connections of their own, half on one that they share.
    let own = proxy.endpoint(Dialect::Typed);
    let shared = proxy.endpoint(Dialect::Struct).on_one_connection().await;
    let mut crowd = vec![own.enter("client 0").await];
    for number in 1..size {
        let endpoint = if number % 2 == 0 { &own } else { &shared };
        let mut there: Vec<_> = crowd.iter_mut().collect();
        let client = endpoint.enter_seen_by(&format!("client {number}"), &mut there).await;
        crowd.push(client);
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_all_replicas_are_in_one_room() {
    let cluster = Cluster::redis(3).start().await;
    let proxy = Proxy::start(&cluster).await;
    let mut crowd = gather(&proxy, 12).await;
    let spread = streams(&cluster).await;
    assert_eq!(spread.iter().sum::<u64>(), 12, "{spread:?}");
    // Envoy compares two replicas at random, so that the smallest crowd may miss one of three.
    let used = spread.iter().filter(|&&count| count > 0).count();
    assert!(used > 1, "they are on several replicas: {spread:?}");
    for speaker in 0..crowd.len() {
        let text = format!("hello from {speaker}");
        crowd[speaker].say(&text).await;
        let name = crowd[speaker].name().to_owned();
        for (_, listener) in crowd.iter_mut().enumerate().filter(|(it, _)| *it != speaker) {
            listener.expect_said(&name, &text).await;
        }
    }
    let taken = proxy.endpoint(Dialect::Typed).join("CLIENT 3").await;
    let message = taken.expect_end(Code::AlreadyExists).await;
    assert_eq!(message, "username \"CLIENT 3\" is already taken");
    crowd[3].half_close();
    crowd[3].expect_end(Code::Ok).await;
    crowd.remove(3);
    for client in &mut crowd {
        client.expect_system("client 3 left").await;
    }
    cluster.assert_no_errors();
}

/// Readers that take nothing fill what Envoy and they have room for, and no more: those on the same
/// connection to the replica get everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_take_nothing_hold_up_nobody_on_their_connection() {
    const STALLED: usize = 95;
    const MESSAGES: usize = 800;
    let cluster = Cluster::memory().start().await;
    let proxy = Proxy::start(&cluster).await;
    let endpoint = proxy.endpoint(Dialect::Typed);
    let mut alice = RichClient::open(&endpoint, RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let mut bob = RichClient::open(&endpoint, RichClient::asking("den", "bob")).await;
    bob.welcome().await;
    let mut stalled = vec![];
    for number in 0..STALLED {
        let join = RichClient::asking("den", &format!("stalled {number}"));
        let endpoint = endpoint.clone().with_windows(65_535, 65_535);
        stalled.push(RichClient::open_stalled(&endpoint, Frame::Join(join)).await);
        bob.expect_joined(&format!("stalled {number}")).await;
    }
    let content = "x".repeat(8_000);
    for number in 1..=MESSAGES {
        alice.say_and_wait(number as u64, &content).await;
        bob.expect_said("alice", &content).await;
    }
    alice.assert_open();
    bob.assert_open();
}

/// Where Envoy lets larger headers through than a replica takes, as those of a Gateway do, only the request that has
/// them is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_headers_hurt_nobody_on_the_connection() {
    let cluster = Cluster::memory().start().await;
    let proxy =
        Proxy::start_with(&cluster, |listener| listener["max_request_headers_kb"] = 60.into());
    let proxy = proxy.await;
    let endpoint = proxy.endpoint(Dialect::Typed);
    let mut alice = endpoint.enter("alice").await;
    let bob = endpoint.enter_seen_by("bob", &mut [&mut alice]).await;
    for (number, size) in [16_400, 30_000, 59_000].into_iter().enumerate() {
        for path in ["/chat.ChatService/ChatStream", "/roomcast.v1.RoomService/ListMembers"] {
            let large = [("x-large", &*"x".repeat(size))];
            let mut call = RawCall::begin_with(proxy.addr(), path, &large).await;
            let status = Status::from_header_map(&call.head().await).expect("a status");
            assert_eq!(status.code(), Code::ResourceExhausted, "{size}: {status}");
            let message = status.message();
            assert!(message.contains("headers have more than 16384 bytes"), "{message}");
        }
        let text = format!("still here {number}");
        bob.say(&text).await;
        alice.expect_said("bob", &text).await;
    }
    alice.assert_open();
    cluster.assert_no_errors();
}
