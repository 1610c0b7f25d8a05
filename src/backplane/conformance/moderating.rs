//! What moderators decide, and do to members.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{Fixture, Replica, SHORT, Setup, props::*, replicas};
use crate::{
    backplane::{
        Affected, AppendError, BanNote, DECISIONS, DecideError, Decision, Enforcement, Hold,
        JoinError, Measure, Silenced, Standing, Verdict,
    },
    domain::{
        DisplayName, Event, EventKind, Identity, LeftCause, Moderation, ModerationAction, RoomName,
        RoomRole, RoomSettings, Until,
    },
};

fn subject(name: &str) -> Identity {
    Identity::Subject(Arc::from(name))
}

/// A hold whose bearer is this subject.
fn held_by(replica: &Replica, room: &RoomName, name: &str, sub: &str) -> Hold {
    Hold { identity: Some(subject(sub)), ..replica.hold(room, name) }
}

fn note() -> BanNote {
    BanNote {
        name: Some(DisplayName::from_log("Bob")),
        by: DisplayName::from_log("alice"),
        reason: Arc::from("spam"),
        at: jiff::Timestamp::from_millisecond(1_795_519_353_123).unwrap(),
    }
}

fn moderated(hold: &Hold, action: ModerationAction) -> Arc<Event> {
    let (by, reason) = (DisplayName::from_log("alice"), Arc::from("spam"));
    event(hold, EventKind::Moderated(Arc::new(Moderation { action, by, reason })))
}

/// Of a measure: that it is taken against who has this hold.
fn affected(hold: &Hold, action: ModerationAction, leaves: bool) -> Affected {
    let event = event(hold, EventKind::Left { cause: LeftCause::Kicked });
    Affected {
        skeleton: hold.name.skeleton().to_owned(),
        member: event.member.clone(),
        told: moderated(hold, action),
        left: leaves.then_some(event),
    }
}

impl Replica {
    async fn decide(&self, room: &RoomName, decision: Decision<'_>) -> Until {
        self.backplane.decide(room, decision).await.expect("it is kept")
    }

    async fn enforce(&self, hold: &Hold, measure: Measure<'_>, action: ModerationAction) -> usize {
        let leaves = matches!(measure, Measure::Remove { .. });
        let members = [affected(hold, action, leaves)];
        let enforcement =
            Enforcement { room: &hold.room, measure, members: &members, otherwise: None };
        self.backplane.enforce(enforcement).await.expect("the backplane answers")
    }

    async fn kick(&self, hold: &Hold) -> usize {
        self.enforce(hold, Measure::Remove { reason: "spam" }, ModerationAction::Kicked).await
    }

    async fn standing(&self, room: &RoomName, identity: &Identity) -> Standing {
        self.backplane.standing(room, Some(identity)).await.expect("the backplane answers")
    }
}

fn silenced(outcome: Result<crate::backplane::Appended, AppendError>) -> Silenced {
    match outcome {
        Err(AppendError::Silenced(silenced)) => silenced,
        other => panic!("it is silenced, yet: {other:?}"),
    }
}

pub(crate) async fn who_is_kicked_is_out_and_may_come_again(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "x").await;
    assert_eq!(b.kick(&bob).await, 1);
    assert_eq!(b.kick(&bob).await, 0, "once");
    assert_eq!(a.try_say(&bob, 2, "y").await, Err(AppendError::Stale), "nothing after the kick");
    assert_eq!(a.check_one(&bob).await, Verdict::Gone);
    let head = a.head(&room).await.position;
    let back = a.claim(&again(&bob, head), None).await;
    assert!(matches!(&back, Err(JoinError::Kicked { reason }) if &**reason == "spam"), "{back:?}");
    let late = a.stream_of(&bob);
    let resumed = a.try_take_over(&late, bob.token.stream()).await;
    assert!(matches!(resumed, Err(JoinError::Kicked { .. })), "{resumed:?}");
    let anew = a.join(&room, "bob").await;
    a.say(&anew, 1, "z").await;
    assert_eq!(b.kick(&bob).await, 0, "another session is not meant");
    let story =
        ["1 bob joined", "2 bob: x", "3 bob moderated", "4 bob left", "5 bob joined", "6 bob: z"];
    assert_eq!(b.story(&room).await, story);
}

pub(crate) async fn who_is_banned_does_not_come_in(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let (bob, sub) = (held_by(&a, &room, "bob", "u1"), subject("u1"));
    a.take(&bob).await;
    let until = b.decide(&room, Decision::Ban(&sub, Some(Duration::from_secs(60)), &note())).await;
    let until = until.expect("it ends");
    let left = until.duration_since(jiff::Timestamp::now()).as_secs_f64();
    assert!((50.0..70.0).contains(&left), "{left}");
    assert_eq!(a.standing(&room, &sub).await.banned, Some(Some(until)));
    // Who is in stays so until that is enforced.
    a.say(&bob, 1, "x").await;
    let banned = ModerationAction::Banned(Some(until));
    assert_eq!(b.enforce(&bob, Measure::Remove { reason: "spam" }, banned).await, 1);
    for name in ["bob", "other"] {
        let outcome = a.claim(&held_by(&a, &room, name, "u1"), None).await;
        assert!(matches!(outcome, Err(JoinError::Banned(Some(it))) if it == until), "{outcome:?}");
    }
    a.take(&held_by(&a, &room, "bob", "u2")).await;
    a.take(&held_by(&a, &some_room(), "bob", "u1")).await;
    // By its name, one of the same key is another one.
    a.take(&Hold { identity: Some(Identity::Name("u1".into())), ..a.hold(&room, "u1") }).await;
    b.decide(&room, Decision::Unban(&sub)).await;
    assert_eq!(a.standing(&room, &sub).await, Standing::default());
    a.take(&held_by(&a, &room, "other", "u1")).await;
}

pub(crate) async fn a_ban_ends_by_itself_and_outlives_its_room(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::BRIEF).await;
    let (room, sub) = (some_room(), subject("u1"));
    a.decide(&room, Decision::Ban(&sub, Some(SHORT), &note())).await;
    let forever = subject("u2");
    assert_eq!(a.decide(&room, Decision::Ban(&forever, None, &note())).await, None);
    let bob = held_by(&a, &room, "bob", "u1");
    assert!(matches!(a.claim(&bob, None).await, Err(JoinError::Banned(Some(_)))));
    fixture.pass(SHORT * 2).await;
    assert_eq!(a.standing(&room, &sub).await.banned, None);
    a.take(&held_by(&a, &room, "bob", "u1")).await;
    let carol = held_by(&a, &room, "carol", "u2");
    assert!(matches!(a.claim(&carol, None).await, Err(JoinError::Banned(None))));
}

pub(crate) async fn of_a_ban_and_joins_at_once_nobody_is_in(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    for _ in 0..20 {
        let (room, sub) = (some_room(), subject("u1"));
        let holds: Vec<Hold> =
            (0..8).map(|number| held_by(&a, &room, &format!("bob {number}"), "u1")).collect();
        let banning = async {
            b.decide(&room, Decision::Ban(&sub, None, &note())).await;
            let page = crate::backplane::MembersPage { cursor: None, limit: 500 };
            let here = b.backplane.members(&room, page).await.expect("it answers").members;
            for present in here {
                assert_eq!(present.subject.as_deref(), Some("u1"));
                let hold = holds.iter().find(|it| it.session == present.member.session);
                b.kick(hold.expect("one of them")).await;
            }
        };
        tokio::join!(banning, join_all(holds.iter().map(|hold| a.claim(hold, None))));
        let page = crate::backplane::MembersPage { cursor: None, limit: 500 };
        let here = a.backplane.members(&room, page).await.expect("it answers");
        assert_eq!((here.members.len(), here.total), (0, 0));
    }
}

pub(crate) async fn who_is_muted_is_silent_until_then(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let (bob, sub) = (held_by(&a, &room, "bob", "u1"), subject("u1"));
    a.take(&bob).await;
    a.say(&bob, 1, "one").await;
    let until = b.decide(&room, Decision::Mute(&sub, Some(SHORT))).await;
    let muted = ModerationAction::Muted(until);
    assert_eq!(b.enforce(&bob, Measure::Mute(Some(until)), muted).await, 1);
    let Silenced::Muted(told) = silenced(a.try_say(&bob, 2, "two").await) else { panic!() };
    assert_eq!(told, until);
    assert!(a.say(&bob, 1, "one").await.duplicate, "what is there is answered all the same");
    // It is silent under another name, and on another stream, too.
    let other = held_by(&a, &room, "other", "u1");
    a.take(&other).await;
    assert!(matches!(silenced(a.try_say(&other, 1, "x").await), Silenced::Muted(_)));
    let (next, _) = b.take_over(&bob).await;
    assert!(matches!(silenced(b.try_say(&next, 2, "two").await), Silenced::Muted(_)));
    fixture.pass(SHORT * 2).await;
    assert!(!b.say(&next, 2, "two").await.duplicate, "the message may be said later");
    a.say(&other, 1, "x").await;

    b.decide(&room, Decision::Mute(&sub, None)).await;
    b.enforce(&next, Measure::Mute(Some(None)), ModerationAction::Muted(None)).await;
    assert_eq!(silenced(b.try_say(&next, 3, "three").await), Silenced::Muted(None));
    b.decide(&room, Decision::Unmute(&sub)).await;
    b.enforce(&next, Measure::Mute(None), ModerationAction::Unmuted).await;
    b.say(&next, 3, "three").await;
}

pub(crate) async fn a_mute_is_before_or_after_each_message(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    for _ in 0..20 {
        let room = some_room();
        let (bob, sub) = (held_by(&a, &room, "bob", "u1"), subject("u1"));
        a.take(&bob).await;
        let muting = async {
            b.decide(&room, Decision::Mute(&sub, None)).await;
            let measure = Measure::Mute(Some(None));
            assert_eq!(b.enforce(&bob, measure, ModerationAction::Muted(None)).await, 1);
        };
        let says = (1..=30).map(|number| a.try_say(&bob, number, "x"));
        tokio::join!(muting, join_all(says));
        let story = a.story(&room).await;
        let muted = story.iter().position(|line| line.ends_with("bob moderated"));
        assert_eq!(muted, Some(story.len() - 1), "nothing after it: {story:?}");
    }
}

pub(crate) async fn a_role_goes_before_that_of_a_token(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let (room, sub) = (some_room(), subject("u1"));
    let stranger = Hold { role: RoomRole::None, ..held_by(&a, &room, "bob", "u1") };
    assert!(matches!(a.claim(&stranger, None).await, Err(JoinError::Forbidden)));
    b.decide(&room, Decision::Role(&sub, Some(RoomRole::Member))).await;
    let joined = a.take(&stranger).await;
    assert_eq!(joined.set_role, Some(RoomRole::Member));
    a.say(&stranger, 1, "x").await;
    let seated = b.lookup(&stranger).await.expect("it is there");
    assert_eq!((seated.role, seated.subject.as_deref()), (RoomRole::Member, Some("u1")));

    b.decide(&room, Decision::Role(&sub, Some(RoomRole::Reader))).await;
    let set = ModerationAction::RoleSet(Some(RoomRole::Reader));
    assert_eq!(b.enforce(&stranger, Measure::Role(Some(RoomRole::Reader)), set).await, 1);
    assert_eq!(silenced(a.try_say(&stranger, 2, "y").await), Silenced::Reader);
    b.decide(&room, Decision::Role(&sub, None)).await;
    b.enforce(&stranger, Measure::Role(None), ModerationAction::RoleSet(None)).await;
    // What its token says is judged where that is known.
    a.say(&stranger, 2, "y").await;
    a.leave(&stranger).await;
    let anew = Hold { role: RoomRole::None, ..held_by(&a, &room, "bob", "u1") };
    assert!(matches!(a.claim(&anew, None).await, Err(JoinError::Forbidden)));
}

pub(crate) async fn what_holds_in_a_room_holds_for_all_but_moderators(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let (bob, mod_) = (a.hold(&room, "bob"), a.hold(&room, "mod"));
    let mod_ = Hold { role: RoomRole::Moderator, ..mod_ };
    a.take(&bob).await;
    a.take(&mod_).await;
    let set = async |settings: RoomSettings| {
        b.decide(&room, Decision::Room(settings)).await;
        let told = moderated(&bob, ModerationAction::RoomSet(settings));
        let measure = Measure::Room(settings);
        let enforcement =
            Enforcement { room: &room, measure, members: &[], otherwise: Some(&told) };
        b.backplane.enforce(enforcement).await.expect("the backplane answers");
    };
    let read_only = RoomSettings { read_only: true, ..RoomSettings::default() };
    set(read_only).await;
    assert_eq!(silenced(a.try_say(&bob, 1, "x").await), Silenced::ReadOnly);
    a.say(&mod_, 1, "x").await;
    assert_eq!(a.backplane.standing(&room, None).await.unwrap().settings, read_only);
    let joined = b.take(&b.hold(&room, "carol")).await;
    assert_eq!(joined.settings, read_only);

    let slow = RoomSettings { slow_mode: SHORT, ..RoomSettings::default() };
    set(slow).await;
    a.say(&bob, 1, "one").await;
    let Silenced::SlowMode(wait) = silenced(a.try_say(&bob, 2, "two").await) else { panic!() };
    assert!(wait <= SHORT && !wait.is_zero(), "{wait:?}");
    a.say(&mod_, 2, "y").await;
    fixture.pass(wait + SHORT / 4).await;
    // Of what comes at once, the first one passes.
    let both = join_all([a.try_say(&bob, 2, "two"), a.try_say(&bob, 3, "three")]).await;
    assert!(both[0].is_ok(), "{both:?}");
    assert!(matches!(both[1], Err(AppendError::Silenced(Silenced::SlowMode(_)))), "{both:?}");
    set(RoomSettings::default()).await;
    a.say(&bob, 3, "three").await;
    a.say(&bob, 4, "four").await;
}

pub(crate) async fn what_holds_in_a_room_outlives_it(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let settings = RoomSettings { read_only: true, ..RoomSettings::default() };
    a.decide(&room, Decision::Room(settings)).await;
    let bob = a.join(&room, "bob").await;
    assert_eq!(silenced(a.try_say(&bob, 1, "x").await), Silenced::ReadOnly);
    a.leave(&bob).await;
    fixture.pass(SHORT * 3).await;
    let bob = a.join(&room, "bob").await;
    assert_eq!(silenced(a.try_say(&bob, 1, "x").await), Silenced::ReadOnly);
    a.decide(&room, Decision::Room(RoomSettings::default())).await;
    assert_eq!(a.backplane.standing(&room, None).await.unwrap(), Standing::default());
}

pub(crate) async fn of_an_empty_room_nothing_is_made(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.hold(&room, "bob");
    let told = moderated(&bob, ModerationAction::Unbanned);
    let measure = Measure::Nothing;
    let enforcement = Enforcement { room: &room, measure, members: &[], otherwise: Some(&told) };
    assert_eq!(a.backplane.enforce(enforcement).await.unwrap(), 0);
    assert_eq!(a.read(&room, 0, 10).await.head, None);
    a.take(&bob).await;
    assert_eq!(a.backplane.enforce(enforcement).await.unwrap(), 0);
    assert_eq!(a.story(&room).await, ["1 bob joined", "2 bob moderated"]);
}

pub(crate) async fn bans_are_listed_in_pages_and_bounded(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let ban = async |number: usize, time: Option<Duration>| {
        let sub = subject(&format!("u{number}"));
        a.backplane.decide(&room, Decision::Ban(&sub, time, &note())).await
    };
    let short = Some(SHORT * 3);
    for from in (0..DECISIONS).step_by(500) {
        let upto = (from + 500).min(DECISIONS);
        let bans = (from..upto).map(|number| ban(number, if number < 10 { short } else { None }));
        assert!(join_all(bans).await.iter().all(Result::is_ok));
    }
    let full = ban(DECISIONS, None).await;
    assert_eq!(full, Err(DecideError::Full));
    assert_eq!(ban(DECISIONS - 1, None).await, Ok(None), "one that is there is renewed");
    let muted = a.backplane.decide(&room, Decision::Mute(&subject("u11"), None)).await;
    assert_eq!(muted, Err(DecideError::Full));
    fixture.pass(SHORT * 4).await;
    // Those that have ended make room.
    assert_eq!(ban(DECISIONS, None).await, Ok(None));

    let (mut subs, mut cursor) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = b.backplane.bans(&room, cursor, 300).await.expect("the backplane answers");
        for ban in page.bans {
            assert_eq!((ban.until, &ban.note), (None, &note()));
            subs.insert(ban.identity.subject().expect("a subject").to_string());
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(subs.len(), DECISIONS + 1 - 10);
    assert!(!subs.contains("u9") && subs.contains("u10"));
}
