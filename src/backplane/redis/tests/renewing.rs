//! Leases of many partitions are renewed in one call, many rooms are asked for in one, and what is lost in part is mended.

use std::time::Duration;

use futures_util::future::join_all;

use super::{SETUP, Server, keys, roll_back};
use crate::{
    backplane::{
        AppendError, HEADS_BATCH, Partition, Verdict,
        conformance::props::{again, names, some_room},
    },
    domain::RoomName,
};

/// So many rooms of one partition.
fn rooms_of_one_partition(count: usize) -> Vec<RoomName> {
    let keys = keys();
    let partition = keys.partition(&some_room());
    let rooms = std::iter::repeat_with(some_room);
    rooms.filter(|room| keys.partition(room) == partition).take(count).collect()
}

#[tokio::test]
async fn partitions_that_are_renewed_together_are_judged_apart() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let rooms: Vec<RoomName> = (0..200).map(|_| some_room()).collect();
    join_all(rooms.iter().map(|room| a.join(room, "bob"))).await;
    let lost = keys().partition(&rooms[7]);
    let _: u64 = server.command(&["DEL", &keys().replicas(lost)]).await;
    let of_all = (0..256).map(|partition| a.backplane.renew(Partition(partition)));
    for (partition, renewal) in join_all(of_all).await.into_iter().enumerate() {
        let renewal = renewal.expect("redis answers");
        assert_eq!(renewal.held, partition != lost, "partition {partition}");
        assert_eq!(renewal.next_deadline, None);
    }
}

#[tokio::test]
async fn an_incarnation_that_nothing_is_known_of_has_a_lease_from_then_on() {
    let server = Server::start().await;
    let brief = super::Setup { lease: Duration::from_millis(800), ..SETUP };
    let (a, b) = (server.attach(brief), server.attach(brief));
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let joined = a.head(&room).await.position;
    let partition = keys().partition(&room);
    let _: u64 = server.command(&["DEL", &keys().replicas(partition)]).await;
    assert!(b.overdue(&room).await.is_empty());
    b.is_refused(&b.hold(&room, "bob"), "it is not free at once").await;
    tokio::time::sleep(brief.lease / 2).await;
    b.is_refused(&b.hold(&room, "bob"), "nor before a lease is over").await;
    assert_eq!(a.try_say(&bob, 1, "hi").await, Err(AppendError::Stale), "nobody speaks under it");
    // It is back in time.
    assert!(!a.renew(&room).await.held);
    let bob = again(&bob, joined);
    assert!(!a.take(&bob).await.told, "in silence");

    let _: u64 = server.command(&["DEL", &keys().replicas(partition)]).await;
    b.is_refused(&b.hold(&room, "bob"), "as before").await;
    tokio::time::sleep(brief.lease * 5 / 4).await;
    let overdue = b.overdue(&room).await;
    assert_eq!(names(&overdue), ["bob"], "this time it is not");
    assert_eq!(b.reap(&room, &overdue).await, 1);
    assert_eq!(b.story(&room).await, ["1 bob joined", "2 bob left"]);
}

/// A failover lost the join.
#[tokio::test]
async fn a_join_that_was_rolled_back_is_found_by_its_check() {
    let server = Server::start().await;
    let (a, b) = (server.attach(SETUP), server.attach(SETUP));
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "hi").await;
    let carol = b.join(&room, "carol").await;
    let joined = b.head(&room).await.position;
    let before = a.heads(std::slice::from_ref(&room)).await.remove(0).expect("it is there").log;
    roll_back(&server, &room, 2).await;
    let _: u64 = server.command(&["HDEL", &keys().room(&room), "@carol"]).await;
    let head = a.heads(std::slice::from_ref(&room)).await.remove(0).expect("it is there").log;
    assert_ne!(head.position.epoch, before.position.epoch, "its head tells");
    assert_eq!(head.position.seq, 2);
    assert_eq!(a.check_one(&bob).await, Verdict::Held);
    assert_eq!(b.check_one(&carol).await, Verdict::Gone);
    let carol = again(&carol, joined);
    assert!(!b.take(&carol).await.told, "what the room has not heard end is not told again");
    b.say(&carol, 1, "here").await;
}

#[tokio::test]
async fn a_partition_that_lost_a_key_is_mended() {
    let server = Server::start().await;
    let (a, b) = (server.attach(SETUP), server.attach(SETUP));
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let joined = a.head(&room).await.position;
    let partition = keys().partition(&room);
    let rooms = keys().rooms(partition);
    let _: u64 = server.command(&["DEL", &rooms]).await;
    a.heads(std::slice::from_ref(&room)).await;
    let listed: Vec<String> = server.command(&["ZRANGE", &rooms, "0", "-1"]).await;
    assert_eq!(listed, [room.to_string()], "whoever asks for a room finds that");

    let _: u64 = server.command(&["DEL", &keys().room(&room)]).await;
    assert_eq!(a.heads(std::slice::from_ref(&room)).await, [None]);
    assert_eq!(a.try_say(&bob, 1, "hi").await, Err(AppendError::Stale));
    assert_eq!(a.check_one(&bob).await, Verdict::Gone, "it has to join again");
    assert_eq!(a.story(&room).await, [""; 0], "a room that was lost begins anew");
    let back = again(&bob, joined);
    assert!(!a.take(&back).await.told, "nobody has heard him leave");
    assert_eq!(a.say(&back, 1, "here").await.position.seq, 1);

    // Who leaves before that is told of all the same.
    let carol = b.join(&room, "carol").await;
    let carol = crate::backplane::Hold { confirmed: Some(b.head(&room).await.position), ..carol };
    let _: u64 = server.command(&["DEL", &keys().room(&room)]).await;
    b.leave(&carol).await.expect("the room knew her");
    assert_eq!(a.story(&room).await, ["1 carol left"]);
}

#[tokio::test]
async fn a_broken_room_is_no_other_rooms_affair() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let rooms = rooms_of_one_partition(HEADS_BATCH);
    join_all(rooms.iter().map(|room| a.join(room, "bob"))).await;
    let broken = keys().room(&rooms[7]);
    let _: u64 = server.command(&["DEL", &broken]).await;
    let _: () = server.command(&["SET", &broken, "no hash"]).await;
    for (index, head) in a.heads(&rooms).await.iter().enumerate() {
        assert_eq!(head.is_some(), index != 7, "room {index}");
    }
}

/// A room whose history is kept for a moment, and in which somebody lingers for long, is there for as long.
#[tokio::test]
async fn a_room_lives_for_as_long_as_anybody_may_linger_in_it() {
    let server = Server::start().await;
    let log = crate::backplane::LogBounds { age: Duration::from_secs(1), ..SETUP.log };
    let a = server.attach(super::Setup { log, ..SETUP });
    let room = some_room();
    let hour = Duration::from_secs(3600);
    let bob = crate::backplane::Hold { linger: hour, ..a.hold(&room, "bob") };
    a.take(&bob).await;
    let lives = async || -> i64 { server.command(&["PTTL", &keys().room(&room)]).await };
    assert!(lives().await > 3_600_000 + 60_000);
    a.leave(&bob).await;
    let left = lives().await;
    assert!(left < 120_000, "an empty one is forgotten: {left}");
}
