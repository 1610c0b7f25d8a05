//! A replica that holds many names in many rooms is silent for longer than its lease: everybody else is told once of
//! each, not too early, and hardly waits for anything meanwhile.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::time::interval;

use crate::harness::{ChatClient, Cluster, Endpoint, LEASE, SOON, eventually};

/// How many streams share a connection.
const STREAMS: usize = 500;

/// How often one of those who stay says something to the other one in its room.
const EVERY: Duration = Duration::from_millis(5);

/// How soon after its lease has ended a replica's last member is heard to leave.
const REAPED: Duration = Duration::from_secs(20);

/// Clients of one replica, over a few connections.
async fn come_in(
    endpoint: &Endpoint,
    who: impl Iterator<Item = (String, String)>,
) -> Vec<ChatClient> {
    let mut clients = Vec::new();
    let mut shared = None;
    for (room, name) in who {
        if clients.len() % STREAMS == 0 {
            shared = None;
        }
        let endpoint = match &shared {
            Some(endpoint) => endpoint,
            None => shared.insert(endpoint.clone().on_one_connection().await),
        };
        clients.push(endpoint.clone().into_room(&room).join(&name).await);
    }
    clients
}

/// How often a room was told this of each of its members.
fn told(witness: &ChatClient, what: &str) -> HashMap<String, usize> {
    let mut told: HashMap<String, usize> = HashMap::new();
    for heard in &witness.record().state().heard {
        if heard.username == "System"
            && let Some(who) = heard.content.strip_suffix(what)
        {
            *told.entry(who.to_owned()).or_default() += 1;
        }
    }
    told
}

/// Waits until these have been told so of so many members of their rooms.
async fn until_told(witnesses: &[ChatClient], what: &str, members: usize, within: Duration) {
    for witness in witnesses {
        let label = format!("{} is told that all {what}", witness.name());
        eventually(within, &label, async || (told(witness, what).len() >= members).then_some(()))
            .await;
    }
}

/// One of each room says when it is, in turns, to one on another replica, until the work is done. Returns how long each
/// message took, in order of length.
async fn delays(
    speakers: &[ChatClient],
    listeners: &[ChatClient],
    mark: &str,
    work: impl Future<Output = ()>,
) -> Vec<Duration> {
    let mut said = Vec::new();
    let mut work = std::pin::pin!(work);
    let mut ticks = interval(EVERY);
    loop {
        tokio::select! {
            biased;
            () = &mut work => break,
            _ = ticks.tick() => {
                let number = said.len();
                said.push(Instant::now());
                speakers[number % speakers.len()].say(&format!("{mark} {number}")).await;
            }
        }
    }
    let mut delays = Vec::new();
    for (number, said) in said.iter().enumerate() {
        let (room, text) = (number % speakers.len(), format!("{mark} {number}"));
        let heard = listeners[room]
            .record()
            .wait(SOON, |state| state.heard.iter().find(|it| it.content == text).map(|it| it.at));
        delays.push(heard.await.expect("it is heard").duration_since(*said));
    }
    delays.sort_unstable();
    delays
}

fn percentile(sorted: &[Duration], part: usize) -> Duration {
    sorted[(sorted.len() * part / 100).min(sorted.len() - 1)]
}

/// Pauses a replica that holds so many names in each of so many rooms until all have been heard to leave, and lets it
/// go on. Returns how long messages of the others took meanwhile, in order of length.
async fn pause_one_with(rooms: u16, members: usize) -> Vec<Duration> {
    let cluster = Cluster::redis(3).alone().start().await;
    let each = f64::from(rooms);
    let rooms = usize::from(rooms);
    let room = |number: usize| format!("room-{number}");
    let pairs = |who: &'static str| (0..rooms).map(move |it| (room(it), who.to_owned()));
    let listeners = come_in(&cluster.endpoint(1), pairs("listener")).await;
    cluster.replicas[1].until_at_least("roomcast_members", each).await;
    let speakers = come_in(&cluster.endpoint(2), pairs("speaker")).await;
    until_told(&listeners, " joined", 1, REAPED).await;
    let crowd = (0..rooms * members).map(|it| (room(it % rooms), format!("member {}", it / rooms)));
    let crowd = come_in(&cluster.endpoint(0), crowd).await;
    until_told(&listeners, " joined", 1 + members, REAPED).await;
    until_told(&speakers, " joined", members, REAPED).await;
    let before = delays(&speakers, &listeners, "before", tokio::time::sleep(LEASE)).await;
    println!(
        "before: p50 {:?}, p99 {:?}, at most {:?}",
        percentile(&before, 50),
        percentile(&before, 99),
        percentile(&before, 100),
    );
    cluster.replicas[0].signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let during = delays(&speakers, &listeners, "during", async {
        until_told(&listeners, " left", members, LEASE + REAPED).await;
        until_told(&speakers, " left", members, REAPED).await;
    })
    .await;
    for witness in listeners.iter().chain(&speakers) {
        let state = witness.record().state();
        let left = state.heard.iter().filter(|it| it.content.ends_with(" left"));
        let early = left.map(|it| it.at.duration_since(stopped)).find(|it| *it < LEASE / 2);
        assert_eq!(early, None, "a third of the lease at the most was over: {witness:?}");
    }
    println!(
        "{} names in {rooms} rooms left within {:?}; p50 {:?}, p99 {:?}, at most {:?} of {}",
        rooms * members,
        stopped.elapsed(),
        percentile(&during, 50),
        percentile(&during, 99),
        percentile(&during, 100),
        during.len(),
    );
    cluster.replicas[0].signal(Signal::SIGCONT);
    // Nobody took a name meanwhile: each comes in again.
    for witness in listeners.iter().chain(&speakers) {
        let back = async || {
            let joined = told(witness, " joined");
            let back = |it: &usize| joined.get(&format!("member {it}")) == Some(&2);
            (0..members).all(|it| back(&it)).then_some(())
        };
        eventually(REAPED, "all are back", back).await;
        assert!(told(witness, " left").values().all(|times| *times == 1), "{witness:?}");
    }
    crowd.iter().for_each(ChatClient::assert_open);
    during
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_replicas_many_names_leave_once_each() {
    pause_one_with(25, 20).await;
}

/// Ten thousand names, by hand: `cargo test --release --test it many_names -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and measures time"]
async fn ten_thousand_names_of_a_paused_replica_keep_nobody_waiting() {
    let during = pause_one_with(500, 20).await;
    let tail = percentile(&during, 99);
    assert!(tail < Duration::from_millis(50), "p99 {tail:?}");
}
