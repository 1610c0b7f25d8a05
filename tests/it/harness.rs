//! What the tests start, speak with and break.
//!
//! A [`Cluster`] is a Redis (or none) and replicas; a [`Endpoint`] is where a [`ChatClient`] comes in.
//! Every wait has a deadline and a reason, and ends as soon as what it waits for is there.

mod client;
mod cluster;
mod collector;
mod endpoint;
pub(crate) mod http1;
pub(crate) mod http2;
mod machine;
mod pace;
mod proxy;
pub(crate) mod raw;
mod raw_call;
mod readiness;
mod record;
#[allow(dead_code, reason = "one surface for all tests of the `v1` protocol")]
mod rich;
mod shared;
#[macro_use]
mod stage;
pub(crate) mod tokens;
mod wire;

use std::time::Duration;

pub(crate) use roomcast_testkit::{
    Authority, FaultProxy, Finished, Log, Pair, PairFiles, Probe, Redis, RedisCluster, Replica,
    SOON, Sentinels, eventually, free_port, get, roomcast, run, run_reading,
};

pub(crate) use self::{
    client::{ChatClient, quiet, undisturbed},
    cluster::Cluster,
    collector::{Collector, Span},
    endpoint::Endpoint,
    http2::{PREFACE, frame},
    pace::Pace,
    proxy::Proxy,
    raw_call::RawCall,
    readiness::ReadinessWatch,
    record::{Heard, Record},
    shared::Shared,
    stage::{Layout, Stage},
    wire::{Dialect, Payload, RawCodec},
};

#[allow(unused_imports, reason = "one surface for all tests of the `v1` protocol")]
pub(crate) use self::rich::{Answer, Inbox, News, RichClient, Told};

/// The lease that replicas of a [`Cluster`] run with.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
