//! What the keeper finds out about partitions, rooms and members. The clock stands still while anything can be done.

use std::{future::poll_fn, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    backplane::{
        Backplane as _, LogBounds, Signal,
        conformance::{Replica, props},
        memory::{Memory, MemoryConfig},
    },
    domain::ReplicaId,
    hub::{
        Hub, Membership, Notice,
        testing::{LEASE, Plain, config, enter, start},
    },
    metrics::Metrics,
    trace::Sampler,
};

/// A hub that hears nothing, and another replica, on a memory whose rooms have so few members.
fn deaf(members_per_room: usize) -> (Arc<Hub>, mpsc::Sender<Signal>, Replica) {
    let memory = Memory::new(MemoryConfig {
        lease: LEASE,
        log: LogBounds { length: 1_000, bytes: usize::MAX, age: Duration::from_secs(3600) },
        bytes: usize::MAX,
        members_per_room,
        signal_queue: 1_000,
    });
    let (silent, nothing) = mpsc::channel(1);
    let id = ReplicaId::from_bytes([1; 16]);
    let (backplane, _) = memory.attach(id);
    let hub = Hub::start(backplane, nothing, id, config(), Metrics::new(), Sampler::off());
    let id = ReplicaId::from_bytes([2; 16]);
    let (backplane, signals) = memory.attach(id);
    (hub, silent, Replica { id, backplane, signals })
}

fn notice(membership: &Membership) -> Option<Notice> {
    poll_fn(|cx| membership.member().poll_notice(cx)).now_or_never()
}

/// How many bytes wait for a reader, which takes them.
fn taken(membership: &Membership) -> usize {
    membership.reader().take(&Plain, u64::MAX, usize::MAX, None).expect("it is there").bytes.len()
}

#[tokio::test(start_paused = true)]
async fn what_no_signal_tells_of_is_found_in_a_quiet_room() {
    let (hub, _silent, other) = deaf(10);
    let room = props::some_room();
    let bob = enter(&hub, &room, "bob", Duration::ZERO).await;
    sleep(Duration::from_secs(1)).await;
    taken(&bob);
    let speaker = other.join(&room, "speaker").await;
    other.say(&speaker, 1, "hi").await;
    let pass = async |half_leases| {
        for _ in 0..half_leases {
            sleep(LEASE / 2).await;
            assert!(other.renew(&room).await.held);
        }
    };
    pass(2).await;
    assert!(taken(&bob) > 0, "soon");
    pass(40).await;
    other.say(&speaker, 2, "still there?").await;
    pass(9).await;
    assert!(taken(&bob) > 0, "and after a minute at the latest");
    assert_eq!(notice(&bob), None, "its member is held throughout");
}

#[tokio::test(start_paused = true)]
async fn whoever_lost_its_name_is_told_until_it_has_it_again() {
    let (hub, odd, other) = start(config(), 1_000);
    let room = props::some_room();
    let bob = enter(&hub, &room, "bob", Duration::ZERO).await;
    sleep(LEASE).await;
    assert_eq!(notice(&bob), None);
    odd.renounce(odd.partition(&room));
    sleep(LEASE / 2).await;
    for _ in 0..3 {
        assert_eq!(notice(&bob), Some(Notice::Gone), "it does not act on it");
        bob.room().doubt(Duration::ZERO);
        sleep(LEASE).await;
    }
    // Nobody else is to notice.
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_full_room_takes_somebody_in_once_its_members_are_gone() {
    let (hub, _silent, other) = deaf(1);
    let room = props::some_room();
    other.join(&room, "bob").await;
    // Nobody here watches the room, nor its partition.
    sleep(LEASE * 3).await;
    let carol = enter(&hub, &room, "carol", Duration::ZERO).await;
    assert_eq!(other.story(&room).await, ["1 bob joined", "2 bob left", "3 carol joined"]);
    drop(carol);
}

#[tokio::test(start_paused = true)]
async fn who_is_lost_is_reaped_in_rooms_that_nobody_here_is_in() {
    let (hub, _silent, other) = deaf(10);
    let (lost, here) = (props::some_room(), props::some_room());
    other.join(&lost, "bob").await;
    sleep(LEASE * 3).await;
    let _carol = enter(&hub, &here, "carol", Duration::ZERO).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(other.story(&lost).await, ["1 bob joined", "2 bob left"]);
}
