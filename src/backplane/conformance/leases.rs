//! Renewing, losing a lease, and taking a name again.

use std::time::Duration;

use super::{Fixture, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{AppendError, Join, Verdict},
    domain::{Epoch, EventKind, Position},
};

pub(crate) async fn renewing_keeps_a_name(fixture: &impl Fixture) {
    let setup = Setup::BRIEF;
    let [a, b] = replicas(fixture, setup).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    for _ in 0..4 {
        fixture.pass(setup.lease / 3).await;
        assert_eq!(a.renew_one(&bob).await, Verdict::Held);
    }
    b.is_refused(&b.hold(&room, "bob"), "a renewed lease outlives its first end").await;
    a.say(&bob, 1, "hi").await;
    assert!(b.overdue(&room).await.is_empty(), "who renews is not overdue");
}

pub(crate) async fn renewing_tells_gone_from_taken(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.leave(&bob).await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Gone, "a renewal takes no free name");
    let next = b.join(&room, "bob").await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Taken, "a renewal takes nobody's name");
    assert_eq!(b.renew_one(&next).await, Verdict::Held, "the holder is left alone");
}

pub(crate) async fn renewing_revives_who_is_still_in_the_roster(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    assert_eq!(names(&b.overdue(&room).await), ["bob"], "an ended lease is overdue");
    assert_eq!(a.renew_one(&bob).await, Verdict::Held, "a lease that nobody ended is revived");
    assert!(b.overdue(&room).await.is_empty(), "a revived lease is not overdue");
    b.is_refused(&b.hold(&room, "bob"), "a revived lease holds the name").await;
    assert_eq!(b.story(&room).await, ["1 bob joined"], "the room hears nothing of it");
}

pub(crate) async fn a_name_taken_again_goes_on_where_it_was(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let old = a.join(&room, "bob").await;
    let first = a.say(&old, 1, "one").await.position;
    // Once while the lease lasts, once after it has ended.
    for round in 0..2 {
        if round == 1 {
            outlast_leases(fixture, Setup::BRIEF).await;
        }
        let fresh = again(&old, first);
        let joined = a.take(&fresh).await;
        assert!(!joined.told, "the room hears nothing of who was there throughout");
        let stale = a.backplane.append(&old, 2, said(&old, "stale")).await;
        assert_eq!(stale, Err(AppendError::Stale), "the former token is void");
        assert!(a.say(&fresh, 1, "one").await.duplicate, "what was appended is known");
        b.is_refused(&b.hold(&room, "bob"), "the name is held").await;
    }
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob: one"]);
}

pub(crate) async fn a_name_taken_again_is_told_by_its_own_join_only(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let old = a.join(&room, "bob").await;
    let first = a.say(&old, 1, "one").await.position;
    outlast_leases(fixture, Setup::BRIEF).await;
    // A renewal knows the fresh token before the join that brings it.
    let fresh = again(&old, first);
    assert_eq!(a.renew_one(&fresh).await, Verdict::Held);
    assert!(!a.take(&fresh).await.told, "the room has heard nothing of it");

    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = b.overdue(&room).await;
    b.reap(&room, &overdue).await;
    let anew = again(&fresh, first);
    for _ in 0..2 {
        assert!(a.take(&anew).await.told, "the room heard it leave; also when repeated");
    }
    assert_eq!(b.story(&room).await[2..], ["3 bob left", "4 bob joined"]);
}

pub(crate) async fn a_session_tells_where_it_stands(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    // Its log is lost: the room knows nothing of what it said.
    let mut bob = a.hold(&room, "bob");
    bob.confirmed = Some(Position::new(Epoch(rand::random()), 7));
    let event = event(&bob, EventKind::Joined);
    let join = Join { appended: 41, ..Join::new(&bob, event) };
    a.backplane.join(join).await.expect("the name is free");
    assert!(a.say(&bob, 41, "before").await.duplicate, "that was appended once");
    assert!(!a.say(&bob, 42, "after").await.duplicate, "it goes on where it was");
}

pub(crate) async fn verdicts_come_in_the_order_of_the_holds(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let former = a.join(&room, "carol").await;
    a.leave(&former).await;
    b.join(&room, "carol").await;
    let dave = a.hold(&room, "dave");
    let erin = a.join(&room, "erin").await;

    let renewal = a.renew(&room, &[bob, former, dave, erin]).await;
    let verdicts = [Verdict::Held, Verdict::Taken, Verdict::Gone, Verdict::Held];
    assert_eq!(renewal.verdicts, verdicts, "one verdict for each hold, in their order");
    assert_eq!(renewal.head, b.head(&room).await, "a renewal tells the head");
    assert_eq!(renewal.head.position.seq, 5);
    let nothing = a.renew(&room, &[]).await;
    assert_eq!(nothing.head, renewal.head, "renewing nothing tells the head as well");
}

pub(crate) async fn the_earliest_deadline_is_told(fixture: &impl Fixture) {
    let setup = Setup::BRIEF;
    let [a, b] = replicas(fixture, setup).await;
    let room = some_room();
    let bob = a.hold(&room, "bob");
    let joined = a.take(&bob).await;
    assert!(joined.next_deadline > Duration::ZERO, "a lease just taken has not ended");
    assert!(joined.next_deadline <= setup.lease, "no lease ends later than a full lease");

    fixture.pass(setup.lease / 2).await;
    let carol = b.hold(&room, "carol");
    let until = b.take(&carol).await.next_deadline;
    let rule = "another member's lease counts, and ends earlier";
    assert!(until <= setup.lease / 2 + setup.lease / 10, "{rule}, yet: {until:?}");
    fixture.pass(setup.lease * 5 / 8).await;
    let renewal = b.renew(&room, std::slice::from_ref(&carol)).await;
    assert_eq!(renewal.next_deadline, Some(Duration::ZERO), "one lease has ended");

    let overdue = b.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob"]);
    let until = b.reap(&room, &overdue).await.next_deadline.expect("carol is there");
    assert!(until > Duration::ZERO && until <= setup.lease, "only carol's lease is left");
    b.leave(&carol).await;
    assert_eq!(b.reap(&room, &[]).await.next_deadline, None, "nobody is there");
    assert_eq!(b.renew(&room, &[carol]).await.next_deadline, None, "nobody is there");
}

pub(crate) async fn a_lease_lost_and_told_is_told_again(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let mut bob = a.hold(&room, "bob");
    bob.confirmed = Some(a.take(&bob).await.position);
    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = b.overdue(&room).await;
    assert_eq!(b.reap(&room, &overdue).await.count, 1);
    assert_eq!(a.renew_one(&bob).await, Verdict::Gone, "who was reaped is not revived");

    bob.token = some_token();
    let joined = a.take(&bob).await;
    assert!(joined.told, "a room that heard `left` hears `joined`");
    assert_eq!(joined.position.seq, 3);
    let again = a.take(&bob).await;
    assert_eq!((again.position, again.told), (joined.position, true), "also when repeated");
    a.say(&bob, 1, "back").await;
    let story = ["1 bob joined", "2 bob left", "3 bob joined", "4 bob: back"];
    assert_eq!(b.story(&room).await, story);
}

pub(crate) async fn a_lease_lost_with_its_log_is_not_told_again(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let lost = Position::new(Epoch(rand::random()), 7);
    let mut bob = a.hold(&room, "bob");
    bob.confirmed = Some(lost);
    let joined = a.take(&bob).await;
    assert!(!joined.told, "a room whose log is lost hears nothing of who was there throughout");
    assert_eq!(joined.position.seq, 0, "an untold join answers the head");
    let again = a.take(&bob).await;
    assert_eq!((again.position, again.told), (joined.position, false), "also when repeated");
    b.is_refused(&b.hold(&room, "bob"), "a name taken again is held").await;

    a.say(&bob, 1, "hi").await;
    let mut carol = b.hold(&room, "carol");
    carol.confirmed = Some(lost);
    let joined = b.take(&carol).await;
    assert_eq!((joined.position, joined.told), (a.head(&room).await.position, false));
    assert_eq!(a.story(&room).await, ["1 bob: hi"], "neither is told of");
}
