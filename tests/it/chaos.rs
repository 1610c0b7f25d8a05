//! Everything that may break breaks, in a seeded random order, while everybody talks; and nobody
//! loses a message, hears one twice, or hears of somebody's coming or going that was none.
//!
//! One minute of it is a test like any other. Ten minutes are run by hand:
//!
//! ```text
//! ROOMCAST_CHAOS_SECONDS=600 ROOMCAST_CHAOS_SEED=7 cargo test --test it chaos::everything -- --nocapture
//! ```
//!
//! What was recorded is written into the target directory when something is found.

mod checker;
mod crowd;
mod diary;
mod guests;
mod library;
mod part;
mod raw;
mod record;
mod rolling;
mod stage;

use std::{collections::BTreeMap, fmt::Write, fs, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use self::{
    checker::check,
    crowd::{Crowd, logs},
    diary::Clock,
    record::{Evidence, Fault, Terms},
    stage::Stage,
};
use crate::harness::{Dialect, eventually};

/// How soon after the last fault everybody has heard the last of everybody.
const SETTLED: Duration = Duration::from_secs(30);

fn terms() -> Terms {
    Terms {
        linger: Duration::from_secs(10),
        lease: Duration::from_secs(15),
        tolerance: Duration::from_secs(2),
    }
}

/// A number from a variable.
fn given(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Fails with what is wrong, if anything is, and leaves the evidence in a file.
fn assert_nothing_found(evidence: &Evidence, label: &str) {
    let found = check(evidence, &terms());
    if found.is_empty() {
        return;
    }
    let path = format!("{}/{label}.txt", env!("CARGO_TARGET_TMPDIR"));
    let mut text = String::new();
    for violation in &found {
        let _ = writeln!(text, "{violation}");
    }
    let _ = writeln!(text, "{:#?}", evidence.faults);
    for record in &evidence.records {
        for (at, entry) in &record.entries {
            let _ = writeln!(text, "{} {at:?} {entry:?}", record.name);
        }
    }
    fs::write(&path, text).expect("write the evidence");
    let first: Vec<_> = found.iter().take(20).map(ToString::to_string).collect();
    panic!("{} things are wrong, see {path}:\n{}", found.len(), first.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_breaks_and_nobody_loses_or_doubles_anything() {
    let seed = given("ROOMCAST_CHAOS_SEED", 5);
    let long = Duration::from_secs(given("ROOMCAST_CHAOS_SECONDS", 60));
    println!("ROOMCAST_CHAOS_SEED={seed} ROOMCAST_CHAOS_SECONDS={}", long.as_secs());
    let clock = Clock::start();
    let mut stage = Stage::set(StdRng::seed_from_u64(seed), clock).await;
    let mut crowd = Crowd::gather(&stage.proxy, clock).await;
    crowd.invite(&stage.proxy, clock);
    let begun = Instant::now();
    while begun.elapsed() < long {
        stage.next_fault(&crowd).await;
        // Now and then the next one comes before everybody has recovered from the last.
        if stage.random.random() {
            eventually(SETTLED, "everybody is back", async || crowd.all_are_there().then_some(()))
                .await;
        }
        sleep(Duration::from_millis(stage.random.random_range(0..1500))).await;
    }
    let over = Instant::now();
    crowd.part(SETTLED).await;
    let settled = over.elapsed();
    let logs = logs(&stage.proxy.door(Dialect::Typed), clock).await;
    let evidence = Evidence { records: crowd.records(), logs, faults: stage.done.clone() };
    let mut kinds: BTreeMap<Fault, usize> = BTreeMap::new();
    for (_, fault) in &stage.done {
        *kinds.entry(*fault).or_default() += 1;
    }
    println!("{} faults in {:?}: {kinds:?}", stage.done.len(), begun.elapsed());
    println!("settled {settled:?} after the last; {}", crowd::figures(&evidence.records));
    println!("who asked for a name that was held was told: {:?}", crowd.knocks());
    stage.cluster.assert_no_errors();
    assert_nothing_found(&evidence, &format!("chaos-{seed}"));
    let expected = usize::try_from(long.as_secs() / 6).expect("a short test");
    assert!(stage.done.len() >= expected, "only {} faults", stage.done.len());
    assert!(kinds.len() == 6 || long < Duration::from_secs(60), "not all kinds: {kinds:?}");
}
