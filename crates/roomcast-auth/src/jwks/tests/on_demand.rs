//! Fetches that unknown `kid`s ask for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use roomcast_testkit::{SOON, eventually};

use super::{
    Running, quick,
    server::{Answer, Server},
    set,
};
use crate::{
    JwksSource, RefreshPolicy, TokenError,
    testing::{EDDSA, ES256, claims, now},
};

/// No fetch but the first, and those that are asked for.
fn only_on_demand(gap: Duration) -> RefreshPolicy {
    let interval = Duration::from_secs(3600);
    RefreshPolicy { interval, on_demand_gap: gap, timeout: SOON, ..quick() }
}

async fn start(gap: Duration) -> (Server, Running) {
    let server = Server::start(set(&[EDDSA.jwk("a")])).await;
    let source = JwksSource::from_url(&server.url(), None, only_on_demand(gap)).unwrap();
    let running = Running::start(source);
    running.good().await;
    (server, running)
}

#[tokio::test]
async fn an_unknown_kid_fetches_the_set_off_the_path_of_the_caller() {
    let (server, running) = start(Duration::from_secs(30)).await;
    server.answer_with(Answer::Body(set(&[ES256.jwk("b")])));
    let token = ES256.token("b", claims());
    assert_eq!(running.verifier.verify(&token, now()).unwrap_err(), TokenError::UnknownKeyId);
    running.knows("b").await;
    assert!(running.takes(&ES256, "b"));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_thousand_unknown_kids_cause_one_fetch_in_each_interval() {
    let gap = Duration::from_millis(300);
    let (server, running) = start(gap).await;
    let tokens: Vec<String> = (0..100).map(|n| EDDSA.token(&format!("x{n}"), claims())).collect();
    let mut verified = vec![];
    let begin = Instant::now();
    while server.requests().len() < 4 {
        assert!(begin.elapsed() < SOON, "{} requests", server.requests().len());
        for token in &tokens {
            let error = running.verifier.verify(token, now()).unwrap_err();
            assert_eq!(error, TokenError::UnknownKeyId);
            verified.push(Instant::now());
        }
        tokio::task::yield_now().await;
    }
    // The first is the one at the start.
    let times: Vec<Instant> = server.requests().into_iter().map(|(at, _)| at).skip(1).collect();
    for pair in times.windows(2) {
        // The server may have been late to see the first of two.
        assert!(pair[1] - pair[0] > gap / 2, "{:?} apart", pair[1] - pair[0]);
        let between = verified.iter().filter(|at| pair[0] < **at && **at < pair[1]).count();
        assert!(between >= 1000, "{between} verifications were between two fetches");
    }
}

#[tokio::test]
async fn tokens_that_no_set_could_help_cause_no_fetch() {
    let (server, running) = start(Duration::ZERO).await;
    for token in [
        EDDSA.sign(r#"{"alg":"none","kid":"x"}"#, claims()),
        crate::testing::HS256.token("x", claims()),
        ES256.token("a", claims()),
        crate::testing::STRANGER.token("a", claims()),
        "not a token".to_owned(),
    ] {
        assert!(running.verifier.verify(&token, now()).is_err());
    }
    let store = running.source.store();
    let asked = tokio::time::timeout(Duration::ZERO, store.refresh_requested()).await;
    assert!(asked.is_err(), "a refresh was asked for");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_failing_server_is_asked_when_a_kid_is_unknown() {
    let (server, running) = start(Duration::from_secs(30)).await;
    server.answer_with(Answer::Raw("HTTP/1.1 503 Unavailable\r\n\r\n".to_owned()));
    running.source.store().request_refresh();
    running.error("status 503").await;
    assert!(running.takes(&EDDSA, "a"));
    server.answer_with(Answer::Body(set(&[ES256.jwk("b")])));
    running.knows("b").await;
}

#[tokio::test]
async fn dropping_the_future_ends_all_of_it() {
    let (server, mut running) = start(Duration::ZERO).await;
    server.answer_with(Answer::Silence);
    running.source.store().request_refresh();
    eventually(SOON, "a request", async || (server.requests().len() >= 2).then_some(())).await;
    running.task.shutdown().await;
    assert_eq!(Arc::strong_count(&running.source), 1);
    assert!(running.takes(&EDDSA, "a"));
}
