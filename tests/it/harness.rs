//! What the tests start, speak with and break.
//!
//! A [`Cluster`] is a Redis (or none) and replicas; a [`Endpoint`] is where a [`ChatClient`] comes in.
//! Every wait has a deadline and a reason, and ends as soon as what it waits for is there.

mod authority;
mod client;
mod cluster;
mod collector;
mod command;
mod endpoint;
mod fault_proxy;
mod http;
pub(crate) mod http2;
mod log;
mod machine;
mod pace;
mod proxy;
pub(crate) mod raw;
mod raw_call;
mod readiness;
mod record;
mod redis;
#[allow(dead_code, reason = "one surface for all tests of the `v1` protocol")]
mod rich;
#[macro_use]
mod stage;
mod replica;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use self::{
    authority::{Authority, Pair, PairFiles},
    client::{ChatClient, quiet},
    cluster::Cluster,
    collector::{Collector, Span},
    command::{Finished, roomcast, run},
    endpoint::Endpoint,
    fault_proxy::FaultProxy,
    http::{Probe, get},
    http2::{PREFACE, frame},
    log::Log,
    pace::Pace,
    proxy::Proxy,
    raw_call::RawCall,
    readiness::ReadinessWatch,
    record::{Heard, Record},
    redis::{Redis, free_port, pid},
    replica::Replica,
    stage::{Layout, Stage},
    wire::{Dialect, Payload, RawCodec},
};

#[allow(unused_imports, reason = "one surface for all tests of the `v1` protocol")]
pub(crate) use self::rich::{Answer, Inbox, News, RichClient, Told};

/// Time enough for anything that happens at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The lease that replicas of a [`Cluster`] run with.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// Asks again and again, every few milliseconds, until there is an answer; fails the test
/// with `what` when `within` has passed.
pub(crate) async fn eventually<T>(
    within: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
