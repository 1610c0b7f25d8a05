//! What clients have sent and is not stored yet has bounds, and those who send little do not feel them.

use bytes::Bytes;
use prost::Message;
use roomcast_proto::{
    chat::ChatMessage,
    room::{Join, connect_request::Frame, join::Since},
};
use tonic::Code;

use crate::harness::{Layout, RawCall, RichClient, quiet};

on_both_backplanes!(
    unfinished_messages_are_given_up_and_hurt_nobody,
    messages_that_are_not_read_are_given_up_and_hurt_nobody,
    histories_that_nobody_takes_have_a_bound_together
);

const BOUNDS: [&str; 3] = [
    "ROOMCAST_LIMITS__INPUT_BYTES",
    "ROOMCAST_LIMITS__INPUT_BYTES_PER_PEER",
    "ROOMCAST_LIMITS__INPUT_BYTES_PER_CONNECTION",
];
const GIVEN_UP: &str = "roomcast_refusals_total{reason=\"input_bytes\"}";

const CHAT: &str = "/chat.ChatService/ChatStream";

/// What all that may add to a replica's memory.
const GROWTH: u64 = 48 << 20;

/// As many bytes of a message that has more.
fn unfinished(size: u32) -> Bytes {
    let claimed = (size + 1_000).to_be_bytes();
    [&[0], &claimed[..], &vec![b'x'; size as usize]].concat().into()
}

async fn unfinished_messages_are_given_up_and_hurt_nobody(layout: Layout) {
    let plan = BOUNDS.iter().fold(layout.plan().alone(), |plan, bound| plan.with(bound, "8MiB"));
    let cluster = plan.start().await;
    let replica = &cluster.replicas[0];
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    let before = replica.resident_bytes();
    let mut calls = vec![];
    for _ in 0..400 {
        let mut call = RawCall::chat(replica.grpc()).await;
        call.write(unfinished(60_000), false);
        calls.push(call);
    }
    // Of these, some 24 MB, a third has to go.
    replica.until_at_least(GIVEN_UP, 200.0).await;
    for number in 0..20 {
        let long = format!("{number:016384}");
        bob.say(&long).await;
        alice.expect_said("bob", &long).await;
    }
    let grown = replica.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH, "the replica grew by {grown} bytes");
    let (code, message) = calls.pop().expect("the last one").status().await;
    assert_eq!(code, Code::ResourceExhausted, "{message}");
    assert!(message.contains("limits.input_bytes"), "{message}");
    quiet(&bob, &mut [&mut alice]).await;
    drop(calls);
    // All is given back: another one may send as much as it likes.
    let mut call = RawCall::chat(replica.grpc()).await;
    call.write(unfinished(60_000), false);
    let given_up = replica.metric(GIVEN_UP).await;
    replica.until_at_most("roomcast_connections", 4.0).await;
    quiet(&bob, &mut [&mut alice]).await;
    assert!(replica.metric(GIVEN_UP).await <= given_up, "nobody else had to go");
    cluster.assert_no_errors();
}

/// Who says too much in slow mode is not read: what it has sent is counted all the same.
async fn messages_that_are_not_read_are_given_up_and_hurt_nobody(layout: Layout) {
    let plan = BOUNDS.iter().fold(layout.plan().alone(), |plan, bound| plan.with(bound, "8MiB"));
    let plan = plan.with("ROOMCAST_LIMITS__SESSION_INTERVAL", "1h");
    let cluster = plan.with("ROOMCAST_LIMITS__SESSION_BURST", "40").start().await;
    let replica = &cluster.replicas[0];
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut calls = vec![];
    for number in 0..300 {
        // Nobody else is there who would have to read it.
        let room = format!("noise-{number}");
        let room = [("chat-room", &*room)];
        let mut call = RawCall::begin_with(replica.grpc(), CHAT, &room).await;
        call.send(&message(&format!("noise {number}"), ""));
        // The burst, and what fills the stream's window behind it.
        for _ in 0..40 {
            call.send(&message("", "x"));
        }
        for _ in 0..12 {
            call.send(&message("", &"x".repeat(5_000)));
        }
        calls.push(call);
    }
    replica.until_at_least(GIVEN_UP, 50.0).await;
    quiet(&bob, &mut [&mut alice]).await;
    drop(calls);
    cluster.assert_no_errors();
}

/// Readers that join with much history and take none of it.
async fn histories_that_nobody_takes_have_a_bound_together(layout: Layout) {
    let plan = layout.plan().alone().with("ROOMCAST_LIMITS__UNREAD_BYTES", "8MiB");
    let cluster = plan.start().await;
    let replica = &cluster.replicas[0];
    let endpoint = cluster.endpoint(0);
    let mut alice = RichClient::open(&endpoint, RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let content = "x".repeat(1_000);
    let first = alice.say_and_wait(1, &content).await;
    for number in 2..=200 {
        alice.say_and_wait(number, &content).await;
    }
    // What she has said is in the log alone.
    alice.leave().await;
    alice.expect_end(Code::Ok).await;
    let before = replica.resident_bytes();
    let endpoint = endpoint.with_windows(0, 65_535);
    let mut stalled = vec![];
    for number in 0..1_000 {
        let name = format!("stalled {number}");
        let since = Some(Since::After(first));
        let join = Join { since, ..RichClient::asking("den", &name) };
        stalled.push(RichClient::open_stalled(&endpoint, Frame::Join(join)).await);
    }
    replica.until_at_least("roomcast_members", 1_000.0).await;
    // Each has had a page read.
    replica.until_at_least("roomcast_log_pages_total", 1_000.0).await;
    let grown = replica.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH + (8 << 20), "the replica grew by {grown} bytes");
    drop(stalled);
    cluster.assert_no_errors();
}

fn message(username: &str, content: &str) -> Vec<u8> {
    let (username, content) = (username.to_owned(), content.to_owned());
    ChatMessage { username, content, timestamp: String::new() }.encode_to_vec()
}
