//! The client library, against replicas that die and drain.

use std::time::Duration;

use futures_util::future::maybe_done;
use nix::sys::signal::Signal;
use roomcast_client::{Address, Client, Connector, EventKind, Events, Options, Position, Update};
use tokio::time::{interval, timeout};

use crate::harness::{Cluster, RichClient, SOON};

const MESSAGES: u64 = 300;

/// A client that tries the replicas in this order.
async fn join(cluster: &Cluster, name: &str, order: [usize; 3]) -> (Client, Events) {
    let [first, second, third] = order.map(|replica| {
        Address::parse(&cluster.replicas[replica].grpc().to_string()).expect("an address")
    });
    let connector = Connector::new(first).or(second).or(third);
    let joined = Client::join(connector, Options::new("den", name));
    timeout(SOON, joined).await.expect("in time").expect("come in")
}

/// The future, polled once: what is said is on its way, behind what was before.
pub(crate) async fn begun<F: Future>(say: F) -> impl Future<Output = F::Output> {
    let mut say = Box::pin(maybe_done(say));
    let _ = futures_util::poll!(&mut say);
    async move {
        say.as_mut().await;
        say.as_mut().take_output().expect("done")
    }
}

/// What was said in the room, up to the last message; nothing else may happen there.
async fn record(mut events: Events) -> Vec<(Position, String)> {
    let mut said = Vec::new();
    while said.len() < usize::try_from(MESSAGES).expect("few") {
        let update = timeout(SOON * 2, events.next()).await.expect("nothing is told");
        match update.expect("an end").expect("an update") {
            Update::Event(event) => match event.what {
                EventKind::Said(text) => said.push((event.position, text)),
                EventKind::Joined if event.username == "bob" => {}
                other => panic!("{} {other:?}", event.username),
            },
            Update::Disconnected { .. } | Update::Reconnected { resumed: true } => {}
            other => panic!("{other:?}"),
        }
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_die_and_drain_and_the_application_does_not_see_it() {
    let mut cluster = Cluster::redis(3).start().await;
    let (alice, alices_events) = join(&cluster, "alice", [0, 1, 2]).await;
    let (_bob, bobs_events) = join(&cluster, "bob", [1, 2, 0]).await;
    let speaking = async {
        let mut pace = interval(Duration::from_millis(10));
        let mut says = Vec::new();
        for number in 1..=MESSAGES {
            pace.tick().await;
            match number {
                100 => cluster.replicas[0].kill(),
                // Whoever is on it is asked to go on elsewhere.
                200 => cluster.replicas[1].signal(Signal::SIGTERM),
                _ => {}
            }
            let alice = alice.clone();
            let text = number.to_string();
            says.push(begun(async move { alice.say(text).await }).await);
        }
        let mut positions = Vec::new();
        for say in says {
            let said = timeout(SOON * 2, say).await.expect("in time").expect("acknowledged");
            positions.push(said.position.expect("a position"));
        }
        positions
    };
    let recording = async { tokio::join!(record(alices_events), record(bobs_events)) };
    let (positions, (alices, bobs)) = tokio::join!(speaking, recording);
    let expected: Vec<_> =
        positions.into_iter().zip((1..=MESSAGES).map(|n| n.to_string())).collect();
    assert_eq!(alices, expected);
    assert_eq!(bobs, expected);
    alice.leave().await.expect("confirmed");
}

/// What is unanswered when a session is lost is in the log once: what had arrived is not said again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_lost_loses_and_doubles_nothing() {
    let mut cluster = Cluster::redis(2).start().await;
    let addr = Address::parse(&cluster.replicas[0].grpc().to_string()).expect("an address");
    let mut options = Options::new("den", "alice");
    options.linger = Some(Duration::from_millis(300));
    let joined = Client::join(Connector::new(addr), options);
    let (alice, mut events) = timeout(SOON, joined).await.expect("in time").expect("come in");
    let mut watcher = cluster.endpoint(1).into_room("den").enter("watcher").await;
    for number in 1..=15 {
        alice.say(format!("before {number}")).await.expect("acknowledged");
    }
    let mut says = Vec::new();
    for number in 1..=15 {
        let alice = alice.clone();
        says.push(begun(async move { alice.say(format!("during {number}")).await }).await);
    }
    cluster.replicas[0].kill();
    for number in 1..=15 {
        watcher.expect_said("alice", &format!("before {number}")).await;
    }
    let mut heard = Vec::new();
    loop {
        let next = watcher.next(SOON).await.expect("still open");
        if next.username == "System" && next.content == "alice left" {
            break;
        }
        heard.push(next.content);
    }
    cluster.replicas[0] = cluster.replicas[0].successor().await;
    for say in says {
        timeout(SOON, say).await.expect("in time").expect("acknowledged");
    }
    watcher.say("that was all").await;
    let (mut said, mut lost) = (Vec::new(), false);
    loop {
        let update = timeout(SOON, events.next()).await.expect("told").expect("more");
        match update.expect("an update") {
            Update::Event(event) => match event.what {
                EventKind::Said(text) if text == "that was all" => break,
                EventKind::Said(text) => said.push(text),
                _ => {}
            },
            Update::Reconnected { resumed } => lost |= !resumed,
            Update::Disconnected { .. } => {}
            other @ Update::Gap(_) => panic!("{other:?}"),
        }
    }
    assert!(lost, "the session was to be lost");
    let numbers = |word: &'static str| (1..=15).map(move |number| format!("{word} {number}"));
    let expected: Vec<_> = numbers("before").chain(numbers("during")).collect();
    assert_eq!(said, expected);
    assert!(expected[15..].starts_with(&heard), "{heard:?}");
}

#[tokio::test]
async fn a_replica_that_is_full_is_not_the_last_word() {
    let cluster = Cluster::redis(2).with("ROOMCAST_LIMITS__STREAMS", "1").start().await;
    let mut alice =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let [full, other] = [0, 1].map(|replica| {
        Address::parse(&cluster.replicas[replica].grpc().to_string()).expect("an address")
    });
    let connector = Connector::new(full).or(other);
    let joined = Client::join(connector, Options::new("den", "bob"));
    let (bob, _events) = timeout(SOON, joined).await.expect("in time").expect("come in");
    bob.say("here").await.expect("it is stored");
    alice.expect_joined("bob").await;
}
