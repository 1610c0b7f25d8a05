//! Which rooms there are, how they stand, and how they are deleted.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;

use super::{Fixture, Replica, Setup, props::*, publishing::message, replicas};
use crate::{
    backplane::{Deletion, ListError, ListPage, LogBounds},
    domain::RoomName,
};

/// What the names of rooms of one test begin with.
fn some_prefix() -> String {
    format!("list-{:016x}-", rand::random::<u64>())
}

/// Begins rooms of these numbers.
async fn begin(replica: &Replica, prefix: &str, numbers: std::ops::Range<usize>) -> Vec<RoomName> {
    let rooms: Vec<_> =
        numbers.map(|at| RoomName::parse(&format!("{prefix}{at}")).expect("a name")).collect();
    for published in
        join_all(rooms.iter().map(|it| replica.backplane.publish(message(it, "hi")))).await
    {
        published.expect("the backplane answers");
    }
    rooms
}

/// A page of names, and where the next one begins.
async fn page(
    replica: &Replica,
    prefix: &str,
    from: Option<&str>,
    limit: usize,
) -> (Vec<RoomName>, Option<String>) {
    let page = replica.backplane.room_names(ListPage { prefix, from, limit }).await;
    let page = page.expect("the backplane answers");
    assert!(page.names.len() <= limit, "{} names where {limit} were asked for", page.names.len());
    assert!(page.names.iter().all(|it| it.as_str().starts_with(prefix)), "{:?}", page.names);
    assert!(page.next.iter().all(|it| it.bytes().all(|byte| byte.is_ascii_graphic())));
    (page.names, page.next)
}

/// The names on all pages.
async fn list(replica: &Replica, prefix: &str, limit: usize) -> Vec<RoomName> {
    let (mut all, mut next) = page(replica, prefix, None, limit).await;
    while let Some(from) = next {
        let (names, more) = page(replica, prefix, Some(&from), limit).await;
        all.extend(names);
        next = more;
    }
    all
}

pub(crate) async fn rooms_are_listed_in_pages(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let (prefix, other) = (some_prefix(), some_prefix());
    let rooms: HashSet<_> = begin(&a, &prefix, 0..300).await.into_iter().collect();
    begin(&b, &other, 0..10).await;
    for limit in [1, 7, 1000] {
        let listed = list(&b, &prefix, limit).await;
        let once: HashSet<_> = listed.iter().cloned().collect();
        assert_eq!((listed.len(), once == rooms), (300, true), "{limit} a page: each of them once");
    }
    assert_eq!(list(&a, &format!("{prefix}29"), 4).await.len(), 11, "29, and 290 to 299");
    assert_eq!(list(&a, &some_prefix(), 4).await, [], "nothing begins so");
    assert!(list(&a, "", 100).await.len() >= 310, "all of them");
}

pub(crate) async fn who_is_there_all_the_time_is_listed(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let prefix = some_prefix();
    let rooms = begin(&a, &prefix, 0..200).await;
    let (mut told, mut next, mut begun) = (HashSet::new(), None::<String>, 200);
    loop {
        let (names, more) = page(&b, &prefix, next.as_deref(), 9).await;
        told.extend(names);
        let Some(more) = more else { break };
        next = Some(more);
        // There are ten times as many in the end, so that Redis keeps them in other ways.
        if begun < 2000 {
            begin(&a, &prefix, begun..begun + 100).await;
            begun += 100;
            let gone = RoomName::parse(&format!("{prefix}{}", begun - 1)).expect("a name");
            assert_eq!(a.backplane.delete_room(&gone).await, Ok(Deletion::Deleted));
        }
    }
    let missing: Vec<_> = rooms.iter().filter(|room| !told.contains(room)).collect();
    assert!(missing.is_empty(), "{missing:?} were there all the time");
}

pub(crate) async fn no_list_goes_on_from_rubbish(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::CALM).await;
    for rubbish in ["", "no place", "-1.0 ", "é", &"f".repeat(100)] {
        let page = ListPage { prefix: "", from: Some(rubbish), limit: 1 };
        let listed = a.backplane.room_names(page).await;
        assert_eq!(listed, Err(ListError::Place), "{rubbish:?}");
    }
}

pub(crate) async fn a_standing_tells_members_and_the_last_event(fixture: &impl Fixture) {
    let (age, lease) = (Duration::from_millis(900), Duration::from_millis(300));
    let setup = Setup { lease, log: LogBounds { age, ..Setup::CALM.log }, ..Setup::CALM };
    let [a, b] = replicas(fixture, setup).await;
    let [quiet, busy, none] = [(); 3].map(|()| some_room());
    let before = jiff::Timestamp::now();
    a.backplane.publish(message(&quiet, "hi")).await.expect("the backplane answers");
    a.join(&busy, "bob").await;
    a.join(&busy, "carol").await;
    let rooms = [busy.clone(), none.clone(), quiet.clone()];
    let summaries = b.backplane.summaries(&rooms).await.expect("the backplane answers");
    let [Some(busy), None, Some(quiet)] = summaries.as_slice() else { panic!("{summaries:?}") };
    assert_eq!((busy.members, busy.head.position.seq), (2, 2));
    assert_eq!((quiet.members, quiet.head.position.seq), (0, 1));
    for standing in [busy, quiet] {
        let at = standing.last_activity.expect("the log has it");
        let off = at.duration_since(before).as_secs_f64().abs();
        assert!(off < 60.0, "about now: {off} s");
    }
    fixture.pass(lease * 6 + age).await;
    let summaries = b.backplane.summaries(&rooms).await.expect("the backplane answers");
    assert_eq!(summaries[2], None, "asking keeps nothing from being forgotten");
}

pub(crate) async fn a_room_is_deleted_once_nobody_is_in(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    assert_eq!(b.backplane.delete_room(&room).await, Ok(Deletion::NotThere));
    let bob = a.join(&room, "bob").await;
    a.say(&bob, 1, "hi").await;
    assert_eq!(b.backplane.delete_room(&room).await, Ok(Deletion::Occupied(1)));
    let before = b.head(&room).await;
    a.leave(&bob).await;
    assert_eq!(b.backplane.delete_room(&room).await, Ok(Deletion::Deleted));
    assert_eq!(b.read(&room, 0, 10).await.head, None, "its log is gone");
    assert_eq!(a.backplane.summaries(std::slice::from_ref(&room)).await, Ok(vec![None]));
    assert_eq!(list(&a, room.as_str(), 10).await, []);
    assert_eq!(a.backplane.delete_room(&room).await, Ok(Deletion::NotThere));
    let joined = a.take(&a.hold(&room, "bob")).await;
    assert_eq!(joined.position.seq, 1, "a new log begins at 1");
    assert!(!b.head(&room).await.includes(before.position), "the old positions are void");
    assert_eq!(list(&a, room.as_str(), 10).await, [room]);
}
