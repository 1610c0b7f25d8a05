//! Clients that send what they say in gzip, and those that overdo it.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt, stream};
use prost::Message;
use roomcast_proto::{
    chat::{ChatMessage, chat_service_client::ChatServiceClient},
    room::{
        ConnectRequest, Join, ListMembersRequest, Say, connect_request::Frame as Ask,
        connect_response::Frame as Tell, room_service_client::RoomServiceClient,
    },
};
use tonic::{Code, codec::CompressionEncoding};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Layout, RawCall};

on_both_backplanes!(
    clients_may_send_gzip_and_are_answered_in_identity,
    a_message_that_unpacks_to_far_too_much_is_refused_by_its_size,
    an_unknown_encoding_is_refused_by_the_header,
);

const GZIP: CompressionEncoding = CompressionEncoding::Gzip;
const CHAT: &str = "/chat.ChatService/ChatStream";

fn typed(username: &str, content: &str) -> ChatMessage {
    let (username, content) = (username.to_owned(), content.to_owned());
    ChatMessage { username, content, timestamp: String::new() }
}

/// A client that says this and then only listens.
macro_rules! open {
    ($messages:expr) => {
        stream::iter($messages).chain(stream::pending())
    };
}

async fn clients_may_send_gzip_and_are_answered_in_identity(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let long = "hello ".repeat(2_000);
    let channel = cluster.endpoint(1).channel().await;
    let mut chat = ChatServiceClient::new(channel.clone()).send_compressed(GZIP);
    let said = open!([typed("bob", ""), typed("", &long)]);
    let answers = chat.chat_stream(said).await.expect("a stream");
    assert!(answers.metadata().get("grpc-encoding").is_none(), "{answers:?}");
    let mut answers = answers.into_inner();
    alice.expect_system("bob joined").await;
    alice.expect_said("bob", &long).await;
    alice.say("hello bob").await;
    let answer = answers.message().await.expect("open").expect("open");
    assert_eq!(answer.content, "hello bob");

    let mut rooms = RoomServiceClient::new(channel.clone()).send_compressed(GZIP);
    let join = Join { username: "carol".to_owned(), ..Join::default() };
    let say = Say { client_seq: 1, content: long.clone(), ..Say::default() };
    let frames = [Ask::Join(join), Ask::Say(say)].map(|it| ConnectRequest { frame: Some(it) });
    let mut told = rooms.connect(open!(frames)).await.expect("a stream").into_inner();
    alice.expect_system("carol joined").await;
    alice.expect_said("carol", &long).await;
    let welcome = told.message().await.expect("open").expect("open").frame;
    assert!(matches!(welcome, Some(Tell::Welcome(_))), "{welcome:?}");

    let members = rooms.list_members(ListMembersRequest::default()).await.expect("members");
    assert_eq!(members.into_inner().total_size, 3);
    let mut health = HealthClient::new(channel).send_compressed(GZIP);
    health.check(HealthCheckRequest::default()).await.expect("health");
}

fn packed(message: &[u8], zeros: usize) -> Bytes {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(message).expect("memory");
    for _ in 0..zeros >> 20 {
        packer.write_all(&vec![0; 1 << 20]).expect("memory");
    }
    let packed = packer.finish().expect("memory");
    let size = u32::try_from(packed.len()).expect("short").to_be_bytes();
    [&[1], &size[..], &packed].concat().into()
}

async fn a_message_that_unpacks_to_far_too_much_is_refused_by_its_size(layout: Layout) {
    const SIZE: usize = 64 << 20;
    let cluster = layout.plan().alone().start().await;
    let replica = &cluster.replicas[0];
    let before = replica.resident_bytes();
    let content = [0x12, 0x80, 0x80, 0x80, 0x20];
    for (content, said) in [(&content[..], "content has 67108864 bytes"), (&[0x1a, 0], "unpacked")]
    {
        let bomb = packed(content, SIZE);
        for _ in 0..20 {
            let headers = [("grpc-encoding", "gzip")];
            let mut call = RawCall::begin_with(replica.grpc(), CHAT, &headers).await;
            call.write(packed(&typed("bob", "").encode_to_vec(), 0), false);
            call.write(bomb.clone(), true);
            let (code, message) = call.status().await;
            assert_eq!(code, Code::InvalidArgument, "{message}");
            assert!(message.contains(said), "{message}");
        }
    }
    let grown = replica.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "the replica grew by {grown} bytes");
    cluster.until_ready(Duration::from_secs(10)).await;
}

async fn an_unknown_encoding_is_refused_by_the_header(layout: Layout) {
    let cluster = layout.plan().alone().start().await;
    for path in [CHAT, "/roomcast.v1.RoomService/Connect", "/roomcast.v1.RoomService/ListMembers"] {
        let headers = [("grpc-encoding", "zstd")];
        // Nothing is sent: the header is enough.
        let mut call = RawCall::begin_with(cluster.replicas[0].grpc(), path, &headers).await;
        let head = call.head().await;
        assert_eq!(head["grpc-status"], "12", "{path}: {head:?}");
        let accepted = head["grpc-accept-encoding"].to_str().expect("text");
        assert!(accepted.contains("identity") && accepted.contains("gzip"), "{path}: {head:?}");
    }
}
