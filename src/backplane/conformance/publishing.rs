//! What services publish, which are no members.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{Fixture, Setup, props::*, replicas};
use crate::{
    backplane::{
        IdempotencyKey, LogBounds, MembersPage, Publish, PublishError, conformance::Replica,
    },
    domain::{
        DisplayName, Event, EventKind, Member, RoomName, SessionId, Username, UsernameLimits,
    },
};

/// A message under the server's own name.
pub(crate) fn message(room: &RoomName, content: &str) -> Publish {
    let member = Member { name: DisplayName::from_log("System"), session: SessionId::SERVICE };
    let what = EventKind::Said { content: Arc::from(content) };
    let event = Arc::new(Event { at: jiff::Timestamp::now(), member, what, trace: None });
    Publish { room: room.clone(), name: None, event, key: None }
}

/// A message with a key.
fn keyed(room: &RoomName, key: &str, content: &str) -> Publish {
    let mut digest = [0; 16];
    digest[..content.len()].copy_from_slice(content.as_bytes());
    Publish { key: Some(IdempotencyKey::new(key, digest)), ..message(room, content) }
}

/// A message under a name.
fn named(room: &RoomName, name: &str, content: &str) -> Publish {
    let name = Username::parse(name, UsernameLimits::default()).expect("a good name");
    Publish { name: Some(name), ..message(room, content) }
}

async fn count_members(replica: &Replica, room: &RoomName) -> usize {
    let page = MembersPage { cursor: None, limit: 10 };
    replica.backplane.members(room, page).await.expect("the backplane answers").total
}

pub(crate) async fn a_service_is_heard_and_is_no_member(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    b.subscribe(&room).await;
    let first = a.backplane.publish(message(&room, "one")).await.expect("nothing is needed");
    assert_eq!((first.position.seq, first.duplicate), (1, false), "the room begins with it");
    let bob = b.join(&room, "bob").await;
    let third = b.backplane.publish(message(&room, "three")).await.expect("with members or not");
    assert_eq!(third.position.seq, 3, "it has its place among what members do");
    assert_eq!(b.head(&room).await.position, third.position);
    b.say(&bob, 1, "four").await;
    let story = ["1 System: one", "2 bob joined", "3 System: three", "4 bob: four"];
    assert_eq!(a.story(&room).await, story);
    assert_eq!(b.hear_until(&room, 4).await.story(), story, "listeners hear all of it");
    assert_eq!(count_members(&a, &room).await, 1, "only bob is in");
}

pub(crate) async fn a_members_name_is_no_services(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let taken = b.backplane.publish(named(&room, "BOB", "hi")).await;
    assert_eq!(taken, Err(PublishError::NameTaken), "in no spelling");
    let published = b.backplane.publish(named(&room, "robot", "hi")).await;
    assert_eq!(published.expect("a free name").position.seq, 2);
    let both = [named(&room, "bob", "no"), named(&room, "robot", "yes")];
    let [no, yes] = join_all(both.map(|it| b.backplane.publish(it))).await.try_into().unwrap();
    assert_eq!((no, yes.map(|it| it.position.seq)), (Err(PublishError::NameTaken), Ok(3)));
    a.leave(&bob).await;
    b.backplane.publish(named(&room, "bob", "now")).await.expect("the name is free");
    a.join(&room, "bob").await;
    assert_eq!(a.head(&room).await.position.seq, 6, "publishing under it takes no name");
}

pub(crate) async fn a_key_stands_for_one_message(fixture: &impl Fixture) {
    let [a, b, c] = replicas(fixture, Setup::CALM).await;
    let (room, other) = (some_room(), some_room());
    let replicas = [&a, &b, &c];
    let all = (0..99).map(|at| replicas[at % 3].backplane.publish(keyed(&room, "k", "hi")));
    let all = join_all(all.collect::<Vec<_>>()).await;
    let all: Vec<_> = all.into_iter().map(|it| it.expect("the backplane answers")).collect();
    assert_eq!(all.iter().filter(|it| !it.duplicate).count(), 1, "one is appended");
    assert!(all.iter().all(|it| it.position == all[0].position), "all are told where: {all:?}");
    assert_eq!(a.story(&room).await, ["1 System: hi"]);

    let reused = c.backplane.publish(keyed(&room, "k", "ho")).await;
    assert_eq!(reused, Err(PublishError::KeyReused), "it is another message");
    for publish in [keyed(&room, "K", "hi"), keyed(&other, "k", "hi"), message(&room, "hi")] {
        assert!(!a.backplane.publish(publish).await.unwrap().duplicate, "these are others");
    }
    assert_eq!(a.head(&room).await.position.seq, 3);
    let bob = a.hold(&room, "bob");
    a.take(&bob).await;
    let held = Publish { name: Some(bob.name.clone()), ..keyed(&room, "k", "hi") };
    let again = b.backplane.publish(held).await.expect("it is in the log");
    assert_eq!((again.duplicate, again.position), (true, all[0].position), "whoever came since");
}

pub(crate) async fn publishes_take_effect_in_the_order_of_their_calls(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let (room, other) = (some_room(), some_room());
    b.subscribe(&room).await;
    let calls = (0..300).map(|at| {
        let room = if at % 3 == 2 { &other } else { &room };
        a.backplane.publish(keyed(room, &at.to_string(), &at.to_string()))
    });
    for published in join_all(calls.collect::<Vec<_>>()).await {
        assert!(!published.expect("the backplane answers").duplicate);
    }
    let story: Vec<_> = (0..300)
        .filter(|at| at % 3 != 2)
        .zip(1..)
        .map(|(at, seq)| format!("{seq} System: {at}"))
        .collect();
    assert_eq!(a.story(&room).await, story, "the log has that order");
    assert_eq!(b.hear_until(&room, 200).await.story(), story, "listeners hear that order");
    assert_eq!(a.head(&other).await.position.seq, 100);
}

pub(crate) async fn what_is_published_is_kept_for_its_age(fixture: &impl Fixture) {
    let (age, lease) = (Duration::from_millis(900), Duration::from_millis(300));
    let setup = Setup { lease, log: LogBounds { age, ..Setup::CALM.log }, ..Setup::CALM };
    let [a, b] = replicas(fixture, setup).await;
    let room = some_room();
    a.backplane.publish(message(&room, "hi")).await.expect("the backplane answers");
    fixture.pass(lease * 2).await;
    assert_eq!(b.head(&room).await.position.seq, 1, "longer than a room in which nothing was said");
    fixture.pass(lease * 4 + age).await;
    assert_eq!(b.read(&room, 0, 10).await.head, None, "and no longer than its age");
}
