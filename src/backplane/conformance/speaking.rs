//! Appending.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::join;

use super::{Fixture, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{AppendError, Hold, Join, Verdict},
    domain::{Event, EventKind, LeftCause, TraceParent},
};

pub(crate) async fn what_is_said_is_read_back_whole(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    b.subscribe(&room).await;
    let mut hold = a.hold(&room, "Zoë 🌵");
    a.take(&hold).await;
    let mut told = vec![
        (*said(&hold, "a\r\n\0b \u{10ffff} 🌵 \"c\" {d}")).clone(),
        (*said(&hold, &"long ".repeat(4000))).clone(),
    ];
    told[0].trace = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert!(told[0].trace.is_some());
    told[0].at = "2026-11-24T11:22:33.123456789Z".parse().unwrap();
    for (client_seq, event) in (1..).zip(&told) {
        a.backplane.append(&hold, client_seq, Arc::new(event.clone())).await.unwrap();
    }
    let causes = [LeftCause::Disconnected, LeftCause::Ended, LeftCause::Shutdown];
    for cause in causes {
        let left = event(&hold, EventKind::Left { cause });
        told.push((*left).clone());
        a.backplane.leave(&hold, left).await.unwrap();
        // A membership that has ended does not come back.
        hold = a.hold(&room, "Zoë 🌵");
        let joined = event(&hold, EventKind::Joined);
        told.push((*joined).clone());
        a.backplane.join(Join::new(&hold, joined)).await.unwrap();
    }

    let whole = |events: &[(u64, Arc<Event>)]| -> Vec<Event> {
        events.iter().filter(|(seq, _)| *seq > 1).map(|(_, event)| (**event).clone()).collect()
    };
    let heard = b.hear_all(&room).await;
    assert_eq!(whole(&heard.events), told, "an event is heard as it was appended");
    let page = b.read(&room, 1, 100).await;
    assert_eq!(whole(&page.events), told, "an event is read as it was appended");
}

pub(crate) async fn only_the_holder_speaks(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let nobody = a.hold(&room, "bob");
    let stale = Err(AppendError::Stale);
    assert_eq!(a.try_say(&nobody, 1, "x").await, stale, "who never joined does not speak");
    let bob = a.join(&room, "bob").await;
    let mut thief = bob.clone();
    thief.token = some_token();
    assert_eq!(b.try_say(&thief, 1, "x").await, stale, "who lacks the token does not speak");
    a.leave(&bob).await;
    let next = b.join(&room, "bob").await;
    assert_eq!(a.try_say(&bob, 1, "x").await, stale, "a former holder does not speak");
    assert!(!b.say(&next, 1, "y").await.duplicate, "the holder speaks");
    let story = ["1 bob joined", "2 bob left", "3 bob joined", "4 bob: y"];
    assert_eq!(a.story(&room).await, story, "what was refused leaves no trace");
}

pub(crate) async fn an_ended_lease_is_silent_until_renewed(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "before").await;
    outlast_leases(fixture, Setup::BRIEF).await;
    let late = a.try_say(&bob, 2, "late").await;
    let rule = "an ended lease is stale even if nobody took the name";
    assert_eq!(late, Err(AppendError::Stale), "{rule}");
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
    assert!(!a.say(&bob, 2, "late").await.duplicate, "what was refused was not appended");
    assert!(a.say(&bob, 1, "before").await.duplicate, "a revival forgets nothing appended");
    let story = ["1 bob joined", "2 bob: before", "3 bob: late"];
    assert_eq!(a.story(&room).await, story, "a revival is not told");
}

pub(crate) async fn a_client_sequence_is_appended_once(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let carol = b.join(&room, "carol").await;
    let mut last = a.say(&bob, 1, "one").await;
    for (client_seq, content) in [(2, "two"), (3, "three")] {
        let next = a.say(&bob, client_seq, content).await;
        assert!(!next.duplicate, "the next client sequence is appended");
        assert_eq!(next.position.seq, last.position.seq + 1, "positions are dense");
        last = next;
    }
    let carols = b.say(&carol, 1, "one").await;
    assert!(!carols.duplicate, "each session has its own client sequence");
    for client_seq in [3, 1, 2] {
        let again = a.say(&bob, client_seq, "again").await;
        assert!(again.duplicate, "a client sequence at or below the last one is a duplicate");
        let rule = "a duplicate answers where the session's last event is";
        assert_eq!((again.position, again.client_seq), (last.position, 3), "{rule}");
    }
    let hole = a.backplane.append(&bob, 5, said(&bob, "five")).await;
    assert_eq!(hole, Err(AppendError::Stale), "nothing overtakes a message that is missing");
    assert_eq!(b.head(&room).await.position, carols.position, "neither adds anything");

    a.leave(&bob).await;
    let bob = a.join(&room, "bob").await;
    assert!(!a.say(&bob, 1, "one").await.duplicate, "a new session begins anew");
}

pub(crate) async fn of_messages_sent_again_only_those_are_appended_that_were_not(
    fixture: &impl Fixture,
) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    b.subscribe(&room).await;
    let (bob, carol) = (a.join(&room, "bob").await, a.join(&room, "carol").await);
    let stranger = a.hold(&room, "dora");
    let mut last = a.say(&bob, 1, "bob 1").await;
    for client_seq in [2, 3] {
        last = a.say(&bob, client_seq, &format!("bob {client_seq}")).await;
    }
    // All at once, from the second on, among others' and with what nothing may come of.
    let mut calls: Vec<(&Hold, u64)> = Vec::new();
    for client_seq in 2..=20 {
        calls.extend([(&bob, client_seq), (&carol, client_seq - 1), (&stranger, client_seq)]);
    }
    calls.extend([(&bob, 22), (&bob, 20), (&carol, 20)]);
    let said = calls.iter().map(|(hold, client_seq)| {
        a.backplane.append(hold, *client_seq, said(hold, &format!("{} {client_seq}", hold.name)))
    });
    let answers = join_all(said.collect::<Vec<_>>()).await;
    let mut seqs = Vec::new();
    for ((hold, client_seq), answer) in calls.iter().zip(answers) {
        if hold.session == stranger.session || *client_seq == 22 {
            assert_eq!(answer, Err(AppendError::Stale), "{client_seq} of {}", hold.name);
            continue;
        }
        let answer = answer.expect("a holder speaks");
        if hold.session == bob.session && *client_seq <= 3 {
            let known = (answer.duplicate, answer.position, answer.client_seq);
            assert_eq!(known, (true, last.position, 3), "what was appended is known");
        } else if *client_seq == 20 && hold.session == bob.session && answer.duplicate {
            assert_eq!(answer.client_seq, 20, "it is the last");
        } else {
            assert!(!answer.duplicate, "{client_seq} of {} is new", hold.name);
            assert_eq!(answer.client_seq, *client_seq);
            seqs.push(answer.position.seq);
        }
    }
    seqs.sort_unstable();
    assert_eq!(
        seqs,
        (6..=42).collect::<Vec<_>>(),
        "each has a position of its own, with none between"
    );
    let story = a.story(&room).await;
    for (hold, most) in [(&bob, 20), (&carol, 20)] {
        let of = format!("{}: ", hold.name);
        let own: Vec<_> = story.iter().filter_map(|it| it.split_once(&of)).map(|it| it.1).collect();
        let expected: Vec<_> = (1..=most).map(|it| format!("{} {it}", hold.name)).collect();
        assert_eq!(own, expected, "the order of each is kept");
    }
    assert_eq!(b.hear_until(&room, 42).await.story(), story, "listeners hear that order");
}

pub(crate) async fn appends_take_effect_in_the_order_of_their_calls(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    b.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    let appends: Vec<_> =
        (1..=100).map(|i| a.backplane.append(&bob, i, said(&bob, &i.to_string()))).collect();
    for (i, appended) in (1..).zip(join_all(appends).await) {
        let appended = appended.expect("a holder speaks");
        assert!(!appended.duplicate, "an append that overtook another would swallow it");
        assert_eq!(appended.position.seq, i + 1, "appends take effect in the order of calls");
    }
    let mut story = vec!["1 bob joined".to_owned()];
    story.extend((1..=100).map(|i| format!("{} bob: {i}", i + 1)));
    assert_eq!(a.story(&room).await, story, "the log has that order");
    assert_eq!(b.hear_until(&room, 101).await.story(), story, "listeners hear that order");
}

pub(crate) async fn closing_finishes_what_is_queued(fixture: &impl Fixture) {
    let [mut a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let appends: Vec<_> =
        (1..=50).map(|i| a.backplane.append(&bob, i, said(&bob, &i.to_string()))).collect();
    let (appended, ()) = join!(join_all(appends), a.backplane.close());
    for appended in appended {
        appended.expect("what was queued before closing is finished");
    }
    a.backplane.close().await;
    while a.signals.recv().await.is_some() {}
    assert_eq!(b.head(&room).await.position.seq, 51, "all of it is in the log");
    b.is_refused(&b.hold(&room, "bob"), "closing gives no name back").await;
}
