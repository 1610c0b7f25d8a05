use std::future::poll_fn;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::*;
use crate::{
    backplane::conformance::{Replica, props},
    hub::{
        HubConfig, Membership, SessionClaim,
        testing::{Given, Plain, config, enter, enter_as, start},
    },
};

const EVENTS: usize = 4096;

/// A window of so many events, and leases that do not matter.
fn roomy() -> HubConfig {
    HubConfig { lease: Duration::from_secs(600), window_events: EVENTS, ..config() }
}

/// A reader of the `chat` protocol, who never comes to take anything.
async fn stalled(hub: &Arc<Hub>, room: &RoomName) -> Membership {
    enter_as(hub, room, "reader", SessionClaim::Plain, Duration::ZERO).await
}

/// The clock of these tests stands still while anything can be done: it tells how long something was
/// waited for, and nothing else.
#[tokio::test(start_paused = true)]
async fn rooms_do_not_wait_for_each_others_readers() {
    let (hub, _, other) = start(roomy(), 1_000_000);
    let mut memberships = Vec::new();
    for _ in 0..50 {
        memberships.push(stalled(&hub, &props::some_room()).await);
    }
    // What the first canary came to tells nothing then.
    sleep(Duration::from_millis(200)).await;
    for membership in &memberships {
        let room = membership.member().hold().room;
        let speaker = other.join(&room, "speaker").await;
        let said: Vec<_> = (1..=EVENTS as u64 / 2 + 10)
            .map(|seq| other.backplane.append(&speaker, seq, props::said(&speaker, "x")))
            .collect();
        futures_util::future::join_all(said).await;
    }
    let began = Instant::now();
    hub.prove_delivery().await.expect("a canary comes through");
    assert!(began.elapsed() < PAUSE, "{:?} for one canary", began.elapsed());
    for membership in &memberships {
        let room = hub.room(&membership.member().hold().room).expect("it is here");
        assert!(room.is_crowded(), "that is what it is about");
    }
    // Nothing is kept back for long.
    for membership in &memberships {
        while membership.reader().head() < EVENTS as u64 / 2 + 11 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(began.elapsed() < PAUSE * 4, "{:?} until all was passed on", began.elapsed());
}

/// Rooms with readers that take nothing hold so much together, and those that hold little lose nothing.
#[tokio::test(start_paused = true)]
async fn the_windows_of_all_rooms_have_a_bound_together() {
    const MOST: usize = 4 << 20;
    let (hub, _, other) = start(HubConfig { unread_bytes: MOST, ..roomy() }, 1_000_000);
    let mut memberships = Vec::new();
    for _ in 0..50 {
        memberships.push(stalled(&hub, &props::some_room()).await);
    }
    let (modest, greedy) = memberships.split_first().expect("there are some");
    let held = || usize::try_from(hub.metrics.window_bytes.get()).unwrap();
    let content = "x".repeat(8_000);
    for (membership, messages) in
        std::iter::once((modest, 1)).chain(greedy.iter().map(|it| (it, 40)))
    {
        let room = membership.member().hold().room;
        let speaker = other.join(&room, "speaker").await;
        for seq in 1..=messages {
            let said = props::said(&speaker, &content);
            other.backplane.append(&speaker, seq, said).await.unwrap();
        }
        sleep(2 * RELIEF).await;
        assert!(held() <= MOST, "{} bytes", held());
    }
    let is_too_slow = |membership: &Membership| {
        let notice = poll_fn(|cx| membership.member().poll_notice(cx)).now_or_never();
        notice == Some(crate::hub::Notice::TooSlow)
    };
    assert!(!is_too_slow(modest));
    assert!(greedy.iter().filter(|it| is_too_slow(it)).count() > 40);
    drop(memberships);
}

/// Says so many things at once, before anybody else has a turn.
fn say(other: &Replica, speaker: &crate::backplane::Hold, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        let said = props::said(speaker, &seq.to_string());
        let appended = other.backplane.append(speaker, seq, said).now_or_never();
        appended.expect("memory does not wait").expect("it is stored");
    }
}

/// The contents of all that there is for a reader, in order.
fn taken(membership: &Membership) -> Vec<String> {
    let chunk = membership.reader().take(&Plain, u64::MAX, usize::MAX, None).expect("it is there");
    let contents = Plain::read(&chunk.bytes).into_iter().map(|given| match given {
        Given::Event(_, content) => content,
        Given::Lost(from, to) => panic!("{from} to {to} are lost"),
    });
    contents.filter(|content| !content.is_empty()).collect()
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|it| it.to_string()).collect()
}

/// More signals come than fit: what was dropped is read from the log, once, and all is passed on in order.
#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_the_queue_is_read_from_the_log() {
    let (hub, _, other) = start(config(), 4);
    let room = props::some_room();
    let bob = enter(&hub, &room, "bob", Duration::ZERO).await;
    let speaker = other.join(&room, "speaker").await;
    sleep(Duration::from_secs(1)).await;
    say(&other, &speaker, 1..=200);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(taken(&bob), numbers(1..=200));
    say(&other, &speaker, 201..=203);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(taken(&bob), numbers(201..=203), "live again");
}

/// The log cannot be read when something was missed: it is tried again until it can, and meanwhile nothing that comes
/// overtakes what is missing.
#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_tried_again() {
    let (hub, odd, other) = start(config(), 4);
    let room = props::some_room();
    let bob = enter(&hub, &room, "bob", Duration::ZERO).await;
    let speaker = other.join(&room, "speaker").await;
    sleep(Duration::from_secs(1)).await;
    odd.set_away(true);
    say(&other, &speaker, 1..=100);
    sleep(REREAD * 10).await;
    say(&other, &speaker, 101..=102);
    sleep(REREAD * 10).await;
    let before = taken(&bob);
    assert!(before.len() < 10, "only what fitted into the queue is here: {before:?}");
    odd.set_away(false);
    sleep(REREAD * 3).await;
    assert_eq!([before, taken(&bob)].concat(), numbers(1..=102));
}
