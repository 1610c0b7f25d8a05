//! Replicas are replaced one after another behind a real Envoy, while everybody talks.

mod chronicle;
mod watch;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use self::{
    chronicle::{Chronicle, Life},
    watch::Watch,
};
use crate::harness::{ChatClient, Cluster, Dialect, Endpoint, Payload, Proxy, SOON, eventually};

/// Longer than Envoy takes to notice, which is up to three seconds.
const DELAY: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(5);
/// From the last stream's end to the end of the process, on a busy machine.
const EXIT: Duration = Duration::from_secs(1);

/// How often each client says something.
const PACE: Duration = Duration::from_millis(200);
const ROOMS: [&str; 2] = ["lobby", "kitchen"];
const PER_ROOM: usize = 12;

/// What everybody says when the last replica has been replaced.
const FAREWELL: &str = "that was it";

/// One replica's way out.
struct Step {
    told: Instant,
    /// How long it took until its process had ended.
    took: Duration,
    /// When its successor was there and everybody had heard everybody else again.
    settled: Instant,
    watch: Watch,
}

/// Tells talkers what to do.
#[derive(Clone)]
struct Cues {
    farewell: CancellationToken,
    stop: CancellationToken,
}

/// A client as there are many: it says something now and then, and when a replica leaves it comes
/// back at once, under its name. Anything else that ends its stream is a failure. Answers the last
/// stream, still open: nobody shall hear anybody go because the test is over.
async fn talk(
    endpoint: Endpoint,
    room: &'static str,
    name: String,
    cues: Cues,
    chronicle: Chronicle,
) -> ChatClient {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        let client = endpoint.join(&name).await;
        let begun = Instant::now();
        chronicle.add(Life { name: name.clone(), room, begun, record: client.record().clone() });
        let mut said = 0;
        let mut farewell = false;
        loop {
            tokio::select! {
                () = client.record().ended() => break,
                () = cues.stop.cancelled() => return client,
                () = cues.farewell.cancelled(), if !farewell => {
                    farewell = true;
                    client.offer(Payload::message("", FAREWELL, "")).await;
                }
                _ = pace.tick(), if !farewell => {
                    let content = format!("{number}.{said}");
                    said += 1;
                    client.offer(Payload::message("", &content, "")).await;
                }
            }
        }
        let ended = client.ended(SOON).await;
        assert_eq!(ended.code, Code::Unavailable, "{client:?}");
        assert_eq!(ended.message, "server is shutting down", "{client:?}");
        number += 1;
    }
}

/// The crowd and what it does.
struct Crowd {
    talks: JoinSet<ChatClient>,
    cues: Cues,
    chronicle: Chronicle,
}

impl Crowd {
    /// Comes in by way of the proxy, a third of them on connections that they share, and talks.
    async fn gather(proxy: &Proxy) -> Self {
        let cues = Cues { farewell: CancellationToken::new(), stop: CancellationToken::new() };
        let mut crowd = Self { talks: JoinSet::new(), cues, chronicle: Chronicle::default() };
        for room in ROOMS {
            let own = proxy.endpoint(Dialect::Typed).into_room(room);
            let shared = proxy.endpoint(Dialect::Struct).into_room(room).on_one_connection().await;
            for number in 0..PER_ROOM {
                let endpoint = if number % 3 == 1 { &shared } else { &own };
                crowd.enter(endpoint.clone(), room, format!("{room} {number}"));
                crowd.until_all_are_heard().await;
            }
        }
        crowd
    }

    fn enter(&mut self, endpoint: Endpoint, room: &'static str, name: String) {
        let (cues, chronicle) = (self.cues.clone(), self.chronicle.clone());
        self.talks.spawn(talk(endpoint, room, name, cues, chronicle));
    }

    /// Fails if somebody's talk has.
    fn assert_going_on(&mut self) {
        if let Some(ended) = self.talks.try_join_next() {
            panic!("a client gave up: {ended:?}");
        }
    }

    /// Waits until all who are there, and one more, have heard one another.
    async fn until_all_are_heard(&mut self) {
        eventually(SOON, "everybody hears everybody", async || {
            self.assert_going_on();
            let talking = self.chronicle.talking();
            (talking.len() == self.talks.len() && chronicle::all_hear_all(&talking, None))
                .then_some(())
        })
        .await;
    }

    /// Waits until everybody has heard the last word of everybody, and has them stop.
    async fn part(mut self) -> (Vec<ChatClient>, Chronicle) {
        self.cues.farewell.cancel();
        eventually(SOON, "everybody hears the last of everybody", async || {
            self.assert_going_on();
            let talking = self.chronicle.talking();
            chronicle::all_hear_all(&talking, Some(FAREWELL)).then_some(())
        })
        .await;
        self.cues.stop.cancel();
        (self.talks.join_all().await, self.chronicle)
    }
}

/// Replaces one replica by another process on the same port.
async fn replace(cluster: &mut Cluster, number: usize, proxy: &Proxy, crowd: &mut Crowd) -> Step {
    let replica = &cluster.replicas[number];
    let watch = Watch::over(replica.admin()).await;
    let told = Instant::now();
    replica.signal(Signal::SIGTERM);
    proxy.until_healthy(2).await;
    // Who comes now is turned away by nobody, and does not have to leave again.
    let endpoint = proxy.endpoint(Dialect::Typed).into_room(ROOMS[0]);
    crowd.enter(endpoint, ROOMS[0], format!("guest {number}"));
    let code = cluster.replicas[number].exit_code(DELAY + DEADLINE + EXIT).await;
    let took = told.elapsed();
    assert_eq!(code, 0);
    cluster.replicas[number].assert_no_errors();
    cluster.replicas[number] = cluster.replicas[number].successor().await;
    proxy.until_healthy(3).await;
    cluster.until_ready(SOON).await;
    crowd.until_all_are_heard().await;
    Step { told, took, settled: Instant::now(), watch }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_replaced_one_by_one_and_nobody_is_refused() {
    let mut cluster = Cluster::redis(3)
        .with("ROOMCAST_DRAIN__DELAY", &format!("{}s", DELAY.as_secs()))
        .with("ROOMCAST_DRAIN__DEADLINE", &format!("{}s", DEADLINE.as_secs()))
        .alone()
        .start()
        .await;
    let proxy = Proxy::start(&cluster).await;
    let mut crowd = Crowd::gather(&proxy).await;
    let mut steps = vec![];
    for number in 0..cluster.replicas.len() {
        let step = replace(&mut cluster, number, &proxy, &mut crowd).await;
        let Step { told, took, settled, watch } = step;
        assert!(took >= DELAY && took < DELAY + DEADLINE + EXIT, "drained within {took:?}");
        let ended = crowd.chronicle.ended_between(told, settled);
        assert!(ended > 0, "replica {number} had no streams");
        watch.assert_told_the_truth(told, ended).await;
        steps.push((told, settled));
    }
    let (_open, chronicle) = crowd.part().await;
    for (told, settled) in steps {
        chronicle.assert_nobody_had_to_come_twice(told, settled);
    }
    chronicle.assert_names_are_held_once();
    chronicle.assert_comings_and_goings_are_told_once();
    chronicle.assert_one_order_without_holes();
    cluster.assert_no_errors();
}
