//! Who is in a room, and what happened there: asked of any replica.

use std::{collections::BTreeSet, time::Duration};

use roomcast_proto::room::{ListEventsRequest, ListMembersRequest, list_events_request::Range};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Cluster, RichClient};

#[tokio::test]
async fn any_replica_tells_who_is_there_and_what_happened() {
    for plan in [Cluster::memory(), Cluster::redis(3)] {
        let cluster = plan.start().await;
        let mut alice =
            RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "Alice")).await;
        alice.welcome().await;
        for number in 1..=30 {
            alice.say_and_wait(number, &format!("message {number}")).await;
        }
        let mut bob =
            RichClient::open(&cluster.endpoint(1), RichClient::asking("den", "bob")).await;
        bob.welcome().await;
        bob.half_close();
        bob.expect_end(Code::Ok).await;
        let mut calls = RichClient::calls(&cluster.endpoint(2)).await;
        let request = ListMembersRequest { room: "den".to_owned(), ..Default::default() };
        let members = calls.list_members(request).await.unwrap().into_inner();
        let mut names: Vec<_> =
            members.members.iter().map(|it| (&*it.username, it.lingering)).collect();
        names.sort_unstable();
        assert_eq!(names, [("Alice", false), ("bob", true)]);
        assert_eq!((members.total_size, &*members.next_page_token), (2, ""));

        let (mut seqs, mut before) = (vec![], None);
        loop {
            let range = before.map(Range::Before);
            let request = ListEventsRequest { room: "den".to_owned(), range, page_size: 7 };
            let page = calls.list_events(request).await.unwrap().into_inner();
            let Some(first) = page.events.first() else { break };
            assert_eq!(page.head.unwrap().seq, 32);
            before = first.position;
            seqs.extend(page.events.iter().rev().map(|it| it.position.unwrap().seq));
        }
        assert_eq!(seqs, (1..=32).rev().collect::<Vec<_>>());
        let request = ListEventsRequest { room: "no room".to_owned(), ..Default::default() };
        assert_eq!(calls.list_events(request).await.unwrap_err().code(), Code::InvalidArgument);
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn a_page_of_members_has_no_more_than_was_asked_for() {
    for plan in [Cluster::memory(), Cluster::redis(1)] {
        let cluster = plan.start().await;
        let mut members = Vec::new();
        let endpoint = cluster.endpoint(0).on_one_connection().await;
        for number in 0..60 {
            let join = RichClient::asking("den", &format!("member {number}"));
            let mut client = RichClient::open(&endpoint, join).await;
            client.welcome().await;
            members.push(client);
        }
        let mut calls = RichClient::calls(&endpoint).await;
        for page_size in [1, 2, 3, 7] {
            let (mut names, mut page_token) = (BTreeSet::new(), String::new());
            loop {
                let room = "den".to_owned();
                let request = ListMembersRequest { room, page_size, page_token };
                let page = calls.list_members(request).await.unwrap().into_inner();
                assert!(page.members.len() <= page_size as usize, "{page_size}: {page:?}");
                names.extend(page.members.into_iter().map(|it| it.username));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(names.len(), 60, "{page_size}: {names:?}");
        }
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn one_address_asks_only_so_often() {
    const LIMIT: [&str; 2] = ["ROOMCAST_LIMITS__QUERY_INTERVAL", "ROOMCAST_LIMITS__QUERY_BURST"];
    let plan = Cluster::memory().with(LIMIT[0], "1h").with(LIMIT[1], "3");
    let cluster = plan.start().await;
    let request = || ListMembersRequest { room: "den".to_owned(), ..Default::default() };
    let mut calls = RichClient::calls(&cluster.endpoint(0)).await;
    for _ in 0..3 {
        calls.list_members(request()).await.expect("within the burst");
    }
    // Another connection is the same address, another call counts as well.
    let mut again = RichClient::calls(&cluster.endpoint(0)).await;
    let refused = again.list_events(ListEventsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let reason = refused.get_details_error_info().expect("a reason").reason;
    assert_eq!(reason, "TOO_MANY_CALLS");
    let retry = refused.get_details_retry_info().and_then(|it| it.retry_delay);
    assert!(retry.is_some_and(|it| it > Duration::from_secs(60)), "{retry:?}");
    let other = cluster.endpoint(0).coming_from([127, 0, 0, 2]);
    let mut other = RichClient::calls(&other).await;
    other.list_members(request()).await.expect("another address");
    cluster.replicas[0].until_at_least("roomcast_refusals_total{reason=\"queries\"}", 1.0).await;
    cluster.assert_no_errors();
}
