//! Renewing a lease, losing it, and taking names again.

use std::time::Duration;

use super::{Fixture, SHORT, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{AppendError, Join, LogBounds, Verdict},
    domain::{Epoch, EventKind, Position},
};

pub(crate) async fn a_lease_keeps_all_names_of_its_replica(fixture: &impl Fixture) {
    let setup = Setup::BRIEF;
    let [a, b] = replicas(fixture, setup).await;
    let rooms = [some_room(), some_room(), some_room()];
    let mut holds = Vec::new();
    for room in &rooms {
        holds.extend([a.join(room, "bob").await, a.join(room, "carol").await]);
    }
    for _ in 0..4 {
        fixture.pass(setup.lease / 3).await;
        for room in &rooms {
            assert!(a.renew(room).await.held);
        }
    }
    for hold in &holds {
        let name = hold.name.skeleton();
        b.is_refused(&b.hold(&hold.room, name), "a renewed lease outlives its first end").await;
        a.say(hold, 1, "hi").await;
        assert_eq!(a.check_one(hold).await, Verdict::Held);
    }
    assert!(b.overdue(&rooms[0]).await.is_empty(), "who renews is not overdue");
}

pub(crate) async fn a_replica_without_names_has_nothing_to_lose(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let renewal = a.renew(&room).await;
    assert!(renewal.held && renewal.next_deadline.is_none(), "{renewal:?}");
    outlast_leases(fixture, Setup::BRIEF).await;
    assert!(b.overdue(&room).await.is_empty());
    assert!(a.renew(&room).await.held);
}

pub(crate) async fn what_is_renounced_ends_with_its_lease(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.hold(&room, "bob");
    let joined = a.take(&bob).await.position;
    a.join(&room, "carol").await;
    a.backplane.renounce(a.backplane.partition(&room));
    assert!(!a.renew(&room).await.held, "it is told");
    assert!(a.renew(&room).await.held, "once");
    b.is_refused(&b.hold(&room, "carol"), "it is held until the lease ends").await;
    assert_eq!(a.check_one(&bob).await, Verdict::Gone);
    assert!(!a.take(&again(&bob, joined)).await.told, "what is taken again never ended");
    outlast_leases(fixture, Setup::BRIEF).await;
    assert!(a.renew(&room).await.held);
    let overdue = a.overdue(&room).await;
    assert_eq!(names(&overdue), ["carol"], "what is not ends, as the replica itself sees");
    assert_eq!(a.reap(&room, &overdue).await, 1);
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 carol joined", "3 carol left"]);
}

pub(crate) async fn a_check_tells_gone_from_taken(fixture: &impl Fixture) {
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
    let rule = "an ended lease is due to be noticed";
    assert_eq!(b.renew(&room).await.next_deadline, Some(Duration::ZERO), "{rule}");
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
    // A check knows the fresh token before the join that brings it.
    let fresh = again(&old, first);
    assert_eq!(a.check_one(&fresh).await, Verdict::Gone, "it is still to come");
    assert!(!a.take(&fresh).await.told, "the room has heard nothing of it");
    assert_eq!(a.check_one(&fresh).await, Verdict::Held);
    assert_eq!(a.check_one(&old).await, Verdict::Gone, "the former one is void");

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

    let checked = a.check(&room, &[bob, former, dave, erin]).await;
    let verdicts = [Verdict::Held, Verdict::Taken, Verdict::Gone, Verdict::Held];
    assert_eq!(checked.verdicts, verdicts, "one verdict for each hold, in their order");
    assert_eq!(checked.head.log, b.head(&room).await, "a check tells the head");
    assert_eq!(checked.head.log.position.seq, 5);
    let nothing = a.check(&room, &[]).await;
    assert_eq!(nothing.head, checked.head, "checking nothing tells the head as well");
}

pub(crate) async fn heads_come_in_the_order_of_the_rooms(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let partition = a.backplane.partition(&some_room());
    let here =
        std::iter::repeat_with(some_room).filter(|it| a.backplane.partition(it) == partition);
    let rooms: Vec<_> = here.take(5).collect();
    for (number, room) in rooms.iter().enumerate().skip(1) {
        let bob = a.join(room, "bob").await;
        for seq in 1..number as u64 {
            a.say(&bob, seq, "hi").await;
        }
    }
    let (_, joined) = b.take_over(&a.join(&rooms[4], "carol").await).await;
    let heads = b.heads(&rooms).await;
    let told = heads.iter().map(|it| it.as_ref().map(|it| (it.log.position.seq, it.takeovers)));
    let expected = [None, Some((1, 0)), Some((2, 0)), Some((3, 0)), Some((5, 1))];
    assert_eq!(told.collect::<Vec<_>>(), expected, "a room that is not there has no head");
    assert_eq!(joined.takeovers, 1, "a join tells how many there were");
    for (room, head) in rooms.iter().zip(heads).skip(1) {
        assert_eq!(head.map(|it| it.log), Some(b.head(room).await), "and a page one head");
        assert_eq!(b.check(room, &[]).await.head.log, b.head(room).await);
    }
    assert_eq!(b.read(&rooms[0], 0, 10).await.head, None, "nothing is made by asking");
}

pub(crate) async fn a_room_that_is_asked_for_is_not_forgotten(fixture: &impl Fixture) {
    let log = LogBounds { age: SHORT / 4, ..Setup::BRIEF.log };
    let [a] = replicas(fixture, Setup { log, ..Setup::BRIEF }).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let before = a.head(&room).await.position;
    for _ in 0..3 {
        for _ in 0..8 {
            fixture.pass(SHORT / 2).await;
            assert!(a.renew(&room).await.held);
        }
        let heads = a.heads(std::slice::from_ref(&room)).await;
        let head = heads[0].as_ref().expect("it is not forgotten").log.position;
        assert_eq!(head, before);
    }
    assert_eq!(a.check_one(&bob).await, Verdict::Held);
    a.say(&bob, 1, "still here").await;
}

pub(crate) async fn the_earliest_deadline_is_told(fixture: &impl Fixture) {
    let setup = Setup::BRIEF;
    let [a, b] = replicas(fixture, setup).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    assert_eq!(a.renew(&room).await.next_deadline, None, "its own lease is no deadline");
    fixture.pass(setup.lease / 2).await;
    let carol = b.join(&room, "carol").await;
    let until = b.renew(&room).await.next_deadline.expect("bob's replica has a lease");
    assert!(until <= setup.lease / 2 + setup.lease / 10, "until it ends, yet: {until:?}");
    fixture.pass(setup.lease * 5 / 8).await;
    assert_eq!(b.renew(&room).await.next_deadline, Some(Duration::ZERO), "it has ended");

    let overdue = b.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob"]);
    b.reap(&room, &overdue).await;
    assert!(b.overdue(&room).await.is_empty());
    assert_eq!(b.renew(&room).await.next_deadline, None, "there is no other replica");
    assert!(b.linger(&carol, setup.lease * 3).await);
    let until = b.renew(&room).await.next_deadline.expect("carol lingers");
    assert!(until > setup.lease && until <= setup.lease * 3, "{until:?}");
    assert_eq!(a.renew(&room).await.next_deadline.map(|it| it <= setup.lease), Some(true));
    b.leave(&carol).await;
    assert_eq!(b.renew(&room).await.next_deadline, None, "nobody lingers");
    drop(bob);
}

pub(crate) async fn a_lease_lost_and_told_is_told_again(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let mut bob = a.hold(&room, "bob");
    bob.confirmed = Some(a.take(&bob).await.position);
    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = b.overdue(&room).await;
    assert_eq!(b.reap(&room, &overdue).await, 1);
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
