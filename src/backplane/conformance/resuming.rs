//! Sessions that go on under another stream.

use tokio::join;

use super::{Fixture, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{AppendError, Hold, JoinError, Seated, Verdict},
    domain::{Member, RoomRole, SecretHash},
};

/// A hold that can be resumed.
fn resumable(hold: Hold) -> Hold {
    Hold { secret: Some(SecretHash::of(&rand::random())), ..hold }
}

pub(crate) async fn who_has_a_name_is_looked_up(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = resumable(a.hold(&room, "Bob"));
    assert_eq!(b.lookup(&bob).await, None, "nobody has a name in a room without members");
    a.take(&bob).await;
    a.say(&bob, 1, "one").await;
    a.say(&bob, 2, "two").await;
    let mut seated = Seated {
        member: Member { name: bob.name.display().clone(), session: bob.session },
        secret: bob.secret,
        replica: a.id,
        since: bob.since,
        client_seq: 2,
        lingers: false,
        stream: bob.token.stream(),
        attempt: 0,
        subject: None,
        role: RoomRole::Member,
    };
    for spelling in ["Bob", "bob"] {
        let found = b.lookup(&b.hold(&room, spelling)).await;
        assert_eq!(found.as_ref(), Some(&seated), "a name is looked up in every spelling");
    }
    assert_eq!(b.lookup(&b.hold(&room, "carol")).await, None, "nobody has that name");
    assert_eq!(b.lookup(&b.hold(&some_room(), "bob")).await, None, "nor this one elsewhere");

    assert!(a.linger(&bob, Setup::BRIEF.lease).await);
    seated.lingers = true;
    assert_eq!(b.lookup(&bob).await.as_ref(), Some(&seated), "who lingers has the name");
    outlast_leases(fixture, Setup::BRIEF).await;
    assert_eq!(b.lookup(&bob).await.as_ref(), Some(&seated), "until the room is told");
    b.reap(&room, &b.overdue(&room).await).await;
    assert_eq!(b.lookup(&bob).await, None, "who has left has no name");

    let plain = a.join(&room, "dave").await;
    let secret = b.lookup(&plain).await.expect("dave is there").secret;
    assert_eq!(secret, None, "a session without a secret is one that nobody resumes");
    assert_eq!(a.story(&room).await.len(), 5, "looking tells nobody");
}

pub(crate) async fn a_takeover_is_silent_and_goes_on(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let mut bob = resumable(a.hold(&room, "bob"));
    a.take(&bob).await;
    let mut last = a.say(&bob, 1, "one").await.position;
    // From a stream that lives, from one that dropped, and from one whose lease has ended.
    for round in 1..=3 {
        match round {
            2 => assert!(a.linger(&bob, Setup::BRIEF.lease).await),
            3 => outlast_leases(fixture, Setup::BRIEF).await,
            _ => {}
        }
        let (next, joined) = b.take_over(&bob).await;
        assert!(!joined.told, "the room hears nothing of a takeover");
        assert_eq!(joined.position, last, "an untold join answers the head");
        assert_eq!(joined.client_seq, round, "what the session has appended is told");
        let again = b.try_take_over(&next, bob.token.stream()).await;
        assert_eq!(again.expect("it is held").client_seq, round, "also when repeated");

        let stale = a.try_say(&bob, round + 1, "stale").await;
        assert_eq!(stale, Err(AppendError::Stale), "the former stream does not speak");
        let resent = b.say(&next, round, "again").await;
        assert!(resent.duplicate, "what was appended is not appended again");
        assert_eq!(resent.position, last, "and has its position");
        last = b.say(&next, round + 1, "next").await.position;
        a.is_refused(&a.hold(&room, "bob"), "the name is held").await;
        let seated = a.lookup(&bob).await.expect("bob is there");
        assert_eq!((seated.replica, seated.lingers), (b.id, false), "the new stream has it");
        assert_eq!(seated.stream, next.token.stream(), "the new stream has it");
        assert_eq!((seated.secret, seated.since), (bob.secret, bob.since));
        bob = next;
    }
    let story = ["1 bob joined", "2 bob: one", "3 bob: next", "4 bob: next", "5 bob: next"];
    assert_eq!(a.story(&room).await, story);
}

pub(crate) async fn a_session_that_has_ended_is_not_taken_over(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let is_over = async |hold: &Hold, rule: &str| {
        let head = b.head(&room).await;
        for from in [some_token().stream(), hold.token.stream()] {
            let outcome = b.try_take_over(&b.stream_of(hold), from).await;
            assert!(matches!(outcome, Err(JoinError::Ended)), "{rule}, yet: {outcome:?}");
        }
        assert_eq!(b.head(&room).await, head, "a takeover that is refused is not told");
    };
    let lost = a.join(&room, "carol").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    b.reap(&room, &b.overdue(&room).await).await;
    is_over(&lost, "who was declared gone does not come back").await;
    assert_eq!(b.lookup(&lost).await, None, "a takeover that is refused takes no name");

    let left = a.join(&room, "bob").await;
    a.leave(&left).await;
    is_over(&left, "who has left does not come back").await;
    let next = a.join(&room, "bob").await;
    is_over(&left, "who has left does not come back under a name that others hold").await;
    a.say(&next, 1, "hi").await;

    let astray = Hold { room: some_room(), ..next.clone() };
    let outcome = b.try_take_over(&b.stream_of(&astray), next.token.stream()).await;
    assert!(matches!(outcome, Err(JoinError::Ended)), "a session is of one room: {outcome:?}");
    assert_eq!(b.lookup(&astray).await, None, "and comes into no other");
    assert_eq!(a.renew_one(&next).await, Verdict::Held, "the holder is left alone");
}

pub(crate) async fn of_two_takeovers_the_later_wins(fixture: &impl Fixture) {
    let [a, b, c] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let from = bob.token.stream();
    let (by_b, by_c) = (b.stream_of(&bob), c.stream_of(&bob));
    let outcomes = join!(b.try_take_over(&by_b, from), c.try_take_over(&by_c, from));
    let (first, second, former, replica) = match outcomes {
        (Ok(_), Err(JoinError::Moved)) => (by_b, by_c, b, c),
        (Err(JoinError::Moved), Ok(_)) => (by_c, by_b, c, b),
        other => panic!("of two at once, one is told to look again, yet: {other:?}"),
    };
    assert_eq!(former.renew_one(&first).await, Verdict::Held);
    assert_eq!(a.renew_one(&second).await, Verdict::Moved, "one stream has it");

    let from = replica.lookup(&bob).await.expect("bob is there").stream;
    replica.try_take_over(&second, from).await.expect("who looks again takes over");
    assert_eq!(replica.renew_one(&second).await, Verdict::Held);
    for earlier in [&bob, &first] {
        assert_eq!(a.renew_one(earlier).await, Verdict::Moved, "the later one has the session");
        let stale = a.try_say(earlier, 1, "stale").await;
        assert_eq!(stale, Err(AppendError::Stale), "the later one has the session");
    }
    replica.say(&second, 1, "hi").await;
    assert_eq!(a.story(&room).await, ["1 bob joined", "2 bob: hi"]);
}

pub(crate) async fn a_late_takeover_takes_nothing(fixture: &impl Fixture) {
    let [a, b, c] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let from = bob.token.stream();
    let late = b.stream_of(&bob);
    b.try_take_over(&late, from).await.expect("bob is there");
    let (newest, _) = c.take_over(&bob).await;
    // Its answer was lost, and it is sent again.
    let outcome = b.try_take_over(&late, from).await;
    assert!(matches!(outcome, Err(JoinError::Overtaken { .. })), "a newer one has it: {outcome:?}");
    for from in [from, some_token().stream()] {
        let other = Hold { attempt: newest.attempt, ..b.stream_of(&bob) };
        let outcome = b.try_take_over(&other, from).await;
        assert!(matches!(outcome, Err(JoinError::Moved)), "it is not overlooked: {outcome:?}");
    }
    assert_eq!(c.renew_one(&newest).await, Verdict::Held);
}

pub(crate) async fn a_superseded_stream_is_told(fixture: &impl Fixture) {
    let [mut a, mut b] = replicas(fixture, Setup::CALM).await;
    let (room, other) = (some_room(), some_room());
    a.subscribe(&room).await;
    b.subscribe(&room).await;
    a.subscribe(&other).await;
    let bob = a.join(&room, "bob").await;
    let (next, joined) = b.take_over(&bob).await;
    b.say(&next, 1, "hi").await;
    for replica in [&mut a, &mut b] {
        let heard = replica.hear_all(&room).await;
        let moved: Vec<_> = heard.moved.iter().map(|it| (it.session, it.from)).collect();
        assert_eq!(moved, [(bob.session, bob.token.stream())], "the stream that lost it is named");
        assert_eq!(heard.story(), ["1 bob joined", "2 bob: hi"], "that is no event of the log");
    }

    let again = again(&next, joined.position);
    b.take(&again).await;
    assert!(b.linger(&again, Setup::CALM.lease).await);
    b.take_over(&again).await;
    let heard = b.hear_all(&room).await;
    let rule = "a stream that takes its own name again, or that has dropped, is not told";
    assert!(heard.moved.is_empty(), "{rule}, yet: {heard:?}");
    assert!(a.hear_all(&other).await.moved.is_empty(), "other rooms are not told");
}

pub(crate) async fn a_superseded_stream_changes_nothing(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let (next, joined) = b.take_over(&bob).await;
    let retaken = a.claim(&again(&bob, joined.position), None).await;
    assert!(matches!(retaken, Err(JoinError::Moved)), "it does not take it back: {retaken:?}");
    assert!(!a.linger(&bob, Setup::CALM.lease).await, "it lets nothing linger");
    assert_eq!(a.leave(&bob).await, None, "it gives nothing back");
    assert_eq!(b.renew_one(&next).await, Verdict::Held);
    b.say(&next, 1, "hi").await;

    let (last, _) = a.take_over(&next).await;
    a.say(&last, 2, "again").await;
    a.take(&again(&last, joined.position)).await;
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob: hi", "3 bob: again"]);
}

pub(crate) async fn a_lease_that_ended_is_given_back_to_the_newest_stream_only(
    fixture: &impl Fixture,
) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let (next, joined) = b.take_over(&bob).await;
    b.say(&next, 1, "hi").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    // The older stream is back first, whatever it does.
    assert_eq!(a.renew_one(&bob).await, Verdict::Moved, "a renewal takes nothing back");
    let stale = a.try_say(&bob, 2, "stale").await;
    assert_eq!(stale, Err(AppendError::Stale), "nor does an append");
    let retaken = a.claim(&again(&bob, joined.position), None).await;
    assert!(matches!(retaken, Err(JoinError::Moved)), "nor a join: {retaken:?}");
    assert!(!a.linger(&bob, Setup::BRIEF.lease).await, "it lets nothing linger");
    assert_eq!(a.leave(&bob).await, None, "it gives nothing back");
    let late = a.try_take_over(&a.stream_of(&bob), bob.token.stream()).await;
    assert!(matches!(late, Err(JoinError::Overtaken { .. })), "no takeover from it: {late:?}");

    assert_eq!(b.renew_one(&next).await, Verdict::Held, "the newer stream has the session");
    b.say(&next, 2, "still here").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let back = again(&next, joined.position);
    assert!(!b.take(&back).await.told, "it takes its name again in silence");
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob: hi", "3 bob: still here"]);
}

pub(crate) async fn an_overtaken_attempt_takes_nothing(fixture: &impl Fixture) {
    let [mut a, b, c] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    a.subscribe(&room).await;
    let bob = Hold { attempt: 3, ..a.hold(&room, "bob") };
    a.take(&bob).await;
    let next = Hold { attempt: 5, ..b.stream_of(&bob) };
    b.try_take_over(&next, bob.token.stream()).await.expect("bob is there");
    assert_eq!(c.lookup(&bob).await.expect("bob is there").attempt, 5);
    // It was given up long ago, and sees the newer stream before it is carried out.
    let late = Hold { attempt: 4, ..c.stream_of(&bob) };
    let outcome = c.try_take_over(&late, next.token.stream()).await;
    assert!(matches!(outcome, Err(JoinError::Overtaken { seen: 5 })), "too late: {outcome:?}");
    assert_eq!(b.renew_one(&next).await, Verdict::Held, "nothing is changed");
    b.say(&next, 1, "hi").await;
    let heard = a.hear_all(&room).await;
    let moved: Vec<_> = heard.moved.iter().map(|it| it.from).collect();
    assert_eq!(moved, [bob.token.stream()], "only the takeover before it is told");

    // The number does not decide by itself: one that is not smaller has to name the stream.
    let newer = Hold { attempt: 6, ..c.stream_of(&bob) };
    let outcome = c.try_take_over(&newer, bob.token.stream()).await;
    assert!(matches!(outcome, Err(JoinError::Moved)), "it looked too early: {outcome:?}");
    c.try_take_over(&newer, next.token.stream()).await.expect("bob is there");
    assert_eq!(b.renew_one(&next).await, Verdict::Moved);
}

pub(crate) async fn the_later_attempt_prevails_when_the_roster_is_lost(fixture: &impl Fixture) {
    let [mut a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    a.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    let (next, joined) = b.take_over(&bob).await;
    // Nothing of the session is left, and the older stream, which knows of nothing, is back first.
    outlast_leases(fixture, Setup::BRIEF).await;
    a.reap(&room, &a.overdue(&room).await).await;
    let older = again(&bob, joined.position);
    assert!(a.take(&older).await.told);
    a.hear_all(&room).await;

    assert_eq!(b.renew_one(&next).await, Verdict::Gone, "it is to join again");
    let newer = again(&next, joined.position);
    assert!(!b.take(&newer).await.told, "the newer stream has the session, in silence");
    let moved = a.hear_all(&room).await.moved;
    let moved: Vec<_> = moved.iter().map(|it| it.from).collect();
    assert_eq!(moved, [older.token.stream()], "the older one is told");
    assert_eq!(a.renew_one(&older).await, Verdict::Moved);
    let stale = a.try_say(&older, 1, "stale").await;
    assert_eq!(stale, Err(AppendError::Stale), "the older one does not speak");
    b.say(&newer, 1, "hi").await;
}

pub(crate) async fn a_stream_whose_session_has_left_is_superseded(fixture: &impl Fixture) {
    let [a, b, c] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let (next, joined) = b.take_over(&bob).await;
    b.leave(&next).await.expect("there is a name to give back");
    // The older stream was not told, and finds its name free, and then somebody else's.
    for rule in ["a session that has left is over", "whoever has its name now"] {
        assert_ne!(a.renew_one(&bob).await, Verdict::Held, "{rule}");
        let outcome = a.claim(&again(&bob, joined.position), None).await;
        assert!(matches!(outcome, Err(JoinError::Ended)), "{rule}, yet: {outcome:?}");
        let _ = c.claim(&c.hold(&room, "bob"), None).await;
    }
    assert_eq!(a.story(&room).await, ["1 bob joined", "2 bob left", "3 bob joined"]);
}
