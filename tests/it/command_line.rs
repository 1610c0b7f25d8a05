//! `roomcast config`, `roomcast health`, and the admin port.

use std::fs;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{Cluster, Finished, Layout, SOON, get, roomcast, run};

on_both_backplanes!(health_is_an_exit_code, metrics_tell_of_streams_and_events);

fn file(content: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("roomcast.toml");
    fs::write(&path, content).expect("write the file");
    let path = path.to_str().expect("UTF-8").to_owned();
    (directory, path)
}

async fn check(content: &str) -> Finished {
    let (_directory, path) = file(content);
    run(roomcast(&["config", "check", "--config", &path]), SOON).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_configuration_passes_the_check() {
    let finished = check("[names]\nlease = \"3s\"\n[limits]\nusername_chars = 32\n").await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let finished = run(roomcast(&["config", "check"]), SOON).await;
    assert_eq!(finished.code, Some(0), "no file at all is good: {finished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_is_refused_with_the_full_path() {
    let cases = [
        ("[names]\nlaese = \"3s\"\n", vec!["names.laese", "unknown"]),
        ("[nmes]\nlease = \"3s\"\n", vec!["nmes", "unknown"]),
        ("[names]\nlease = \"3 fortnights\"\n", vec!["names.lease", "3 fortnights"]),
        ("[limits]\ncontent_bytes = -1\n", vec!["limits.content_bytes", "-1"]),
        ("[names\n", vec!["roomcast.toml"]),
    ];
    for (content, mentions) in cases {
        let finished = check(content).await;
        assert!(finished.code.is_some_and(|code| code != 0), "{content:?}: {finished:?}");
        let said = format!("{}{}", finished.stdout, finished.stderr);
        for text in mentions {
            assert!(said.contains(text), "{content:?} says {text:?}: {finished:?}");
        }
        assert!(!said.contains("panicked"), "{finished:?}");
    }
    let finished = run(roomcast(&["config", "check", "--config", "/no/such.toml"]), SOON).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("/no/such.toml"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dump_has_defaults_and_sources_but_no_secrets() {
    let (_directory, path) = file("[redis]\nurl = \"redis://me:hush@redis.example:6379\"\n");
    let mut command = roomcast(&["config", "dump", "--config", &path]);
    command.env("ROOMCAST_NAMES__LEASE", "7s");
    let finished = run(command, SOON).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stdout.contains("hush"), "the password is hidden: {finished:?}");
    for text in ["redis.example", "7s", "16384", "ROOMCAST_NAMES__LEASE", "roomcast.toml"] {
        assert!(finished.stdout.contains(text), "says {text:?}: {finished:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_and_version_are_there_and_nonsense_is_refused() {
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["client", "--help"]]
    {
        let finished = run(roomcast(arguments), SOON).await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
        assert!(finished.stdout.contains("roomcast"), "{arguments:?}: {finished:?}");
    }
    for arguments in [&["sevre"][..], &["serve", "--adr", "x"], &["serve", "--addr", "nowhere"]] {
        let finished = run(roomcast(arguments), SOON).await;
        assert!(finished.code.is_some_and(|code| code != 0), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(arguments.last().expect("some")), "{finished:?}");
    }
}

async fn health_is_an_exit_code(layout: Layout) {
    let mut cluster = layout.plan().with("ROOMCAST_DRAIN__DELAY", "30s").start().await;
    let addr = cluster.replicas[0].admin().to_string();
    let ask = async || run(roomcast(&["health", "--addr", &addr]), SOON).await;
    let finished = ask().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    // Without a flag the address is the configured one.
    let mut command = roomcast(&["health"]);
    command.env("ROOMCAST_ADMIN__ADDR", &addr);
    let finished = run(command, SOON).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");

    cluster.replicas[0].signal(Signal::SIGTERM);
    cluster.replicas[0].until_unready(SOON).await;
    let unready = ask().await;
    assert!(unready.code.is_some_and(|code| code != 0), "{unready:?}");
    cluster.replicas[0].kill();
    let gone = ask().await;
    assert!(gone.code.is_some_and(|code| code != 0), "{gone:?}");
    assert!(gone.stderr.contains(&addr), "{gone:?}");
}

async fn metrics_tell_of_streams_and_events(layout: Layout) {
    let cluster: Cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    bob.say("a body that is nobody's business").await;
    alice.expect_said("bob", "a body that is nobody's business").await;
    let admin = cluster.replicas[0].admin();
    let (status, metrics) = get(admin, "/metrics").await.expect("metrics");
    assert_eq!(status, 200);
    let sample = |line: &&str| line.starts_with("roomcast_streams ");
    let streams = metrics.lines().find(sample).expect("a metric of streams");
    assert!(streams.trim_end().ends_with(" 2"), "two streams are open: {streams:?}");
    assert!(metrics.contains("# TYPE"), "{metrics}");
    assert_eq!(get(admin, "/no/such/page").await.expect("an answer").0, 404);
    // Message bodies are in no metric and in no log.
    assert!(!metrics.contains("nobody's business"));
    assert!(cluster.replicas[0].log().with("nobody's business").is_empty());
}
