//! Redis is away for half a lease to three leases, in every way, and replicas stand still for as long;
//! clients give up and come again, strangers want the names, others come for one message.
//!
//! Each of four sets of promises has a quarter of the time. Two minutes are tests like any other, ten
//! are run by hand, as in the module above:
//!
//! ```text
//! ROOMCAST_OUTAGE_SECONDS=600 ROOMCAST_CHAOS_SEED=7 cargo test --test it chaos::outages -- --nocapture
//! ```

use std::time::Duration;

use super::{
    Company, break_everything, given,
    record::Fault,
    stage::{Conditions, Kind},
};

/// What is never told to anybody who is there.
const KEPT: &[Fault] = &[
    Fault::StopRedis,
    Fault::RestartRedis,
    Fault::CutRedis,
    Fault::RedisUnheard,
    Fault::RedisUnanswered,
    Fault::SlowRedis,
    Fault::Pause,
    Fault::GivenUp,
];

/// The same, and Redis forgets everything.
const LOST: &[Fault] = &[
    Fault::LoseRedis,
    Fault::StopRedis,
    Fault::RedisUnanswered,
    Fault::Pause,
    Fault::LoseRedis,
    Fault::CutClients,
    Fault::Kill,
    Fault::GivenUp,
];

async fn endure(label: &str, lease: u64, linger: u64, faults: &'static [Fault]) {
    let seed = given("ROOMCAST_CHAOS_SEED", 5);
    let long = Duration::from_secs(given("ROOMCAST_OUTAGE_SECONDS", 120) / 4);
    println!("ROOMCAST_CHAOS_SEED={seed} ROOMCAST_OUTAGE_SECONDS={}", long.as_secs() * 4);
    let lease = Duration::from_secs(lease);
    let conditions = Conditions {
        redis: Kind::One,
        lease,
        linger: Duration::from_secs(linger),
        faults,
        pauses: lease / 2..3 * lease,
        outages: lease / 2..3 * lease,
    };
    let kinds = break_everything(label, seed, long, conditions, Company::Strangers).await;
    assert!(!kinds.is_empty(), "nothing was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_lease_and_a_short_linger() {
    endure("outages-short-short", 2, 1, KEPT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_lease_and_a_long_linger() {
    endure("outages-short-long", 2, 10, KEPT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_lease_and_a_long_linger() {
    endure("outages-long", 15, 10, KEPT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgets_everything() {
    endure("outages-lost", 2, 10, LOST).await;
}
