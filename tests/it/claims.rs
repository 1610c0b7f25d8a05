//! One holder per name, however many ask at once.

use std::sync::Arc;

use tokio::{sync::Barrier, task::JoinSet};
use tonic::Code;

use crate::harness::{ChatClient, Endpoint, Layout, SOON, eventually, quiet};

on_both_backplanes!(
    a_hundred_claims_of_one_name_have_one_winner,
    a_released_name_has_one_winner_again,
    a_hundred_names_come_and_go_at_once,
);

/// This many ask at the same moment, one through each endpoint in turn.
const CLAIMS: usize = 100;

/// All ask at once; answers those who were not refused, once all others were.
async fn contest(endpoints: &[Endpoint], spelling: impl Fn(usize) -> String) -> Vec<ChatClient> {
    let start = Arc::new(Barrier::new(CLAIMS));
    let mut claims = JoinSet::new();
    for claim in 0..CLAIMS {
        let (start, name) = (Arc::clone(&start), spelling(claim));
        let endpoint = endpoints[claim % endpoints.len()].clone();
        claims.spawn(async move {
            start.wait().await;
            endpoint.join(&name).await
        });
    }
    let clients = claims.join_all().await;
    eventually(SOON, "all but one are refused", async || {
        let ended = |client: &&ChatClient| client.record().state().ended.is_some();
        (clients.iter().filter(ended).count() >= CLAIMS - 1).then_some(())
    })
    .await;
    let (open, refused): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|client| client.record().state().ended.is_none());
    for client in refused {
        let message = client.expect_end(Code::AlreadyExists).await;
        assert_eq!(message, format!("username \"{}\" is already taken", client.name()));
    }
    open
}

async fn endpoints(cluster: &crate::harness::Cluster) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for replica in 0..cluster.replicas.len() {
        endpoints.push(cluster.endpoint(replica).on_one_connection().await);
    }
    endpoints
}

async fn a_hundred_claims_of_one_name_have_one_winner(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let endpoints = endpoints(&cluster).await;
    let mut open = contest(&endpoints, |_| "bob".to_owned()).await;
    assert_eq!(open.len(), 1, "{open:?}");
    let mut winner = open.remove(0);
    alice.expect_system("bob joined").await;
    quiet(&winner, &mut [&mut alice]).await;
    quiet(&alice, &mut [&mut winner]).await;
}

async fn a_released_name_has_one_winner_again(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let endpoints = endpoints(&cluster).await;
    for _ in 0..3 {
        let spelling = |claim: usize| ["bob", "Bob", "bOB", "BOB"][claim % 4].to_owned();
        let mut open = contest(&endpoints, spelling).await;
        assert_eq!(open.len(), 1, "{open:?}");
        let mut winner = open.remove(0);
        alice.expect_system(&format!("{} joined", winner.name())).await;
        winner.half_close();
        alice.expect_system(&format!("{} left", winner.name())).await;
    }
}

/// Nobody is refused for a name of his own, and everybody's coming and going is told once.
async fn a_hundred_names_come_and_go_at_once(layout: Layout) {
    let cluster = layout.plan().start().await;
    let alice = cluster.endpoint(0).enter("alice").await;
    let mut guests = Vec::new();
    for (claim, endpoint) in endpoints(&cluster).await.iter().cycle().take(CLAIMS).enumerate() {
        guests.push(endpoint.join(&format!("guest {claim}")).await);
    }
    let told = async |what: &str| {
        for claim in 0..CLAIMS {
            let text = format!("guest {claim} {what}");
            eventually(SOON, &text, async || (alice.times(&text) > 0).then_some(())).await;
            assert_eq!(alice.times(&text), 1, "{text}");
        }
    };
    told("joined").await;
    for (guest, client) in guests.iter_mut().enumerate() {
        if guest % 2 == 0 { client.half_close() } else { client.cancel() }
    }
    told("left").await;
    told("joined").await;
}
