//! Who is in a room.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{Fixture, Replica, Setup, outlast_leases, props::*, replicas};
use crate::{
    backplane::{Hold, MEMBERS_PAGE, Members, MembersCursor, MembersPage},
    domain::RoomName,
};

async fn page(
    replica: &Replica,
    room: &RoomName,
    cursor: Option<MembersCursor>,
    limit: usize,
) -> Members {
    let page = MembersPage { cursor, limit };
    replica.backplane.members(room, page).await.expect("the backplane answers")
}

/// The names on all pages from this one on, each once.
async fn listed(
    replica: &Replica,
    room: &RoomName,
    mut cursor: Option<MembersCursor>,
    limit: usize,
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..10_000 {
        let page = page(replica, room, cursor, limit).await;
        assert!(page.members.len() <= 2 * limit.min(MEMBERS_PAGE), "{}", page.members.len());
        names.extend(page.members.iter().map(|it| it.member.name.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            return names;
        }
    }
    panic!("a list that does not end");
}

async fn crowd(replica: &Replica, room: &RoomName, names: &[String]) -> Vec<Hold> {
    join_all(names.iter().map(|name| replica.join(room, name))).await
}

pub(crate) async fn members_are_listed_in_pages(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let names: Vec<String> = (0..1200).map(|i| format!("member{i}")).collect();
    let holds = crowd(&a, &room, &names).await;
    let head = a.head(&room).await;
    let all: BTreeSet<String> = names.iter().cloned().collect();
    for limit in [64, MEMBERS_PAGE, usize::MAX] {
        assert_eq!(listed(&b, &room, None, limit).await, all, "everybody is listed");
    }
    let first = page(&b, &room, None, 100).await;
    assert!(first.next.is_some(), "a page is bounded");
    assert_eq!(first.total, 1200, "how many there are is told");
    for it in &first.members {
        let hold = holds.iter().find(|hold| hold.session == it.member.session);
        let hold = hold.expect("a member is told with its session");
        assert_eq!((&it.member.name, it.since), (hold.name.display(), hold.since));
    }
    // Whatever a client sends back.
    page(&b, &room, Some(MembersCursor(u64::MAX)), 100).await;
    assert_eq!(page(&b, &some_room(), Some(MembersCursor(7)), 0).await.total, 0);
    assert_eq!(b.head(&room).await, head, "looking changes nothing");
}

pub(crate) async fn who_stays_is_on_a_page_whoever_comes_and_goes(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let named = |kind: &str| -> Vec<String> { (0..200).map(|i| format!("{kind}{i}")).collect() };
    let goers = crowd(&a, &room, &named("goer")).await;
    let stayers = named("stayer");
    crowd(&a, &room, &stayers).await;
    let first = page(&b, &room, None, 50).await;
    for hold in &goers {
        a.leave(hold).await;
    }
    crowd(&a, &room, &named("comer")).await;
    let mut seen = listed(&b, &room, first.next, 50).await;
    seen.extend(first.members.iter().map(|it| it.member.name.to_string()));
    for name in &stayers {
        assert!(seen.contains(name), "{name} was there all the time");
    }
}

pub(crate) async fn members_are_those_who_came_and_did_not_leave(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::BRIEF).await;
    let room = some_room();
    let nobody = Members { members: Vec::new(), next: None, total: 0 };
    assert_eq!(page(&b, &room, None, 10).await, nobody, "nobody is in a room without members");
    let bob = a.join(&room, "bob").await;
    let carol = a.join(&room, "carol").await;
    a.join(&room, "dave").await;
    a.leave(&carol).await;
    assert!(a.linger(&bob, Setup::BRIEF.lease).await);
    let lingers = |members: Members| -> Vec<(String, bool)> {
        let mut all: Vec<_> = members.members.into_iter().collect();
        all.sort_by_key(|it| it.member.name.to_string());
        all.iter().map(|it| (it.member.name.to_string(), it.lingers)).collect()
    };
    let there = [("bob".to_owned(), true), ("dave".to_owned(), false)];
    assert_eq!(lingers(page(&b, &room, None, 10).await), there, "who lingers is there");
    outlast_leases(fixture, Setup::BRIEF).await;
    assert_eq!(lingers(page(&b, &room, None, 10).await), there, "until the room hears `left`");
    b.reap(&room, &b.overdue(&room).await).await;
    assert_eq!(page(&b, &room, None, 10).await, nobody);
}
