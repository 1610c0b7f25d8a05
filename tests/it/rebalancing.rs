//! Streams that are as old as they may be: clients come by a new one, and the room hears nothing.

use roomcast_proto::room::ReconnectReason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::harness::{Cluster, Layout, PREFACE, RichClient, SOON, frame, http2::request};

// Kinds of HTTP/2 frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

on_both_backplanes!(
    an_old_rich_stream_is_resumed_in_silence,
    an_old_plain_stream_ends_if_that_is_asked_for,
);

const AGE: &str = "ROOMCAST_SERVER__MAX_STREAM_AGE";
const CHAT_AGE: &str = "ROOMCAST_SERVER__MAX_CHAT_STREAM_AGE";

async fn an_old_rich_stream_is_resumed_in_silence(layout: Layout) {
    let cluster = layout.plan().with(AGE, "3s").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut old = RichClient::open(&cluster.endpoint(0), RichClient::asking("lobby", "bob")).await;
    old.welcome().await;
    alice.expect_system("bob joined").await;
    for round in 1..3 {
        let reconnect = old.expect_reconnect(SOON).await;
        assert_eq!(reconnect.reason(), ReconnectReason::Rebalance, "{reconnect:?}");
        let mut new = old.resume(&cluster.endpoint(round), old.last_position()).await;
        assert!(new.welcome().await.resumed);
        // Whoever does not go by itself is sent away; here the new stream may be first.
        let end = old.ended(SOON).await;
        assert!([Code::Unavailable, Code::Aborted].contains(&end.code), "{end:?}");
        old = new;
    }
    old.say(1, "still here").await;
    alice.expect_said("bob", "still here").await;
    alice.assert_open();
    cluster.assert_no_errors();
}

async fn an_old_plain_stream_ends_if_that_is_asked_for(layout: Layout) {
    let cluster = layout.plan().with(CHAT_AGE, "3s").start().await;
    let witness = RichClient::asking("lobby", "witness");
    let mut witness = RichClient::open(&cluster.endpoint(1), witness).await;
    witness.welcome().await;
    let alice = cluster.endpoint(0).join("alice").await;
    witness.expect_joined("alice").await;
    let message = alice.expect_end(Code::Unavailable).await;
    assert!(message.contains("connect again"), "{message}");
    witness.expect_left("alice", roomcast_proto::room::LeftCause::Ended).await;
    witness.assert_open();
    let _again = cluster.endpoint(0).join("alice").await;
    witness.expect_joined("alice").await;
}

/// A connection whose streams were told takes no more: a client that has only this one looks for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_of_an_old_stream_gets_a_goaway() {
    let cluster = Cluster::memory().with(CHAT_AGE, "1s").start().await;
    let headers = request("/chat.ChatService/ChatStream", &[]);
    // A ChatMessage whose username is bob.
    let message = [&[0, 0, 0, 0, 5, 10, 3][..], b"bob"].concat();
    let mut socket = TcpStream::connect(cluster.replicas[0].grpc()).await.expect("connect");
    let bytes = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, 4, 1, &headers),
        frame(DATA, 0, 1, &message),
    ];
    socket.write_all(&bytes.concat()).await.expect("the server reads");
    let going = async {
        let mut told = false;
        let mut head = [0; 9];
        // The connection ends once its streams have.
        while socket.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            socket.read_exact(&mut payload).await.expect("a whole frame");
            match head[3] {
                GOAWAY => {
                    assert_eq!(payload[4..8], [0, 0, 0, 0], "no error");
                    told = true;
                }
                PING if head[4] == 0 => {
                    let _ = socket.write_all(&frame(PING, 1, 0, &payload)).await;
                }
                _ => {}
            }
        }
        told
    };
    assert!(tokio::time::timeout(SOON, going).await.expect("in time"), "a GOAWAY");
}
