//! What roomcast's tests and benchmarks start, speak with and break: Redis, Envoy, replicas, certificates, and a proxy
//! with faults.
//!
//! Every wait has a deadline and a reason, and ends as soon as what it waits for is there. What is started is killed
//! when it is dropped.
#![allow(clippy::missing_panics_doc, reason = "this is how a test fails")]

#[cfg(feature = "certificates")]
mod authority;
mod command;
mod envoy;
mod fault_proxy;
mod http;
mod log;
mod process;
mod redis;
mod redis_cluster;
mod replica;
mod sentinel;

use std::time::Duration;

#[cfg(feature = "certificates")]
pub use self::authority::{Authority, Pair, PairFiles};
pub use self::{
    command::{Finished, roomcast, run, run_reading},
    envoy::Envoy,
    fault_proxy::FaultProxy,
    http::{Probe, get},
    log::Log,
    process::{Process, StartError, free_port, send_signal},
    redis::Redis,
    redis_cluster::RedisCluster,
    replica::Replica,
    sentinel::Sentinels,
};

/// Time enough for anything that happens at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks again and again, every few milliseconds, until there is an answer; none when `within` has passed.
pub async fn answered<T>(within: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let asked = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(within, asked).await.ok()
}

/// The same; fails the test with `what` when `within` has passed.
pub async fn eventually<T>(
    within: Duration,
    what: &str,
    probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    match answered(within, probe).await {
        Some(answer) => answer,
        None => panic!("not within {within:?}: {what}"),
    }
}
