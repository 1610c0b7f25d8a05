//! Members whose replicas are gone.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use tokio::join;

use super::{Fixture, Replica, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{Hold, JoinError, Overdue, REAP_BATCH, ReapStep, Verdict},
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
    assert_eq!(names(&seen_by_b), ["bob", "carol", "dave"]);
    assert_eq!(seen_by_b, seen_by_c, "everybody sees the same members overdue");
    assert_eq!(told_left(&b, &room).await, 0, "looking removes nobody");

    let (by_b, by_c) = join!(b.reap(&room, &seen_by_b), c.reap(&room, &seen_by_c));
    assert_eq!(by_b + by_c, 3, "each is reaped by one");
    assert_eq!(told_left(&b, &room).await, 3, "each is told once");
    assert_eq!(b.head(&room).await.position.seq, 6, "nothing else is told");
    assert!(b.overdue(&room).await.is_empty(), "who was reaped is overdue no more");
    b.join(&room, "bob").await;
}

pub(crate) async fn a_replica_that_was_declared_dead_begins_anew(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let (bob, carol) = (a.hold(&room, "bob"), a.hold(&room, "carol"));
    let joined = a.take(&bob).await.position;
    a.take(&carol).await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = b.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob", "carol"]);
    // It is back before its members are reaped.
    assert!(!a.renew(&room).await.held, "its lease is lost");
    assert!(a.renew(&room).await.held, "which is told once");
    for hold in [&bob, &carol] {
        assert_eq!(a.renew_one(hold).await, Verdict::Gone, "it does not hold what it held");
        assert!(a.try_say(hold, 1, "stale").await.is_err(), "nor speak under it");
    }
    let bob = again(&bob, joined);
    assert!(!a.take(&bob).await.told, "who is back in time is back in silence");
    assert_eq!(b.reap(&room, &overdue).await, 1, "only who is still overdue is reaped");
    assert!(a.renew(&room).await.held, "what was taken since is held");
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
    let carol = again(&carol, joined);
    assert!(a.take(&carol).await.told, "the room has heard her leave");
    a.say(&bob, 1, "alive").await;
    let story = ["3 carol left", "4 carol joined", "5 bob: alive"];
    assert_eq!(b.story(&room).await[2..], story);
}

pub(crate) async fn who_is_back_before_that_is_not_reaped(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let mut holds = Vec::new();
    for number in 0..50 {
        holds.push(a.join(&room, &format!("member{number}")).await);
    }
    outlast_leases(fixture, Setup::BRIEF).await;
    // Nobody has noticed.
    assert!(a.renew(&room).await.held, "a lease that nobody ended is revived");
    assert!(b.overdue(&room).await.is_empty(), "and nobody is overdue");
    for verdict in a.check(&room, &holds).await.verdicts {
        assert_eq!(verdict, Verdict::Held);
    }
    for hold in &holds {
        a.say(hold, 1, "alive").await;
    }
    assert_eq!(told_left(&b, &room).await, 0);
}

pub(crate) async fn a_former_stay_is_not_reaped_again(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob"]).await;
    let former = b.overdue(&room).await;
    assert_eq!(b.reap(&room, &former).await, 1);
    a.join(&room, "bob").await;
    assert_eq!(b.reap(&room, &former).await, 0, "a live member is not reaped");
    outlast_leases(fixture, Setup::BRIEF).await;
    let rule = "an eviction names a stay; the next one under the name is another";
    assert_eq!(b.reap(&room, &former).await, 0, "{rule}");
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
    let told = usize::from(left.is_some()) + reaped;
    assert_eq!(told, 1, "who leaves after his lease ended is told of by one");
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob left"]);
}

pub(crate) async fn a_leftover_name_is_evicted_by_its_next_holder(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    a.join(&room, "bob").await;
    a.join(&room, "carol").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let next = b.hold(&room, "BOB");
    let leftover = [in_the_way(b.claim(&next, None).await)];
    assert_eq!(names(&leftover), ["bob"], "a leftover name is in the way of its next holder");
    assert_eq!(b.head(&room).await.position.seq, 2, "a refused join changes nothing");

    let evict = evictions(&leftover);
    let joined = b.claim(&next, evict.first()).await.expect("nobody in the way");
    let story = ["1 bob joined", "2 carol joined", "3 bob left", "4 BOB joined"];
    assert_eq!(b.story(&room).await, story, "`left` is told before `joined`");
    assert_eq!(joined.position.seq, 4, "a join answers the position of `joined`");
    assert!(!a.renew(&room).await.held, "the replica hears of it");
    assert_eq!(names(&b.overdue(&room).await), ["carol"], "its others are still overdue");
    let again = b.claim(&next, evict.first()).await.expect("it is held");
    assert_eq!(again.position, joined.position, "repeated, it answers as at first");
    assert_eq!(b.head(&room).await.position.seq, 4, "repeated, it changes nothing");
}

pub(crate) async fn joining_evicts_only_the_overdue(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let next = b.hold(&room, "bob");
    let evict = evictions(&[in_the_way(b.claim(&next, None).await)]);
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);

    let outcome = b.claim(&next, evict.first()).await;
    assert!(matches!(outcome, Err(JoinError::Taken)), "who is back keeps his name: {outcome:?}");
    assert_eq!(told_left(&b, &room).await, 0, "a refused join evicts nobody");
    b.claim(&b.hold(&room, "dave"), evict.first()).await.expect("nobody is in the way");
    a.say(&bob, 1, "alive").await;
    let story = ["1 bob joined", "2 dave joined", "3 bob: alive"];
    assert_eq!(b.story(&room).await, story, "who is back is not evicted");
}

pub(crate) async fn a_replica_does_not_reap_its_own(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    assert!(a.overdue(&room).await.is_empty(), "it is alive");
    a.is_refused(&a.hold(&room, "bob"), "and holds the name").await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
}

/// All that is overdue in a partition is reaped in bounded steps, whatever rooms it is in.
pub(crate) async fn a_crowd_is_reaped_in_batches(fixture: &impl Fixture) {
    const ROOMS: usize = 20;
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let first = some_room();
    let partition = a.backplane.partition(&first);
    let rooms =
        std::iter::repeat_with(some_room).filter(|it| a.backplane.partition(it) == partition);
    let rooms: Vec<RoomName> = std::iter::once(first).chain(rooms.take(ROOMS)).collect();
    let name = |number: usize| format!("member{number}");
    // One room has many, the others some.
    let crowd = (0..3 * REAP_BATCH + 10).map(|number| (&rooms[0], name(number)));
    let others = rooms[1..].iter().flat_map(|room| (0..7).map(move |it| (room, name(it))));
    let all: Vec<_> = crowd.chain(others).collect();
    join_all(all.iter().map(|(room, name)| a.join(room, name))).await;
    outlast_leases(fixture, Setup::BRIEF).await;

    let (mut reaped, mut step) = (0, Some(ReapStep::Begin));
    let mut touched = BTreeSet::new();
    for _ in 0..1000 {
        let Some(next) = step else { break };
        let survey = b.backplane.overdue(partition, EVER, next).await.expect("it answers");
        assert!(survey.overdue.len() <= 10 * REAP_BATCH, "no more are named than some hundred");
        touched.extend(survey.overdue.iter().map(|it| it.room.clone()));
        for batch in survey.overdue.chunks(REAP_BATCH) {
            let evict = evictions(batch);
            let count = b.backplane.reap(partition, EVER, &evict).await.expect("it answers");
            assert_eq!(count, batch.len(), "all who are named are reaped");
            reaped += count;
        }
        step = survey.next;
    }
    assert_eq!((reaped, touched.len()), (all.len(), rooms.len()));
    for room in &rooms {
        let members = all.iter().filter(|(it, _)| *it == room).count();
        assert_eq!(told_left(&b, room).await, members, "each is told once");
        assert!(b.overdue(room).await.is_empty());
    }
    assert_eq!(b.renew(&rooms[0]).await.next_deadline, None, "there is nobody any more");
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
    let lease = Setup::BRIEF.lease;
    let room = room_of_lost(fixture, &a, &["bob", "carol"]).await;
    // The backplane is back since a moment: its replica may be about to renew.
    let short = contact(&b, &room, lease / 2, lease).await;
    assert!(b.overdue_after(&room, short).await.is_empty(), "nobody is declared dead");
    assert!(a.renew(&room).await.held);
    outlast_leases(fixture, Setup::BRIEF).await;

    let overdue = b.overdue(&room).await;
    let short = contact(&b, &room, lease / 2, lease).await;
    assert_eq!(b.reap_after(&room, short, &overdue).await, 0, "nobody had time to come back");
    // Or the order was given before the backplane stood still.
    let long = contact(&b, &room, lease * 2, lease / 4).await;
    fixture.pass(lease / 2).await;
    assert_eq!(b.reap_after(&room, long, &overdue).await, 0, "it came too late");
    assert_eq!(told_left(&b, &room).await, 0);

    let good = contact(&b, &room, lease, lease).await;
    assert_eq!(b.reap_after(&room, good, &overdue).await, 2);
}

pub(crate) async fn a_name_is_not_given_away_without_enough_contact(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = room_of_lost(fixture, &a, &["bob"]).await;
    let next = b.hold(&room, "bob");
    let evict = evictions(&[in_the_way(b.claim(&next, None).await)]);
    let lease = Setup::BRIEF.lease;
    let stale = contact(&b, &room, lease * 2, lease / 4).await;
    fixture.pass(lease / 4 + lease / 8).await;
    let short = contact(&b, &room, lease / 2, lease).await;
    for contact in [None, Some(short), Some(stale)] {
        for evict in [None, evict.first()] {
            let outcome = b.claim_after(&next, contact, evict).await;
            let rule = "whoever is in the roster keeps the name";
            assert!(matches!(outcome, Err(JoinError::Taken)), "{rule}, yet: {outcome:?}");
        }
    }
    assert_eq!(b.story(&room).await, ["1 bob joined"], "nobody is evicted");
    // Others come in all the same.
    b.claim_after(&b.hold(&room, "dave"), Some(stale), None).await.expect("it is free");
    let good = contact(&b, &room, lease, lease).await;
    b.claim_after(&next, Some(good), evict.first()).await.expect("nobody is in the way");
    assert_eq!(told_left(&b, &room).await, 1);
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
    assert_eq!(b.reap_after(&room, short, &overdue).await, 0, "nobody could come back");
    let enough = contact(&b, &room, lease / 4 + lease / 8, lease).await;
    let rule = "bob could, carol's replica not";
    assert_eq!(b.reap_after(&room, enough, &overdue).await, 1, "{rule}");
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

fn in_the_way(outcome: Result<crate::backplane::Joined, JoinError>) -> Overdue {
    match outcome {
        Err(JoinError::Overdue(overdue)) => *overdue,
        other => panic!("whoever has the name is in the way, yet: {other:?}"),
    }
}
