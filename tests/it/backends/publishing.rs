//! Messages that backends publish.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use roomcast_auth::{Claims, RoomcastClaim, Signer};
use roomcast_proto::room::{
    ErrorReason, ListEventsRequest, ListMembersRequest, PublishFailure, PublishManyRequest,
    PublishRequest, PublishResponse, event::What, publish_result::Result as Published,
};
use tonic::Code;

use super::{Backend, KEY, backend, bearing, keyed, message, reason};
use crate::harness::{Cluster, Layout, RichClient, SOON, eventually};

on_both_backplanes!(
    what_a_backend_publishes_is_heard,
    only_backends_and_admins_may_publish,
    what_is_not_allowed_is_refused,
    a_key_is_published_once,
    many_messages_have_an_answer_each,
    as_many_as_may_be_are_published_at_once,
);

async fn start(layout: Layout) -> Cluster {
    layout.plan().with("ROOMCAST_API__KEY", KEY).start().await
}

async fn publish(backend: &mut Backend, request: PublishRequest) -> PublishResponse {
    backend.publish(request).await.expect("published").into_inner()
}

/// What was said in a room, in its order.
async fn story(cluster: &Cluster, room: &str) -> Vec<String> {
    let mut calls = RichClient::calls(&cluster.endpoint(2)).await;
    let asked = ListEventsRequest { room: room.to_owned(), ..ListEventsRequest::default() };
    let events = calls.list_events(asked).await.expect("a page").into_inner().events;
    let said = events.into_iter().filter_map(|event| match event.what {
        Some(What::Said(said)) => Some(format!("{}: {}", event.username, said.content)),
        _ => None,
    });
    said.collect()
}

async fn what_a_backend_publishes_is_heard(layout: Layout) {
    let cluster = start(layout).await;
    let mut typed = cluster.endpoint(0).enter("typed").await;
    let mut rich =
        RichClient::open(&cluster.endpoint(1), RichClient::asking("lobby", "rich")).await;
    let joined = rich.welcome().await.head.expect("a head");
    typed.expect_system("rich joined").await;
    let mut backend = backend(&cluster, 2).await;
    let published = publish(&mut backend, message("", "to all")).await;
    let robot =
        PublishRequest { username: "Robot".to_owned(), ..message("lobby", "from a service") };
    publish(&mut backend, robot).await;
    typed.expect_said("System", "to all").await;
    typed.expect_said("Robot", "from a service").await;
    let at = rich.expect_said("System", "to all").await;
    assert_eq!((Some(at), at.seq), (published.position, joined.seq + 1));
    rich.expect_said("Robot", "from a service").await;
    let mut calls = RichClient::calls(&cluster.endpoint(0)).await;
    let members = calls.list_members(ListMembersRequest::default()).await.expect("a page");
    assert_eq!(members.into_inner().members.len(), 2, "services are no members");
    // Where nobody is, it waits.
    publish(&mut backend, message("empty", "for later")).await;
    assert_eq!(story(&cluster, "empty").await, ["System: for later"]);
    cluster.assert_no_errors();
}

async fn only_backends_and_admins_may_publish(layout: Layout) {
    const SECRET: &str = "a secret that only the tests know 0123456789";
    let cluster = start(layout).await;
    let mut nobody = bearing(&cluster.endpoint(0), "another-key-which-is-as-long-0123456789").await;
    let refused = nobody.publish(message("", "hi")).await.expect_err("no credentials");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(refused.message().contains("api.key"), "{refused}");

    let plan = layout.plan().with("ROOMCAST_API__KEY", KEY).with("ROOMCAST_AUTH__MODE", "token");
    let cluster = plan.with("ROOMCAST_AUTH__SECRET", SECRET).start().await;
    let token = |admin| {
        let exp = (Timestamp::now() + SignedDuration::from_secs(3600)).as_second();
        let roomcast = Some(RoomcastClaim { rooms: vec![], admin });
        let (iat, nbf, iss, aud, name) = Default::default();
        let claims = Claims { sub: "a".to_owned(), exp, iat, nbf, iss, aud, name, roomcast };
        Signer::from_secret(SECRET.as_bytes()).expect("long enough").sign(&claims).expect("signed")
    };
    let mut member = bearing(&cluster.endpoint(0), &token(false)).await;
    let refused = member.publish(message("", "hi")).await.expect_err("no right");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "FORBIDDEN"));
    let refused = member.publish_many(PublishManyRequest::default()).await.expect_err("no right");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut nobody = bearing(&cluster.endpoint(1), "x").await;
    let refused = nobody.publish(message("", "hi")).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    for token in [token(true).as_str(), KEY] {
        let mut admin = bearing(&cluster.endpoint(1), token).await;
        admin.publish(message("", "hi")).await.expect("it may");
    }
}

async fn what_is_not_allowed_is_refused(layout: Layout) {
    let cluster = start(layout).await;
    let mut bob = RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "bob")).await;
    bob.welcome().await;
    let mut backend = backend(&cluster, 1).await;
    let named =
        |username: &str| PublishRequest { username: username.to_owned(), ..message("den", "hi") };
    for (request, code, why) in [
        (message("den", ""), Code::InvalidArgument, "INVALID_MESSAGE"),
        (message("den", &"x".repeat(16_385)), Code::InvalidArgument, "CONTENT_TOO_LARGE"),
        (message("d e n", "hi"), Code::InvalidArgument, "INVALID_ROOM"),
        (named("System"), Code::InvalidArgument, "INVALID_USERNAME"),
        (named("\u{202e}bob"), Code::InvalidArgument, "INVALID_USERNAME"),
        (named("BOB"), Code::AlreadyExists, "NAME_TAKEN"),
        (keyed("den", "hi", &"k".repeat(129)), Code::InvalidArgument, "INVALID_MESSAGE"),
    ] {
        let refused = backend.publish(request).await.expect_err(why);
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why), "{refused}");
    }
    publish(&mut backend, message("den", &"x".repeat(16_384))).await;
    publish(&mut backend, keyed("den", "hi", &"k".repeat(128))).await;
    let reused = backend.publish(keyed("den", "ho", &"k".repeat(128))).await.expect_err("another");
    assert_eq!(reason(&reused), "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(story(&cluster, "den").await.len(), 2, "what is refused leaves nothing");
}

async fn a_key_is_published_once(layout: Layout) {
    let cluster = start(layout).await;
    let mut backends = vec![];
    for replica in 0..3 {
        backends.push(backend(&cluster, replica).await);
    }
    let calls = (0..100).map(|call| {
        let mut backend = backends[call % 3].clone();
        async move { publish(&mut backend, keyed("den", "once", "the key")).await }
    });
    let answers = join_all(calls.collect::<Vec<_>>()).await;
    let positions: HashSet<_> =
        answers.iter().map(|it| it.position.expect("a position").seq).collect();
    assert_eq!(positions.len(), 1, "all are told of one: {positions:?}");
    assert_eq!(answers.iter().filter(|it| !it.duplicate).count(), 1);
    assert_eq!(story(&cluster, "den").await, ["System: once"]);
}

async fn many_messages_have_an_answer_each(layout: Layout) {
    let cluster = start(layout).await;
    let mut backend = backend(&cluster, 0).await;
    let mut messages: Vec<_> =
        (0..998).map(|at| message(["a", "b"][at % 2], &at.to_string())).collect();
    messages.insert(500, message("c", ""));
    messages.push(message("a", "last"));
    let many = PublishManyRequest { messages: messages.clone() };
    let results = backend.publish_many(many).await.expect("answered").into_inner().results;
    assert_eq!(results.len(), 1000);
    let failed: Vec<(usize, PublishFailure)> = (0..)
        .zip(&results)
        .filter_map(|(at, result)| match &result.result {
            Some(Published::Failure(failure)) => Some((at, failure.clone())),
            _ => None,
        })
        .collect();
    let [(500, failure)] = failed.as_slice() else { panic!("{failed:?}") };
    let expected = (Code::InvalidArgument as i32, ErrorReason::InvalidMessage, false);
    assert_eq!((failure.code, failure.reason(), failure.retryable), expected);
    let expected: Vec<_> = messages
        .iter()
        .filter(|it| it.room == "a")
        .map(|it| format!("System: {}", it.content))
        .collect();
    let mut calls = RichClient::calls(&cluster.endpoint(1)).await;
    let asked = ListEventsRequest { room: "a".to_owned(), ..ListEventsRequest::default() };
    let page = calls.list_events(asked).await.expect("a page").into_inner();
    assert_eq!(page.head.expect("a head").seq, expected.len() as u64);
    assert_eq!(story(&cluster, "a").await, expected, "in their order");

    for count in [0, 1001] {
        let many = PublishManyRequest { messages: vec![message("a", "x"); count] };
        let refused = backend.publish_many(many).await.expect_err("too few or many");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}

/// Calls of backends are not limited as those of clients are, and wait for their turn.
async fn as_many_as_may_be_are_published_at_once(layout: Layout) {
    const CALLS: usize = 3000;
    let cluster = start(layout).await;
    let backend = backend(&cluster, 0).await;
    let calls = (0..CALLS).map(|call| {
        let mut backend = backend.clone();
        async move { publish(&mut backend, message("den", &call.to_string())).await }
    });
    let answers = join_all(calls.collect::<Vec<_>>()).await;
    let seqs: HashSet<_> = answers.iter().map(|it| it.position.expect("a position").seq).collect();
    assert_eq!(seqs, (1..=CALLS as u64).collect(), "each has its place");
}

/// The answer is lost with Redis, which has the message; repeated, it is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_answer_is_lost_is_published_once() {
    let plan = Cluster::durable_redis(2).proxied().with("ROOMCAST_API__KEY", KEY);
    let mut cluster = plan.with("ROOMCAST_REDIS__TIMEOUT", "1s").start().await;
    let mut first = backend(&cluster, 0).await;
    publish(&mut first, message("den", "before")).await;
    cluster.proxies[0].freeze_answers();
    let lost = first.publish(keyed("den", "once", "k")).await.expect_err("no answer");
    assert_eq!((lost.code(), reason(&lost).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    cluster.redis_server().kill();
    cluster.redis_server().restart().await;
    cluster.proxies[0].restore();
    let mut second = backend(&cluster, 1).await;
    let found = eventually(SOON, "Redis answers again", async || {
        second.publish(keyed("den", "once", "k")).await.ok()
    });
    let found = found.await.into_inner();
    assert!(found.duplicate, "the first one was appended");
    assert_eq!(found.position.expect("a position").seq, 2);
    let again = eventually(SOON, "the first replica is back", async || {
        first.publish(keyed("den", "once", "k")).await.ok()
    });
    assert_eq!(again.await.into_inner(), found, "wherever it is asked");
    let after = publish(&mut second, message("den", "after")).await;
    assert_eq!(after.position.expect("a position").seq, 3);
    assert_eq!(story(&cluster, "den").await, ["System: before", "System: once", "System: after"]);
}

/// While Redis is away it is said so in bounded time, and the same call succeeds when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_finds_no_redis_is_published_later() {
    let plan = Cluster::durable_redis(1).with("ROOMCAST_API__KEY", KEY);
    let mut cluster = plan.with("ROOMCAST_REDIS__TIMEOUT", "500ms").start().await;
    let mut backend = backend(&cluster, 0).await;
    cluster.shared().kill();
    let began = std::time::Instant::now();
    let refused = backend.publish(keyed("den", "once", "k")).await.expect_err("no Redis");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(3), "in bounded time");
    let many = PublishManyRequest { messages: vec![keyed("den", "twice", "l")] };
    let results = backend.publish_many(many).await.expect("answered").into_inner().results;
    let Some(Published::Failure(failure)) = &results[0].result else { panic!("{results:?}") };
    assert_eq!((failure.code, failure.retryable), (Code::Unavailable as i32, true));
    cluster.shared().restart().await;
    eventually(SOON, "Redis answers again", async || {
        backend.publish(keyed("den", "once", "k")).await.ok()
    })
    .await;
    assert_eq!(story(&cluster, "den").await, ["System: once"]);
}
