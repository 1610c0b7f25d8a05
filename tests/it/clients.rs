//! Real clients of the chat protocol: grpc.aio and grpcio, @grpc/grpc-js, and grpc-go. Each comes in,
//! speaks, is refused in every way, drains and comes back; the programs are in `tests/clients`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    deploy::path,
    harness::{Cluster, SOON},
};

/// How long all of it takes at most, a thousand refusals included.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where `tests/run` leaves what it has installed and built for them.
fn installed(what: &str) -> PathBuf {
    let tools = env::var_os("CLIENTS_DIR").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/clients"),
        PathBuf::from,
    );
    let found = tools.join(what);
    assert!(found.exists(), "{} is missing: run tests/run, which makes it", found.display());
    found
}

/// Runs a client on two replicas, of which the first one drains when the client says so.
async fn converse(mut client: Command) {
    let mut cluster = Cluster::redis(2).start().await;
    for replica in &cluster.replicas {
        client.arg(replica.grpc().to_string());
    }
    let mut client = client
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start the client");
    let mut lines = BufReader::new(client.stdout.take().expect("piped")).lines();
    let told = async {
        let mut told = vec![];
        while let Some(line) = lines.next_line().await.expect("text") {
            if line == "drain" {
                cluster.replicas[0].signal(Signal::SIGTERM);
            }
            told.push(line);
        }
        told
    };
    let told = timeout(PATIENCE, told).await.expect("it ends");
    let ended = client.wait_with_output().await.expect("wait for it");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}: {told:?}\n{said}", ended.status);
    assert_eq!(told, ["drain", "passed"], "{said}");
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    cluster.assert_no_errors();
}

fn python(kind: &str) -> Command {
    let python = env::var_os("PYTHON_BIN").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.arg(path("tests/clients/python/chat.py")).arg(kind);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_aio() {
    converse(python("aio")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio() {
    converse(python("sync")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_js() {
    let mut node = Command::new("node");
    node.env("NODE_PATH", installed("js/node_modules")).arg(path("tests/clients/js/chat.js"));
    converse(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_go() {
    converse(Command::new(installed("chat-go"))).await;
}
