//! `roomcast client` with a token, and what it says without a good one.

use std::{
    fs,
    time::{Duration, Instant},
};

use roomcast_auth::{Claims, Role};

use crate::{
    command_line_client::Terminal,
    harness::{
        Finished, Layout, SOON, eventually, roomcast, run,
        tokens::{claims, in_seconds, token, with_roles},
    },
};

on_both_backplanes!(
    a_file_is_read_again_when_a_newer_token_is_needed,
    a_variable_has_a_token_for_both_protocols,
    what_is_wrong_is_one_clear_line,
);

async fn a_file_is_read_again_when_a_newer_token_is_needed(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let mut alice = cluster.endpoint(0).bearing(&token(&claims("alice"))).enter("alice").await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    // Its stream would end after five seconds.
    let expiring = Claims { exp: in_seconds(-20), ..claims("bob") };
    fs::write(&path, token(&expiring)).expect("write a token");
    let file = path.to_str().expect("UTF-8");
    let mut bob = Terminal::open(&cluster.replicas[0].grpc(), "bob", &["--token-file", file]);
    alice.expect_system("bob joined").await;
    fs::write(&path, format!("{}\n", token(&claims("bob")))).expect("write a token");
    let begun = Instant::now();
    let later = async || (begun.elapsed() > Duration::from_secs(7)).then_some(());
    eventually(2 * SOON, "the first token would have ended the stream", later).await;
    bob.enter("still here");
    alice.expect_said("bob", "still here").await;
    bob.enter("exit");
    alice.expect_system("bob left").await;
    assert_eq!(bob.exit_code().await, 0);
    assert_eq!(bob.errors.with("reconnecting"), [""; 0]);
}

/// What `roomcast client` comes to, with nothing to say.
async fn client(addr: &str, variable: Option<&str>, more: &[&str]) -> Finished {
    let arguments = ["client", "--username", "bob", "--addr", addr];
    let mut command = roomcast(&[&arguments[..], more].concat());
    command.envs(variable.map(|token| ("ROOMCAST_TOKEN", token)));
    run(command, SOON).await
}

async fn a_variable_has_a_token_for_both_protocols(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let addr = cluster.replicas[0].grpc().to_string();
    let mut alice = cluster.endpoint(0).bearing(&token(&claims("alice"))).enter("alice").await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    let bobs = token(&claims("bob"));
    fs::write(&path, &bobs).expect("write a token");
    let file = ["--token-file", path.to_str().expect("UTF-8")];
    for (variable, more) in [
        (Some(&*bobs), &[][..]),
        (Some(&*bobs), &["--plain"]),
        (None, &file),
        (Some("the.file.counts"), &[&file[..], &["--plain"]].concat()),
    ] {
        let finished = client(&addr, variable, more).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        alice.expect_system("bob joined").await;
        alice.expect_system("bob left").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bench_drives_replicas_that_want_tokens() {
    let cluster = Layout::Memory.plan().wanting_tokens().start().await;
    let addr = cluster.replicas[0].grpc().to_string();
    let bench = async |token: &str| {
        let load = ["--clients", "6", "--senders", "2", "--rate", "20", "--seconds", "1"];
        let mut command =
            roomcast(&[&["bench", "--addr", &addr, "--warmup", "0"], &load[..]].concat());
        command.env("ROOMCAST_TOKEN", token);
        run(command, 3 * SOON).await
    };
    let driven = bench(&token(&claims("bench"))).await;
    assert_eq!(driven.code, Some(0), "{driven:?}");
    let refused = bench("").await;
    assert!(refused.code == Some(1) && refused.stderr.contains("no token"), "{refused:?}");
}

async fn what_is_wrong_is_one_clear_line(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let addr = cluster.replicas[0].grpc().to_string();
    let elsewhere = token(&with_roles("bob", &[("elsewhere", Role::Member)]));
    let expired = token(&Claims { exp: in_seconds(-31), ..claims("bob") });
    let good = token(&claims("bob"));
    for plain in [false, true] {
        for (addr, variable, more, line) in [
            (&*addr, None, &[][..], "the server wants a token: name a file"),
            (&addr, Some(&*expired), &[], "the server refused: token expired"),
            (&addr, Some(&*elsewhere), &[], "the server refused: no access to room \"lobby\""),
            (&addr, Some("not one"), &[], "ROOMCAST_TOKEN: not a token"),
            (&addr, None, &["--token-file", "/nowhere"], ": cannot read /nowhere: No such file"),
            (&addr, None, &["--token-file", "/dev/null"], ": /dev/null: the token is empty"),
            // Nobody answers there.
            ("192.0.2.1:1", Some(&*good), &[], "the token would go to 192.0.2.1:1 over plain text"),
        ] {
            let more = [more, if plain { &["--plain"] } else { &[] }].concat();
            let finished = client(addr, variable, &more).await;
            assert_eq!(finished.code, Some(1), "{finished:?}");
            let lines: Vec<_> = finished.stderr.lines().collect();
            assert!(lines.len() == 1 && lines[0].contains(line), "{line}: {finished:?}");
            assert!(variable.is_none_or(|it| !lines[0].contains(it)), "{finished:?}");
        }
    }
}
