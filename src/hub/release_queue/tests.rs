//! Names are given back however long the backplane is away, and whoever waits for it waits for all of them. The clock
//! stands still while anything can be done.

use futures_util::FutureExt as _;

use super::*;
use crate::{
    backplane::{
        Backplane as _, PageLimit,
        conformance::{odd::Odd, props},
    },
    domain::RoomName,
    hub::testing::{LEASE, config, enter, start},
};

async fn story(odd: &Odd, room: &RoomName) -> Vec<String> {
    let all = PageLimit { events: 1_000, bytes: usize::MAX };
    let page = odd.read(room, 0, all).await.expect("a page");
    page.events.iter().map(|(seq, event)| props::line(*seq, event)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_name_is_given_back_once_however_long_the_backplane_is_away() {
    let (hub, odd, _) = start(config(), 10_000);
    let room = props::some_room();
    let bob = enter(&hub, &room, "bob", Duration::ZERO).await;
    odd.set_away(true);
    bob.release_later(LeftCause::Ended);
    sleep(LEASE * PATIENCE * 3).await;
    assert_eq!(hub.releases.len(), 1, "nobody else can tell");
    assert!(hub.releases.done().now_or_never().is_none());
    odd.set_away(false);
    hub.releases.done().await;
    assert_eq!(story(&odd, &room).await, ["1 bob joined", "2 bob left"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_end_of_a_lease_sees_to_is_given_up_after_some_leases() {
    let (hub, odd, _) = start(config(), 10_000);
    let room = props::some_room();
    let carol = enter(&hub, &room, "carol", Duration::ZERO).await;
    let bob = enter(&hub, &room, "bob", Duration::from_secs(1)).await;
    odd.set_away(true);
    drop(bob);
    sleep(LEASE * (PATIENCE - 1)).await;
    assert_eq!(hub.releases.len(), 1, "it may still linger");
    sleep(LEASE + 2 * RETRY).await;
    assert_eq!(hub.releases.len(), 0);
    hub.releases.done().await;
    assert!(hub.metrics.leases_lost.of(crate::metrics::LeaseLoss::Taken).get() == 0);
    // Whoever is there has its name again, and bob's ends with the lease before.
    let kept = props::again(&carol.member().hold(), carol.member().hold().confirmed.unwrap());
    carol.member().replace_hold(kept.clone());
    let event = event_now(&kept, EventKind::Joined);
    odd.join(crate::backplane::Join::new(&kept, event)).await.expect("it is hers");
    sleep(LEASE * 3).await;
    odd.set_away(false);
    assert_eq!(story(&odd, &room).await, ["1 carol joined", "2 bob joined", "3 bob left"]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_does_is_done_here_if_they_give_up() {
    let (hub, odd, _) = start(config(), 10_000);
    let room = props::some_room();
    let bob = enter(&hub, &room, "bob", Duration::ZERO).await;
    odd.set_away(true);
    // It waits for its bounded time.
    bob.release(LeftCause::Disconnected).await;
    assert_eq!(hub.releases.len(), 1);
    odd.set_away(false);
    hub.releases.done().await;
    let carol = enter(&hub, &room, "carol", Duration::ZERO).await;
    let leaving = carol.leave();
    odd.set_away(true);
    assert!(leaving.await.is_err(), "it is not stored");
    odd.set_away(false);
    hub.releases.done().await;
    let expected = ["1 bob joined", "2 bob left", "3 carol joined", "4 carol left"];
    assert_eq!(story(&odd, &room).await, expected);
}

#[tokio::test(start_paused = true)]
async fn many_are_given_back_at_a_time_and_all_of_them() {
    let (hub, odd, _) = start(config(), 10_000);
    let room = props::some_room();
    let mut members = Vec::new();
    for number in 0..CONCURRENCY + 50 {
        members.push(enter(&hub, &room, &format!("member {number}"), Duration::ZERO).await);
    }
    odd.set_away(true);
    for member in members {
        member.release_later(LeftCause::Shutdown);
    }
    sleep(RETRY * 3).await;
    assert_eq!(hub.releases.len(), CONCURRENCY + 50);
    assert_eq!(odd.most_at_a_time(), CONCURRENCY);
    odd.set_away(false);
    hub.releases.done().await;
    let story = story(&odd, &room).await;
    let left = story.iter().filter(|line| line.ends_with("left")).count();
    assert_eq!(left, CONCURRENCY + 50);
}
