//! Starting, with Redis there, not there yet, or not for us.

use std::{net::TcpListener, time::Duration};

use nix::sys::signal::Signal;
use tonic::Code;

use crate::harness::{
    Cluster, Dialect, Endpoint, Finished, Redis, Replica, SOON, get, quiet, roomcast, run,
};

fn settings(url: &str) -> Vec<(String, String)> {
    let lease = ("ROOMCAST_NAMES__LEASE".to_owned(), "2s".to_owned());
    vec![("ROOMCAST_REDIS__URL".to_owned(), url.to_owned()), lease]
}

async fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let ports = ["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let mut command = roomcast(&[&ports[..], arguments].concat());
    command.envs(variables.iter().copied());
    run(command, SOON).await
}

fn assert_refused(finished: &Finished, mentions: &[&str]) {
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    for text in mentions {
        assert!(finished.stderr.contains(text), "says {text:?}: {finished:?}");
    }
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_lives_without_redis_and_is_ready_once_redis_is_there() {
    let mut redis = Redis::stopped(&[]);
    let mut replica = Replica::start("A", &settings(&redis.url())).await;
    let admin = replica.admin();
    assert_eq!(get(admin, "/livez").await.expect("livez").0, 200);
    assert_eq!(get(admin, "/readyz").await.expect("readyz").0, 503);
    let endpoint = Endpoint::at(replica.grpc(), Dialect::Typed);
    let message = endpoint.join("too early").await.expect_end(Code::Unavailable).await;
    assert!(!message.is_empty(), "says why");
    redis.restart().await;
    replica.until_ready(SOON).await;
    let mut alice = endpoint.enter("alice").await;
    let bob = endpoint.enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
    redis.kill();
    replica.until_unready(SOON).await;
    assert_eq!(get(admin, "/livez").await.expect("livez").0, 200);
    assert!(replica.lives());
}

/// Something listens there, but says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_lives_while_redis_does_not_answer() {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("redis://{}", deaf.local_addr().expect("an address"));
    let mut replica = Replica::start("A", &settings(&url)).await;
    for _ in 0..5 {
        assert_eq!(get(replica.admin(), "/livez").await.expect("livez").0, 200);
        assert_eq!(get(replica.admin(), "/readyz").await.expect("readyz").0, 503);
    }
    replica.signal(Signal::SIGTERM);
    assert_eq!(replica.exit_code(SOON).await, 0, "and goes when it is told to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_and_ends_it() {
    let redis = Redis::start_with_password("right").await;
    for user in [":wrong@", ""] {
        let url = format!("redis://{user}127.0.0.1:{}", redis.port());
        let finished = serve(&[], &[("ROOMCAST_REDIS__URL", &url)]).await;
        assert_refused(&finished, &["edis"]);
        let said = finished.stderr.to_lowercase();
        assert!(said.contains("password") || said.contains("auth"), "{finished:?}");
        assert!(!said.contains("wrong@"), "secrets are not printed: {finished:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_password_is_taken_from_the_url() {
    let redis = Redis::start_with_password("right").await;
    let url = format!("redis://:right@127.0.0.1:{}", redis.port());
    let replica = Replica::start("A", &settings(&url)).await;
    replica.until_ready(SOON).await;
    assert!(replica.log().with(":right@").is_empty(), "secrets are not logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said_and_ends_it() {
    let other = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = other.local_addr().expect("an address").to_string();
    for flag in ["--addr", "--admin-addr"] {
        let free = if flag == "--addr" { "--admin-addr" } else { "--addr" };
        let finished = run(roomcast(&["serve", flag, &addr, free, "127.0.0.1:0"]), SOON).await;
        assert_refused(&finished, &[&addr, "in use"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_settings_are_named_with_what_was_got() {
    let cases = [
        ("ROOMCAST_NAMES__LEASE", "soon", ["names.lease", "soon"]),
        ("ROOMCAST_LIMITS__CONTENT_BYTES", "many", ["limits.content_bytes", "many"]),
        ("ROOMCAST_DRAIN__DEADLINE", "5", ["drain.deadline", "5"]),
        ("ROOMCAST_NAMES__LAESE", "2s", ["names.laese", "unknown"]),
        ("ROOMCAST_REDIS__URL", "http://example.com", ["redis.url", "http"]),
    ];
    for (variable, value, mentions) in cases {
        let finished = serve(&[], &[(variable, value)]).await;
        assert_refused(&finished, &mentions);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_override_variables_and_variables_override_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("roomcast.toml");
    std::fs::write(&file, "[limits]\ncontent_bytes = 5\n[drain]\ndelay = \"1m\"\n").expect("write");
    let mut command = roomcast(&["config", "dump", "--config", file.to_str().expect("UTF-8")]);
    command.env("ROOMCAST_LIMITS__CONTENT_BYTES", "7");
    let finished = run(command, SOON).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let line = |key: &str| {
        let mut lines = finished.stdout.lines();
        lines.find(|line| line.contains(key)).unwrap_or_default().to_owned()
    };
    assert!(line("content_bytes").contains('7'), "{finished:?}");
    assert!(line("delay").contains("1m") || line("delay").contains("60s"), "{finished:?}");
    // The flag for the gRPC port wins over a variable that could not even be bound.
    let finished = Cluster::memory().with("ROOMCAST_SERVER__ADDR", "203.0.113.1:1").start().await;
    finished.replicas[0].until_ready(Duration::from_secs(5)).await;
}
