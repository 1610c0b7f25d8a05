//! What services publish, on a real Redis: how long keys are known, and what survives.

use futures_util::future::join_all;

use super::{SETUP, Server, keys, roll_back};
use crate::{
    backplane::{
        IdempotencyKey, KEY_LIFETIME, Publish, PublishError, Unavailable,
        conformance::{props, publishing::message},
    },
    domain::RoomName,
};

fn keyed(room: &RoomName, key: &str) -> Publish {
    Publish { key: Some(IdempotencyKey::new(key, [7; 16])), ..message(room, "hi") }
}

#[tokio::test]
async fn a_key_is_known_for_its_time_and_nothing_is_left_for_ever() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let room = props::some_room();
    // With bytes that mean something to a cluster, and the longest that there is.
    for key in ["k", "}{a}:\u{1f600} *?[", &"k".repeat(128)] {
        assert!(!a.backplane.publish(keyed(&room, key)).await.expect("it answers").duplicate);
        assert!(a.backplane.publish(keyed(&room, key)).await.expect("it answers").duplicate);
        let left: i64 = server.command(&["PTTL", &keys().published(&room, key)]).await;
        let most = i64::try_from(KEY_LIFETIME.as_millis()).expect("a short time");
        assert!((most - 30_000..=most).contains(&left), "{key} lives for {left} ms");
    }
    let all: Vec<String> = server.command(&["KEYS", "rc:*"]).await;
    assert!(all.len() >= 6, "{all:?}");
    for key in all {
        let left: i64 = server.command(&["PTTL", &key]).await;
        assert!(left > 0, "{key} stays for ever");
    }
}

#[tokio::test]
async fn a_publish_counts_once_a_replica_has_it() {
    let unavailable = Err(PublishError::Unavailable(Unavailable));
    let server = Server::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let a = server.attach_with(SETUP, true);
    let room = props::some_room();
    let publish = || a.backplane.publish(keyed(&room, "k"));
    assert_eq!(publish().await, unavailable, "there is no replica");
    let replica = server.replica().await;
    server.in_step().await;
    let again = publish().await.expect("there is one");
    assert!(again.duplicate, "it had taken effect, and has been stored by now");
    assert_eq!(replica.events(&room).await, 1);
    replica.0.pause();
    assert_eq!(publish().await, unavailable, "a duplicate has to wait, too");
    let b = server.attach_with(SETUP, true);
    let elsewhere = b.backplane.publish(keyed(&room, "k")).await;
    assert_eq!(elsewhere, unavailable, "wherever it is asked for");
    replica.0.resume();
}

#[tokio::test]
async fn a_failover_that_lost_nothing_forgets_no_key() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let room = props::some_room();
    let first = a.backplane.publish(keyed(&room, "k")).await.expect("it answers");
    roll_back(&server, &room, 1).await;
    let other = a.backplane.publish(keyed(&room, "l")).await.expect("it answers");
    assert_ne!(other.position.epoch, first.position.epoch, "the log is in another epoch");
    let again = a.backplane.publish(keyed(&room, "k")).await.expect("it answers");
    assert_eq!((again.duplicate, again.position), (true, first.position), "as it was written");
    assert_eq!(other.position.seq, 2);
}

/// What is wrong with one room is no other room's affair.
#[tokio::test]
async fn a_room_that_is_broken_harms_no_other() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let (broken, good) = (props::some_room(), props::some_room());
    let _: () = server.command(&["SET", &keys().room(&broken), "not a hash"]).await;
    let calls = (0..20).map(|at| {
        let room = if at % 2 == 0 { &broken } else { &good };
        a.backplane.publish(keyed(room, &at.to_string()))
    });
    for (at, published) in join_all(calls.collect::<Vec<_>>()).await.into_iter().enumerate() {
        assert_eq!(published.is_ok(), at % 2 == 1, "{published:?}");
    }
    assert_eq!(a.head(&good).await.position.seq, 10);
}
