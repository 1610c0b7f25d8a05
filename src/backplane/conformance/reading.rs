//! The log and its bounds.

use std::time::Duration;

use super::{Fixture, Setup, props::*, replicas};
use crate::{
    backplane::LogBounds,
    domain::{Epoch, Head, Position},
};

pub(crate) async fn a_log_is_read_in_pages(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let nothing = a.read(&room, 0, 10).await;
    assert_eq!((nothing.head, nothing.events.len()), (None, 0), "no room, no log");
    let bob = a.join(&room, "bob").await;
    for i in 1..=9 {
        a.say(&bob, i, "hi").await;
    }
    for (after, limit, first, count) in [
        (0, 4, 1, 4),
        (4, 4, 5, 4),
        (8, 4, 9, 2),
        (2, 100, 3, 8),
        (9, 1, 10, 1),
        (10, 4, 11, 0),
        (99, 4, 100, 0),
        (0, 0, 1, 0),
    ] {
        let page = b.read(&room, after, limit).await;
        let got: Vec<u64> = page.events.iter().map(|(seq, _)| *seq).collect();
        let expected: Vec<u64> = (first..first + count).collect();
        assert_eq!(got, expected, "at most {limit} events above {after}, dense");
        let head = page.head.expect("a page comes with the head");
        assert_eq!(head.position.seq, 10, "a page comes with the head, wherever it is");
        assert_eq!(head.past, [], "a log that began here goes on from no other");
    }
}

pub(crate) async fn a_log_is_trimmed_by_length(fixture: &impl Fixture) {
    const LENGTH: usize = 50;
    const SAID: u64 = 500;
    let log = LogBounds { length: LENGTH, ..Setup::CALM.log };
    let [a] = replicas(fixture, Setup { log, ..Setup::CALM }).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    for i in 1..=SAID {
        a.say(&bob, i, "hi").await;
    }
    let page = a.read(&room, 0, 1000).await;
    let kept = page.events.len();
    assert!(kept >= LENGTH, "a log keeps its length, yet: {kept}");
    assert!(kept <= 2 * LENGTH + 200, "a log keeps not much more than its length, yet: {kept}");
    let seqs: Vec<u64> = page.events.iter().map(|(seq, _)| *seq).collect();
    let newest: Vec<u64> = (SAID + 2 - kept as u64..=SAID + 1).collect();
    assert_eq!(seqs, newest, "what a log keeps is the newest, dense");
    let first = seqs[0];
    let page = a.read(&room, first + 9, 5).await;
    let got: Vec<u64> = page.events.iter().map(|(seq, _)| *seq).collect();
    let rule = "a trimmed log is read from where one asks";
    assert_eq!(got, (first + 10..first + 15).collect::<Vec<_>>(), "{rule}");
}

pub(crate) async fn a_log_is_trimmed_by_bytes(fixture: &impl Fixture) {
    const BYTES: usize = 100_000;
    let log = LogBounds { bytes: BYTES, ..Setup::CALM.log };
    let [a] = replicas(fixture, Setup { log, ..Setup::CALM }).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let large = "x".repeat(10_000);
    for i in 1..=300 {
        // Large ones and small ones.
        a.say(&bob, i, if i % 3 == 0 { &large } else { "hi" }).await;
    }
    let page = a.read(&room, 0, 1000).await;
    let kept: usize = page.events.iter().map(|(_, event)| event.size()).sum();
    assert!(kept >= BYTES / 4 * 3, "a log keeps its bytes, yet: {kept}");
    assert!(kept <= BYTES / 4 * 5, "a log keeps not much more than its bytes, yet: {kept}");
    let seqs: Vec<u64> = page.events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (302 - seqs.len() as u64..=301).collect::<Vec<_>>(), "the newest, dense");
    for i in 301..=2000 {
        a.say(&bob, i, "hi").await;
    }
    let page = a.read(&room, 0, 10_000).await;
    assert!(page.events.len() > 500, "small ones are many, yet: {}", page.events.len());
}

pub(crate) async fn a_room_in_which_nothing_was_said_leaves_nothing(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let (silent, spoken, crashed) = (some_room(), some_room(), some_room());
    let carol = a.hold(&crashed, "carol");
    let joined = a.take(&carol).await.position;
    for room in [&silent, &spoken] {
        let bob = a.join(room, "bob").await;
        if room == &spoken {
            a.say(&bob, 1, "hi").await;
        }
        a.leave(&bob).await;
    }
    let before = b.head(&silent).await;
    assert_eq!(before.position.seq, 2, "it stays for a while");
    fixture.pass(Setup::BRIEF.lease * 3 / 2).await;
    let overdue = b.overdue(&crashed).await;
    b.reap(&crashed, &overdue).await;
    fixture.pass(Setup::BRIEF.lease * 3 / 2).await;
    assert_eq!(b.read(&silent, 0, 10).await.head, None, "nothing was said");
    assert_eq!(b.head(&spoken).await.position.seq, 3, "what was said is remembered");
    assert_eq!(b.head(&crashed).await.position.seq, 2, "so is who was lost, and may come back");
    assert!(a.take(&again(&carol, joined)).await.told, "and is told of");
    let joined = b.take(&b.hold(&silent, "bob")).await;
    assert_eq!(joined.position.seq, 1, "a new log begins at 1");
    assert!(!b.head(&silent).await.includes(before.position), "the old positions are void");
}

pub(crate) async fn a_log_is_trimmed_by_age(fixture: &impl Fixture) {
    let age = Duration::from_millis(1200);
    let lease = Duration::from_millis(1200);
    let setup = Setup { lease, log: LogBounds { age, ..Setup::CALM.log }, ..Setup::CALM };
    let [a] = replicas(fixture, setup).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "old").await;
    for _ in 0..4 {
        fixture.pass(age / 2).await;
        a.renew_one(&bob).await;
    }
    a.say(&bob, 2, "new").await;
    let kept = a.story(&room).await;
    assert!(!kept.contains(&"2 bob: old".to_owned()), "old events are dropped, yet: {kept:?}");
    assert!(kept.contains(&"3 bob: new".to_owned()), "a log goes on where it was: {kept:?}");
}

pub(crate) async fn an_empty_room_is_forgotten(fixture: &impl Fixture) {
    let age = Duration::from_millis(500);
    let lease = Duration::from_millis(300);
    let setup = Setup { lease, log: LogBounds { age, ..Setup::CALM.log }, ..Setup::CALM };
    let [a, b] = replicas(fixture, setup).await;
    let (room, abandoned) = (some_room(), some_room());
    let bob = a.join(&room, "bob").await;
    a.leave(&bob).await;
    a.join(&abandoned, "carol").await;
    let before = b.head(&room).await;
    assert_eq!(before.position.seq, 2, "an empty room is remembered for a while");

    fixture.pass(lease * 15 / 2 + age).await;
    assert_eq!(b.read(&room, 0, 10).await.head, None, "an empty room is forgotten as a whole");
    let head = b.read(&abandoned, 0, 10).await.head;
    assert_eq!(head, None, "a room is forgotten whose members all died");
    assert!(b.overdue(&abandoned).await.is_empty(), "its members are forgotten with it");

    let joined = b.take(&b.hold(&room, "bob")).await;
    assert_eq!(joined.position.seq, 1, "a new log begins at 1");
    assert_ne!(joined.position.epoch, before.position.epoch, "a new log has a new epoch");
    assert!(!b.head(&room).await.includes(before.position), "the old positions are void");
}

pub(crate) async fn a_head_includes_its_past_only(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let said = a.say(&bob, 1, "hi").await.position;
    let head = a.head(&room).await;
    assert_eq!(head.position, said);
    assert_eq!(a.check(&room, &[bob]).await.head.log, head, "a check and a page tell one head");
    for seq in 0..=2 {
        assert!(head.includes(Position { seq, ..said }), "a head includes what led to it");
    }
    assert!(!head.includes(Position { seq: 3, ..said }), "a head includes nothing beyond it");
    let elsewhere = Epoch(said.epoch.0.wrapping_add(1));
    assert!(!head.includes(Position::new(elsewhere, 1)), "a head includes no other log's");

    let promoted = Head { position: Position::new(elsewhere, 9), past: vec![said] };
    assert!(promoted.includes(said), "a log that goes on includes the one before up to its end");
    assert!(!promoted.includes(Position { seq: 3, ..said }), "and nothing that was rolled back");
}
