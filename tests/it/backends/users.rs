//! What backends do about somebody, wherever they are.

use std::time::Duration;

use jiff::Timestamp;
use roomcast_auth::Claims;
use roomcast_proto::room::{DisconnectRequest, GetUserRequest, NackReason, RevokeTokensRequest};
use tonic::Code;

use super::{KEY, backend};
use crate::harness::{
    Cluster, Endpoint, Layout, Replica, RichClient, SOON,
    tokens::{SECRET, claims, in_seconds, token},
};

on_both_backplanes!(
    whoever_is_disconnected_is_out_everywhere,
    who_may_return_comes_back_to_its_session,
    revoked_tokens_are_good_for_nothing,
    a_user_is_found_in_all_rooms,
    a_user_has_so_many_streams,
    ten_streams_are_not_ten_allowances,
);

async fn start(layout: Layout) -> Cluster {
    layout.plan().wanting_tokens().with("ROOMCAST_API__KEY", KEY).start().await
}

async fn enter_at(endpoint: &Endpoint, room: &str, name: &str) -> RichClient {
    let mut client = RichClient::open(endpoint, RichClient::asking(room, name)).await;
    client.welcome().await;
    client
}

async fn enter(cluster: &Cluster, replica: usize, sub: &str, room: &str, name: &str) -> RichClient {
    enter_at(&cluster.endpoint(replica).bearing(&token(&claims(sub))), room, name).await
}

async fn whoever_is_disconnected_is_out_everywhere(layout: Layout) {
    let cluster = start(layout).await;
    let mut alice = enter(&cluster, 0, "a", "lobby", "alice").await;
    let mut bobs = Vec::new();
    for replica in 0..3 {
        let name = format!("bob {replica}");
        bobs.push(enter(&cluster, replica, "b", "lobby", &name).await);
        alice.expect_joined(&name).await;
    }
    let plain =
        cluster.endpoint(1).bearing(&token(&claims("b"))).into_room("room").enter("b").await;
    let mut backend = backend(&cluster, 2).await;
    let asked = DisconnectRequest {
        sub: "b".to_owned(),
        reason: "the account is closed".to_owned(),
        may_return: false,
    };
    backend.disconnect(asked).await.expect("a backend may");
    for bob in &bobs {
        let words = bob.expect_end(Code::PermissionDenied).await;
        assert_eq!(words, "disconnected: the account is closed");
    }
    plain.expect_end(Code::PermissionDenied).await;
    let mut gone = Vec::new();
    for _ in 0..3 {
        gone.push(alice.next_event().await.username);
    }
    gone.sort();
    assert_eq!(gone, ["bob 0", "bob 1", "bob 2"], "their sessions are over at once");
    alice.assert_open();
    // Who is not kept out may come again.
    enter(&cluster, 0, "b", "lobby", "bob").await.assert_open();
    cluster.assert_no_errors();
}

async fn who_may_return_comes_back_to_its_session(layout: Layout) {
    let cluster = start(layout).await;
    let bob = enter(&cluster, 0, "b", "lobby", "bob").await;
    let asked = DisconnectRequest { sub: "b".to_owned(), may_return: true, ..<_>::default() };
    backend(&cluster, 1).await.disconnect(asked).await.expect("a backend may");
    assert_eq!(bob.expect_end(Code::Unavailable).await, "disconnected");
    let endpoint = cluster.endpoint(2).bearing(&token(&claims("b")));
    let mut again = bob.resume(&endpoint, None).await;
    assert!(again.welcome().await.resumed);
    again.say_and_wait(1, "back").await;
    cluster.assert_no_errors();
}

/// A token that was issued so many seconds from now.
fn issued(sub: &str, seconds: i64) -> String {
    token(&Claims { iat: Some(in_seconds(seconds)), ..claims(sub) })
}

async fn revoked_tokens_are_good_for_nothing(layout: Layout) {
    let cluster = start(layout).await;
    let (old, untimed) = (issued("b", -60), token(&claims("b")));
    let bob = enter_at(&cluster.endpoint(0).bearing(&old), "lobby", "bob").await;
    let other = enter_at(&cluster.endpoint(1).bearing(&untimed), "lobby", "other").await;
    // One that was renewed meanwhile stays.
    let newer = issued("b", -20);
    let kept = enter_at(&cluster.endpoint(2).bearing(&newer), "lobby", "kept").await;
    let alice = enter_at(&cluster.endpoint(2).bearing(&issued("a", -60)), "lobby", "alice").await;
    let before = Timestamp::from_second(in_seconds(-30)).expect("a time");
    let issued_before = Some(prost_types::Timestamp { seconds: before.as_second(), nanos: 0 });
    let asked = RevokeTokensRequest { sub: "b".to_owned(), issued_before };
    backend(&cluster, 1).await.revoke_tokens(asked).await.expect("a backend may");
    for client in [&bob, &other] {
        assert_eq!(client.expect_end(Code::Unauthenticated).await, "token revoked");
    }
    for replica in 0..3 {
        for token in [&old, &untimed] {
            let endpoint = cluster.endpoint(replica).bearing(token);
            let words = endpoint.join("bob").await.expect_end(Code::Unauthenticated).await;
            assert_eq!(words, "token revoked");
        }
        let name = format!("bob {replica}");
        enter_at(&cluster.endpoint(replica).bearing(&newer), "lobby", &name).await.assert_open();
    }
    kept.assert_open();
    alice.assert_open();
    // Now all of them.
    let asked = RevokeTokensRequest { sub: "b".to_owned(), issued_before: None };
    backend(&cluster, 0).await.revoke_tokens(asked).await.expect("a backend may");
    assert_eq!(kept.expect_end(Code::Unauthenticated).await, "token revoked");
    // The sessions of the others linger.
    let newest = cluster.endpoint(0).bearing(&issued("b", 2));
    enter_at(&newest, "lobby", "bob again").await.assert_open();
    alice.assert_open();
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_later_knows_what_was_revoked() {
    let mut cluster = start(Layout::Redis).await;
    let asked = RevokeTokensRequest { sub: "b".to_owned(), issued_before: None };
    backend(&cluster, 0).await.revoke_tokens(asked).await.expect("a backend may");
    let url = cluster.redis_server().url();
    let settings = [
        ("ROOMCAST_AUTH__MODE", "token"),
        ("ROOMCAST_AUTH__SECRET", SECRET),
        ("ROOMCAST_REDIS__URL", &url),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let replica = Replica::start_with("later", &settings, None).await;
    replica.until_ready(SOON).await;
    let endpoint = Endpoint::at(replica.grpc(), crate::harness::Dialect::Typed);
    let bob = endpoint.clone().bearing(&issued("b", -60));
    // It may be let in before that is read, and not for longer.
    let words = bob.join("bob").await.expect_end(Code::Unauthenticated).await;
    assert_eq!(words, "token revoked");
    endpoint.bearing(&issued("a", -60)).enter("alice").await.assert_open();
}

async fn a_user_is_found_in_all_rooms(layout: Layout) {
    let cluster = start(layout).await;
    let mut here = Vec::new();
    for (replica, room) in ["lobby", "room-1", "room-2"].into_iter().enumerate() {
        here.push(enter(&cluster, replica, "b", room, "bob").await);
        here.push(enter(&cluster, replica, "c", room, "carol").await);
    }
    let mut backend = backend(&cluster, 1).await;
    let asked = GetUserRequest { sub: "b".to_owned() };
    let members = backend.get_user(asked).await.expect("a backend may").into_inner().members;
    let mut found: Vec<_> =
        members.iter().map(|it| (&*it.room, &*it.username, it.lingering)).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [("lobby", "bob", false), ("room-1", "bob", false), ("room-2", "bob", false)]
    );
    let bad = backend.get_user(GetUserRequest::default()).await.expect_err("no sub");
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad:?}");
    let nobody = GetUserRequest { sub: "nobody".to_owned() };
    assert!(backend.get_user(nobody).await.expect("nobody").into_inner().members.is_empty());
}

async fn a_user_has_so_many_streams(layout: Layout) {
    let plan = layout.plan().wanting_tokens().with("ROOMCAST_LIMITS__STREAMS_PER_USER", "2");
    let cluster = plan.start().await;
    let one = enter(&cluster, 0, "b", "lobby", "one").await;
    let two = enter(&cluster, 0, "b", "room", "two").await;
    let endpoint = cluster.endpoint(0).bearing(&token(&claims("b")));
    let refused = endpoint.join("three").await.ended(SOON).await;
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.message.contains("limits.streams_per_user"), "{}", refused.message);
    enter(&cluster, 0, "c", "lobby", "carol").await.assert_open();
    one.leave().await;
    assert_eq!(one.ended(SOON).await.code, Code::Ok);
    crate::harness::eventually(SOON, "there is a place again", async || {
        let client = RichClient::open(&endpoint, RichClient::asking("lobby", "three")).await;
        let answered = client.inbox().wait(SOON, |state| {
            let welcomed = (!state.told.is_empty()).then_some(true);
            welcomed.or_else(|| state.ended.as_ref().map(|_| false))
        });
        answered.await.unwrap_or(false).then_some(())
    })
    .await;
    two.assert_open();
}

async fn ten_streams_are_not_ten_allowances(layout: Layout) {
    let plan = layout.plan().wanting_tokens().with("ROOMCAST_LIMITS__SESSION_INTERVAL", "1h");
    let cluster = plan.with("ROOMCAST_LIMITS__SESSION_BURST", "3").start().await;
    let mut streams = Vec::new();
    for number in 0..3 {
        streams.push(enter(&cluster, 0, "b", &format!("room-{number}"), "bob").await);
    }
    for stream in &mut streams {
        stream.say_and_wait(1, "x").await;
    }
    for stream in &mut streams {
        stream.say(2, "x").await;
        let nack = stream.expect_nack(2).await;
        assert_eq!(nack.reason(), NackReason::TooFast);
        let wait = nack.retry_after.expect("the time is told").seconds;
        assert!(wait > Duration::from_secs(3000).as_secs().cast_signed(), "{wait}");
    }
    let mut carol = enter(&cluster, 0, "c", "room-0", "carol").await;
    carol.say_and_wait(1, "x").await;
}
