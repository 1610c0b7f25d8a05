//! What moderators set for a whole room.

use std::time::{Duration, Instant};

use roomcast_auth::Role;
use roomcast_proto::room::{
    Join, ListEventsRequest, ModerationAction, NackReason, RoomSettings, SetRoomRequest,
    join::Since,
};
use tonic::Code;

use super::{Moderator, denied, enter, expect_moderated, moderator, seconds, start};
use crate::harness::{
    Layout, RichClient,
    tokens::{claims, of_role, token},
};

on_both_backplanes!(
    a_slow_room_makes_all_wait_but_moderators,
    a_read_only_room_hears_moderators_only,
    a_hidden_history_is_seen_by_moderators_only,
);

impl Moderator {
    async fn set(&mut self, room: &str, change: SetRoomRequest) -> RoomSettings {
        let request = self.endpoint.authorized(SetRoomRequest { room: room.to_owned(), ..change });
        let answer = self.client.set_room(request).await.expect("a moderator may");
        answer.into_inner().settings.expect("it tells what holds")
    }
}

async fn a_slow_room_makes_all_wait_but_moderators(layout: Layout) {
    let cluster = start(layout).await;
    let mut bob = enter(&cluster, 0, "lobby", "bob").await;
    let mut moderator = moderator(&cluster, 1).await;
    let change = SetRoomRequest { slow_mode: Some(seconds(2)), ..SetRoomRequest::default() };
    let settings = moderator.set("lobby", change).await;
    assert_eq!((settings.slow_mode, settings.read_only), (Some(seconds(2)), false));
    let told = expect_moderated(&mut bob, "").await;
    assert_eq!((told.action(), told.settings), (ModerationAction::RoomSet, Some(settings)));

    bob.say_and_wait(1, "one").await;
    bob.say(2, "two").await;
    let nack = bob.expect_nack(2).await;
    assert_eq!(nack.reason(), NackReason::TooFast);
    let wait = Duration::try_from(nack.retry_after.expect("the time is told")).expect("a time");
    assert!(wait > Duration::from_millis(100) && wait <= Duration::from_secs(2), "{wait:?}");
    let chief = cluster.endpoint(2).bearing(&of_role("chief", Role::Moderator));
    let mut chief = RichClient::open(&chief, RichClient::asking("lobby", "chief")).await;
    chief.welcome().await;
    for number in 1..=3 {
        chief.say_and_wait(number, "x").await;
    }
    // A client of the chat protocol is held back, and loses nothing.
    let mut listener = cluster.endpoint(0).bearing(&token(&claims("l"))).enter("listener").await;
    let endpoint = cluster.endpoint(1).bearing(&token(&claims("carol")));
    let mut carol = endpoint.enter_seen_by("carol", &mut [&mut listener]).await;
    let begun = Instant::now();
    for word in ["a", "b", "c"] {
        carol.say(word).await;
    }
    carol.half_close();
    for word in ["a", "b", "c"] {
        listener.expect_said("carol", word).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    listener.expect_system("carol left").await;
    assert_eq!(carol.ended(crate::harness::SOON).await.code, Code::Ok);
    let off = SetRoomRequest { slow_mode: Some(seconds(0)), ..SetRoomRequest::default() };
    assert_eq!(moderator.set("lobby", off).await, RoomSettings::default());
    for number in 2..=5 {
        bob.say_and_wait(number, "fast").await;
    }
    cluster.assert_no_errors();
}

async fn a_read_only_room_hears_moderators_only(layout: Layout) {
    let cluster = start(layout).await;
    let mut bob = enter(&cluster, 0, "lobby", "bob").await;
    let mut moderator = moderator(&cluster, 1).await;
    let read_only = SetRoomRequest { read_only: Some(true), ..SetRoomRequest::default() };
    assert!(moderator.set("lobby", read_only).await.read_only);
    bob.say(1, "x").await;
    let nack = bob.expect_nack(1).await;
    assert_eq!((nack.reason(), nack.retry_after), (NackReason::Forbidden, None));
    assert!(nack.detail.contains("read-only"), "{}", nack.detail);
    // Of a room that begins later, too.
    let read_only = SetRoomRequest { read_only: Some(true), ..SetRoomRequest::default() };
    moderator.set("later", read_only).await;
    let plain = cluster.endpoint(2).bearing(&token(&claims("c"))).into_room("later");
    let plain = plain.enter("carol").await;
    plain.say("x").await;
    assert!(plain.expect_end(Code::PermissionDenied).await.contains("read-only"));
    let open = SetRoomRequest { read_only: Some(false), ..SetRoomRequest::default() };
    moderator.set("lobby", open).await;
    bob.say_and_wait(1, "x").await;
    cluster.assert_no_errors();
}

async fn a_hidden_history_is_seen_by_moderators_only(layout: Layout) {
    let cluster = start(layout).await;
    let mut alice = enter(&cluster, 0, "lobby", "alice").await;
    alice.say_and_wait(1, "before").await;
    let mut moderator = moderator(&cluster, 1).await;
    let hidden = SetRoomRequest { history_hidden: Some(true), ..SetRoomRequest::default() };
    assert!(moderator.set("lobby", hidden).await.history_hidden);
    let since = |since| Join { since: Some(since), ..RichClient::asking("lobby", "bob") };
    let beginning = roomcast_proto::room::Position { epoch: 0, seq: 0 };
    let endpoint = cluster.endpoint(2).bearing(&token(&claims("bob")));
    for (number, asked) in [(2, Since::Latest(100)), (3, Since::After(beginning))] {
        let mut bob = RichClient::open(&endpoint, since(asked)).await;
        bob.welcome().await;
        bob.expect_joined("bob").await;
        alice.say_and_wait(number, "now").await;
        bob.expect_said("alice", "now").await;
        bob.leave().await;
        assert_eq!(bob.ended(crate::harness::SOON).await.code, Code::Ok);
    }
    // A session that goes on sees no more.
    let mut bob = RichClient::open(&endpoint, RichClient::asking("lobby", "bob")).await;
    bob.welcome().await;
    alice.say_and_wait(4, "to bob").await;
    bob.disconnect();
    let mut bob = bob.resume(&endpoint, Some(beginning)).await;
    assert!(bob.welcome().await.resumed);
    bob.expect_joined("bob").await;
    bob.expect_said("alice", "to bob").await;
    let mut calls = RichClient::calls(&endpoint).await;
    let words = denied(calls.list_events(endpoint.authorized(ListEventsRequest::default())).await);
    assert_eq!(words, "the history of room \"lobby\" is hidden");
    let request = moderator.endpoint.authorized(ListEventsRequest::default());
    let events = calls.list_events(request).await.expect("a moderator sees").into_inner();
    assert!(events.events.len() > 3);
    let chief = cluster.endpoint(0).bearing(&of_role("chief", Role::Moderator));
    let asked =
        Join { since: Some(Since::After(beginning)), ..RichClient::asking("lobby", "chief") };
    let mut chief = RichClient::open(&chief, asked).await;
    chief.welcome().await;
    chief.expect_joined("alice").await;
    chief.expect_said("alice", "before").await;
    cluster.assert_no_errors();
}
