//! Taking names and giving them back.

use futures_util::future::join_all;

use super::{Fixture, Replica, Setup, props::*, replicas};
use crate::{backplane::JoinError, domain::RoomName};

pub(crate) async fn a_held_name_is_taken_in_every_spelling(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    a.join(&room, "bob").await;
    for spelling in ["bob", "BOB", "Bob"] {
        b.is_refused(&b.hold(&room, spelling), "a name is held on every replica").await;
        a.is_refused(&a.hold(&room, spelling), "a name is held against its own replica").await;
    }
    assert_eq!(a.story(&room).await, ["1 bob joined"], "a refused join is not told");
}

pub(crate) async fn a_join_is_told_once_it_is_held(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    b.subscribe(&room).await;
    let bob = a.hold(&room, "Bob");
    let joined = a.take(&bob).await;
    assert!(joined.told, "a first join is told");
    assert_eq!(joined.position.seq, 1, "a log begins at 1");

    let heard = b.hear_until(&room, 1).await;
    assert_eq!(heard.story(), ["1 Bob joined"], "the spelling is kept");
    assert_eq!(heard.events[0].1.member.session, bob.session, "an event names the stay");
    b.is_refused(&b.hold(&room, "bob"), "who heard `joined` finds the name taken").await;
    assert_eq!(b.head(&room).await.position, joined.position, "a join answers its position");
}

pub(crate) async fn a_join_repeated_under_its_token_answers_as_at_first(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.hold(&room, "bob");
    let first = a.take(&bob).await;
    b.join(&room, "carol").await;
    a.say(&bob, 1, "hi").await;

    let again = a.take(&bob).await;
    assert_eq!(again.position, first.position, "a repeated join answers the first position");
    assert_eq!(again.told, first.told, "a repeated join answers as the first did");
    let story = ["1 bob joined", "2 carol joined", "3 bob: hi"];
    assert_eq!(a.story(&room).await, story, "a repeated join is told once");
    let repeated = a.say(&bob, 1, "hi").await;
    assert!(repeated.duplicate, "a repeated join forgets nothing that was appended");
}

pub(crate) async fn one_of_a_hundred_claims_wins(fixture: &impl Fixture) {
    let crowd: [Replica; 3] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let claims = (0..100).map(|i| {
        let replica = &crowd[i % crowd.len()];
        let hold = replica.hold(&room, ["bob", "Bob", "BOB"][i % 3]);
        async move { replica.claim(&hold, None).await }
    });
    let outcomes = join_all(claims).await;
    let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let losers = outcomes.iter().filter(|outcome| matches!(outcome, Err(JoinError::Taken))).count();
    assert_eq!((winners, losers), (1, 99), "of many who claim one name at once, one gets it");
    assert_eq!(crowd[0].story(&room).await.len(), 1, "only the winner is told of");
}

pub(crate) async fn a_name_left_is_free_at_once(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.leave(&bob).await;
    b.join(&room, "Bob").await;
    let story = ["1 bob joined", "2 bob left", "3 Bob joined"];
    assert_eq!(a.story(&room).await, story, "who leaves is told of before who comes");
}

pub(crate) async fn a_leave_is_told_once(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    let left = a.leave(&bob).await.expect("there was a name to give back");
    assert_eq!(left, a.head(&room).await.position, "a leave answers its position");
    assert_eq!(a.leave(&bob).await, None, "there is nothing to give back twice");
    assert_eq!(b.hear_all(&room).await.story(), ["1 bob joined", "2 bob left"]);
    assert!(a.try_say(&bob, 1, "hi").await.is_err(), "who left does not speak");
}

pub(crate) async fn a_stale_leave_does_nothing(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let former = a.join(&room, "bob").await;
    a.leave(&former).await;
    let bob = b.join(&room, "bob").await;
    assert_eq!(a.leave(&former).await, None, "a former holder has nothing to give back");

    let mut thief = bob.clone();
    thief.token = some_token();
    assert_eq!(a.leave(&thief).await, None, "a hold is given back by its token only");
    b.say(&bob, 1, "still here").await;
    let story = ["1 bob joined", "2 bob left", "3 bob joined", "4 bob: still here"];
    assert_eq!(a.story(&room).await, story, "a stale leave is not told");
}

pub(crate) async fn rooms_know_nothing_of_each_other(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let (here, there): (RoomName, RoomName) = (some_room(), some_room());
    b.subscribe(&there).await;
    let bob = a.join(&here, "bob").await;
    let other_bob = a.join(&there, "bob").await;
    a.say(&bob, 1, "here").await;
    a.say(&other_bob, 1, "there").await;

    let mut astray = bob.clone();
    astray.room = there.clone();
    assert!(a.try_say(&astray, 2, "astray").await.is_err(), "a hold is good in its room only");
    assert_eq!(a.leave(&astray).await, None, "a hold is given back in its room only");

    assert_eq!(a.story(&here).await, ["1 bob joined", "2 bob: here"], "each room has its log");
    let heard = b.hear_all(&there).await;
    assert_eq!(heard.story(), ["1 bob joined", "2 bob: there"], "each room has its channel");
    assert!(b.hear_all(&here).await.story().is_empty(), "only rooms subscribed to are heard");
    let (here, there) = (a.head(&here).await, a.head(&there).await);
    assert_ne!(here.position.epoch, there.position.epoch, "each log has its epoch");
}
