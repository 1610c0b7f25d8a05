//! Masters are replaced, by order and because they die, and slots move, while everybody talks.
//!
//! Some seconds of it are a test like any other. Ten minutes are run by hand:
//!
//! ```text
//! ROOMCAST_BEYOND_SECONDS=600 ROOMCAST_CHAOS_SEED=7 cargo test --test it chaos::beyond -- --nocapture
//! ```

use std::time::Duration;

use super::{
    Company, break_everything, given,
    record::Fault,
    stage::{Conditions, Kind},
};

const SENTINELS: &[Fault] = &[
    Fault::KillMaster,
    Fault::FailOver,
    Fault::KillSubscribers,
    Fault::Kill,
    Fault::Pause,
    Fault::Drain,
];

/// What half a minute among other tests has room for. Promotions by order and nodes that come and go are done by hand:
/// now and then a node of Redis lacks a slot afterwards that all others give to the same master.
const CLUSTER: &[Fault] = &[
    Fault::KillMaster,
    Fault::MoveSlots,
    Fault::KillSubscribers,
    Fault::Kill,
    Fault::Pause,
    Fault::Drain,
];

/// All of it.
const CHANGING_CLUSTER: &[Fault] = &[
    Fault::KillMaster,
    Fault::FailOver,
    Fault::MoveSlots,
    Fault::AddNode,
    Fault::MoveSlots,
    Fault::RemoveNode,
    Fault::KillSubscribers,
    Fault::Kill,
    Fault::Pause,
    Fault::Drain,
];

/// For how long.
fn long() -> Duration {
    Duration::from_secs(given("ROOMCAST_BEYOND_SECONDS", 30))
}

async fn endure(label: &str, redis: Kind, faults: &'static [Fault]) {
    let seed = given("ROOMCAST_CHAOS_SEED", 5);
    let long = long();
    println!("ROOMCAST_CHAOS_SEED={seed} ROOMCAST_BEYOND_SECONDS={}", long.as_secs());
    let conditions = Conditions {
        redis,
        lease: Duration::from_secs(15),
        linger: Duration::from_secs(10),
        faults,
        pauses: Duration::from_secs(1)..Duration::from_secs(6),
        // What a failover takes.
        outages: Duration::from_secs(2)..Duration::from_secs(6),
    };
    let kinds = break_everything(label, seed, long, conditions, Company::Usual).await;
    assert!(!kinds.is_empty(), "nothing was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_that_sentinels_replace() {
    endure("beyond-sentinels", Kind::Sentinels, SENTINELS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_never_the_same() {
    let faults = if long() > Duration::from_secs(30) { CHANGING_CLUSTER } else { CLUSTER };
    endure("beyond-cluster", Kind::Cluster, faults).await;
}
