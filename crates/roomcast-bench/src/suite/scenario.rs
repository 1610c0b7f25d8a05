//! What is measured: which load on what, which figures come of it, and what is promised.
#![expect(clippy::cast_precision_loss, reason = "figures for people have a few digits")]

use hdrhistogram::Histogram;

use super::{
    figures::Goal,
    stage::{Load, Stage, Store},
};
use crate::load::Outcome;

/// What is done with a load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// It is put on each of the two servers.
    Load(&'static [Measure]),
    /// It is put on ours only: there is no rival.
    Alone(&'static [Measure]),
    /// It is raised until a server no longer keeps up.
    Saturate(Goal),
    /// It is put on ours; the rival is Redis itself, without any server.
    AgainstRedis { median: Goal, tail: Goal },
    /// It only joins, and nobody says anything.
    Upkeep(Goal),
}

/// One figure of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) of: fn(&Outcome) -> f64,
    pub(super) goal: Goal,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) stage: Stage,
    pub(super) load: Load,
    pub(super) work: Work,
}

const fn measure(name: &'static str, of: fn(&Outcome) -> f64, goal: Goal) -> Measure {
    Measure { name, of, goal }
}

const CPU: &str = "CPU s per million deliveries, servers";
const REDIS_CPU: &str = "the same, Redis";
pub(super) const P50: &str = "delay p50, ms";
pub(super) const P99: &str = "delay p99, ms";
const P999: &str = "delay p99.9, ms";
const IDLE: &str = "KiB resident per idle client";
const USED: &str = "the same after 100 messages, to before";

/// All of them.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "direct",
        title: "200 clients with a connection each, 95,000 deliveries/s",
        stage: Stage::ALONE,
        load: Load::BASE,
        work: Work::Load(&[
            measure(CPU, server_cpu, Goal::Part(0.33)),
            measure(P50, |it| delay(it, 0.5), Goal::None),
            measure(P99, |it| delay(it, 0.99), Goal::AtMost(15.0)),
            measure(P999, |it| delay(it, 0.999), Goal::None),
        ]),
    },
    Scenario {
        name: "ungathered",
        title: "the same, with roomcast's `limits.gather` = 0",
        stage: Stage { variables: &[("ROOMCAST_LIMITS__GATHER", "0s")], ..Stage::ALONE },
        load: Load::BASE,
        work: Work::Load(&[
            measure(CPU, server_cpu, Goal::Part(0.9)),
            measure(P50, |it| delay(it, 0.5), Goal::None),
            measure(P99, |it| delay(it, 0.99), Goal::None),
        ]),
    },
    Scenario {
        name: "multiplexed",
        title: "5,000 clients over 50 connections, 75,000 deliveries/s",
        stage: Stage::ALONE,
        load: Load { clients: 5000, connections: 50, rate: 15, ..Load::BASE },
        work: Work::Load(&[
            measure(CPU, server_cpu, Goal::Part(0.12)),
            measure(P50, |it| delay(it, 0.5), Goal::None),
            measure(P99, |it| delay(it, 0.99), Goal::Part(0.25)),
            measure(P999, |it| delay(it, 0.999), Goal::None),
        ]),
    },
    Scenario {
        name: "few",
        title: "200 clients over 4 connections, 95,000 deliveries/s",
        stage: Stage::ALONE,
        load: Load { connections: 4, ..Load::BASE },
        work: Work::Load(&[
            measure(CPU, server_cpu, Goal::Part(0.25)),
            measure(P50, |it| delay(it, 0.5), Goal::None),
            measure(P99, |it| delay(it, 0.99), Goal::Part(0.3)),
        ]),
    },
    Scenario {
        name: "envoy",
        title: "200 clients with a connection each behind Envoy, 47,000 deliveries/s",
        stage: Stage { envoy: true, ..Stage::ALONE },
        load: Load { rate: 240, ..Load::BASE },
        work: Work::Load(&[
            measure(CPU, server_cpu, Goal::Part(0.25)),
            measure("the same, Envoy", |it| cpu_of(it, "envoy"), Goal::Part(0.8)),
            measure(P50, |it| delay(it, 0.5), Goal::None),
            measure(P99, |it| delay(it, 0.99), Goal::None),
        ]),
    },
    Scenario {
        name: "most",
        title: "200 clients with a connection each, as much as is delivered whole with p99 < 250 ms",
        stage: Stage::ALONE,
        load: Load::BASE,
        work: Work::Saturate(Goal::Times(4.0)),
    },
    Scenario {
        name: "redis",
        title: "200 clients with a connection each on two replicas, 95,000 deliveries/s through Redis",
        stage: Stage::on_redis(2),
        load: Load::BASE,
        work: Work::Load(&[
            measure(CPU, server_cpu, Goal::None),
            measure(REDIS_CPU, |it| cpu_of(it, "redis-server"), Goal::None),
            measure(P50, |it| delay(it, 0.5), Goal::None),
            measure(P99, |it| delay(it, 0.99), Goal::None),
        ]),
    },
    Scenario {
        name: "most-redis",
        title: "200 clients on two replicas, as much as is delivered whole through Redis with p99 < 250 ms",
        stage: Stage::on_redis(2),
        load: Load::BASE,
        work: Work::Saturate(Goal::AtLeastOrTimes(2.5e6, 5.0)),
    },
    Scenario {
        name: "delay",
        title: "20 messages/s from a client of one replica to one of another; the rival is bare Redis",
        stage: Stage::on_redis(2),
        load: Load { clients: 2, connections: 2, senders: 1, rate: 20, seconds: 15, ..Load::BASE },
        work: Work::AgainstRedis { median: Goal::Part(3.0), tail: Goal::Part(3.0) },
    },
    Scenario {
        name: "append",
        title: "20,000 messages/s in one room of 10 clients, through Redis",
        stage: Stage::on_redis(1),
        load: Load { clients: 10, connections: 2, senders: 8, rate: 20_000, ..Load::BASE },
        work: Work::Load(&[
            measure("µs of Redis's CPU per message", redis_cost, Goal::AtMost(5.0)),
            measure(CPU, server_cpu, Goal::None),
            measure(P99, |it| delay(it, 0.99), Goal::None),
        ]),
    },
    Scenario {
        name: "rooms",
        title: "10,000 messages/s over 2,000 rooms of two, through Redis",
        stage: Stage::on_redis(1),
        load: Load::PAIRS,
        work: Work::Alone(THROUGH_REDIS),
    },
    Scenario {
        name: "rooms-cluster",
        title: "the same through a cluster of three masters",
        stage: Stage { store: Store::Cluster, ..Stage::ALONE },
        load: Load::PAIRS,
        work: Work::Alone(THROUGH_CLUSTER),
    },
    Scenario {
        name: "rooms-cluster-48",
        title: "the same with 48 partitions",
        stage: Stage { store: Store::Cluster, variables: FEW_PARTITIONS, ..Stage::ALONE },
        load: Load::PAIRS,
        work: Work::Alone(THROUGH_CLUSTER),
    },
    Scenario {
        name: "idle",
        title: "1,000 clients with a connection each",
        stage: Stage::ALONE,
        load: Load { clients: 1000, connections: 1000, rate: 20, seconds: 5, ..Load::BASE },
        work: Work::Load(&[
            measure(IDLE, idle, Goal::AtMost(20.0)),
            measure(USED, |it| used(it) / idle(it), Goal::AtMost(1.15)),
        ]),
    },
    Scenario {
        name: "idle-multiplexed",
        title: "5,000 clients over 50 connections",
        stage: Stage::ALONE,
        load: Load { clients: 5000, connections: 50, rate: 20, seconds: 5, ..Load::BASE },
        work: Work::Load(&[
            measure(IDLE, idle, Goal::AtMost(4.0)),
            measure(USED, |it| used(it) / idle(it), Goal::AtMost(1.15)),
        ]),
    },
    Scenario {
        name: "upkeep",
        title: "100,000 idle members in one room, on Redis",
        stage: Stage { variables: CROWD, ..Stage::on_redis(1) },
        load: Load { clients: 100_000, connections: 400, ..Load::BASE },
        work: Work::Upkeep(Goal::AtMost(0.5)),
    },
    Scenario {
        name: "upkeep-rooms",
        title: "100,000 idle members in 30,000 rooms, on Redis",
        stage: Stage { variables: CROWD, ..Stage::on_redis(1) },
        load: Load { clients: 100_000, connections: 400, rooms: 30_000, ..Load::BASE },
        work: Work::Upkeep(Goal::AtMost(1.0)),
    },
];

const THROUGH_REDIS: &[Measure] = &[
    measure("µs of Redis's CPU per message", redis_cost, Goal::AtMost(14.0)),
    measure("µs of the server's CPU per delivery", server_cpu, Goal::AtMost(27.0)),
    measure(P50, |it| delay(it, 0.5), Goal::None),
    measure(P99, |it| delay(it, 0.99), Goal::None),
];

const THROUGH_CLUSTER: &[Measure] = &[
    measure("µs of all masters' CPU per message", redis_cost, Goal::AtMost(20.0)),
    measure("µs of the server's CPU per delivery", server_cpu, Goal::None),
    measure(P50, |it| delay(it, 0.5), Goal::None),
    measure(P99, |it| delay(it, 0.99), Goal::None),
];

const FEW_PARTITIONS: &[(&str, &str)] = &[("ROOMCAST_REDIS__PARTITIONS", "48")];

/// Settings for more clients than a replica has from one address, who read nothing.
pub(super) const CROWD: &[(&str, &str)] = &[
    ("ROOMCAST_LIMITS__STREAMS", "200000"),
    ("ROOMCAST_LIMITS__STREAMS_PER_PEER", "200000"),
    ("ROOMCAST_LIMITS__ROOMS_PER_PEER", "200000"),
    ("ROOMCAST_LIMITS__ROOM_MEMBERS_PER_PEER", "200000"),
    ("ROOMCAST_LIMITS__WINDOW_EVENTS", "262144"),
    ("ROOMCAST_LIMITS__WINDOW_BYTES", "64MiB"),
    ("ROOMCAST_SERVER__IDLE_TIMEOUT", "1h"),
];

fn per_million(outcome: &Outcome, cpu: f64) -> f64 {
    cpu * 1e6 / outcome.delivered as f64
}

/// CPU seconds per million deliveries of all servers.
pub(super) fn server_cpu(outcome: &Outcome) -> f64 {
    let servers = outcome.processes.iter().filter(|it| it.clients.is_some());
    per_million(outcome, servers.map(|it| it.cpu).sum())
}

/// The same of what stands beside them.
pub(super) fn cpu_of(outcome: &Outcome, name: &str) -> f64 {
    let named = outcome.processes.iter().filter(|it| it.process.name == name);
    per_million(outcome, named.map(|it| it.cpu).sum())
}

/// Microseconds of Redis's CPU for each message.
fn redis_cost(outcome: &Outcome) -> f64 {
    // Everybody in its room gets it but its sender.
    let plan = &outcome.plan;
    cpu_of(outcome, "redis-server") * f64::from(plan.clients / plan.rooms - 1)
}

fn delay(outcome: &Outcome, quantile: f64) -> f64 {
    millis(&outcome.delays, quantile)
}

/// A delay in milliseconds.
pub(super) fn millis(delays: &Histogram<u32>, quantile: f64) -> f64 {
    delays.value_at_quantile(quantile) as f64 / 1e3
}

fn idle(outcome: &Outcome) -> f64 {
    outcome.kib_per_client(|it| it.joined)
}

fn used(outcome: &Outcome) -> f64 {
    outcome.kib_per_client(|it| it.after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_go_together() {
        for Scenario { name, load, .. } in SCENARIOS {
            for load in [*load, load.small()] {
                assert!(load.connections <= load.clients, "{name}");
                assert!(load.senders + load.rooms <= load.clients, "{name}");
            }
        }
    }
}
