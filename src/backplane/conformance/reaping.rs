//! Members whose replicas are gone.

use std::time::Duration;

use tokio::join;

use super::{Fixture, Replica, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{Hold, JoinError, Overdue, REAP_BATCH, Verdict},
    domain::{Contact, RoomName},
};

/// A room in which these members are overdue.
async fn room_of_lost(fixture: &impl Fixture, replica: &Replica, names: &[&str]) -> RoomName {
    let room = some_room();
    for name in names {
        replica.join(&room, name).await;
    }
    outlast_leases(fixture, Setup::BRIEF).await;
    room
}

/// How many lines of the log say that somebody left.
async fn told_left(replica: &Replica, room: &RoomName) -> usize {
    replica.story(room).await.iter().filter(|line| line.ends_with(" left")).count()
}

pub(crate) async fn the_overdue_are_reaped_once(fixture: &impl Fixture) {
    let [a, b, c] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob", "carol", "dave"]).await;
    let (seen_by_b, seen_by_c) = join!(b.overdue(&room), c.overdue(&room));
    assert_eq!(names(&seen_by_b), ["bob", "carol", "dave"], "the longest overdue come first");
    assert_eq!(seen_by_b, seen_by_c, "everybody sees the same members overdue");
    assert_eq!(told_left(&b, &room).await, 0, "looking changes nothing");

    let (by_b, by_c) = join!(b.reap(&room, &seen_by_b), c.reap(&room, &seen_by_c));
    assert_eq!(by_b.count + by_c.count, 3, "each is reaped by one");
    assert_eq!(told_left(&b, &room).await, 3, "each is told once");
    assert_eq!(b.head(&room).await.position.seq, 6, "nothing else is told");
    assert!(b.overdue(&room).await.is_empty(), "who was reaped is overdue no more");
    b.join(&room, "bob").await;
}

pub(crate) async fn the_revived_are_not_reaped(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.join(&room, "carol").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = b.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob", "carol"]);
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
    assert_eq!(b.reap(&room, &overdue).await.count, 1, "only who is still overdue is reaped");
    a.say(&bob, 1, "alive").await;
    let story = ["1 bob joined", "2 carol joined", "3 carol left", "4 bob: alive"];
    assert_eq!(b.story(&room).await, story);
}

pub(crate) async fn a_former_stay_is_not_reaped_again(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob"]).await;
    let former = b.overdue(&room).await;
    assert_eq!(b.reap(&room, &former).await.count, 1);
    a.join(&room, "bob").await;
    assert_eq!(b.reap(&room, &former).await.count, 0, "a live member is not reaped");
    outlast_leases(fixture, Setup::BRIEF).await;
    let rule = "an eviction names a stay; the next one under the name is another";
    assert_eq!(b.reap(&room, &former).await.count, 0, "{rule}");
    assert_eq!(told_left(&b, &room).await, 1, "{rule}");
}

pub(crate) async fn leaving_late_is_told_once(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = b.overdue(&room).await;
    let left = a.leave(&bob).await;
    let reaped = b.reap(&room, &overdue).await;
    let told = usize::from(left.is_some()) + reaped.count;
    assert_eq!(told, 1, "who leaves after his lease ended is told of by one");
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob left"]);
}

pub(crate) async fn a_leftover_name_is_evicted_by_its_next_holder(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob", "carol"]).await;
    let next = b.hold(&room, "BOB");
    let overdue = overdue_in_the_way(b.claim(&next, false, &[]).await);
    let leftover: Vec<Overdue> =
        overdue.into_iter().filter(|it| it.skeleton == next.name.skeleton()).collect();
    assert_eq!(names(&leftover), ["bob"], "a leftover name is in the way of its next holder");
    assert_eq!(b.head(&room).await.position.seq, 2, "a refused join changes nothing");

    let joined = b.claim(&next, false, &evictions(&leftover)).await.expect("nobody in the way");
    let story = ["1 bob joined", "2 carol joined", "3 bob left", "4 BOB joined"];
    assert_eq!(b.story(&room).await, story, "`left` is told before `joined`");
    assert_eq!(joined.position.seq, 4, "a join answers the position of `joined`");
    assert_eq!(names(&b.overdue(&room).await), ["carol"], "the others are still overdue");
    let again = b.claim(&next, false, &evictions(&leftover)).await.expect("it is held");
    assert_eq!(again.position, joined.position, "repeated, it answers as at first");
    assert_eq!(b.head(&room).await.position.seq, 4, "repeated, it changes nothing");
}

pub(crate) async fn joining_reaps_first_in_one_step(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob", "carol"]).await;
    b.subscribe(&room).await;
    let dave = b.hold(&room, "dave");
    let overdue = overdue_in_the_way(b.claim(&dave, true, &[]).await);
    assert_eq!(names(&overdue), ["bob", "carol"], "all who are overdue are in the way");
    let some = overdue_in_the_way(b.claim(&dave, true, &evictions(&overdue[..1])).await);
    assert_eq!(names(&some), ["carol"], "who is not evicted stays in the way");
    assert_eq!(b.head(&room).await.position.seq, 2, "a refused join changes nothing");

    let joined = b.claim(&dave, true, &evictions(&overdue)).await.expect("nobody in the way");
    assert_eq!(joined.position.seq, 5, "a join answers the position of `joined`");
    let heard = b.hear_all(&room).await;
    assert_eq!(heard.story(), ["3 bob left", "4 carol left", "5 dave joined"]);
}

pub(crate) async fn joining_evicts_only_the_overdue(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.join(&room, "carol").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let evict = evictions(&b.overdue(&room).await);
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);

    let outcome = b.claim(&b.hold(&room, "bob"), true, &evict).await;
    assert!(matches!(outcome, Err(JoinError::Taken)), "who is back keeps his name: {outcome:?}");
    assert_eq!(told_left(&b, &room).await, 0, "a refused join evicts nobody");
    b.claim(&b.hold(&room, "dave"), true, &evict).await.expect("nobody is in the way");
    a.say(&bob, 1, "alive").await;
    let story = ["3 carol left", "4 dave joined", "5 bob: alive"];
    assert_eq!(b.story(&room).await[2..], story, "who is back is not evicted");
}

pub(crate) async fn a_crowd_is_reaped_in_batches(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let crowd: Vec<String> = (0..REAP_BATCH + 10).map(|i| format!("member{i}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let room = room_of_lost(fixture, &a, &crowd).await;

    let last = b.hold(&room, crowd.last().expect("a crowd"));
    let in_the_way = overdue_in_the_way(b.claim(&last, true, &[]).await);
    assert!(in_the_way.len() <= REAP_BATCH, "no more are named than can be evicted");
    let named = in_the_way.iter().any(|it| it.skeleton == last.name.skeleton());
    assert!(named, "the leftover of the name asked for is named whoever else is overdue");

    let mut reaped = Vec::new();
    loop {
        let overdue = b.overdue(&room).await;
        if overdue.is_empty() {
            break;
        }
        assert!(overdue.len() <= REAP_BATCH, "no more are named than can be reaped");
        reaped.push(b.reap(&room, &overdue).await.count);
        assert_eq!(reaped.last(), Some(&overdue.len()), "all who are named are reaped");
    }
    assert_eq!(reaped, [REAP_BATCH, 10]);
    assert_eq!(told_left(&b, &room).await, crowd.len(), "each is told once");
}

/// Contact that began so long before now, and counts for as long from now on.
async fn contact(
    replica: &Replica,
    room: &RoomName,
    lasted: Duration,
    good_for: Duration,
) -> Contact {
    let now = replica.clock(room).await;
    Contact { since: now.saturating_sub(lasted), until: now + good_for }
}

pub(crate) async fn nobody_is_reaped_without_enough_contact(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob", "carol"]).await;
    let overdue = b.overdue(&room).await;
    let lease = Setup::BRIEF.lease;
    // The backplane is back since a moment: whoever is in the roster may be about to renew.
    let short = contact(&b, &room, lease / 2, lease).await;
    assert_eq!(b.reap_after(&room, short, &overdue).await.count, 0, "nobody had time to renew");
    // Or the order was given before the backplane stood still.
    let long = contact(&b, &room, lease * 2, lease / 4).await;
    fixture.pass(lease / 2).await;
    assert_eq!(b.reap_after(&room, long, &overdue).await.count, 0, "it came too late");
    assert_eq!(told_left(&b, &room).await, 0);

    let good = contact(&b, &room, lease, lease).await;
    assert_eq!(b.reap_after(&room, good, &overdue).await.count, 2);
}

pub(crate) async fn a_name_is_not_given_away_without_enough_contact(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob", "carol"]).await;
    let evict = evictions(&b.overdue(&room).await);
    let lease = Setup::BRIEF.lease;
    let stale = contact(&b, &room, lease * 2, lease / 4).await;
    fixture.pass(lease / 4 + lease / 8).await;
    let short = contact(&b, &room, lease / 2, lease).await;
    for contact in [None, Some(short), Some(stale)] {
        for evict in [&[], &evict[..]] {
            let outcome = b.claim_after(&b.hold(&room, "bob"), contact, true, evict).await;
            let rule = "whoever is in the roster keeps the name";
            assert!(matches!(outcome, Err(JoinError::Taken)), "{rule}, yet: {outcome:?}");
        }
    }
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 carol joined"], "nobody is evicted");
    // Others come in all the same.
    b.claim_after(&b.hold(&room, "dave"), Some(stale), true, &evict).await.expect("it is free");
    let story = ["1 bob joined", "2 carol joined", "3 dave joined"];
    assert_eq!(b.story(&room).await, story, "nobody is evicted");
    let good = contact(&b, &room, lease, lease).await;
    let bob = b.hold(&room, "bob");
    b.claim_after(&bob, Some(good), true, &evict).await.expect("nobody is in the way");
    assert_eq!(told_left(&b, &room).await, 2);
}

pub(crate) async fn who_lingered_needs_no_longer_contact_than_it_had_time(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let lease = Setup::BRIEF.lease;
    let bob = Hold { linger: lease / 4, ..a.hold(&room, "bob") };
    let carol = Hold { linger: lease / 4, ..a.hold(&room, "carol") };
    a.take(&bob).await;
    a.take(&carol).await;
    assert!(a.linger(&bob, lease / 4).await);
    fixture.pass(lease * 3 / 2).await;
    let overdue = b.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob", "carol"]);
    let short = contact(&b, &room, lease / 8, lease).await;
    assert_eq!(b.reap_after(&room, short, &overdue).await.count, 0, "nobody could come back");
    let enough = contact(&b, &room, lease / 4 + lease / 8, lease).await;
    assert_eq!(
        b.reap_after(&room, enough, &overdue).await.count,
        1,
        "bob could, carol's replica not"
    );
    assert_eq!(names(&b.overdue(&room).await), ["carol"]);
}

pub(crate) async fn the_clock_goes_on(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let before = a.clock(&room).await;
    fixture.pass(Setup::BRIEF.lease / 4).await;
    let passed = b.clock(&room).await.saturating_sub(before);
    assert!(passed >= Setup::BRIEF.lease / 5, "all replicas are told one time: {passed:?}");
}

fn overdue_in_the_way(outcome: Result<crate::backplane::Joined, JoinError>) -> Vec<Overdue> {
    match outcome {
        Err(JoinError::Overdue(overdue)) => overdue,
        other => panic!("the overdue are in the way, yet: {other:?}"),
    }
}
