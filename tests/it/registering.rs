//! Coming in: what registers a name, what is refused, and who hears of it.

use prost_types::value::Kind;
use tonic::Code;

use crate::harness::{ChatClient, Dialect, Endpoint, Payload, SOON, Stage, quiet};

everywhere!(
    only_the_name_of_the_first_message_counts,
    everyone_else_hears_joined,
    a_stream_that_ends_before_its_first_message_is_refused,
    an_unreadable_first_message_is_refused,
    a_blank_name_is_refused,
    a_name_of_the_wrong_kind_counts_as_empty,
    a_struct_with_another_key_is_no_registration,
    a_taken_name_is_refused_in_the_spelling_asked_for,
    look_alikes_of_a_taken_name_are_refused,
    the_servers_own_name_is_refused,
    forbidden_names_are_refused,
    unusual_names_are_kept_as_spelled,
    rooms_are_apart,
    the_default_room_is_the_lobby,
    forbidden_room_names_are_refused,
);

/// Asks for a name and expects to be refused with this code; answers the message.
async fn refused(endpoint: &Endpoint, name: &str, code: Code) -> String {
    let client = endpoint.join(name).await;
    let message = client.expect_end(code).await;
    assert!(client.record().state().heard.is_empty(), "refused, yet told something: {client:?}");
    message
}

/// Opens a stream with this first message and expects to be refused.
async fn refused_payload(endpoint: &Endpoint, first: Payload) -> String {
    endpoint.open("refused", Some(first)).await.expect_end(Code::InvalidArgument).await
}

async fn only_the_name_of_the_first_message_counts(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let first = Payload::message("bob", "said too early", "1999-01-01T00:00:00Z");
    let bob = stage.endpoint(1).open("bob", Some(first)).await;
    alice.expect_system("bob joined").await;
    quiet(&bob, &mut [&mut alice]).await;
}

async fn everyone_else_hears_joined(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let mut bob = stage.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut carol = stage.endpoint(2).enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    // Nobody hears of his own coming, nor of those who were there before.
    quiet(&alice, &mut [&mut bob, &mut carol]).await;
    quiet(&carol, &mut [&mut alice, &mut bob]).await;
}

async fn a_stream_that_ends_before_its_first_message_is_refused(stage: &Stage) {
    let mut client = stage.endpoint(0).open("nobody", None).await;
    client.half_close();
    let message = client.expect_end(Code::InvalidArgument).await;
    assert!(message.starts_with("failed to receive registration: "), "{message:?}");
}

async fn an_unreadable_first_message_is_refused(stage: &Stage) {
    let message = refused_payload(&stage.endpoint(0), Payload::unreadable()).await;
    assert!(message.starts_with("failed to receive registration: "), "{message:?}");
}

async fn a_blank_name_is_refused(stage: &Stage) {
    for blank in ["", " ", "   ", "\u{3000}"] {
        let message = refused(&stage.endpoint(0), blank, Code::InvalidArgument).await;
        assert_eq!(message, "username cannot be empty", "for {blank:?}");
    }
}

async fn a_name_of_the_wrong_kind_counts_as_empty(stage: &Stage) {
    for kind in [Kind::NumberValue(7.0), Kind::BoolValue(true), Kind::NullValue(0)] {
        let first = Payload::fields(&[("username", kind)]);
        let message = refused_payload(&stage.endpoint(0), first).await;
        assert_eq!(message, "username cannot be empty");
    }
    let first = Payload::fields(&[("content", Kind::StringValue("no name".to_owned()))]);
    assert_eq!(refused_payload(&stage.endpoint(0), first).await, "username cannot be empty");
}

async fn a_struct_with_another_key_is_no_registration(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let text = |text: &str| Kind::StringValue(text.to_owned());
    let first = Payload::fields(&[("username", text("bob")), ("colour", text("red"))]);
    refused_payload(&stage.endpoint(0), first).await;
    // With the wrong key gone the same name is free.
    let first = Payload::fields(&[("username", text("bob")), ("content", Kind::NumberValue(1.0))]);
    let bob = stage.endpoint(1).speaking(Dialect::Struct).open("bob", Some(first)).await;
    alice.expect_system("bob joined").await;
    quiet(&bob, &mut [&mut alice]).await;
}

async fn a_taken_name_is_refused_in_the_spelling_asked_for(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let mut bob = stage.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    for replica in 0..3 {
        for spelling in ["bob", "BOB", "Bob", "ｂｏｂ"] {
            let message = refused(&stage.endpoint(replica), spelling, Code::AlreadyExists).await;
            assert_eq!(message, format!("username \"{spelling}\" is already taken"));
        }
    }
    // The holder goes on undisturbed, and nobody heard of the attempts.
    quiet(&bob, &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut bob]).await;
}

async fn look_alikes_of_a_taken_name_are_refused(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let coco = stage.endpoint(1).enter_seen_by("coco", &mut [&mut alice]).await;
    // All Cyrillic, hence no mixture, but the same to the eye.
    let message = refused(&stage.endpoint(2), "сосо", Code::AlreadyExists).await;
    assert_eq!(message, "username \"сосо\" is already taken");
    // One Cyrillic letter among Latin ones.
    refused(&stage.endpoint(2), "cоco", Code::InvalidArgument).await;
    quiet(&coco, &mut [&mut alice]).await;
}

async fn the_servers_own_name_is_refused(stage: &Stage) {
    for spelling in ["System", "system", "SYSTEM", "sYsTeM", "Ｓｙｓｔｅｍ", "Ѕystem"] {
        refused(&stage.endpoint(0), spelling, Code::InvalidArgument).await;
    }
}

async fn forbidden_names_are_refused(stage: &Stage) {
    let long = "a".repeat(65);
    let forbidden =
        ["a\nb", "a\u{0}b", "\u{7f}del", "bob\u{202e}", "bo\u{200b}b", "\u{feff}bob", &long];
    for name in forbidden {
        let message = refused(&stage.endpoint(0), name, Code::InvalidArgument).await;
        assert!(!message.is_empty() && !message.contains(['\n', '\u{0}']), "{message:?}");
    }
    let message = refused(&stage.endpoint(0), &long, Code::InvalidArgument).await;
    assert!(message.contains("65") && message.contains("64"), "names both sizes: {message:?}");
}

async fn unusual_names_are_kept_as_spelled(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let long = "b".repeat(64);
    for name in ["🦀", "Żółć", "Иван", "山田太郎", "O'Neil-3 jr.", &long] {
        let mut guest = stage.endpoint(1).enter_seen_by(name, &mut [&mut alice]).await;
        guest.say("hello").await;
        alice.expect_said(name, "hello").await;
        guest.half_close();
        alice.expect_system(&format!("{name} left")).await;
    }
}

async fn rooms_are_apart(stage: &Stage) {
    let room = |replica, name: &str| stage.endpoint(replica).into_room(name);
    let mut alice = room(0, "kitchen").enter("alice").await;
    let mut bob = room(1, "cellar").enter("bob").await;
    // The same name in both rooms.
    let cook = room(1, "kitchen").enter_seen_by("carol", &mut [&mut alice]).await;
    let smith = room(2, "cellar").enter_seen_by("carol", &mut [&mut bob]).await;
    cook.say("soup").await;
    smith.say("wine").await;
    alice.expect_said("carol", "soup").await;
    bob.expect_said("carol", "wine").await;
    quiet(&cook, &mut [&mut alice]).await;
    quiet(&smith, &mut [&mut bob]).await;
    // Names of rooms are not folded.
    let mut other = room(0, "Kitchen").enter("alice").await;
    quiet(&cook, &mut [&mut alice]).await;
    other.half_close();
    other.expect_end(Code::Ok).await;
}

async fn the_default_room_is_the_lobby(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let named = stage.endpoint(1).into_room("lobby");
    let mut bob = named.enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut bob]).await;
    quiet(&bob, &mut [&mut alice]).await;
}

async fn forbidden_room_names_are_refused(stage: &Stage) {
    let mut alice = stage.endpoint(0).enter("alice").await;
    let long = "r".repeat(65);
    for room in ["", "two words", "a/b", "{room}", "k\u{fc}che", "tab\there", &long] {
        let endpoint = stage.endpoint(1).into_room(room);
        refused(&endpoint, "bob", Code::InvalidArgument).await;
    }
    let most = format!("A-z0.9_{}", "x".repeat(57));
    let mut bob: ChatClient = stage.endpoint(1).into_room(&most).enter("bob").await;
    bob.half_close();
    assert_eq!(bob.ended(SOON).await.code, Code::Ok);
    let carol = stage.endpoint(2).enter_seen_by("carol", &mut [&mut alice]).await;
    quiet(&carol, &mut [&mut alice]).await;
}
