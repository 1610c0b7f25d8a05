//! `roomcast token`.

use std::{fs, process::Command};

use tonic::Code;

use crate::harness::{Cluster, Finished, SOON, roomcast, run, run_reading};

const SECRET: &str = "a secret of the command line 0123456789abcdef";

/// The command with this secret configured.
fn with_secret(arguments: &[&str]) -> Command {
    let mut command = roomcast(arguments);
    command.env("ROOMCAST_AUTH__MODE", "token").env("ROOMCAST_AUTH__SECRET", SECRET);
    command.env("ROOMCAST_AUTH__AUDIENCE", "roomcast");
    command
}

async fn token(arguments: &[&str]) -> Finished {
    run(with_secret(&[&["token"], arguments].concat()), SOON).await
}

async fn made(arguments: &[&str]) -> String {
    let finished = token(arguments).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_made_is_good_for_what_was_asked_for() {
    let plan = Cluster::memory().with("ROOMCAST_AUTH__MODE", "token");
    let plan =
        plan.with("ROOMCAST_AUTH__SECRET", SECRET).with("ROOMCAST_AUTH__AUDIENCE", "roomcast");
    let cluster = plan.start().await;
    let alice = made(&["--sub", "a", "--room", "team-*", "--room", "lobby"]).await;
    let endpoint = cluster.endpoint(0).bearing(&alice);
    endpoint.enter("alice").await.assert_open();
    let elsewhere = endpoint.into_room("elsewhere").join("alice").await;
    elsewhere.expect_end(Code::PermissionDenied).await;
    let bob = made(&["--sub", "b", "--name", "bob", "--role", "reader"]).await;
    let other = cluster.endpoint(0).bearing(&bob).join("bobby").await;
    other.expect_end(Code::PermissionDenied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_a_token_allows_or_why_it_is_refused() {
    let bob =
        made(&["--sub", "b", "--name", "bob", "--room", "team-*", "--role", "moderator"]).await;
    let check = token(&["--check", &bob]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    for line in ["sub   b", "name  bob", "room  team-*: moderator", "others: none"] {
        assert!(check.stdout.lines().any(|it| it == line), "{line}: {check:?}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    fs::write(&path, format!("{bob}\n")).expect("write a token");
    let input = fs::File::open(&path).expect("open it").into();
    let read = run_reading(with_secret(&["token", "--check", "-"]), input, SOON).await;
    assert_eq!((read.code, read.stdout), (Some(0), check.stdout), "from standard input");
    let nothing = token(&["--check", "-"]).await;
    assert!(nothing.stderr.starts_with("error: refused: "), "{nothing:?}");
    let expired = made(&["--sub", "b", "--ttl=-1h"]).await;
    for (bad, why) in [("a.b.c", "malformed"), (&*expired, "token expired")] {
        let check = token(&["--check", bad]).await;
        assert_eq!(check.code, Some(1), "{check:?}");
        assert!(
            check.stderr.starts_with("error: refused: ") && check.stderr.contains(why),
            "{check:?}"
        );
    }
    let open = run(roomcast(&["token", "--sub", "b"]), SOON).await;
    assert!(open.stderr.contains("configure auth.mode"), "{open:?}");
    let nobody = token(&[]).await;
    assert!(nobody.stderr.contains("--sub"), "{nobody:?}");
    for (arguments, why) in [
        (["--sub", "b", "--role", "king"], "reader, member, moderator or owner"),
        (["--sub", "b", "--room", "a*b"], "a prefix and a final *"),
        (["--sub", "b", "--ttl", "soon"], "--ttl"),
        (["--sub", "b", "--private-key", "/nowhere.pem"], "cannot read /nowhere.pem"),
    ] {
        let refused = token(&arguments).await;
        assert_ne!(refused.code, Some(0), "{refused:?}");
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
}

/// The public key of a set is where its private one signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_key_signs_for_a_public_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let (private, public) = (dir.path().join("private.pem"), dir.path().join("public.pem"));
    fs::write(&private, pair.serialize_pem()).expect("write a key");
    fs::write(&public, pair.public_key_pem()).expect("write a key");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (private, public) = (path(&private), path(&public));
    let made = run(roomcast(&["token", "--sub", "a", "--private-key", &private]), SOON).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut check = roomcast(&["token", "--check", made.stdout.trim()]);
    check.env("ROOMCAST_AUTH__MODE", "token").env("ROOMCAST_AUTH__PUBLIC_KEY_FILE", &public);
    let check = run(check, SOON).await;
    assert!(check.stdout.contains("sub   a"), "{check:?}");
}
