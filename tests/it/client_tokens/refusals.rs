//! What a program is told when its token is not good, or no more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use roomcast_auth::{Claims, Role};
use roomcast_client::{
    AccessToken, Address, Client, Connector, Error, Events, Options, SayError, TokenSource, Update,
};
use tokio::time::timeout;

use super::{join, signed, source};
use crate::harness::{
    Layout, SOON,
    tokens::{claims, in_seconds, sign_with, with_roles},
};

on_both_backplanes!(
    a_refusal_says_whether_another_token_helps,
    a_fixed_token_that_expires_ends_the_client,
    a_newer_token_of_another_subject_is_refused,
    a_reader_is_told_that_it_may_not_speak,
);

fn invalid(message: &str) -> Error {
    Error::InvalidToken { message: message.to_owned() }
}

fn forbidden(message: &str) -> Error {
    Error::Forbidden { message: message.to_owned() }
}

/// The last word that a client is told, which is in its room until then.
async fn last(events: &mut Events) -> Error {
    loop {
        match timeout(SOON, events.next()).await.expect("nothing is told").expect("an end") {
            Ok(Update::Event(_) | Update::Disconnected { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => return error,
        }
    }
}

async fn a_refusal_says_whether_another_token_helps(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let secret = "another secret that is long enough 01234";
    let forged = AccessToken::parse(&sign_with(secret, &claims("a"))).expect("a token");
    for (token, refusal) in [
        (forged, invalid("the token's signature is wrong")),
        (signed(&Claims { exp: in_seconds(-31), ..claims("a") }), invalid("token expired")),
        (
            signed(&with_roles("a", &[("lobby", Role::Member)])),
            forbidden("no access to room \"den\""),
        ),
        (
            signed(&Claims { name: Some("alicia".to_owned()), ..claims("a") }),
            forbidden("this token is for the name \"alicia\""),
        ),
    ] {
        let fixed = TokenSource::fixed(token.clone());
        assert_eq!(join(&cluster, "alice", &[0], fixed).await.expect_err("refused"), refusal);
        // Where there may be others, the first has to be good all the same.
        let (renewable, _) = source(move |_| Ok(token.clone()));
        assert_eq!(join(&cluster, "alice", &[0], renewable).await.expect_err("refused"), refusal);
    }
    let addr = Address::parse(&cluster.replicas[0].grpc().to_string()).expect("an address");
    let nothing = Client::join(Connector::new(addr), Options::new("den", "alice"));
    let refusal = timeout(SOON, nothing).await.expect("in time").expect_err("refused");
    assert!(matches!(&refusal, Error::InvalidToken { message } if message.contains("no token")));
}

async fn a_fixed_token_that_expires_ends_the_client(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let token = signed(&Claims { exp: in_seconds(-20), ..claims("a") });
    let joined = join(&cluster, "alice", &[0], TokenSource::fixed(token)).await;
    let (alice, mut events) = joined.expect("in");
    alice.say("in time").await.expect("acknowledged");
    assert_eq!(last(&mut events).await, Error::TokenExpired);
    assert_eq!(alice.say("too late").await, Err(SayError::NotSent));
}

async fn a_newer_token_of_another_subject_is_refused(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let expiring = |sub: &str| signed(&Claims { exp: in_seconds(-20), ..claims(sub) });
    // On the stream.
    let (tokens, _) = source(move |number| Ok(expiring(if number == 0 { "a" } else { "b" })));
    let (_alice, mut events) = join(&cluster, "alice", &[0], tokens).await.expect("in");
    let refusal = last(&mut events).await;
    assert_eq!(refusal, forbidden("the newer token is for another subject"));
    // To resume, once the first has expired.
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    let (tokens, _) = source(move |number| match number {
        0 => Ok(expiring("a")),
        _ if ended.load(Relaxed) => Ok(expiring("b")),
        _ => Err("it is away"),
    });
    let (_bob, mut events) = join(&cluster, "bob", &[0], tokens).await.expect("in");
    loop {
        match timeout(SOON, events.next()).await.expect("told").expect("more").expect("an update") {
            Update::Disconnected { .. } => break,
            Update::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    has_ended.store(true, Relaxed);
    let refusal = last(&mut events).await;
    let other = "the session belongs to another subject than the newer token";
    assert_eq!(refusal, forbidden(other));
}

async fn a_reader_is_told_that_it_may_not_speak(layout: Layout) {
    let cluster = layout.plan().wanting_tokens().start().await;
    let token = signed(&with_roles("r", &[("den", Role::Reader)]));
    let joined = join(&cluster, "reader", &[0], TokenSource::fixed(token)).await;
    let (reader, events) = joined.expect("in");
    // Answers come with the events, which nobody wants here.
    drop(events);
    let said = timeout(SOON, reader.say("I may not")).await.expect("in time");
    assert!(matches!(said, Err(SayError::Forbidden(_))), "{said:?}");
    assert_eq!(reader.members(0).await.expect("a reader sees").total, 1);
}
