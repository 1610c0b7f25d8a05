//! What moderators do while those whom it is done to come, or speak.

use futures_util::future::join_all;
use roomcast_proto::room::{
    ListEventsRequest, ListMembersRequest, Say, connect_request::Frame as Ask, event::What,
    list_events_request::Range,
};

use super::{Moderator, enter, moderator, start};
use crate::harness::{
    Cluster, Layout, RichClient, SOON,
    tokens::{claims, token},
};

on_both_backplanes!(
    of_a_ban_and_a_join_at_once_nobody_is_in,
    nothing_of_the_kicked_appears_after_the_kick,
    nothing_of_the_muted_appears_after_the_mute,
);

/// How often each race is run, and how many at a time.
const RACES: usize = 200;
const AT_ONCE: usize = 20;

/// Runs a race as often as that, each with a number of its own.
async fn race(run: impl AsyncFn(usize)) {
    for from in (0..RACES).step_by(AT_ONCE) {
        join_all((from..from + AT_ONCE).map(|number| run(number))).await;
    }
}

/// Two moderators, on two replicas.
async fn moderators(cluster: &Cluster) -> [Moderator; 2] {
    [moderator(cluster, 0).await, moderator(cluster, 1).await]
}

impl Moderator {
    fn another(&self) -> Self {
        Self { client: self.client.clone(), endpoint: self.endpoint.clone() }
    }
}

async fn of_a_ban_and_a_join_at_once_nobody_is_in(layout: Layout) {
    let cluster = start(layout).await;
    let moderators = moderators(&cluster).await;
    let mut connections = Vec::new();
    for replica in 0..3 {
        connections.push(cluster.endpoint(replica).on_one_connection().await);
    }
    race(async |number| {
        let sub = format!("bob {number}");
        let endpoint = connections[number % 3].clone().bearing(&token(&claims(&sub)));
        let mut moderator = moderators[number % 2].another();
        let join = async {
            let client = RichClient::open(&endpoint, RichClient::asking("lobby", &sub)).await;
            let answered = client.inbox().wait(SOON, |state| {
                (!state.told.is_empty() || state.ended.is_some()).then_some(())
            });
            answered.await.expect("an answer");
            client
        };
        let (banned, client) = tokio::join!(moderator.ban_sub("lobby", &sub), join);
        banned.expect("a moderator may");
        client.ended(SOON).await;
    })
    .await;
    let endpoint = &moderators[0].endpoint;
    let mut calls = RichClient::calls(endpoint).await;
    let members = calls.list_members(endpoint.authorized(ListMembersRequest::default())).await;
    assert_eq!(members.expect("a moderator sees").into_inner().total_size, 0);
    cluster.assert_no_errors();
}

/// Says something five times, unless the stream ends before that.
async fn say_five(client: &RichClient) {
    for client_seq in 1..=5 {
        let say = Say { client_seq, content: "x".to_owned(), ..Say::default() };
        client.offer(Ask::Say(say)).await;
    }
}

/// The events of a room, in order.
async fn events(moderator: &Moderator, room: &str) -> Vec<(String, What)> {
    let mut calls = RichClient::calls(&moderator.endpoint).await;
    let after = Some(Range::After(roomcast_proto::room::Position { epoch: 0, seq: 0 }));
    let request = ListEventsRequest { room: room.to_owned(), range: after, page_size: 0 };
    let page = calls.list_events(moderator.endpoint.authorized(request)).await;
    let events = page.expect("a moderator sees").into_inner().events;
    events.into_iter().filter_map(|event| Some((event.username, event.what?))).collect()
}

async fn nothing_of_the_kicked_appears_after_the_kick(layout: Layout) {
    let cluster = start(layout).await;
    let moderators = moderators(&cluster).await;
    race(async |number| {
        let room = format!("room-{number}");
        let client = enter(&cluster, number % 3, &room, "bob").await;
        let mut moderator = moderators[number % 2].another();
        let says = say_five(&client);
        let (kicked, ()) = tokio::join!(moderator.kick_name(&room, "bob"), says);
        assert_eq!(kicked.expect("a moderator may"), 1);
        client.ended(SOON).await;
        let story = events(&moderator, &room).await;
        let kick = story.iter().position(|(_, what)| matches!(what, What::Moderated(_)));
        let kick = kick.expect("the room is told");
        assert_eq!(story.len(), kick + 2, "{story:?}");
        assert!(matches!(story[kick + 1].1, What::Left(_)), "{story:?}");
    })
    .await;
    cluster.assert_no_errors();
}

async fn nothing_of_the_muted_appears_after_the_mute(layout: Layout) {
    let cluster = start(layout).await;
    let moderators = moderators(&cluster).await;
    race(async |number| {
        let room = format!("room-{number}");
        let mut client = enter(&cluster, number % 3, &room, "bob").await;
        let mut moderator = moderators[number % 2].another();
        let says = say_five(&client);
        let (muted, ()) = tokio::join!(moderator.mute_sub(&room, "bob", None), says);
        assert_eq!(muted.expect("a moderator may"), 1);
        client.answers(5).await;
        let story = events(&moderator, &room).await;
        let mute = story.iter().position(|(_, what)| matches!(what, What::Moderated(_)));
        assert_eq!(mute, Some(story.len() - 1), "{story:?}");
    })
    .await;
    cluster.assert_no_errors();
}
