//! What the log tells of who came, who went, and who was refused.

use std::process::Stdio;

use h2::Reason;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::{
    Cluster, Dialect, Endpoint, FaultProxy, Log, Payload, RawCall, SOON, eventually, free_port,
    roomcast,
};

/// The audit lines of a replica, as they tell: what happened, and the other fields.
fn lines(cluster: &Cluster, replica: usize) -> Vec<(String, Value)> {
    let lines = cluster.replicas[replica].log().with("\"target\":\"audit\"");
    let parsed = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    parsed
        .map(|mut line| {
            assert!(line.get("span").is_none() && line.get("spans").is_none(), "twice in {line}");
            let fields = line["fields"].take();
            (fields["message"].as_str().expect("a message").to_owned(), fields)
        })
        .collect()
}

/// How often something is told of a user.
fn times(cluster: &Cluster, what: &str, user: &str) -> usize {
    let lines = lines(cluster, 0);
    lines.iter().filter(|(told, fields)| told == what && fields["user"] == user).count()
}

async fn until_told(cluster: &Cluster, what: &str, user: &str) -> Value {
    eventually(SOON, &format!("{user} {what}"), async || {
        let told = |(told, fields): &(String, Value)| told == what && fields["user"] == user;
        lines(cluster, 0).into_iter().find(told).map(|(_, fields)| fields)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_came_and_went_is_told_once_however_he_went() {
    let mut cluster = Cluster::memory().start().await;
    let mut asks = cluster.endpoint(0).enter("asks").await;
    // A bare reset: a client library's end of its request may be seen before its reset.
    let mut cancels = RawCall::chat(cluster.replicas[0].grpc()).await;
    cancels.send(&Payload::registration("cancels").encode(Dialect::Typed));
    asks.expect_system("cancels joined").await;
    let wire = FaultProxy::to(cluster.replicas[0].grpc()).await;
    let endpoint = Endpoint::at(wire.addr(), Dialect::Typed);
    let _breaks = endpoint.enter_seen_by("breaks", &mut [&mut asks]).await;
    let stays = cluster.endpoint(0).enter("stays").await;
    let joined = until_told(&cluster, "joined", "asks").await;
    assert_eq!(joined["room"], "lobby");
    assert!(joined["peer"].as_str().is_some_and(|it| it.starts_with("127.0.0.1:")), "{joined}");
    assert!(joined["session"].as_str().is_some_and(|it| it.len() == 32), "{joined}");
    cluster.endpoint(0).join("asks").await.expect_end(Code::AlreadyExists).await;
    let refused = until_told(&cluster, "refused", "asks").await;
    assert_eq!(refused["code"], "AlreadyExists");
    // A name is a text like any other: it breaks no line.
    cluster.endpoint(0).join("bad\nname\u{1b}[31m").await.expect_end(Code::InvalidArgument).await;
    until_told(&cluster, "refused", "bad\\nname\\u{1b}[31m").await;
    asks.half_close();
    cancels.reset(Reason::CANCEL);
    // The whole connection goes, without a word of its streams.
    wire.cut();
    for (user, code) in [("asks", "Ok"), ("cancels", "Cancelled"), ("breaks", "Cancelled")] {
        let left = until_told(&cluster, "left", user).await;
        assert_eq!(left["code"], code, "{left}");
    }
    cluster.replicas[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    stays.expect_end(Code::Unavailable).await;
    let log = cluster.replicas[0].log();
    eventually(SOON, "the end of its log", async || log.ended().then_some(())).await;
    for user in ["asks", "cancels", "breaks", "stays"] {
        assert_eq!(
            (times(&cluster, "joined", user), times(&cluster, "left", user)),
            (1, 1),
            "{user}"
        );
    }
}

/// A name is a text like any other: in a text log, too, it ends no span and begins no line of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_forges_nothing_in_a_text_log() {
    let addr = format!("127.0.0.1:{}", free_port());
    let mut server = roomcast(&["serve", "--addr", &addr, "--admin-addr", "127.0.0.1:0"])
        .envs([("ROOMCAST_TELEMETRY__LOG_FORMAT", "text"), ("ROOMCAST_TELEMETRY__LOG", "trace")])
        .stderr(Stdio::piped())
        .spawn()
        .expect("start roomcast");
    let log = Log::capture(server.stderr.take().expect("piped"));
    eventually(SOON, "it serves", async || TcpStream::connect(&addr).await.ok().map(drop)).await;
    let endpoint = Endpoint::at(addr.parse().expect("an address"), Dialect::Typed);
    let mut forger = endpoint.enter("x} audit: joined").await;
    forger.say("hello").await;
    forger.half_close();
    forger.expect_end(Code::Ok).await;
    eventually(SOON, "the span and the audit have it in quotes", async || {
        let lines = log.with("user=\"x} audit: joined\"");
        (lines.iter().any(|it| it.contains("stream{"))
            && lines.iter().any(|it| it.contains(" audit: left")))
        .then_some(())
    })
    .await;
    let forged = log.with("user=x}");
    assert!(forged.is_empty(), "{forged:#?}");
    server.kill().and_then(|()| server.wait()).expect("it ends");
}

/// A log that is rotated keeps those who came in, whatever one address does again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_address_does_again_and_again_is_summed_up() {
    let burst = ("ROOMCAST_TELEMETRY__AUDIT_BURST", "20");
    let mut cluster = Cluster::memory().with(burst.0, burst.1).start().await;
    let endpoint = cluster.endpoint(0);
    let mut alice = endpoint.join("alice").await;
    until_told(&cluster, "joined", "alice").await;
    for _ in 0..60 {
        endpoint.join("alice").await.expect_end(Code::AlreadyExists).await;
    }
    for _ in 0..60 {
        let mut churn = endpoint.join("churn").await;
        alice.expect_system("churn joined").await;
        churn.half_close();
        alice.expect_system("churn left").await;
        churn.expect_end(Code::Ok).await;
    }
    let far = endpoint.clone().coming_from([127, 0, 0, 77]);
    let mut bob = far.join("bob").await;
    alice.expect_system("bob joined").await;
    bob.half_close();
    bob.expect_end(Code::Ok).await;
    cluster.replicas[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    let log = cluster.replicas[0].log();
    eventually(SOON, "the end of its log", async || log.ended().then_some(())).await;

    let sum = |what: &str, reason: Option<&str>| -> u64 {
        let lines = lines(&cluster, 0);
        let sums = lines.iter().filter(|(told, fields)| {
            told == what && fields.get("reason").and_then(Value::as_str) == reason
        });
        sums.map(|(_, fields)| fields["count"].as_u64().expect("a count")).sum()
    };
    assert_eq!(times(&cluster, "refused", "alice"), 5);
    assert_eq!(sum("more refused", Some("name_taken")), 55);
    let told = times(&cluster, "joined", "churn");
    assert!((10..50).contains(&told), "{told} of 60");
    assert_eq!(times(&cluster, "left", "churn"), told, "whoever is told to come is told to go");
    assert_eq!(sum("more joined, and left", None), 60 - told as u64);
    for what in ["joined", "left"] {
        assert_eq!(times(&cluster, what, "bob"), 1, "another address is told as ever");
    }
}
