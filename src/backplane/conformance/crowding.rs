//! Rooms that have as many members as they may have.

use futures_util::future::join_all;

use super::{Fixture, Replica, Setup, outlast_leases, props::*, replicas};
use crate::backplane::{Hold, JoinError};

const PAIRS: Setup = Setup { members_per_room: 2, ..Setup::CALM };
const BRIEF_PAIRS: Setup = Setup { members_per_room: 2, ..Setup::BRIEF };

/// Asserts that there is no place for a hold, and that trying changes nothing.
async fn is_full(replica: &Replica, hold: &Hold, rule: &str) {
    let head = replica.head(&hold.room).await;
    let outcome = replica.claim(hold, None).await;
    assert!(matches!(outcome, Err(JoinError::Full { max: 2, .. })), "{rule}, yet: {outcome:?}");
    assert_eq!(replica.head(&hold.room).await, head, "who is refused changes nothing");
    assert_eq!(replica.lookup(hold).await, None, "who is refused takes no name");
}

pub(crate) async fn a_full_room_takes_nobody_in(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, PAIRS).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    b.join(&room, "carol").await;
    is_full(&a, &a.hold(&room, "dave"), "there is no place").await;
    is_full(&b, &b.hold(&room, "dave"), "there is no place on any replica").await;
    b.is_refused(&b.hold(&room, "bob"), "a name that is held is taken, room or no room").await;
    a.join(&some_room(), "dave").await;

    a.leave(&bob).await;
    b.join(&room, "dave").await;
    is_full(&a, &a.hold(&room, "bob"), "the place has been taken").await;
    let story = ["1 bob joined", "2 carol joined", "3 bob left", "4 dave joined"];
    assert_eq!(a.story(&room).await, story);
}

pub(crate) async fn of_many_who_come_at_once_as_many_get_in_as_fit(fixture: &impl Fixture) {
    let setup = Setup { members_per_room: 7, ..Setup::CALM };
    let crowd: [Replica; 3] = replicas(fixture, setup).await;
    let room = some_room();
    let claims = (0..60).map(|i| {
        let replica = &crowd[i % crowd.len()];
        let hold = replica.hold(&room, &format!("member{i}"));
        async move { replica.claim(&hold, None).await }
    });
    let outcomes = join_all(claims).await;
    let inside = outcomes.iter().filter(|it| it.is_ok()).count();
    let refused = outcomes.iter().filter(|it| matches!(it, Err(JoinError::Full { max: 7, .. })));
    assert_eq!((inside, refused.count()), (7, 53));
    assert_eq!(crowd[0].story(&room).await.len(), 7, "only who got in is told of");
}

pub(crate) async fn who_comes_back_fits_into_a_full_room(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, BRIEF_PAIRS).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let carol = a.hold(&room, "carol");
    let joined = a.take(&carol).await;
    assert_eq!(a.take(&carol).await.position, joined.position, "a join that is repeated");
    let (bob, _) = b.take_over(&bob).await;
    assert!(b.linger(&bob, BRIEF_PAIRS.lease / 2).await);
    let (bob, _) = a.take_over(&bob).await;
    a.say(&bob, 1, "hi").await;

    // The lease ends; one name is taken again, the other one is lost, and its place given away.
    outlast_leases(fixture, BRIEF_PAIRS).await;
    let overdue = b.overdue(&room).await;
    let again = again(&carol, joined.position);
    assert!(!a.take(&again).await.told, "a name that is taken again");
    assert_eq!(b.reap(&room, &overdue).await, 1);
    b.join(&room, "dave").await;
    let bob = self::again(&bob, joined.position);
    let outcome = a.claim(&bob, None).await;
    assert!(outcome.expect("who was declared gone").told, "though it never went, is let in");
    is_full(&b, &b.hold(&room, "eve"), "nobody else is").await;
    a.leave(&bob).await;
    is_full(&b, &b.hold(&room, "eve"), "until there is a place again").await;
    a.leave(&again).await;
    b.join(&room, "eve").await;
}

pub(crate) async fn who_is_gone_makes_room(fixture: &impl Fixture) {
    let [a, b, c] = replicas(fixture, BRIEF_PAIRS).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    c.join(&room, "carol").await;
    outlast_leases(fixture, BRIEF_PAIRS).await;
    let dave = b.hold(&room, "dave");
    let outcome = b.claim(&dave, None).await;
    let told = matches!(outcome, Err(JoinError::Full { max: 2, overdue: true }));
    assert!(told, "it is told that somebody is overdue, yet: {outcome:?}");

    // One of them comes back before both are reaped: there is one place, and not two.
    a.renew(&room).await;
    assert_eq!(b.reap(&room, &b.overdue(&room).await).await, 1);
    b.claim(&dave, None).await.expect("who is reaped makes room");
    assert_eq!(a.renew_one(&bob).await, crate::backplane::Verdict::Held);
    b.overdue(&room).await;
    is_full(&b, &b.hold(&room, "eve"), "nobody makes room twice").await;
    let story = ["1 bob joined", "2 carol joined", "3 carol left", "4 dave joined"];
    assert_eq!(b.story(&room).await, story);
}

pub(crate) async fn who_is_evicted_makes_room_in_the_same_step(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, BRIEF_PAIRS).await;
    let room = some_room();
    a.join(&room, "bob").await;
    b.join(&room, "carol").await;
    outlast_leases(fixture, BRIEF_PAIRS).await;
    b.renew(&room).await;
    let next = b.hold(&room, "bob");
    let Err(JoinError::Overdue(bob)) = b.claim(&next, None).await else {
        panic!("whoever has the name is named before the room is called full");
    };
    let evict = evictions(std::slice::from_ref(&bob));
    b.claim(&next, evict.first()).await.expect("who is evicted makes room");
    let story = ["1 bob joined", "2 carol joined", "3 bob left", "4 bob joined"];
    assert_eq!(b.story(&room).await, story);
}

pub(crate) async fn a_place_is_free_once_its_member_is_told_to_have_left(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, BRIEF_PAIRS).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.join(&room, "carol").await;
    assert!(a.linger(&bob, BRIEF_PAIRS.lease / 2).await);
    is_full(&b, &b.hold(&room, "dave"), "who lingers has a place").await;
    outlast_leases(fixture, BRIEF_PAIRS).await;
    b.reap(&room, &b.overdue(&room).await).await;
    b.join(&room, "dave").await;
    b.join(&room, "eve").await;
    is_full(&b, &b.hold(&room, "bob"), "as many places were free as were left").await;
}
