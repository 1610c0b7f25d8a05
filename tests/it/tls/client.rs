//! `roomcast client` over TLS.

use crate::{
    command_line_client::Terminal,
    harness::{Authority, Cluster, SOON, free_port, roomcast, run},
};

use super::{CERT, CLIENT_CA, KEY, serving};

/// The client says this in one line and exits with 1.
async fn assert_refused(arguments: &[&str], said: &str) {
    let name = ["client", "--username", "mallory"];
    let finished = run(roomcast(&[&name[..], arguments].concat()), SOON).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(finished.stderr.contains(said), "{said:?}: {finished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_chats_with_a_server_that_it_trusts() {
    let authority = Authority::new("servers");
    let cluster = serving(&authority.issue_files("server")).await;
    let addr = format!("https://{}", cluster.replicas[0].grpc());
    let mut alice = cluster.endpoint(0).over_tls(authority.trusted()).enter("alice").await;
    let mut bob = Terminal::open(&addr, "bob", &["--ca", &authority.ca_file()]);
    alice.expect_system("bob joined").await;
    bob.enter("hello over TLS");
    alice.expect_said("bob", "hello over TLS").await;
    alice.say("hello, bob").await;
    bob.prints("] alice: hello, bob").await;
    bob.enter("exit");
    assert_eq!(bob.exit_code().await, 0, "{:?}", bob.errors.lines());
    alice.expect_system("bob left").await;

    // The system's roots are the default; OpenSSL's variable says where those are.
    let mut command = roomcast(&["client", "--username", "carol", "--addr", &addr]);
    command.env("SSL_CERT_FILE", authority.ca_file()).env("SSL_CERT_DIR", "");
    let finished = run(command, SOON).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    alice.expect_system("carol joined").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_what_is_wrong_with_the_server() {
    let (authority, other) = (Authority::new("servers"), Authority::new("others"));
    let (ca, other_ca) = (authority.ca_file(), other.ca_file());
    let cluster = serving(&authority.issue_files("server")).await;
    let addr = cluster.replicas[0].grpc();
    let tls = format!("https://{addr}");
    let reach = format!("cannot reach {addr}: ");
    let untrusted = format!("{reach}its certificate is not from a CA that is trusted here");
    assert_refused(&["--addr", &tls, "--ca", &other_ca], &untrusted).await;
    let by_name = format!("https://localhost:{}", addr.port());
    let wrong_name = "its certificate is not for localhost, but for ";
    assert_refused(&["--addr", &by_name, "--ca", &ca], wrong_name).await;
    // Plain text to a TLS port.
    let hint = "it speaks TLS: begin the address with https://";
    let addr = addr.to_string();
    for endpoint in [&["--addr", &addr][..], &["--addr", &addr, "--plain"]] {
        assert_refused(endpoint, hint).await;
    }

    let plain = Cluster::memory().start().await;
    let plain = format!("https://{}", plain.replicas[0].grpc());
    assert_refused(&["--addr", &plain, "--ca", &ca], "it does not speak TLS").await;
    let nobody = format!("https://127.0.0.1:{}", free_port());
    assert_refused(&["--addr", &nobody, "--ca", &ca], "Connection refused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_a_certificate_where_one_is_asked_for() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let files = servers.issue_files("server");
    let plan = Cluster::memory().with(CERT, &files.cert).with(KEY, &files.key);
    let cluster = plan.with(CLIENT_CA, &clients.ca_file()).start().await;
    let addr = format!("https://{}", cluster.replicas[0].grpc());
    let (ca, bob) = (servers.ca_file(), clients.issue_files("bob"));
    let shown = ["--addr", &addr, "--ca", &ca, "--cert", &bob.cert, "--key", &bob.key];
    let client = ["client", "--username", "bob"];
    let finished = run(roomcast(&[&client[..], &shown].concat()), SOON).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");

    let asks = "it asks for a client certificate";
    assert_refused(&["--addr", &addr, "--ca", &ca], asks).await;
    let stranger = servers.issue_files("stranger");
    let strange = ["--addr", &addr, "--ca", &ca, "--cert", &stranger.cert, "--key", &stranger.key];
    assert_refused(&strange, "it does not accept our certificate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_names_files_that_are_of_no_use() {
    let authority = Authority::new("servers");
    let (good, other) = (authority.issue_files("good"), authority.issue_files("other"));
    let tls = ["--addr", "https://127.0.0.1:1"];
    let missing = authority.path("missing");
    let with = |more: &[&'static str], paths: &[&str]| -> Vec<String> {
        let flags = more.iter().zip(paths).flat_map(|(flag, path)| [*flag, *path]);
        tls.into_iter().chain(flags).map(str::to_owned).collect()
    };
    let cases = [
        (with(&["--ca"], &[&missing]), format!("--ca = {missing}: cannot be read")),
        (with(&["--ca"], &[&good.key]), format!("--ca = {}: holds no certificate", good.key)),
        (
            with(&["--cert", "--key"], &[&good.cert, &other.key]),
            format!("--key = {}: is not the key of", other.key),
        ),
    ];
    for (arguments, said) in cases {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        assert_refused(&arguments, &said).await;
    }
    let plain = ["--addr", "127.0.0.1:1", "--ca", &good.cert];
    assert_refused(&plain, "the address has to be https://127.0.0.1:1").await;
    let mut half = roomcast(&["client", "--username", "bob", "--cert", &good.cert]);
    half.args(tls);
    let finished = run(half, SOON).await;
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("--key <FILE>"), "{finished:?}");
}
