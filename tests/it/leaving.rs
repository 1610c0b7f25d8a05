//! Going away: however a stream ends, the others hear it once and the name is free.

use std::time::Duration;

use h2::Reason;
use tonic::Code;

use crate::harness::{Dialect, Endpoint, FaultProxy, LEASE, Payload, RawCall, SOON, Stage, quiet};

everywhere!(
    half_closing_ends_the_stream_with_ok,
    what_was_said_before_half_closing_is_delivered,
    dropping_the_stream_is_a_clean_end,
    resetting_the_stream_is_a_clean_end,
    a_dropped_connection_is_a_clean_end,
    a_silent_connection_is_no_end,
    a_name_is_free_at_once_however_it_was_left,
);

async fn half_closing_ends_the_stream_with_ok(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let mut bob = stage.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut carol = stage.endpoint(2).enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    bob.half_close();
    bob.expect_end(Code::Ok).await;
    assert_eq!(bob.next(SOON).await, None, "nobody hears of his own going");
    alice.expect_system("bob left").await;
    carol.expect_system("bob left").await;
    quiet(&alice, &mut [&mut carol]).await;
    quiet(&carol, &mut [&mut alice]).await;
    stage.cluster.assert_no_errors();
}

async fn what_was_said_before_half_closing_is_delivered(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let mut bob = stage.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    for count in 0..50 {
        bob.say(&count.to_string()).await;
    }
    bob.half_close();
    for count in 0..50 {
        alice.expect_said("bob", &count.to_string()).await;
    }
    alice.expect_system("bob left").await;
    bob.expect_end(Code::Ok).await;
}

async fn dropping_the_stream_is_a_clean_end(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let shared = stage.endpoint(1).on_one_connection().await;
    let mut bob = shared.enter_seen_by("bob", &mut [&mut alice]).await;
    let mut carol = shared.enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    bob.cancel();
    alice.expect_system("bob left").await;
    carol.expect_system("bob left").await;
    // The other stream of that connection goes on, and `left` came once.
    quiet(&carol, &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut carol]).await;
    carol.disconnect();
    alice.expect_system("carol left").await;
    stage.cluster.assert_no_errors();
}

async fn resetting_the_stream_is_a_clean_end(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let replica = &stage.cluster.replicas[1 % stage.cluster.replicas.len()];
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let mut bob = RawCall::chat(replica.grpc()).await;
        bob.send(&Payload::registration("bob").encode(stage.dialect));
        alice.expect_system("bob joined").await;
        bob.send(&Payload::message("", "last words", "").encode(stage.dialect));
        alice.expect_said("bob", "last words").await;
        bob.reset(reason);
        alice.expect_system("bob left").await;
    }
    let carol = stage.endpoint(2).enter_seen_by("carol", &mut [&mut alice]).await;
    quiet(&carol, &mut [&mut alice]).await;
    stage.cluster.assert_no_errors();
}

async fn a_dropped_connection_is_a_clean_end(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let replica = &stage.cluster.replicas[1 % stage.cluster.replicas.len()];
    let way = FaultProxy::to(replica.grpc()).await;
    let endpoint = Endpoint::at(way.addr(), stage.dialect).on_one_connection().await;
    let mut bob = endpoint.enter_seen_by("bob", &mut [&mut alice]).await;
    let carol = endpoint.enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    way.cut();
    let mut left = [alice.next(SOON).await, alice.next(SOON).await]
        .map(|heard| heard.expect("both leave").content);
    left.sort();
    assert_eq!(left, ["bob left", "carol left"]);
    assert_ne!(carol.ended(SOON).await.code, Code::Ok);
    let dave = stage.endpoint(2).enter_seen_by("dave", &mut [&mut alice]).await;
    quiet(&dave, &mut [&mut alice]).await;
    stage.cluster.assert_no_errors();
}

/// A client whose network is silent for longer than a lease keeps its name: it is the replica
/// that renews.
async fn a_silent_connection_is_no_end(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let replica = &stage.cluster.replicas[1 % stage.cluster.replicas.len()];
    let way = FaultProxy::to(replica.grpc()).await;
    let mut bob =
        Endpoint::at(way.addr(), stage.dialect).enter_seen_by("bob", &mut [&mut alice]).await;
    way.freeze();
    alice.say("are you there?").await;
    assert_eq!(alice.next(LEASE + Duration::from_secs(1)).await, None);
    way.restore();
    bob.expect_said("alice", "are you there?").await;
    quiet(&bob, &mut [&mut alice]).await;
}

async fn a_name_is_free_at_once_however_it_was_left(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    for round in 0..9 {
        let dialect = [Dialect::Typed, Dialect::Struct][round % 2];
        let endpoint = stage.endpoint(round).speaking(dialect);
        let spelling = ["bob", "BOB", "Bob"][round % 3];
        let mut bob = endpoint.enter_seen_by(spelling, &mut [&mut alice]).await;
        match round % 3 {
            0 => bob.half_close(),
            1 => bob.cancel(),
            _ => bob.disconnect(),
        }
        alice.expect_system(&format!("{spelling} left")).await;
    }
}
