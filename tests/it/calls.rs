//! Calls that are no streams cost little, and are counted with the streams.

use std::time::Duration;

use roomcast_proto::room::ListMembersRequest;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{
    Cluster, Layout, RichClient, SOON, eventually,
    raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RawConnection, SETTINGS, frame, head},
};

on_both_backplanes!(watches_and_calls_count_as_streams);

const MIB: u64 = 1024 * 1024;

const LIST_EVENTS: &str = "/roomcast.v1.RoomService/ListEvents";

fn request(path: &str, stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("POST", path, &[]))
}

fn grown(cluster: &Cluster, before: u64) -> u64 {
    cluster.replicas[0].resident_bytes().saturating_sub(before) / MIB
}

/// However much they say that their only message has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_end_are_small() {
    const CALLS: u32 = 500;
    let cluster = Cluster::memory().start().await;
    let before = cluster.replicas[0].resident_bytes();
    let mut connection = RawConnection::open(cluster.replicas[0].grpc()).await;
    // Its windows are open by then.
    connection.until_read(1).await;
    let claim = [&[0][..], &(4 * 1024 * 1024 - 5u32).to_be_bytes(), &[7; 16_000]].concat();
    for number in 0..CALLS {
        let path = ["/roomcast.v1.RoomService/ListMembers", "/grpc.health.v1.Health/Check"]
            [number as usize % 2];
        let stream = 1 + 2 * number;
        let more = frame(DATA, 0, stream, &[7; 16_000]).repeat(3);
        let bytes = [request(path, stream), frame(DATA, 0, stream, &claim), more].concat();
        assert!(connection.send(&bytes).await, "the connection stays");
    }
    // Each is refused as soon as it says how much is to come, or has sent too much.
    for _ in 0..CALLS {
        connection.until("a refusal", |it| it.kind == HEADERS && it.flags & END_STREAM != 0).await;
    }
    let grown = grown(&cluster, before);
    assert!(grown < 48, "the replica grew by {grown} MiB");
}

/// Pages of history that nobody takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_taken_are_few() {
    const CALLS: u32 = 1_000;
    let cluster = Cluster::memory().start().await;
    let mut alice =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    for number in 1..=80 {
        alice.say_and_wait(number, &"x".repeat(16_000)).await;
    }
    let before = cluster.replicas[0].resident_bytes();
    let mut connection = RawConnection::open(cluster.replicas[0].grpc()).await;
    // SETTINGS_INITIAL_WINDOW_SIZE
    assert!(connection.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await);
    for number in 0..CALLS {
        let stream = 1 + 2 * number;
        let asked =
            frame(DATA, END_STREAM, stream, &[&[0, 0, 0, 0, 5, 10, 3][..], b"den"].concat());
        assert!(connection.send(&[request(LIST_EVENTS, stream), asked].concat()).await);
    }
    connection.until("an answer", |it| it.kind == HEADERS).await;
    connection.until_read(1).await;
    let grown = grown(&cluster, before);
    assert!(grown < 160, "the replica grew by {grown} MiB");
    // They are given up in the end, and others have their turn.
    let mut calls = RichClient::calls(&cluster.endpoint(0)).await;
    let asked = ListMembersRequest { room: "den".to_owned(), ..ListMembersRequest::default() };
    let answered = eventually(Duration::from_secs(90), "others have their turn", async || {
        let mut asked = Request::new(asked.clone());
        asked.set_timeout(SOON);
        calls.list_members(asked).await.ok()
    });
    assert_eq!(answered.await.into_inner().members.len(), 1);
}

async fn watches_and_calls_count_as_streams(layout: Layout) {
    let cluster = layout.plan().with("ROOMCAST_LIMITS__STREAMS", "20").start().await;
    let mut health = HealthClient::new(cluster.endpoint(0).channel().await);
    let asked = HealthCheckRequest::default();
    let mut watches = vec![];
    let refused = loop {
        match health.watch(asked.clone()).await {
            Ok(watch) => watches.push(watch),
            Err(refused) => break refused,
        }
        assert!(watches.len() <= 20, "no end to them");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("limits.streams"), "{refused:?}");
    let mut calls = RichClient::calls(&cluster.endpoint(0)).await;
    let refused = calls.list_members(ListMembersRequest::default()).await.expect_err("full");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    // A load balancer is told all the same that the replica is well.
    health.check(asked).await.expect("an answer");
    drop(watches);
    eventually(SOON, "there is room again", async || {
        calls.list_members(ListMembersRequest::default()).await.ok()
    })
    .await;
}
