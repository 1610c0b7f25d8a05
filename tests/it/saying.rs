//! Speaking: who hears what, in which order, and which messages end a stream.

use std::time::Duration;

use jiff::Timestamp;
use prost_types::value::Kind;
use tonic::Code;

use crate::harness::{ChatClient, Cluster, Dialect, Layout, Payload, SOON, Stage, quiet};

everywhere!(
    everyone_but_the_sender_hears_a_message,
    the_clients_own_name_and_time_are_ignored,
    all_receivers_see_one_timestamp_in_utc,
    empty_content_is_ignored,
    any_text_arrives_unchanged,
    one_senders_messages_keep_their_order,
    content_at_the_limit_passes_and_above_it_ends_the_stream,
    an_unreadable_later_message_ends_the_stream,
    a_message_above_the_frame_limit_hurts_only_its_sender,
    what_does_not_count_need_not_be_readable,
);

on_both_backplanes!(
    both_dialects_meet_in_one_room,
    a_field_of_the_wrong_kind_counts_as_empty,
    the_content_limit_is_configured,
);

/// Alice, who is there first, and two others on the next replicas.
async fn three(stage: &Stage) -> [ChatClient; 3] {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let mut bob = stage.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let carol = stage.endpoint(2).enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    [alice, bob, carol]
}

async fn everyone_but_the_sender_hears_a_message(stage: &Stage) {
    let [mut alice, mut bob, mut carol] = three(stage).await;
    alice.say("hello").await;
    bob.expect_said("alice", "hello").await;
    carol.expect_said("alice", "hello").await;
    // The answer is the first thing that alice hears: not her own words.
    bob.say("hi alice").await;
    alice.expect_said("bob", "hi alice").await;
    carol.expect_said("bob", "hi alice").await;
}

async fn the_clients_own_name_and_time_are_ignored(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    bob.send(Payload::message("alice", "it was me", "1999-01-01T00:00:00Z")).await;
    for listener in [&mut alice, &mut carol] {
        let heard = listener.expect_said("bob", "it was me").await;
        assert_ne!(heard.timestamp, "1999-01-01T00:00:00Z");
    }
}

async fn all_receivers_see_one_timestamp_in_utc(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    let mut last = Timestamp::UNIX_EPOCH;
    for count in 0..5 {
        let content = format!("message {count}");
        bob.say(&content).await;
        let one = alice.expect_said("bob", &content).await.timestamp;
        let other = carol.expect_said("bob", &content).await.timestamp;
        assert_eq!(one, other);
        assert!(one.ends_with('Z') && one.contains('T'), "{one:?}");
        let time: Timestamp = one.parse().expect("RFC 3339");
        let off = Timestamp::now().duration_since(time).abs();
        assert!(off.unsigned_abs() < Duration::from_secs(10), "{one:?} is {off:?} off");
        assert!(time >= last, "time went back: {one:?}");
        last = time;
    }
    let mut dave = stage.endpoint(0).join("dave").await;
    let heard = alice.expect_system("dave joined").await;
    assert!(heard.timestamp.ends_with('Z'), "{heard:?}");
    let same = carol.expect_system("dave joined").await;
    assert_eq!(heard.timestamp, same.timestamp);
    dave.half_close();
}

async fn empty_content_is_ignored(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    bob.say("").await;
    bob.send(Payload::message("bob", "", "now")).await;
    quiet(&bob, &mut [&mut alice, &mut carol]).await;
    bob.assert_open();
}

async fn any_text_arrives_unchanged(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    let texts =
        ["two\nlines", " ", "\u{0}", "ünïcödé 🦀 \u{202e}", "{\"a\":1}", "%s %n", "exit", "\r\n"];
    for text in texts {
        bob.say(text).await;
        alice.expect_said("bob", text).await;
        carol.expect_said("bob", text).await;
    }
}

async fn one_senders_messages_keep_their_order(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    for count in 0..300 {
        bob.say(&count.to_string()).await;
    }
    for count in 0..300 {
        alice.expect_said("bob", &count.to_string()).await;
        carol.expect_said("bob", &count.to_string()).await;
    }
}

async fn content_at_the_limit_passes_and_above_it_ends_the_stream(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    let most = "x".repeat(16_384);
    bob.say(&most).await;
    alice.expect_said("bob", &most).await;
    carol.expect_said("bob", &most).await;
    // The second is just below gRPC's own limit, with room for the other fields.
    let mut loud = bob;
    for size in [16_385, 4 * 1024 * 1024 - 256] {
        loud.say(&"x".repeat(size)).await;
        let message = loud.expect_end(Code::InvalidArgument).await;
        assert!(message.contains(&size.to_string()), "names the size {size}: {message:?}");
        assert!(message.contains("16384"), "names the limit: {message:?}");
        alice.expect_system("bob left").await;
        carol.expect_system("bob left").await;
        loud = stage.endpoint(1).enter_seen_by("bob", &mut [&mut alice, &mut carol]).await;
    }
    quiet(&loud, &mut [&mut alice, &mut carol]).await;
}

async fn an_unreadable_later_message_ends_the_stream(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    bob.say("before").await;
    bob.send(Payload::unreadable()).await;
    bob.expect_end(Code::InvalidArgument).await;
    for listener in [&mut alice, &mut carol] {
        listener.expect_said("bob", "before").await;
        listener.expect_system("bob left").await;
    }
    quiet(&alice, &mut [&mut carol]).await;
}

async fn a_message_above_the_frame_limit_hurts_only_its_sender(stage: &Stage) {
    let [mut alice, bob, mut carol] = three(stage).await;
    bob.offer(Payload::message("", &"x".repeat(5 * 1024 * 1024), "")).await;
    assert_ne!(bob.ended(SOON).await.code, Code::Ok);
    for listener in [&mut alice, &mut carol] {
        listener.expect_system("bob left").await;
    }
    quiet(&alice, &mut [&mut carol]).await;
    quiet(&carol, &mut [&mut alice]).await;
}

async fn both_dialects_meet_in_one_room(layout: Layout) {
    let cluster = layout.plan().start().await;
    let endpoint = |replica, dialect| cluster.endpoint(replica).speaking(dialect);
    let mut typed = endpoint(0, Dialect::Typed).enter("typed").await;
    let mut other = endpoint(0, Dialect::Struct).enter_seen_by("struct", &mut [&mut typed]).await;
    let mut far =
        endpoint(1, Dialect::Struct).enter_seen_by("far", &mut [&mut typed, &mut other]).await;
    typed.say("from typed").await;
    let one = other.expect_said("typed", "from typed").await;
    let two = far.expect_said("typed", "from typed").await;
    assert_eq!(one.timestamp, two.timestamp);
    other.say("from struct").await;
    let one = typed.expect_said("struct", "from struct").await;
    let two = far.expect_said("struct", "from struct").await;
    assert_eq!(one.timestamp, two.timestamp);
    // A name is one name in both.
    let message = endpoint(1, Dialect::Typed).join("STRUCT").await;
    let message = message.expect_end(Code::AlreadyExists).await;
    assert_eq!(message, "username \"STRUCT\" is already taken");
    other.half_close();
    typed.expect_system("struct left").await;
    far.expect_system("struct left").await;
}

async fn a_field_of_the_wrong_kind_counts_as_empty(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let endpoint = cluster.endpoint(1).speaking(Dialect::Struct);
    let bob = endpoint.enter_seen_by("bob", &mut [&mut alice]).await;
    let text = |text: &str| Kind::StringValue(text.to_owned());
    bob.send(Payload::fields(&[("content", Kind::NumberValue(7.0))])).await;
    bob.send(Payload::fields(&[("content", Kind::BoolValue(true))])).await;
    // A wrong kind beside good content takes nothing from it.
    let mixed = [("content", text("still here")), ("timestamp", Kind::NumberValue(1.0))];
    bob.send(Payload::fields(&mixed)).await;
    alice.expect_said("bob", "still here").await;
    quiet(&bob, &mut [&mut alice]).await;
}

async fn the_content_limit_is_configured(layout: Layout) {
    let cluster: Cluster = layout.plan().with("ROOMCAST_LIMITS__CONTENT_BYTES", "10").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    // Bytes, not characters: five of two bytes each.
    bob.say("ééééé").await;
    alice.expect_said("bob", "ééééé").await;
    bob.say("éééééé").await;
    let message = bob.expect_end(Code::InvalidArgument).await;
    assert!(message.contains("12") && message.contains("10"), "{message:?}");
    alice.expect_system("bob left").await;
}

/// A name and a time that are no text, around content that is.
async fn what_does_not_count_need_not_be_readable(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let bob = stage.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let payload: &[u8] = match stage.dialect {
        Dialect::Typed => b"\x0a\x01\xff\x12\x02hi\x1a\x02\xff\xfe",
        Dialect::Struct => {
            b"\x0a\x0f\x0a\x07content\x12\x04\x1a\x02hi\x0a\x11\x0a\x09timestamp\x12\x04\x1a\x02\xff\xfe"
        }
    };
    bob.send(Payload::Raw(payload.into())).await;
    alice.expect_said("bob", "hi").await;
    bob.say("still here").await;
    alice.expect_said("bob", "still here").await;
    bob.assert_open();
}
