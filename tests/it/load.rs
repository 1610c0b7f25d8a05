//! Order and completeness under load, with people coming and going and replicas dying.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::{
    ChatClient, Cluster, Dialect, Endpoint, Heard, LEASE, Layout, Pace, Payload, SOON, eventually,
};

on_both_backplanes!(
    everybody_sees_one_order_with_nothing_missing_and_nothing_twice,
    a_fast_sender_of_tiny_messages_is_slowed_but_not_cut,
);

/// How far a sender may be ahead of its slowest reader.
const AHEAD: usize = 64;

/// Says so many numbered messages, never far ahead of its readers; ends early when its stream
/// does. Answers how many were said.
async fn talk(client: ChatClient, messages: usize, pace: Pace) -> (ChatClient, usize) {
    for number in 0..messages {
        tokio::select! {
            () = pace.keep(client.name(), number) => {}
            // What was said last may not have been taken in.
            () = client.record().ended() => return (client, number),
        }
        if !client.offer(Payload::message("", &number.to_string(), "")).await {
            return (client, number);
        }
    }
    (client, messages)
}

/// Comes in and goes away again, under names of its own, until told to stop.
async fn churn(endpoint: Endpoint, mark: usize, stop: CancellationToken) {
    let mut round = 0;
    while !stop.is_cancelled() {
        let mut guest = endpoint.join(&format!("guest {mark}-{round}")).await;
        stop.run_until_cancelled(guest.next(SOON)).await;
        match round % 3 {
            0 => guest.half_close(),
            1 => guest.cancel(),
            _ => guest.disconnect(),
        }
        if round % 3 == 0 {
            guest.expect_end(Code::Ok).await;
        }
        round += 1;
    }
}

fn is_said(heard: &Heard) -> bool {
    heard.username != "System"
}

/// What a client heard others say, as (who, what), in order.
fn said(client: &ChatClient) -> Vec<(String, String)> {
    let state = client.record().state();
    let heard = state.heard.iter().filter(|heard| is_said(heard));
    heard.map(|heard| (heard.username.clone(), heard.content.clone())).collect()
}

/// All that a client heard but for what this one said, one line each.
fn lines(client: &ChatClient, without: &str) -> Vec<String> {
    let state = client.record().state();
    let heard = state.heard.iter().filter(|heard| heard.username != without);
    heard.map(|heard| format!("{} {} {}", heard.timestamp, heard.username, heard.content)).collect()
}

/// Each sender's messages are there from 0 on, each once, in order; answers how many by sender.
fn assert_dense(client: &ChatClient) -> HashMap<String, usize> {
    let mut next: HashMap<String, usize> = HashMap::new();
    for (username, content) in said(client) {
        let next = next.entry(username.clone()).or_default();
        assert_eq!(content, next.to_string(), "{} of {username} in {client:?}", client.name());
        *next += 1;
    }
    next
}

/// This client, which is still there, heard all that the witness heard since it came in, in the same
/// order, and nothing else, but for what each of the two said itself. The witness was there before
/// it, and both have heard the server say `end`.
fn assert_one_order(client: &ChatClient, witness: &ChatClient, end: &str) {
    let (heard, expected) = (lines(client, witness.name()), lines(witness, client.name()));
    let came = format!("{} joined", client.name());
    if let Some(wrong) = difference(heard, expected, &came, end) {
        panic!("{} and {}: {wrong}", client.name(), witness.name());
    }
}

/// How the first differs from the part of the second that begins behind the line in which the server
/// says `came`, both up to the one in which it says `end`.
fn difference(
    mut heard: Vec<String>,
    mut expected: Vec<String>,
    came: &str,
    end: &str,
) -> Option<String> {
    let place = |lines: &[String], text: &str| {
        let text = format!(" System {text}");
        let mut places = lines.iter().enumerate().filter(|(_, line)| line.ends_with(&text));
        let place = places.next().map(|(place, _)| place);
        place.filter(|_| places.next().is_none()).ok_or(format!("not once:{text}"))
    };
    let mut cut = || -> Result<(), String> {
        heard.truncate(place(&heard, end)? + 1);
        expected.truncate(place(&expected, end)? + 1);
        expected.drain(..=place(&expected, came)?);
        Ok(())
    };
    if let Err(wrong) = cut() {
        return Some(wrong);
    }
    let at = heard.iter().zip(&expected).take_while(|(heard, expected)| heard == expected).count();
    let (one, other) = (heard.get(at), expected.get(at));
    (one != other).then(|| format!("{one:?} and {other:?} at {at}"))
}

#[test]
fn records_are_compared_whole() {
    let record = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let witness = "t System a joined,t b 1,t System c joined,t b 2,t System end,t b 3";
    let wrong = |heard: &str| difference(record(heard), record(witness), "a joined", "end");
    assert_eq!(wrong("t b 1,t System c joined,t b 2,t System end"), None);
    for (what, heard) in [
        ("the first", "t System c joined,t b 2,t System end"),
        ("one", "t b 1,t b 2,t System end"),
        ("the last", "t b 1,t System c joined,t System end"),
        ("order", "t b 1,t b 2,t System c joined,t System end"),
        ("one too many", "t b 0,t b 1,t System c joined,t b 2,t System end"),
        ("one twice", "t b 1,t System c joined,t b 2,t b 2,t System end"),
        ("the end", "t b 1,t System c joined,t b 2"),
    ] {
        assert!(wrong(heard).is_some(), "{what}");
    }
}

/// Somebody comes last of all; answers what the server says then, once all of these have heard it.
async fn the_end(cluster: &Cluster, everybody: &[&ChatClient]) -> (ChatClient, &'static str) {
    let last = cluster.endpoint(1).join("the last one").await;
    for client in everybody {
        client.until_heard("the last one joined").await;
    }
    (last, "the last one joined")
}

/// Comes in by way of all replicas and in both dialects; the witness has seen everybody come.
async fn crowd(
    cluster: &Cluster,
    witness: &ChatClient,
    prefix: &str,
    count: usize,
) -> Vec<ChatClient> {
    let mut crowd: Vec<ChatClient> = Vec::new();
    for number in 0..count {
        let dialect = [Dialect::Typed, Dialect::Struct][number / 3 % 2];
        let endpoint = cluster.endpoint(number).speaking(dialect);
        crowd.push(endpoint.enter_in_sight_of(&format!("{prefix}{number}"), witness).await);
    }
    crowd
}

async fn everybody_sees_one_order_with_nothing_missing_and_nothing_twice(layout: Layout) {
    const MESSAGES: usize = 2_000;
    let cluster = layout.plan().alone().start().await;
    let witness = cluster.endpoint(0).enter("witness").await;
    let senders = crowd(&cluster, &witness, "sender ", 6).await;
    let listeners = crowd(&cluster, &witness, "listener ", 3).await;

    let stop = CancellationToken::new();
    let mut guests = JoinSet::new();
    for mark in 0..3 {
        guests.spawn(churn(cluster.endpoint(mark), mark, stop.clone()));
    }
    let pace = |me: usize| {
        let others = senders.iter().enumerate().filter(move |(other, _)| *other != me);
        Pace::of(others.map(|(_, client)| client).chain(&listeners).chain([&witness]), AHEAD)
    };
    let paces: Vec<_> = (0..senders.len()).map(pace).collect();
    let mut talks = JoinSet::new();
    for (sender, pace) in senders.into_iter().zip(paces) {
        talks.spawn(talk(sender, MESSAGES, pace));
    }
    let senders: Vec<_> = talks.join_all().await.into_iter().map(|(sender, _)| sender).collect();
    stop.cancel();
    guests.join_all().await;

    let everybody: Vec<_> = senders.iter().chain(&listeners).chain([&witness]).collect();
    let (_last, end) = the_end(&cluster, &everybody).await;
    for client in &everybody {
        for sender in senders.iter().filter(|sender| sender.name() != client.name()) {
            let all = client.record().wait(SOON, |state| {
                (state.counts.get(sender.name()) == Some(&MESSAGES)).then_some(())
            });
            assert!(all.await.is_some(), "{} missed some of {}", client.name(), sender.name());
        }
        client.assert_open();
        let counts = assert_dense(client);
        assert!(counts.values().all(|count| *count == MESSAGES), "{counts:?}");
        assert!(!counts.contains_key(client.name()), "{} heard itself", client.name());
        if client.name() != witness.name() {
            assert_one_order(client, &witness, end);
        }
    }
    let comings = |state: &str| {
        let record = witness.record().state();
        record.heard.iter().filter(|heard| heard.content.ends_with(state)).count()
    };
    assert!(comings(" joined") > 20, "only {} came", comings(" joined"));
}

/// A reading server must neither let small frames pile up until HTTP/2's flood protection cuts the
/// connection, nor lose any.
async fn a_fast_sender_of_tiny_messages_is_slowed_but_not_cut(layout: Layout) {
    const MESSAGES: usize = 3_000;
    let cluster = layout.plan().alone().start().await;
    let alice = cluster.endpoint(0).enter("alice").await;
    let connection = cluster.endpoint(1).on_one_connection().await;
    let (bob, carol) = (connection.join("bob").await, connection.join("carol").await);
    let pace = Pace::of([&alice], 700);
    let mut talks = JoinSet::new();
    for client in [bob, carol] {
        talks.spawn(talk(client, MESSAGES, pace.clone()));
    }
    for (client, sent) in talks.join_all().await {
        assert_eq!(sent, MESSAGES, "{client:?}");
        let all = alice
            .record()
            .wait(SOON, |state| (state.counts.get(client.name()) == Some(&MESSAGES)).then_some(()));
        assert!(all.await.is_some(), "missed some of {}: {alice:?}", client.name());
        client.assert_open();
    }
    assert_dense(&alice);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_under_load_leaves_once_and_costs_the_survivors_nothing() {
    const MESSAGES: usize = 1_500;
    let mut cluster = Cluster::redis(3).alone().start().await;
    let witness = cluster.endpoint(1).enter("witness").await;
    let senders = crowd(&cluster, &witness, "sender ", 6).await;
    let mut idle = vec![];
    for name in ["idle one", "idle two"] {
        idle.push(cluster.endpoint(0).enter_in_sight_of(name, &witness).await);
    }
    // Senders wait for whoever they are held to, so that everybody is in before the first begins.
    let listener = cluster.endpoint(2).enter_in_sight_of("listener", &witness).await;

    // Senders 0 and 3 are on the replica that dies, as are the idle ones.
    let survivors = |number: usize| !number.is_multiple_of(3);
    let pace = Pace::of([&witness, &listener], AHEAD);
    let mut talks = JoinSet::new();
    for sender in senders {
        talks.spawn(talk(sender, MESSAGES, pace.clone()));
    }
    let busy = witness
        .record()
        .wait(Duration::from_secs(20), |state| (state.heard.len() > MESSAGES).then_some(()));
    assert!(busy.await.is_some(), "no load: {witness:?}");
    cluster.replicas[0].kill();
    let killed = std::time::Instant::now();
    let done = talks.join_all().await;

    let gone = ["sender 0", "sender 3", "idle one", "idle two"];
    for name in gone {
        let text = format!("{name} left");
        for client in [&witness, &listener] {
            let left = client.until_heard(&text).await;
            let took = left.at.saturating_duration_since(killed);
            assert!(took < LEASE + Duration::from_secs(2), "{text:?} only after {took:?}");
        }
    }
    for (number, (sender, sent)) in done.iter().enumerate() {
        let number: usize = sender.name()["sender ".len()..].parse().unwrap_or(number);
        if survivors(number) {
            assert_eq!(*sent, MESSAGES, "{sender:?}");
            sender.assert_open();
        }
    }
    // A name is free again, and nobody is told a second time.
    let mut back = cluster.endpoint(1).join("sender 0").await;
    seen_again(&witness, "sender 0 joined", 2).await;
    // Nothing more happens until a lease has passed.
    let successor = cluster.replicas[0].successor().await;
    successor.until_ready(SOON).await;
    cluster.replicas.push(successor);
    cluster.lose_the_last(&mut [&mut back]).await;
    for client in [&witness, &listener] {
        client.until_heard("lost one left").await;
    }
    assert_one_order(&listener, &witness, "lost one left");
    for client in [&witness, &listener] {
        let counts = assert_dense(client);
        for sender in ["sender 1", "sender 2", "sender 4", "sender 5"] {
            assert_eq!(counts.get(sender), Some(&MESSAGES), "{client:?}");
        }
        for name in gone {
            assert_eq!(client.times(&format!("{name} left")), 1, "{name}: {client:?}");
        }
    }
}

async fn seen_again(witness: &ChatClient, text: &str, times: usize) {
    eventually(SOON, text, async || (witness.times(text) == times).then_some(())).await;
}

/// Streams that are cut at random moments by a shutdown in the middle of a load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_terminated_under_load_leaves_once_and_loses_nothing_for_the_others() {
    const MESSAGES: usize = 1_000;
    let mut cluster = Cluster::redis(3).alone().start().await;
    let witness = cluster.endpoint(1).enter("witness").await;
    let senders = crowd(&cluster, &witness, "sender ", 6).await;
    let pace = Pace::of([&witness], AHEAD);
    let records: Vec<_> = senders.iter().map(|sender| Arc::clone(sender.record())).collect();
    let mut talks = JoinSet::new();
    for sender in senders {
        talks.spawn(talk(sender, MESSAGES, pace.clone()));
    }
    let busy = witness
        .record()
        .wait(Duration::from_secs(20), |state| (state.heard.len() > MESSAGES).then_some(()));
    assert!(busy.await.is_some(), "no load: {witness:?}");
    cluster.replicas[0].signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    // Kept: a client that is dropped cancels, and what it said last may not have been read.
    let talked = talks.join_all().await;
    for record in [&records[0], &records[3]] {
        let ended = record.wait(SOON, |state| state.ended.clone()).await.expect("ended");
        assert_eq!(ended.code, Code::Unavailable, "{ended:?}");
        assert_eq!(ended.message, "server is shutting down");
    }
    for sender in ["sender 1", "sender 2", "sender 4", "sender 5"] {
        let all = |count: Option<&usize>| (count == Some(&MESSAGES)).then_some(());
        let heard = witness.record().wait(SOON, |state| all(state.counts.get(sender))).await;
        assert!(heard.is_some(), "{sender}: {witness:?}");
    }
    assert_dense(&witness);
    drop(talked);
    for name in ["sender 0", "sender 3"] {
        assert_eq!(witness.times(&format!("{name} left")), 1, "{name}: {witness:?}");
    }
}
