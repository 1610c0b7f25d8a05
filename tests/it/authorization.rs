//! Who may come in where a token is wanted, and what it gives the right to.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use roomcast_auth::{Claims, Role, Signer};
use roomcast_proto::room::{
    Authenticate, ListEventsRequest, ListMembersRequest, NackReason, connect_request::Frame as Ask,
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{
    ChatClient, Cluster, Dialect, Endpoint, Layout, Replica, RichClient, SOON, eventually,
    tokens::{SECRET, claims, in_seconds, sign_with, token, with_roles},
};

on_both_backplanes!(
    who_shows_no_good_token_is_refused,
    a_token_says_into_which_rooms_and_under_which_name,
    a_reader_hears_and_does_not_speak,
    a_session_is_its_subjects,
    a_stream_ends_a_little_after_its_token,
    a_newer_token_counts_from_then_on,
);

/// How asking for everything ends, by way of each protocol and each call.
async fn all_ends(endpoint: &Endpoint) -> Vec<(Code, String)> {
    let chat = endpoint.join("mallory").await.ended(SOON).await;
    let rich = RichClient::open(endpoint, RichClient::asking("lobby", "mallory")).await;
    let rich = rich.ended(SOON).await;
    let mut calls = RichClient::calls(endpoint).await;
    let members = calls.list_members(endpoint.authorized(ListMembersRequest::default())).await;
    let events = calls.list_events(endpoint.authorized(ListEventsRequest::default())).await;
    let (members, events) = (members.expect_err("refused"), events.expect_err("refused"));
    vec![
        (chat.code, chat.message),
        (rich.code, rich.message),
        (members.code(), members.message().to_owned()),
        (events.code(), events.message().to_owned()),
    ]
}

async fn who_shows_no_good_token_is_refused(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let good = claims("mallory");
    let with = |change: fn(&mut Claims)| {
        let mut claims = good.clone();
        change(&mut claims);
        Some(token(&claims))
    };
    let unsigned = {
        let good = token(&good);
        let payload = good.split('.').nth(1).expect("three parts");
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.")
    };
    for (number, (token, why)) in [
        (None, "no token"),
        (Some("a.b".to_owned()), "malformed token"),
        (Some(unsigned), "algorithm"),
        (Some(sign_with("another secret that is long enough 01234", &good)), "signature"),
        (with(|it| it.exp = in_seconds(-31)), "token expired"),
        (with(|it| it.nbf = Some(in_seconds(60))), "not valid yet"),
        (with(|it| it.iss = Some("https://id.example.org".to_owned())), "another issuer"),
        (with(|it| it.aud = Some("another".to_owned())), "another audience"),
        (with(|it| it.aud = None), "aud"),
        (with(|it| it.sub.clear()), "sub"),
    ]
    .into_iter()
    .enumerate()
    {
        let endpoint = cluster.endpoint(number);
        let endpoint = match &token {
            Some(token) => endpoint.bearing(token),
            None => endpoint,
        };
        for (code, message) in all_ends(&endpoint).await {
            assert_eq!(code, Code::Unauthenticated, "{why}: {message}");
            assert!(message.contains(why), "{why}: {message}");
            assert!(!message.contains(SECRET), "{message}");
        }
    }
    for replica in &cluster.replicas {
        let log = replica.log();
        assert!(!log.lines().iter().any(|line| line.contains(SECRET)), "a secret is in the log");
        let parts = token(&good);
        let payload = parts.split('.').nth(1).expect("three parts");
        assert!(!log.lines().iter().any(|line| line.contains(payload)), "a token is in the log");
    }
    // A good one is good, on every replica.
    for replica in 0..3 {
        let endpoint = cluster.endpoint(replica).bearing(&token(&claims("alice")));
        let room = endpoint.into_room(&format!("room-{replica}"));
        room.enter("alice").await.assert_open();
    }
    cluster.assert_no_errors();
}

async fn a_token_says_into_which_rooms_and_under_which_name(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let bob =
        Claims { name: Some("bob".to_owned()), ..with_roles("b", &[("team-*", Role::Member)]) };
    let endpoint = cluster.endpoint(0).bearing(&token(&bob));
    for (code, message) in all_ends(&endpoint).await {
        assert_eq!(code, Code::PermissionDenied, "{message}");
        // Names are looked at first: calls have none.
        let named = message == "this token is for the name \"bob\"";
        assert!(named || message == "no access to room \"lobby\"", "{message}");
    }
    let denied = endpoint.join("bob").await.expect_end(Code::PermissionDenied).await;
    assert_eq!(denied, "no access to room \"lobby\"");
    let team = endpoint.into_room("team-1");
    let denied = team.join("bobby").await.expect_end(Code::PermissionDenied).await;
    assert_eq!(denied, "this token is for the name \"bob\"");
    let alice = with_roles("a", &[("team-1", Role::Owner)]);
    let alice =
        cluster.endpoint(1).bearing(&token(&alice)).into_room("team-1").enter("alice").await;
    let bob = team.enter_in_sight_of("bob", &alice).await;
    bob.assert_open();
}

async fn a_reader_hears_and_does_not_speak(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let mut alice = cluster.endpoint(0).bearing(&token(&claims("alice"))).enter("alice").await;
    let reader = token(&with_roles("r", &[("lobby", Role::Reader)]));
    let endpoint = cluster.endpoint(1).bearing(&reader);
    let mut plain = endpoint.enter_seen_by("reader", &mut [&mut alice]).await;
    let mut rich = RichClient::open(&endpoint, RichClient::asking("lobby", "other reader")).await;
    rich.welcome().await;
    alice.expect_system("other reader joined").await;
    plain.expect_system("other reader joined").await;
    alice.say("listen").await;
    plain.expect_said("alice", "listen").await;
    rich.expect_said("alice", "listen").await;
    rich.say(1, "I may not").await;
    let nack = rich.expect_nack(1).await;
    assert_eq!((nack.reason(), nack.retry_after), (NackReason::Forbidden, None), "{nack:?}");
    plain.say("nor may I").await;
    let why = plain.expect_end(Code::PermissionDenied).await;
    assert!(why.contains("not speak"), "{why}");
    alice.expect_system("reader left").await;
    rich.assert_open();
    // Whoever reads sees what was, and who is there.
    let mut calls = RichClient::calls(&endpoint).await;
    let members = calls.list_members(endpoint.authorized(ListMembersRequest::default())).await;
    assert_eq!(members.expect("a reader sees").into_inner().total_size, 2);
}

async fn a_session_is_its_subjects(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let mut alice = cluster.endpoint(0).bearing(&token(&claims("alice"))).enter("alice").await;
    let endpoint = |replica, sub: &str| cluster.endpoint(replica).bearing(&token(&claims(sub)));
    let mut bob = RichClient::open(&endpoint(0, "b"), RichClient::asking("lobby", "bob")).await;
    bob.welcome().await;
    alice.expect_system("bob joined").await;
    bob.disconnect();
    let thief = bob.resume(&endpoint(1, "m"), None).await;
    thief.expect_end(Code::PermissionDenied).await;
    let mut again = bob.resume(&endpoint(1, "b"), None).await;
    assert!(again.welcome().await.resumed);
}

async fn a_stream_ends_a_little_after_its_token(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let mut alice = cluster.endpoint(0).bearing(&token(&claims("alice"))).enter("alice").await;
    // Clocks may differ by that much.
    let expired = |sub: &str| token(&Claims { exp: in_seconds(-20), ..claims(sub) });
    let plain = cluster.endpoint(1).bearing(&expired("c"));
    let plain = plain.enter_seen_by("carol", &mut [&mut alice]).await;
    let endpoint = cluster.endpoint(2).bearing(&expired("b"));
    let mut rich = RichClient::open(&endpoint, RichClient::asking("lobby", "bob")).await;
    rich.welcome().await;
    alice.expect_system("bob joined").await;
    let left = rich.expect_expiring().await.r#in;
    assert_eq!(left, Some(prost_types::Duration::default()), "it has expired");
    for end in [plain.ended(SOON).await, rich.ended(SOON).await] {
        assert_eq!((end.code, &*end.message), (Code::Unauthenticated, "token expired"));
    }
    alice.expect_system("carol left").await;
    // The session lingers.
    let mut again = rich.resume(&cluster.endpoint(0).bearing(&token(&claims("b"))), None).await;
    assert!(again.welcome().await.resumed);
}

async fn a_newer_token_counts_from_then_on(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let show = |claims: &Claims| Ask::Authenticate(Authenticate { token: token(claims) });
    let expiring = Claims { exp: in_seconds(-15), ..claims("b") };
    let endpoint = cluster.endpoint(0).bearing(&token(&expiring));
    let mut bob = RichClient::open(&endpoint, RichClient::asking("lobby", "bob")).await;
    bob.welcome().await;
    bob.expect_expiring().await;
    bob.send(show(&with_roles("b", &[("*", Role::Reader)]))).await;
    bob.say(1, "hi").await;
    assert_eq!(bob.expect_nack(1).await.reason(), NackReason::Forbidden);
    bob.send(show(&claims("b"))).await;
    bob.say_and_wait(1, "hi").await;
    // It is there for longer than the first token would have let it.
    let begun = std::time::Instant::now();
    let later = async || (begun.elapsed() > Duration::from_secs(11)).then_some(());
    eventually(2 * SOON, "the first token would have ended it", later).await;
    bob.say_and_wait(2, "still here").await;
    bob.send(show(&claims("somebody else"))).await;
    let why = bob.expect_end(Code::PermissionDenied).await;
    assert_eq!(why, "the newer token is for another subject");
    let mut bob = bob.resume(&cluster.endpoint(1).bearing(&token(&claims("b"))), None).await;
    bob.welcome().await;
    bob.send(show(&Claims { name: Some("robert".to_owned()), ..claims("b") })).await;
    let why = bob.expect_end(Code::PermissionDenied).await;
    assert_eq!(why, "this token is for the name \"robert\"");
    let mut bob = bob.resume(&cluster.endpoint(2).bearing(&token(&claims("b"))), None).await;
    bob.welcome().await;
    bob.send(Ask::Authenticate(Authenticate { token: "x".to_owned() })).await;
    let why = bob.expect_end(Code::Unauthenticated).await;
    assert!(why.starts_with("malformed token"), "{why}");
}

async fn is_let_in(client: ChatClient) -> bool {
    let ended = client.record().wait(Duration::from_millis(200), |state| state.ended.clone()).await;
    ended.is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_in_a_file_is_replaced_while_the_replica_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).expect("write a secret");
    let plan = Cluster::memory().with("ROOMCAST_AUTH__MODE", "token");
    let cluster =
        plan.with("ROOMCAST_AUTH__SECRET_FILE", path.to_str().expect("a path")).start().await;
    let next = "the secret of the next year, which is another one";
    let of = |secret: &str| cluster.endpoint(0).bearing(&sign_with(secret, &claims("alice")));
    let alice = of(SECRET).enter("alice").await;
    of(next).join("bob").await.expect_end(Code::Unauthenticated).await;
    std::fs::write(&path, "too short").expect("write a secret");
    eventually(SOON, "the replica tells of it", async || {
        let log = cluster.replicas[0].log().lines();
        log.iter().any(|line| line.contains("the old one stays in force")).then_some(())
    })
    .await;
    assert!(is_let_in(of(SECRET).join("carol").await).await);
    std::fs::write(&path, next).expect("write a secret");
    eventually(SOON, "the new secret is in force", async || {
        is_let_in(of(next).join("bob").await).await.then_some(())
    })
    .await;
    of(SECRET).join("dave").await.expect_end(Code::Unauthenticated).await;
    alice.assert_open();
}

/// A key that signs, and as a member of a key set.
fn key(id: &str) -> (Signer, String) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key_raw());
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{public}"}}"#);
    (Signer::from_pem(pair.serialize_pem().as_bytes()).expect("a key").with_key_id(id), jwk)
}

async fn health(endpoint: &Endpoint) -> ServingStatus {
    let mut health = HealthClient::new(endpoint.channel().await);
    let answer = health.check(HealthCheckRequest::default()).await.expect("health is open");
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_is_waited_for_replaced_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("jwks.json");
    let settings = [("MODE", "token"), ("JWKS_FILE", path.to_str().expect("a path"))];
    let settings = settings.map(|(key, value)| (format!("ROOMCAST_AUTH__{key}"), value.to_owned()));
    let replica = Replica::start_with("A", &settings, None).await;
    let endpoint = Endpoint::at(replica.grpc(), Dialect::Typed);
    let ((old, old_jwk), (new, new_jwk)) = (key("old"), key("new"));
    let by =
        |signer: &Signer| endpoint.clone().bearing(&signer.sign(&claims("a")).expect("signed"));
    let write = |keys: &str| std::fs::write(&path, keys).expect("write the key set");
    // There is none yet.
    replica.until_unready(SOON).await;
    assert_eq!(health(&endpoint).await, ServingStatus::NotServing);
    let early = by(&old).join("alice").await.expect_end(Code::Unavailable).await;
    assert!(early.contains("not known here yet"), "{early}");
    write(&format!(r#"{{"keys":[{old_jwk}]}}"#));
    replica.until_ready(SOON).await;
    eventually(SOON, "health follows", async || {
        (health(&endpoint).await == ServingStatus::Serving).then_some(())
    })
    .await;
    let alice = by(&old).enter("alice").await;
    let unknown = by(&new).join("bob").await.expect_end(Code::Unauthenticated).await;
    assert!(unknown.contains("key id is not known"), "{unknown}");
    // Garbage changes nothing.
    write("{");
    eventually(SOON, "the replica tells of it", async || {
        let log = replica.log().lines();
        log.iter().any(|line| line.contains("cannot be fetched")).then_some(())
    })
    .await;
    assert!(is_let_in(by(&old).join("carol").await).await);
    // The next set has the next key only.
    write(&format!(r#"{{"keys":[{new_jwk}]}}"#));
    eventually(SOON, "the next key counts", async || {
        is_let_in(by(&new).join("bob").await).await.then_some(())
    })
    .await;
    by(&old).join("dave").await.expect_end(Code::Unauthenticated).await;
    replica.until_ready(SOON).await;
    alice.assert_open();
}
