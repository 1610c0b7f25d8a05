//! How the cost of a delivery grows with streams, rooms, replicas and content.

use std::fmt;

use super::{
    Suite,
    figures::{Figure, Goal, Shown, median},
    scenario::{cpu_of, server_cpu},
    stage::{Load, Stage},
};
use crate::{load::Outcome, server::Program};

/// One quantity that grows while all else stays.
pub(super) struct Series {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    title: &'static str,
    /// What grows.
    axis: &'static str,
    points: &'static [u32],
    at: fn(u32) -> (Stage, Load),
    /// The cost at the second of these is at most so many times that at the first.
    goal: Option<(u32, u32, f64)>,
}

/// How many deliveries a second streams get, and rooms.
const TO_STREAMS: u32 = 75_000;
const TO_ROOMS: u32 = 20_000;

/// All of them.
pub(super) const SERIES: [Series; 4] = [
    Series {
        name: "growth-streams",
        title: "75,000 deliveries/s in one room, a hundred streams a connection",
        axis: "streams",
        points: &[10, 100, 1000, 5000, 20_000],
        at: |streams| (Stage::ALONE, Load::streams(streams, TO_STREAMS)),
        goal: Some((1000, 20_000, 1.3)),
    },
    Series {
        name: "growth-rooms",
        title: "20,000 deliveries/s to 20,000 streams (to 60,000 in 30,000 rooms), a hundred a connection",
        axis: "rooms",
        points: &[1, 10, 100, 1000, 10_000, 30_000],
        at: |rooms| {
            let stage = Stage { variables: super::scenario::CROWD, ..Stage::ALONE };
            let streams = if rooms > 10_000 { 60_000 } else { 20_000 };
            (stage, Load::streams(streams, TO_ROOMS).in_rooms(rooms))
        },
        goal: Some((1, 10_000, 2.0)),
    },
    Series {
        name: "growth-replicas",
        title: "200 clients with a connection each, 95,000 deliveries/s through Redis",
        axis: "replicas",
        points: &[1, 2, 3, 4],
        at: |replicas| (Stage::on_redis(replicas), Load::BASE),
        goal: None,
    },
    Series {
        name: "growth-content",
        title: "200 clients over 4 connections, 9,500 deliveries/s",
        axis: "bytes of content",
        points: &[16, 64, 256, 1024, 4096, 16_384],
        at: |bytes| {
            let content_bytes = bytes as usize;
            (Stage::ALONE, Load { connections: 4, rate: 48, content_bytes, ..Load::BASE })
        },
        goal: None,
    },
];

/// What a series came to.
pub(super) struct Grown<'a> {
    series: &'a Series,
    points: Vec<u32>,
    /// Of each point and round, the servers' cost and that of Redis.
    costs: Vec<Vec<[f64; 2]>>,
}

impl Suite {
    /// Measures a series, point by point in each round.
    pub(super) async fn growth<'a>(&mut self, series: &'a Series, rounds: u32) -> Grown<'a> {
        let mut points = series.points.to_vec();
        if self.pace.quick {
            points = vec![points[0], points[points.len() - 1]];
        }
        let mut costs = vec![Vec::new(); points.len()];
        for round in 1..=rounds {
            for (point, costs) in points.iter().zip(&mut costs) {
                eprintln!("{}: {point} {}, round {round} of {rounds}", series.name, series.axis);
                let (stage, load) = (series.at)(*point);
                let run = self.put(&stage, self.pace.scaled(load), Program::Roomcast).await;
                let run = run.map(|it: Outcome| vec![server_cpu(&it), cpu_of(&it, "redis-server")]);
                let run = self.judged(series.name, Program::Roomcast, run);
                costs.push(run.try_into().unwrap_or([f64::NAN; 2]));
            }
        }
        Grown { series, points, costs }
    }
}

impl Grown<'_> {
    fn costs(&self, which: usize) -> Vec<f64> {
        let of = |rounds: &Vec<[f64; 2]>| rounds.iter().map(|it| it[which]).collect::<Vec<_>>();
        self.costs.iter().map(|rounds| median(&of(rounds))).collect()
    }

    /// The two points that the goal is about, as a figure.
    fn promise(&self) -> Option<Figure> {
        let (from, to, times) = self.series.goal?;
        let at = |point: u32| {
            let at = self.points.iter().position(|it| *it == point)?;
            Some(self.costs[at].iter().map(|cost| cost[0]).collect())
        };
        let (ours, theirs) = (at(to)?, at(from)?);
        Some(Figure { name: "promised", goal: Goal::Part(times), ours, theirs })
    }
}

/// A table, and a plot for those who read Markdown with Mermaid.
impl fmt::Display for Grown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Series { name, title, axis, .. } = self.series;
        let (servers, redis) = (self.costs(0), self.costs(1));
        let joined = |values: &[String], by: &str| values.join(by);
        let labels: Vec<_> = self.points.iter().map(u32::to_string).collect();
        let shown = |values: &[f64]| -> Vec<_> {
            values.iter().map(|value| Shown(*value).to_string()).collect()
        };
        let with_redis = redis.iter().any(|cost| *cost > 0.0);
        writeln!(f, "**{title}** (`{name}`)\n")?;
        writeln!(f, "| {axis} | {} |", joined(&labels, " | "))?;
        writeln!(f, "|---{}|", "|---".repeat(labels.len()))?;
        let row = "CPU s per million deliveries";
        writeln!(f, "| {row} | {} |", joined(&shown(&servers), " | "))?;
        if with_redis {
            writeln!(f, "| the same, Redis | {} |", joined(&shown(&redis), " | "))?;
        }
        if let Some(promise) = self.promise() {
            let (from, to, times) = self.series.goal.unwrap_or_default();
            let ratios: Vec<_> =
                promise.ours.iter().zip(&promise.theirs).map(|(a, b)| a / b).collect();
            let (held, rounds) = (promise.held(), ratios.len());
            writeln!(
                f,
                "\n{to} {axis} cost {:.2} times what {from} cost; at most {times} is the goal, which \
                 {held} of {rounds} rounds held.",
                median(&ratios)
            )?;
        }
        let plotted = |values: &[f64]| -> Vec<_> {
            values.iter().map(|value| format!("{value:.2}")).collect()
        };
        let most = servers.iter().copied().fold(0.0, f64::max);
        writeln!(f, "\n```mermaid\nxychart-beta")?;
        writeln!(f, "    x-axis \"{axis}\" [{}]", joined(&labels, ", "))?;
        writeln!(f, "    y-axis \"{row}\" 0 --> {:.1}", most * 1.1)?;
        writeln!(f, "    line [{}]", joined(&plotted(&servers), ", "))?;
        if with_redis {
            writeln!(f, "    line [{}]", joined(&plotted(&redis), ", "))?;
        }
        write!(f, "```")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_a_table_and_a_plot() {
        let costs = vec![vec![[2.0, 0.0]], vec![[5.0, 0.0]]];
        let grown = Grown { series: &SERIES[0], points: vec![1000, 20_000], costs };
        let text = grown.to_string();
        for line in [
            "| streams | 1000 | 20000 |",
            "| CPU s per million deliveries | 2.00 | 5.00 |",
            "    line [2.00, 5.00]",
        ] {
            assert!(text.lines().any(|it| it == line), "{text}");
        }
        assert!(text.contains("20000 streams cost 2.50 times what 1000 cost"), "{text}");
        assert!(text.contains("0 of 1 rounds held"), "{text}");
        assert!(!text.contains("Redis"), "{text}");
    }

    #[test]
    fn every_point_makes_a_load() {
        for series in &SERIES {
            for point in series.points {
                let (_, load) = (series.at)(*point);
                assert!(load.rate > 0 && load.senders + load.rooms <= load.clients, "{point}");
            }
        }
    }
}
