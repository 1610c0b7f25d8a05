//! Replicas are killed, paused and drained under clients whose tokens are good for a few seconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use roomcast_auth::Claims;
use roomcast_client::{Client, EventKind, Events, Position, Reason, TokenSource, Update};
use tokio::time::{interval, timeout};
use tonic::Code;

use super::{join, signed, source};
use crate::{
    harness::{
        Cluster, SOON,
        tokens::{claims, in_seconds},
    },
    library::begun,
};

const MESSAGES: usize = 600;
const PACE: Duration = Duration::from_millis(25);

/// Tokens that have expired: a stream lasts for five seconds by each, or less. Each third call fails.
fn short_lived(sub: &'static str) -> (TokenSource, Arc<AtomicUsize>) {
    source(move |number| match number % 3 {
        1 => Err("it is away"),
        _ => Ok(signed(&Claims { exp: in_seconds(-20), ..claims(sub) })),
    })
}

/// What was said in the room, up to the last message. Nobody comes but bob, nobody goes, and no stream ends for a token.
async fn record(mut events: Events) -> Vec<(Position, String)> {
    let mut said = Vec::new();
    while said.len() < MESSAGES {
        let update = timeout(2 * SOON, events.next()).await.expect("nothing is told");
        match update.expect("an end").expect("an update") {
            Update::Event(event) => match event.what {
                EventKind::Said(text) => said.push((event.position, text)),
                EventKind::Joined if event.username == "bob" => {}
                other => panic!("{} {other:?}", event.username),
            },
            Update::Disconnected { reason } => {
                let code = Code::Unauthenticated;
                let token = matches!(&reason, Reason::Ended { code: it, .. } if *it == code);
                assert!(!token, "a stream ended for its token: {reason:?}");
            }
            Update::Reconnected { resumed: true } => {}
            other => panic!("{other:?}"),
        }
    }
    said
}

/// Says everything, while replicas come to harm, and answers where it is in the log.
async fn speak(cluster: &mut Cluster, alice: &Client) -> Vec<Position> {
    let mut pace = interval(PACE);
    let mut says = Vec::new();
    for number in 1..=MESSAGES {
        pace.tick().await;
        match number {
            100 => cluster.replicas[0].kill(),
            200 => cluster.replicas[0] = cluster.replicas[0].successor().await,
            // Whoever is on it notices in one and a half ping intervals.
            250 => cluster.replicas[1].signal(Signal::SIGSTOP),
            400 => cluster.replicas[1].signal(Signal::SIGCONT),
            // Whoever is on it is asked to go on elsewhere.
            450 => cluster.replicas[2].signal(Signal::SIGTERM),
            _ => {}
        }
        let alice = alice.clone();
        says.push(begun(async move { alice.say(number.to_string()).await }).await);
    }
    let mut positions = Vec::new();
    for say in says {
        let said = timeout(2 * SOON, say).await.expect("in time").expect("acknowledged");
        positions.push(said.position.expect("a position"));
    }
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_die_pause_and_drain_and_no_stream_ends_for_a_token() {
    let plan = Cluster::redis(3).wanting_tokens().with("ROOMCAST_SERVER__PING_INTERVAL", "1s");
    let mut cluster = plan.start().await;
    let ((alices, for_alice), (bobs, for_bob)) = (short_lived("a"), short_lived("b"));
    let (alice, alices_events) = join(&cluster, "alice", &[0, 1, 2], alices).await.expect("in");
    let (_bob, bobs_events) = join(&cluster, "bob", &[1, 2, 0], bobs).await.expect("in");
    let recording = async { tokio::join!(record(alices_events), record(bobs_events)) };
    let speaking = speak(&mut cluster, &alice);
    let (positions, (alices, bobs)) = tokio::join!(speaking, recording);
    let texts = (1..=MESSAGES).map(|number| number.to_string());
    let expected: Vec<_> = positions.into_iter().zip(texts).collect();
    assert_eq!(alices, expected);
    assert_eq!(bobs, expected);
    for calls in [for_alice.load(Relaxed), for_bob.load(Relaxed)] {
        // Each lasts for five seconds at the most; and no more than one a second is shown on a stream.
        assert!((4..60).contains(&calls), "{calls} tokens were asked for");
    }
    alice.leave().await.expect("confirmed");
}
