//! Which rooms there are, by way of backends.

use std::collections::{HashMap, HashSet};

use roomcast_proto::room::{
    DeleteRoomRequest, GetRoomRequest, ListEventsRequest, ListRoomsRequest, PublishManyRequest,
    Room,
};
use tonic::Code;

use super::{Backend, KEY, backend, message, reason};
use crate::harness::{Cluster, Layout, RichClient, SOON, eventually};

on_both_backplanes!(
    rooms_are_listed_with_their_members,
    a_room_is_told_by_itself,
    a_room_is_deleted_when_nobody_is_in,
);

async fn start(layout: Layout) -> Cluster {
    layout.plan().with("ROOMCAST_API__KEY", KEY).start().await
}

/// The rooms on all pages.
async fn list(backend: &mut Backend, prefix: &str, page_size: u32) -> Vec<Room> {
    let (mut rooms, mut page_token) = (vec![], String::new());
    loop {
        let asked = ListRoomsRequest { prefix: prefix.to_owned(), page_size, page_token };
        let page = backend.list_rooms(asked).await.expect("a page").into_inner();
        assert!(page_size == 0 || page.rooms.len() <= page_size as usize, "{}", page.rooms.len());
        rooms.extend(page.rooms);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return rooms;
        }
    }
}

fn get(room: &str) -> GetRoomRequest {
    GetRoomRequest { room: room.to_owned() }
}

async fn rooms_are_listed_with_their_members(layout: Layout) {
    const ROOMS: usize = 120;
    let cluster = start(layout).await;
    let mut publisher = backend(&cluster, 0).await;
    let messages = (0..ROOMS).map(|at| message(&format!("list-{at}"), "hi")).collect();
    publisher.publish_many(PublishManyRequest { messages }).await.expect("published");
    let mut members = vec![];
    for (at, name) in ["alice", "bob", "carol"].into_iter().enumerate() {
        let room = if at == 2 { "list-8" } else { "list-7" };
        let mut client =
            RichClient::open(&cluster.endpoint(at), RichClient::asking(room, name)).await;
        client.welcome().await;
        members.push(client);
    }
    for (replica, page_size) in [(0, 0), (1, 7), (2, 1000)] {
        let mut backend = backend(&cluster, replica).await;
        let listed = list(&mut backend, "list-", page_size).await;
        let names: HashSet<_> = listed.iter().map(|it| it.room.as_str()).collect();
        assert_eq!((listed.len(), names.len()), (ROOMS, ROOMS), "each of them once");
        let counts: HashMap<_, _> =
            listed.iter().map(|it| (it.room.as_str(), it.members)).collect();
        assert_eq!((counts["list-7"], counts["list-8"], counts["list-9"]), (2, 1, 0));
        assert!(listed.iter().all(|it| it.last_activity.is_some() && it.head.is_some()));
        assert_eq!(list(&mut backend, "list-11", 5).await.len(), 11, "11, and 110 to 119");
    }
    let mut backend = backend(&cluster, 1).await;
    for (prefix, page_token, why) in
        [("", "rubbish token", "INVALID_PAGE_TOKEN"), ("a b", "", "INVALID_MESSAGE")]
    {
        let (prefix, page_token) = (prefix.to_owned(), page_token.to_owned());
        let asked = ListRoomsRequest { prefix, page_size: 0, page_token };
        let refused = backend.list_rooms(asked).await.expect_err(why);
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, why));
    }
    cluster.assert_no_errors();
}

async fn a_room_is_told_by_itself(layout: Layout) {
    let cluster = start(layout).await;
    let mut backend = backend(&cluster, 1).await;
    let refused = backend.get_room(get("den")).await.expect_err("not there");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "ROOM_NOT_FOUND"));
    let published = backend.publish(message("den", "hi")).await.expect("published").into_inner();
    let den = backend.get_room(get("den")).await.expect("there").into_inner();
    assert_eq!((den.room.as_str(), den.members, den.head), ("den", 0, published.position));
}

async fn a_room_is_deleted_when_nobody_is_in(layout: Layout) {
    let cluster = start(layout).await;
    let mut backend = backend(&cluster, 2).await;
    let delete = || DeleteRoomRequest { room: "den".to_owned() };
    let mut bob = RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "bob")).await;
    bob.welcome().await;
    let before = bob.say_and_wait(1, "to be forgotten").await;
    let refused = backend.delete_room(delete()).await.expect_err("bob is in");
    let told = (refused.code(), reason(&refused));
    assert_eq!(told, (Code::FailedPrecondition, "ROOM_NOT_EMPTY".to_owned()), "{refused}");
    bob.leave().await;
    bob.expect_end(Code::Ok).await;
    backend.delete_room(delete()).await.expect("nobody is in");
    let again = backend.delete_room(delete()).await.expect_err("not there");
    assert_eq!(again.code(), Code::NotFound);
    let mut calls = RichClient::calls(&cluster.endpoint(1)).await;
    let asked = ListEventsRequest { room: "den".to_owned(), ..ListEventsRequest::default() };
    let page = calls.list_events(asked).await.expect("a page").into_inner();
    assert_eq!((page.events.len(), page.head), (0, None), "nothing is left");
    let published = backend.publish(message("den", "anew")).await.expect("published").into_inner();
    let position = published.position.expect("a position");
    assert_eq!((position.seq, position.epoch == before.epoch), (1, false), "another log");
    eventually(SOON, "the log tells of it", async || {
        let told = |replica: &crate::harness::Replica| {
            let lines = replica.log().with("audit");
            lines.iter().any(|line| line.contains("deleted") && line.contains("den"))
        };
        cluster.replicas.iter().any(told).then_some(())
    })
    .await;
}
