//! Leases of many rooms are extended in one call, and what is not as it was is mended apart.

use futures_util::future::join_all;

use super::{SETUP, Server, keys};
use crate::{
    backplane::{
        AppendError, RENEW_BATCH, Verdict,
        conformance::props::{again, some_room},
    },
    domain::RoomName,
};

#[tokio::test]
async fn rooms_that_are_renewed_together_are_judged_apart() {
    let server = Server::start().await;
    let (a, b) = (server.attach(SETUP), server.attach(SETUP));
    let rooms: Vec<RoomName> = (0..RENEW_BATCH).map(|_| some_room()).collect();
    let holds = join_all(
        rooms.iter().map(async |room| [a.join(room, "bob").await, a.join(room, "ann").await]),
    );
    let holds = holds.await;
    // Of some, a name is gone, taken by another one, or moved on.
    for (index, [bob, _]) in holds.iter().enumerate() {
        match index % 16 {
            1 => drop(b.leave(bob).await),
            2 => {
                b.leave(bob).await;
                b.join(&bob.room, "bob").await;
            }
            3 => drop(b.take_over(bob).await),
            4 => drop(b.say(bob, 1, "hi").await),
            _ => {}
        }
    }
    let renewals = join_all(holds.iter().map(|holds| a.renew(&holds[0].room, holds))).await;
    for (index, renewal) in renewals.iter().enumerate() {
        let (verdict, seq) = match index % 16 {
            1 => (Verdict::Gone, 3),
            2 => (Verdict::Taken, 4),
            3 => (Verdict::Moved, 2),
            4 => (Verdict::Held, 3),
            _ => (Verdict::Held, 2),
        };
        assert_eq!(renewal.verdicts, [verdict, Verdict::Held], "room {index}");
        assert_eq!(renewal.head.position.seq, seq, "room {index}");
    }
}

#[tokio::test]
async fn the_earliest_deadline_is_told() {
    let server = Server::start().await;
    let brief = super::Setup { lease: SETUP.lease / 10, ..SETUP };
    let (a, b) = (server.attach(SETUP), server.attach(brief));
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let alone = a.renew(&room, std::slice::from_ref(&bob)).await.next_deadline;
    assert_eq!(alone, Some(SETUP.lease), "the lease that was just extended");
    b.join(&room, "ann").await;
    let other = a.renew(&room, std::slice::from_ref(&bob)).await.next_deadline.unwrap();
    assert!(other <= brief.lease && other > brief.lease / 2, "{other:?}");
}

#[tokio::test]
async fn a_room_that_lost_a_key_is_mended() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let lost = async |key: fn(&RoomName) -> String| {
        let room = some_room();
        let bob = a.join(&room, "bob").await;
        a.say(&bob, 1, "hi").await;
        let _: u64 = server.command(&["DEL", &key(&room)]).await;
        let verdict = a.renew_one(&bob).await;
        (room, bob, verdict)
    };
    let parts: [fn(&RoomName) -> String; 2] =
        [|room| keys().names(room), |room| keys().lease(room, "bob")];
    for part in parts {
        let (room, bob, verdict) = lost(part).await;
        assert_eq!(verdict, Verdict::Held);
        a.is_refused(&a.hold(&room, "bob"), "the name is bob's").await;
        let all: Vec<String> = server.command(&["KEYS", &format!("*:{room}*")]).await;
        assert_eq!(all.len(), 4, "{all:?}");
        for key in all {
            let ttl: i64 = server.command(&["PTTL", &key]).await;
            assert!(ttl > 0, "{key} lives for ever");
        }
        a.say(&bob, 2, "here").await;
    }
    let (room, bob, verdict) = lost(|room| keys().room(room)).await;
    assert_eq!(verdict, Verdict::Gone, "it has to join again");
    assert_eq!(a.story(&room).await, [""; 0], "a room that was lost begins anew");
    let back = again(&bob, a.head(&room).await.position);
    assert_eq!(a.take(&back).await.position.seq, 0, "in silence");
    assert_eq!(a.say(&back, 1, "here").await.position.seq, 1);
}

#[tokio::test]
async fn a_broken_room_is_no_other_rooms_affair() {
    let server = Server::start().await;
    let a = server.attach(SETUP);
    let rooms: Vec<RoomName> = (0..32).map(|_| some_room()).collect();
    let holds = join_all(rooms.iter().map(|room| a.join(room, "bob"))).await;
    let broken = keys().room(&rooms[7]);
    let _: u64 = server.command(&["DEL", &broken]).await;
    let _: () = server.command(&["SET", &broken, "no hash"]).await;
    let renewals =
        holds.iter().map(|hold| a.backplane.renew(&hold.room, std::slice::from_ref(hold)));
    let renewals = join_all(renewals).await;
    for (index, renewal) in renewals.iter().enumerate() {
        assert_eq!(renewal.is_ok(), index != 7, "room {index}");
    }
}

/// A Redis that evicts keys may drop a room: whoever has a lease is in the room all the same.
#[tokio::test]
async fn whoever_has_a_lease_is_back_in_silence_when_the_room_is_lost() {
    let server = Server::start().await;
    let (a, b) = (server.attach(SETUP), server.attach(SETUP));
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let carol = b.join(&room, "carol").await;
    let dave = b.join(&room, "dave").await;
    let joined = b.head(&room).await.position;
    let _: u64 = server.command(&["DEL", &keys().room(&room)]).await;
    b.is_refused(&b.hold(&room, "bob"), "the name is bob's").await;
    // Bob speaks, carol's lease is renewed, and dave leaves.
    let stale = a.try_say(&bob, 1, "hi").await;
    assert_eq!(stale, Err(AppendError::Stale));
    let back = again(&bob, joined);
    assert!(!a.take(&back).await.told, "nobody has heard him leave");
    a.say(&back, 1, "hi").await;
    assert_eq!(b.renew_one(&carol).await, Verdict::Gone, "she has to join again");
    assert!(!b.take(&again(&carol, joined)).await.told, "nobody has heard her leave");
    b.leave(&dave).await.expect("there is a name to give back");
    assert_eq!(a.story(&room).await, ["1 bob: hi", "2 dave left"]);
    b.join(&room, "dave").await;
}

/// One member is back, the others are not: as many leases, fewer members.
#[tokio::test]
async fn a_room_that_lacks_members_is_noticed() {
    let server = Server::start().await;
    let (a, b) = (server.attach(SETUP), server.attach(SETUP));
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let carol = b.join(&room, "carol").await;
    let joined = a.head(&room).await.position;
    let _: u64 = server.command(&["DEL", &keys().room(&room)]).await;
    a.take(&again(&bob, joined)).await;
    assert_eq!(b.renew_one(&carol).await, Verdict::Gone, "she is no member");
}
