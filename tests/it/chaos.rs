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

mod beyond;
mod checker;
mod crowd;
mod diary;
mod guests;
mod library;
mod outages;
mod part;
mod raw;
mod record;
mod rolling;
mod servers;
mod stage;

use std::{collections::BTreeMap, fmt::Write, fs, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use self::{
    checker::check,
    crowd::{Crowd, logs},
    diary::Clock,
    record::{Evidence, Fault, Terms},
    stage::{Conditions, Kind, Stage},
};
use crate::harness::{Dialect, eventually};

/// How soon after the last fault everybody has heard the last of everybody.
const SETTLED: Duration = Duration::from_secs(30);

/// What `docs/guarantees.md` promises, and what else breaks.
fn conditions() -> Conditions {
    Conditions {
        redis: Kind::One,
        lease: Duration::from_secs(15),
        linger: Duration::from_secs(10),
        faults: &[
            Fault::Kill,
            Fault::Pause,
            Fault::Drain,
            Fault::CutClients,
            Fault::KillSubscribers,
            Fault::CutRedis,
        ],
        pauses: Duration::from_secs(1)..Duration::from_secs(6),
        outages: Duration::from_millis(2_900)..Duration::from_millis(3_100),
    }
}

fn terms(conditions: &Conditions) -> Terms {
    Terms {
        linger: conditions.linger,
        lease: conditions.lease,
        tolerance: Duration::from_secs(2),
        outage: conditions.outages.end.max(conditions.pauses.end),
    }
}

/// A number from a variable.
fn given(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Fails with what is wrong, if anything is, and leaves the evidence in a file.
fn assert_nothing_found(evidence: &Evidence, terms: &Terms, label: &str) {
    let found = check(evidence, terms);
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
    let kinds = break_everything("chaos", seed, long, conditions(), Company::Usual).await;
    let (done, expected) = (kinds.values().sum::<usize>(), long.as_secs() / 6);
    assert!(done as u64 >= expected, "only {done} faults");
    assert!(kinds.len() == 6 || long < Duration::from_secs(60), "not all kinds: {kinds:?}");
}

/// Who else is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Company {
    /// Guests, who now and then ask for a name that is held.
    Usual,
    /// And those who do nothing but ask for names, and those who come for one message.
    Strangers,
}

/// Breaks everything for so long while everybody talks, and looks for what went wrong. Answers how
/// often each fault was done.
async fn break_everything(
    label: &str,
    seed: u64,
    long: Duration,
    conditions: Conditions,
    company: Company,
) -> BTreeMap<Fault, usize> {
    let terms = terms(&conditions);
    let clock = Clock::start();
    let mut stage = Stage::set(StdRng::seed_from_u64(seed), clock, conditions).await;
    let mut crowd = Crowd::gather(&stage.proxy, clock).await;
    crowd.invite(&stage.proxy, clock).await;
    if company == Company::Strangers {
        crowd.invite_strangers(&stage.proxy, clock).await;
    }
    // A name that was taken when Redis had forgotten it is free again once a lease has passed.
    let settles = SETTLED + 2 * terms.lease;
    let begun = Instant::now();
    while begun.elapsed() < long {
        stage.next_fault(&crowd).await;
        // Now and then the next one comes before everybody has recovered from the last.
        if stage.random.random() {
            eventually(settles, "everybody is back", async || crowd.all_are_there().then_some(()))
                .await;
        }
        sleep(Duration::from_millis(stage.random.random_range(0..1500))).await;
    }
    let over = Instant::now();
    crowd.part(settles).await;
    let settled = over.elapsed();
    let logs = logs(&stage.proxy.endpoint(Dialect::Typed), clock).await;
    let evidence = Evidence { records: crowd.records(), logs, faults: stage.done.clone() };
    let mut kinds: BTreeMap<Fault, usize> = BTreeMap::new();
    for (_, fault) in &stage.done {
        *kinds.entry(*fault).or_default() += 1;
    }
    println!("{} faults in {:?}: {kinds:?}", stage.done.len(), begun.elapsed());
    println!("settled {settled:?} after the last; {}", crowd::figures(&evidence.records));
    println!("who asked for a name that was held was told: {:?}", crowd.knocks());
    stage.cluster.assert_no_errors();
    assert_nothing_found(&evidence, &terms, &format!("{label}-{seed}"));
    kinds
}
