//! A refusal reaches the client as it is, however fast it comes.

use std::{collections::HashMap, process::Stdio};

use tokio::process::Command;

use crate::{
    deploy::{path, tool},
    harness::{
        Cluster,
        raw::{DATA, END_STREAM, HEADERS, RST_STREAM, RawConnection, chat, frame, message},
    },
};

/// Python's gRPC writes while the refusal comes in, and takes a stream that is reset meanwhile for its
/// own failure.
async fn all_see_it_as_it_is(kind: &str) {
    let cluster = Cluster::memory().start().await;
    let mut python = Command::from(tool("PYTHON_BIN", "python3"));
    python.arg(path("tests/it/refused.py")).args([&cluster.replicas[0].grpc().to_string(), kind]);
    let python = python.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = python.output().await.expect("run Python");
    assert!(output.status.success(), "{}", output.status);
    let endings: HashMap<String, usize> = serde_json::from_slice(&output.stdout).expect("JSON");
    let said = "INVALID_ARGUMENT: chat-room: room name contains ' '";
    let right: usize =
        endings.iter().filter(|(ending, _)| ending.starts_with(said)).map(|(_, count)| count).sum();
    assert_eq!(right, 1_000, "{endings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_calls_of_grpc_aio_see_the_status() {
    all_see_it_as_it_is("aio").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_calls_of_grpcio_see_the_status() {
    all_see_it_as_it_is("sync").await;
}

/// The client's half is read to its end, or for a second; then the stream is reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_read_for_a_moment() {
    let cluster = Cluster::memory().start().await;
    let mut connection = RawConnection::open(cluster.replicas[0].grpc()).await;
    let room = [("chat-room", "n@")];
    assert!(connection.send(&[chat(1, &room), chat(3, &room)].concat()).await);
    let mut refused = vec![];
    while refused.len() < 2 {
        let next =
            connection.until("an answer", |it| matches!(it.kind, HEADERS | RST_STREAM)).await;
        assert_eq!(next.kind, HEADERS, "it is reset before the client could know: {next:?}");
        if next.flags & END_STREAM != 0 {
            refused.push(next.stream);
        }
    }
    // One goes on for longer than its window, and then says that this was all.
    for _ in 0..20 {
        for _ in 0..10 {
            assert!(connection.send(&message(1, "bob", &"x".repeat(100))).await);
        }
        connection.until_read(1).await;
    }
    assert!(connection.send(&frame(DATA, END_STREAM, 1, &[])).await);
    // The other one does not end, and is reset without a fault.
    let reset = connection.until("a reset", |it| it.kind == RST_STREAM).await;
    assert_eq!((reset.stream, &reset.body[..]), (3, &[0; 4][..]));
}
