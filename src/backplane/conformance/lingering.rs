//! Names that outlive their streams for a while.

use std::time::Duration;

use tokio::join;

use super::{Fixture, Replica, SHORT, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{AppendError, Hold, Join, JoinError, LogBounds, Verdict},
    domain::{EventKind, LeftCause, RoomName},
};

/// Why members left, in the order of the log.
async fn causes(replica: &Replica, room: &RoomName) -> Vec<(String, LeftCause)> {
    let page = replica.read(room, 0, 1000).await;
    let left = page.events.iter().filter_map(|(_, event)| match event.what {
        EventKind::Left { cause } => Some((event.member.name.to_string(), cause)),
        _ => None,
    });
    left.collect()
}

pub(crate) async fn a_lingering_name_is_kept(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    assert!(a.linger(&bob, SHORT * 4).await, "the hold lingers");
    assert!(a.linger(&bob, SHORT * 3).await, "also when repeated");
    a.say(&bob, 1, "under way").await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Held, "a check under way changes nothing");
    outlast_leases(fixture, Setup::BRIEF).await;
    b.is_refused(&b.hold(&room, "bob"), "a name lingers past the lease's end").await;
    assert!(b.overdue(&room).await.is_empty(), "who lingers is not overdue");
    let seated = b.lookup(&bob).await.expect("bob is there");
    assert!(seated.lingers, "neither a renewal nor an append ends the lingering");
    let deadline = a.renew(&room).await.next_deadline.expect("bob is there");
    assert!(deadline <= SHORT * 2, "it ends when it was told to, yet: {deadline:?}");
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob: under way"], "nobody is told");
}

pub(crate) async fn a_takeover_ends_the_lingering(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    assert!(a.linger(&bob, SHORT / 2).await);
    let (next, _) = b.take_over(&bob).await;
    fixture.pass(SHORT * 3 / 4).await;
    assert!(a.overdue(&room).await.is_empty(), "it is held by a lease again");
    assert_eq!(b.renew_one(&next).await, Verdict::Held);
    assert!(!b.lookup(&next).await.expect("bob is there").lingers);

    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = a.overdue(&room).await;
    assert_eq!(overdue.iter().map(|it| it.lingered).collect::<Vec<_>>(), [false]);
    a.reap(&room, &overdue).await;
    let lost = ("bob".to_owned(), LeftCause::ReplicaLost);
    assert_eq!(causes(&a, &room).await, [lost], "the lingering before is forgotten");
}

pub(crate) async fn a_stream_that_is_gone_does_not_come_back(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    // Sent before the stream was gone, and carried out after it.
    let late = again(&bob, a.head(&room).await.position);
    assert!(a.linger(&bob, SHORT).await);
    let refused = a.claim(&late, None).await;
    assert!(
        matches!(refused, Err(JoinError::Ended)),
        "a join of a stream that is gone is void: {refused:?}"
    );
    assert!(b.lookup(&bob).await.expect("bob is there").lingers, "it changes nothing");
    // Another stream goes on, and is gone as well.
    let (next, _) = b.take_over(&bob).await;
    assert!(b.linger(&next, SHORT / 4).await);
    fixture.pass(SHORT / 2).await;
    b.reap(&room, &b.overdue(&room).await).await;
    for late in [late, again(&next, b.head(&room).await.position)] {
        let refused = a.claim(&late, None).await;
        assert!(
            matches!(refused, Err(JoinError::Ended)),
            "also when its session is over: {refused:?}"
        );
    }
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob left"]);
}

pub(crate) async fn who_has_last_words_only_is_not_announced_again(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let last = async |hold: &Hold| {
        let hold = again(hold, a.head(&room).await.position);
        let (event, contact) = (event(&hold, EventKind::Joined), Some(EVER));
        let join = Join { silent: true, contact, ..Join::new(&hold, event) };
        a.backplane.join(join).await.map(|joined| (hold.clone(), joined.told))
    };
    let bob = a.join(&room, "bob").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let (bob, told) = last(&bob).await.expect("nobody has heard his end");
    assert!(!told);
    a.say(&bob, 1, "last words").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    b.reap(&room, &b.overdue(&room).await).await;
    let refused = last(&bob).await.map(|_| ());
    assert!(matches!(refused, Err(JoinError::Ended)), "the room has: {refused:?}");
    let story = b.story(&room).await;
    assert_eq!(story, ["1 bob joined", "2 bob: last words", "3 bob left"]);
    b.join(&room, "bob").await;
}

pub(crate) async fn who_is_not_resumed_in_time_is_told_once(fixture: &impl Fixture) {
    let [a, b, c] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let carol = a.join(&room, "carol").await;
    assert!(a.linger(&bob, SHORT / 2).await);
    fixture.pass(SHORT / 4).await;
    assert!(b.overdue(&room).await.is_empty(), "the time has not come");
    assert_eq!(a.renew_one(&carol).await, Verdict::Held);
    fixture.pass(SHORT / 2).await;
    let (seen_by_b, seen_by_c) = join!(b.overdue(&room), c.overdue(&room));
    assert_eq!((names(&seen_by_b), &seen_by_b), (vec!["bob"], &seen_by_c), "the time has come");
    let (by_b, by_c) = join!(b.reap(&room, &seen_by_b), c.reap(&room, &seen_by_c));
    assert_eq!(by_b + by_c, 1, "it is told by one");
    let stale = a.try_say(&bob, 1, "late").await;
    assert_eq!(stale, Err(AppendError::Stale), "what comes too late is not appended");

    outlast_leases(fixture, Setup::BRIEF).await;
    b.reap(&room, &b.overdue(&room).await).await;
    let told =
        [("bob".to_owned(), LeftCause::TimedOut), ("carol".to_owned(), LeftCause::ReplicaLost)];
    assert_eq!(causes(&b, &room).await, told, "`left` says why");
}

pub(crate) async fn lingering_ends_when_it_is_to(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    assert!(a.linger(&bob, Duration::ZERO).await, "a name may linger for no time");
    let overdue = b.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob"], "then it is overdue at once");
    assert_eq!(a.renew_one(&bob).await, Verdict::Gone, "no renewal revives who lingered");
    let next = b.hold(&room, "bob");
    let evict = evictions(&overdue);
    b.claim(&next, evict.first()).await.expect("nobody is in the way");
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob left", "3 bob joined"]);
    assert_eq!(causes(&b, &room).await, [("bob".to_owned(), LeftCause::TimedOut)]);
    assert!(!a.linger(&bob, Duration::ZERO).await, "it is over");
    assert_eq!(b.renew_one(&next).await, Verdict::Held);
}

pub(crate) async fn a_stale_hold_does_not_linger(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    assert!(!a.linger(&a.hold(&room, "bob"), SHORT).await, "who never joined does not linger");
    let former = a.join(&room, "bob").await;
    a.leave(&former).await;
    assert!(!a.linger(&former, SHORT).await, "who has left does not linger");
    let bob = b.join(&room, "bob").await;
    assert!(!a.linger(&former, SHORT).await, "the name is somebody else's");
    let mut thief = bob.clone();
    thief.token = some_token();
    assert!(!a.linger(&thief, Duration::ZERO).await, "a hold is known by its token only");
    let seated = a.lookup(&bob).await.expect("bob is there");
    assert!(!seated.lingers && seated.stream == bob.token.stream(), "nothing has changed");
}

pub(crate) async fn who_lingers_may_leave(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    assert!(a.linger(&bob, Setup::CALM.lease).await);
    a.leave(&bob).await.expect("there is a name to give back");
    assert_eq!(causes(&b, &room).await, [("bob".to_owned(), LeftCause::Asked)]);
    b.join(&room, "bob").await;
}

pub(crate) async fn who_lingers_keeps_the_room(fixture: &impl Fixture) {
    let log = LogBounds { age: SHORT / 2, ..Setup::BRIEF.log };
    let [a, b] = replicas(fixture, Setup { log, ..Setup::BRIEF }).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let epoch = a.head(&room).await.position.epoch;
    assert!(a.linger(&bob, SHORT * 4).await);
    // What others do in the room does not shorten that.
    let carol = b.join(&room, "carol").await;
    b.leave(&carol).await;
    fixture.pass(SHORT * 3).await;
    assert_eq!(b.head(&room).await.position.epoch, epoch, "the room is not forgotten");
    let (_, joined) = b.take_over(&bob).await;
    assert!(!joined.told, "nor is who lingers in it");
}

pub(crate) async fn a_lease_that_has_ended_lingers_too(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    // Its stream broke while nobody could renew the lease.
    assert!(a.linger(&bob, SHORT).await, "who is in the roster lingers");
    assert!(b.overdue(&room).await.is_empty(), "who lingers is not overdue");
    b.is_refused(&b.hold(&room, "bob"), "and keeps the name").await;
    fixture.pass(SHORT / 2).await;
    let (next, joined) = b.take_over(&bob).await;
    assert!(!joined.told);

    outlast_leases(fixture, Setup::BRIEF).await;
    assert!(b.linger(&next, SHORT / 4).await);
    fixture.pass(SHORT / 2).await;
    let overdue = a.overdue(&room).await;
    a.reap(&room, &overdue).await;
    assert_eq!(causes(&a, &room).await, [("bob".to_owned(), LeftCause::TimedOut)]);
}

pub(crate) async fn who_was_found_overdue_and_lingers_since_is_over_once_reaped(
    fixture: &impl Fixture,
) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let late = again(&bob, a.head(&room).await.position);
    outlast_leases(fixture, Setup::BRIEF).await;
    let overdue = b.overdue(&room).await;
    // Its stream drops before it is acted on, and is not to linger any longer.
    assert!(a.linger(&bob, Duration::ZERO).await);
    b.reap(&room, &overdue).await;
    let back = a.claim(&late, None).await;
    assert!(matches!(back, Err(JoinError::Ended)), "its session is over: {back:?}");
}

pub(crate) async fn a_resumable_session_outlives_its_replica(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = Hold { linger: SHORT * 3, ..a.hold(&room, "bob") };
    a.take(&bob).await;
    a.join(&room, "carol").await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
    // Its replica is gone: nobody renews, and nobody lets it linger.
    outlast_leases(fixture, Setup::BRIEF).await;
    assert_eq!(names(&b.overdue(&room).await), ["carol"], "its time to linger begins");
    b.reap(&room, &b.overdue(&room).await).await;
    b.is_refused(&b.hold(&room, "bob"), "it keeps its name").await;
    assert!(b.overdue(&room).await.is_empty());
    let deadline = b.renew(&room).await.next_deadline.expect("bob is there");
    assert!(deadline > SHORT && deadline <= SHORT * 3, "it is told when that ends: {deadline:?}");
    fixture.pass(SHORT).await;
    let (next, joined) = b.take_over(&bob).await;
    assert!(!joined.told, "it goes on, and nobody hears of it");
    b.say(&next, 1, "hi").await;

    // This time nobody comes back.
    outlast_leases(fixture, Setup::BRIEF).await;
    fixture.pass(SHORT * 3).await;
    let overdue = a.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob"]);
    let evict = evictions(&overdue);
    a.claim(&a.hold(&room, "bob"), evict.first()).await.expect("its time is over");
    let told =
        [("carol".to_owned(), LeftCause::ReplicaLost), ("bob".to_owned(), LeftCause::TimedOut)];
    assert_eq!(causes(&a, &room).await, told, "`left` says why");
}
