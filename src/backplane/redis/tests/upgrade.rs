//! What an earlier version of roomcast wrote is still good.

use std::time::Duration;

use super::{SETUP, Server, Setup};
use crate::{
    backplane::{
        Hold, LogBounds, MembersPage, Verdict,
        conformance::{Replica, props},
    },
    domain::{EventKind, LeftCause, RoomName},
};

/// A member as an earlier version joined it. Without resumable sessions its lease held a token of which no
/// part names a stream, and its entry in the roster ended with the time; `lingers` is a version later, which
/// says whether it lingers, but neither the stream nor how long.
async fn joined_before(
    server: &Server,
    replica: &Replica,
    room: &RoomName,
    name: &str,
    lingers: bool,
) -> Hold {
    let hold = replica.join(room, name).await;
    let roster = format!("rc:{{{room}}}:roster");
    let mut entry: Vec<u8> = server.command(&["HGET", &roster, name]).await;
    let end = entry.len() - 54;
    assert_eq!(&entry[end..end + 2], b"b\x10", "this version says which stream has it");
    assert_eq!(&entry[entry.len() - 2..], b"x\0", "and that it does not linger");
    entry.truncate(end);
    entry.extend(if lingers { &b"x\0"[..] } else { b"" });
    let client = redis::Client::open(server.0.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = redis::cmd("HSET");
    let () = set.arg(&roster).arg(name).arg(entry).query_async(&mut connection).await.unwrap();
    hold
}

#[tokio::test]
async fn entries_of_an_earlier_version_are_understood() {
    let server = Server::start().await;
    let setup = Setup { lease: Duration::from_millis(800), ..SETUP };
    let (a, b) = (server.attach(setup), server.attach(setup));
    let room = props::some_room();
    let bob = joined_before(&server, &a, &room, "bob", true).await;
    a.say(&bob, 1, "hi").await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
    let seated = b.lookup(&bob).await.expect("bob is there");
    assert_eq!((seated.secret, seated.client_seq, seated.lingers), (None, 1, false));
    assert_eq!(seated.replica, a.id);
    let members =
        b.backplane.members(&room, MembersPage { cursor: None, limit: 10 }).await.unwrap();
    assert_eq!(members.members[0].member, seated.member);

    // Its next join, leave, or end is as ever.
    let (next, joined) = b.take_over(&bob).await;
    assert_eq!(joined.client_seq, 1);
    b.leave(&next).await.expect("there is a name to give back");
    joined_before(&server, &a, &room, "carol", true).await;
    let dave = joined_before(&server, &a, &room, "dave", false).await;
    assert!(a.linger(&dave, Duration::from_millis(1)).await);
    tokio::time::sleep(setup.lease).await;
    b.reap(&room, &b.overdue(&room).await).await;
    let page = b.read(&room, 5, 10).await;
    let told: Vec<_> = page
        .events
        .iter()
        .map(|(_, event)| (event.member.name.as_str(), event.what.clone()))
        .collect();
    let left = |cause| EventKind::Left { cause };
    let expected = [("dave", left(LeftCause::TimedOut)), ("carol", left(LeftCause::ReplicaLost))];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_an_earlier_version_said_grows_old_too() {
    let server = Server::start().await;
    let age = Duration::from_millis(600);
    let setup = Setup { log: LogBounds { age, ..SETUP.log }, ..SETUP };
    let a = server.attach(setup);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "secret").await;
    // It did not note how old the oldest entry is.
    let _: u64 = server.command(&["HDEL", &format!("rc:{{{room}}}:meta"), "oldest"]).await;
    tokio::time::sleep(age * 5 / 4).await;
    assert_eq!(a.renew_one(&bob).await, Verdict::Held);
    assert_eq!(a.story(&room).await, [""; 0]);
}
