//! Live delivery.

use futures_util::future::join_all;

use super::{Fixture, Replica, Setup, props::*, replicas};

pub(crate) async fn everybody_hears_one_order(fixture: &impl Fixture) {
    let mut all: [Replica; 3] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    for replica in &all {
        replica.subscribe(&room).await;
    }
    let talk = all.iter().zip(["bob", "carol", "dave"]).map(|(replica, name)| {
        let room = &room;
        async move {
            let hold = replica.join(room, name).await;
            for i in 1..=30 {
                replica.say(&hold, i, &i.to_string()).await;
            }
            replica.leave(&hold).await;
        }
    });
    join_all(talk).await;

    let page = all[0].read(&room, 0, 1000).await;
    let seqs: Vec<u64> = page.events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=96).collect::<Vec<_>>(), "positions are dense from 1");
    for replica in &mut all {
        let heard = replica.hear_until(&room, 96).await;
        assert_eq!(heard.events, page.events, "everybody hears the log, in its order");
    }
    for name in ["bob", "carol", "dave"] {
        let own: Vec<String> = page
            .events
            .iter()
            .map(|(_, event)| line(0, event))
            .filter(|line| line.starts_with(&format!("0 {name}: ")))
            .collect();
        let said: Vec<String> = (1..=30).map(|i| format!("0 {name}: {i}")).collect();
        assert_eq!(own, said, "each sender's order is kept");
    }
}

pub(crate) async fn a_subscriber_hears_all_that_follows(fixture: &impl Fixture) {
    let [a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    for i in 1..=10 {
        let said = a.say(&bob, 2 * i - 1, "unheard").await.position;
        b.subscribe(&room).await;
        a.say(&bob, 2 * i, "heard").await;
        let heard = b.hear_all(&room).await.story();
        let first = format!("{} bob: heard", said.seq + 1);
        assert_eq!(heard, [first], "an event appended once `subscribe` returned is heard");
        b.backplane.unsubscribe(&room);
        // Subscriptions take effect in order, so this waits for the end of the other.
        b.subscribe(&b.room_beside(&room)).await;
    }
}

pub(crate) async fn one_who_unsubscribed_hears_nothing(fixture: &impl Fixture) {
    let [a, mut b, mut c] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let other = b.room_beside(&room);
    b.subscribe(&room).await;
    c.subscribe(&room).await;
    let bob = a.join(&room, "bob").await;
    assert_eq!(b.hear_until(&room, 1).await.story(), ["1 bob joined"]);
    b.backplane.unsubscribe(&room);
    b.subscribe(&other).await;
    a.say(&bob, 1, "hi").await;
    let heard = b.hear_all(&room).await.story();
    assert!(heard.is_empty(), "a room unsubscribed from is not heard, yet: {heard:?}");
    assert_eq!(c.hear_all(&room).await.story(), ["1 bob joined", "2 bob: hi"]);
}

pub(crate) async fn a_canary_comes_back_after_what_came_before(fixture: &impl Fixture) {
    let [mut a, mut b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    a.subscribe(&room).await;
    b.subscribe(&room).await;
    let bob = b.join(&room, "bob").await;
    for i in 1..=20 {
        let said = b.say(&bob, i, "hi").await;
        let heard = a.hear_all(&room).await;
        let last = heard.events.last().map(|(seq, _)| *seq);
        assert_eq!(last, Some(said.position.seq), "a canary comes after what was appended");
    }
    // Had `a`'s canaries reached `b`, they would be in the way here.
    b.backplane.canary(1).await.expect("the backplane answers");
    loop {
        match b.signals.recv().await.expect("signals do not end") {
            crate::backplane::Signal::Canary(number) => {
                assert_eq!(number, 1, "a canary comes back to its sender only");
                break;
            }
            crate::backplane::Signal::Live(_)
            | crate::backplane::Signal::Resumed(_)
            | crate::backplane::Signal::Moved(_) => {}
        }
    }
}

pub(crate) async fn what_overflowed_is_announced_and_in_the_log(fixture: &impl Fixture) {
    let setup = Setup { signal_queue: 4, ..Setup::CALM };
    let [a, mut b] = replicas(fixture, setup).await;
    // Two rooms in turn, lest a backplane gathers all of one room's events in one signal.
    let (room, other) = (some_room(), some_room());
    b.subscribe(&room).await;
    b.subscribe(&other).await;
    let bob = a.join(&room, "bob").await;
    let carol = a.join(&other, "carol").await;
    for i in 1..=100 {
        a.say(&bob, i, &i.to_string()).await;
        a.say(&carol, i, &i.to_string()).await;
    }

    let heard = b.hear_all(&room).await;
    let log = b.read(&room, 0, 1000).await.events;
    assert_eq!(log.len(), 101, "what was dropped on the way is in the log");
    assert!(
        heard.resumed || heard.events == log,
        "a receiver that drained heard all, or that something was dropped"
    );
    let in_log = |event| log.contains(event);
    assert!(heard.events.iter().all(in_log), "what was heard is what the log says");
    assert!(heard.events.is_sorted_by(|a, b| a.0 < b.0), "what was heard is in order");

    let last = a.say(&bob, 101, "after").await.position.seq;
    let story = b.hear_all(&room).await.story();
    assert_eq!(story, [format!("{last} bob: after")], "live delivery goes on");
}
