//! Replicas are replaced one after another while everybody talks, and nobody notices.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{
    assert_nothing_found, conditions,
    crowd::{Crowd, PER_ROOM, ROOMS, UNHELPED_PER_ROOM, figures, logs},
    diary::Clock,
    record::{At, EventKind, Evidence, Record},
    terms,
};
use crate::harness::{Cluster, Dialect, Proxy, SOON, eventually};

/// Longer than Envoy takes to notice, which is up to three seconds.
const DELAY: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(6);
/// From the last stream's end to the end of the process, on a busy machine.
const EXIT: Duration = Duration::from_secs(2);

/// One replica's way out.
struct Step {
    told: At,
    gone: At,
    settled: At,
}

impl Step {
    /// Prints how long clients were away, fails if somebody had to come twice, and returns how many came back.
    fn report(&self, number: usize, records: &[Record]) -> usize {
        let mut away = vec![];
        let mut last = self.told;
        for record in records {
            let lives = record.lives();
            let back: Vec<_> = lives
                .windows(2)
                .filter(|pair| (self.told..self.settled).contains(&pair[1].0))
                .map(|pair| (pair[0].1.expect("one that another follows has ended"), pair[1].0))
                .collect();
            assert!(back.len() < 2, "{} had to come back twice: {back:?}", record.name);
            for (left, came) in back {
                away.push(came.saturating_sub(left));
                last = last.max(came);
            }
        }
        let longest = away.iter().max().copied().unwrap_or_default();
        println!(
            "replica {number}: {} clients came back, each within {longest:?}, the last one {:?} \
             after SIGTERM; its process ended {:?} after that",
            away.len(),
            last.saturating_sub(self.told),
            self.gone.saturating_sub(self.told),
        );
        away.len()
    }
}

/// Replaces one replica by another process on the same port.
async fn replace(
    cluster: &mut Cluster,
    number: usize,
    proxy: &Proxy,
    crowd: &mut Crowd,
    clock: Clock,
) -> Step {
    let told = clock.now();
    let begun = Instant::now();
    let replica = &mut cluster.replicas[number];
    replica.signal(Signal::SIGTERM);
    assert_eq!(replica.exit_code(DELAY + DEADLINE + EXIT).await, 0);
    assert!(begun.elapsed() >= DELAY, "it did not wait for the proxy");
    replica.assert_no_errors();
    let gone = clock.now();
    cluster.replicas[number] = cluster.replicas[number].successor().await;
    cluster.until_ready(SOON).await;
    proxy.until_healthy(cluster.replicas.len()).await;
    eventually(SOON, "everybody is back", async || crowd.all_are_there().then_some(())).await;
    crowd.until_all_are_heard(SOON).await;
    Step { told, gone, settled: clock.now() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_replaced_one_by_one_and_nobody_notices() {
    let clock = Clock::start();
    let mut cluster = Cluster::redis(3)
        .with("ROOMCAST_NAMES__LEASE", "15s")
        .with("ROOMCAST_DRAIN__DELAY", &format!("{}s", DELAY.as_secs()))
        .with("ROOMCAST_DRAIN__DEADLINE", &format!("{}s", DEADLINE.as_secs()))
        .alone()
        .start()
        .await;
    let proxy = Proxy::start(&cluster).await;
    let mut crowd = Crowd::gather(&proxy, clock).await;
    let mut steps = vec![];
    for number in 0..cluster.replicas.len() {
        steps.push(replace(&mut cluster, number, &proxy, &mut crowd, clock).await);
    }
    crowd.part(SOON).await;
    let logs = logs(&proxy.endpoint(Dialect::Typed), clock).await;
    let told = logs.values().flatten().filter(|event| event.content().is_none());
    let (joined, left): (Vec<_>, Vec<_>) = told.partition(|event| event.what == EventKind::Joined);
    assert!(left.is_empty(), "the rooms heard {left:?}");
    assert_eq!(joined.len(), ROOMS.len() * PER_ROOM, "everybody came once: {joined:?}");
    let evidence = Evidence { records: crowd.records(), logs, faults: vec![] };
    let reports = steps.iter().enumerate();
    let back: usize = reports.map(|(number, step)| step.report(number, &evidence.records)).sum();
    // Whichever replica the proxy sent a client to, that was replaced. Of the library's some may not have noticed.
    assert!(back >= ROOMS.len() * UNHELPED_PER_ROOM, "only {back} came back");
    println!("{}", figures(&evidence.records));
    assert_nothing_found(&evidence, &terms(&conditions()), "rolling");
    cluster.assert_no_errors();
}
