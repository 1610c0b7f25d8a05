//! Nothing that a client has to do is waited for without an end.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::harness::{
    Cluster, RawCall, SOON, quiet,
    raw::{
        CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, RawConnection, chat, frame, head,
        message,
    },
};

/// Registration has to come within 30 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_message_has_to_come_soon() {
    let cluster = Cluster::memory().start().await;
    let began = Instant::now();
    let client = cluster.endpoint(0).open("silent", None).await;
    let ended = client.ended(Duration::from_secs(30) + SOON).await;
    assert_eq!(ended.code, Code::InvalidArgument, "{ended:?}");
    assert_eq!(ended.message, "failed to receive registration: no first message within 30 s");
    assert!(began.elapsed() >= Duration::from_secs(30));
}

/// A request's head may take as long as a handshake, however many bytes of it come meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requests_head_has_to_end() {
    let timeout = ["ROOMCAST_SERVER__HANDSHAKE_TIMEOUT", "2s"];
    let cluster = Cluster::memory().with(timeout[0], timeout[1]).start().await;
    let head = head("POST", "/chat.ChatService/ChatStream", &[]);
    // A frame that does not end, and frames of which none is the last one.
    let drop_by_drop = frame(HEADERS, END_HEADERS, 1, &head);
    let more = [frame(CONTINUATION, 0, 1, &head[10..11]), frame(CONTINUATION, 0, 1, &head[11..])];
    let frame_by_frame = [frame(HEADERS, 0, 1, &head[..10]), more.concat()].concat();
    for bytes in [drop_by_drop, frame_by_frame] {
        let mut connection = RawConnection::open(cluster.replicas[0].grpc()).await;
        let began = Instant::now();
        // All but the last byte, and that never comes.
        for byte in bytes[..bytes.len() - 1].chunks(bytes.len() / 80) {
            if !connection.send(byte).await || began.elapsed() > SOON {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        connection.until_closed(SOON).await;
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    }
    // Streams that last longer than that have nothing to fear, nor has a message that takes longer.
    let mut connection = RawConnection::open(cluster.replicas[0].grpc()).await;
    assert!(connection.send(&[chat(1, &[]), message(1, "slow", "")].concat()).await);
    let slow = message(1, "slow", "it takes its time");
    assert!(connection.send(&slow[..slow.len() - 3]).await);
    let mut alice = cluster.endpoint(0).enter("alice").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(connection.send(&slow[slow.len() - 3..]).await);
    alice.expect_said("slow", "it takes its time").await;
}

/// Pings alone do not keep a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_stream_is_asked_to_end() {
    let timeout = ["ROOMCAST_SERVER__CONNECTION_IDLE_TIMEOUT", "2s"];
    let cluster = Cluster::memory().with(timeout[0], timeout[1]).start().await;
    let addr = cluster.replicas[0].grpc();
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut idle = RawConnection::open(addr).await;
    let began = Instant::now();
    // It pings, and answers the ping that comes with the request to end.
    while began.elapsed() < SOON && idle.send(&frame(PING, 0, 0, &[3; 8])).await {
        let Some(next) = idle.next().await else { break };
        if next.kind == PING && next.flags == 0 {
            assert!(idle.send(&frame(PING, 1, 0, &next.body)).await);
        }
        if next.kind == GOAWAY {
            assert_eq!(next.body[4..8], [0; 4], "it is no fault");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    // It does not end by itself, and is cut.
    idle.until_closed(2 * SOON).await;
    // Whoever has a stream stays, and a client that comes back opens another connection.
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
}

/// A call that is no stream has one small message and an end, or ends without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requests_body_has_to_end() {
    let cluster = Cluster::memory().start().await;
    let addr = cluster.replicas[0].grpc();
    let mut connection = RawConnection::open(addr).await;
    let paths = [
        "/roomcast.v1.RoomService/ListMembers",
        "/roomcast.v1.RoomService/ListEvents",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ];
    let began = Instant::now();
    for (path, stream) in paths.into_iter().zip((1..).step_by(4)) {
        // Nothing, and a message behind which the body goes on.
        let request = |stream| frame(HEADERS, END_HEADERS, stream, &head("POST", path, &[]));
        let endless = [request(stream + 2), frame(DATA, 0, stream + 2, &[0; 5])].concat();
        assert!(connection.send(&[request(stream), endless].concat()).await);
    }
    let mut ended = 0;
    while ended < 2 * paths.len() {
        let next = tokio::time::timeout(Duration::from_secs(30) + SOON, connection.next());
        let next = next.await.expect("each ends").expect("the connection stays");
        ended += usize::from(next.kind == HEADERS && next.flags & 1 != 0);
    }
    assert!(began.elapsed() >= Duration::from_secs(25), "{:?}", began.elapsed());
}

/// Only `POST` is a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_open_nothing() {
    let cluster = Cluster::memory().start().await;
    let addr = cluster.replicas[0].grpc();
    for path in ["/chat.ChatService/ChatStream", "/roomcast.v1.RoomService/Connect"] {
        for method in ["GET", "PUT", "OPTIONS", "DELETE"] {
            let mut call = RawCall::begin(addr, method, path, "application/grpc").await;
            let status = call.http_status().await.expect("an answer");
            assert_eq!(status, 405, "{method} {path}");
        }
    }
    assert!(cluster.replicas[0].metric("roomcast_streams").await < 1.0);
}
