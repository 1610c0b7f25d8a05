//! All that is promised of roomcast's speed and memory, measured in one run beside the rivals it is
//! promised against.

use std::time::Duration;

mod figures;
mod growth;
mod pubsub;
mod saturation;
mod scenario;
mod setup;
mod stage;
mod upkeep;

use figures::{Figure, Goal, HEAD};
use scenario::{SCENARIOS, Scenario, Work};
use setup::Setup;
use stage::{Load, Pace, Stage};

use super::{
    Error,
    load::{self, Outcome},
    server::Program,
};

/// How long a load goes on before it is measured.
const WARMUP: Duration = Duration::from_secs(1);
/// How long it is measured when only its completeness is of interest.
const GLANCE: Duration = Duration::from_millis(500);

#[derive(clap::Args, Clone, Debug)]
pub(super) struct SuiteArgs {
    /// What to measure; everything unless named
    #[arg(value_name = "SCENARIO", value_parser = names())]
    scenarios: Vec<String>,
    /// Number of rounds: in each of them roomcast and its rival have their turn
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that are measured of each load
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Everything once, small and short: shows whether all is delivered, and no figure counts
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
}

fn names() -> clap::builder::PossibleValuesParser {
    let scenarios = SCENARIOS.iter().map(|it| it.name);
    clap::builder::PossibleValuesParser::new(scenarios.chain(growth::SERIES.map(|it| it.name)))
}

impl SuiteArgs {
    fn wants(&self, name: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|it| it == name)
    }

    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    fn pace(&self) -> Pace {
        if self.quick {
            Pace { warmup: Duration::ZERO, measured: GLANCE, quick: true }
        } else {
            let measured = Duration::from_secs(self.seconds.into());
            Pace { warmup: WARMUP, measured, quick: false }
        }
    }
}

/// Runs the scenarios and prints their figures in Markdown. A run of ours that lost something fails
/// the suite, once all of it was run; one of a rival's has no figures.
pub(super) async fn run(args: &SuiteArgs) -> Result<(), Error> {
    let mut suite = Suite { pace: args.pace(), failure: None };
    if SCENARIOS.iter().any(|it| args.wants(it.name)) {
        println!("{HEAD}");
    }
    for scenario in SCENARIOS.iter().filter(|it| args.wants(it.name)) {
        println!("| **{}** (`{}`) | | | | | |", scenario.title, scenario.name);
        for figure in suite.figures(scenario, args.rounds()).await {
            println!("{figure}");
        }
    }
    for series in growth::SERIES.iter().filter(|it| args.wants(it.name)) {
        println!("\n{}", suite.growth(series, args.rounds()).await);
    }
    suite.failure.map_or(Ok(()), Err)
}

/// A run of the suite.
struct Suite {
    pace: Pace,
    /// What first went wrong with ours.
    failure: Option<Error>,
}

/// The figures of one run, in the order of their names.
type Run = Vec<f64>;

impl Suite {
    async fn figures(&mut self, scenario: &Scenario, rounds: u32) -> Vec<Figure> {
        let mut figures: Vec<Figure> = scenario.work.figures();
        for round in 0..rounds {
            // Whoever comes second comes to a machine that is as warm as the first one left it.
            let mut order = [Program::Roomcast, Program::Baseline];
            order.rotate_left(round as usize % 2);
            for program in order {
                if program == Program::Baseline && !scenario.work.has_rival() {
                    continue;
                }
                let which = if program == Program::Roomcast { "roomcast" } else { "its rival" };
                eprintln!("{}: {which}, round {} of {rounds}", scenario.name, round + 1);
                let run = self.one(scenario, program).await;
                let run = self.judged(scenario.name, program, run);
                for (at, figure) in figures.iter_mut().enumerate() {
                    let value = run.get(at).copied().unwrap_or(f64::NAN);
                    match program {
                        Program::Roomcast => figure.ours.push(value),
                        Program::Baseline => figure.theirs.push(value),
                    }
                }
            }
        }
        figures
    }

    /// No figures of a run that failed; and if it was ours, so does the suite.
    fn judged(&mut self, name: &str, program: Program, run: Result<Run, Error>) -> Run {
        run.unwrap_or_else(|error| {
            eprintln!("{name}: {program:?}: {error}");
            if program == Program::Roomcast {
                self.failure.get_or_insert(error);
            }
            Run::new()
        })
    }

    async fn one(&self, scenario: &Scenario, program: Program) -> Result<Run, Error> {
        let Scenario { stage, work, .. } = scenario;
        let load = self.pace.scaled(scenario.load);
        match work {
            Work::Load(measures) | Work::Alone(measures) => {
                let outcome = self.put(stage, load, program).await?;
                Ok(measures.iter().map(|measure| (measure.of)(&outcome)).collect())
            }
            Work::Saturate(_) => {
                let most = saturation::most(stage, load, program, self.pace).await?;
                Ok(vec![most])
            }
            Work::AgainstRedis { .. } if program == Program::Baseline => {
                let measured = load.plan(Vec::new(), self.pace).measured;
                let delays = pubsub::delays(load.rate, measured).await?;
                Ok([0.5, 0.99].map(|it| scenario::millis(&delays, it)).to_vec())
            }
            Work::AgainstRedis { .. } => {
                let outcome = self.put(stage, load, program).await?;
                Ok([0.5, 0.99].map(|it| scenario::millis(&outcome.delays, it)).to_vec())
            }
            Work::Upkeep(_) => {
                let setup = Setup::start(stage, program).await?;
                let shares = upkeep::measure(&setup, load, self.pace).await?;
                Ok(shares.to_vec())
            }
        }
    }

    /// Puts a load on servers that are started for it.
    async fn put(&self, stage: &Stage, load: Load, program: Program) -> Result<Outcome, Error> {
        let setup = Setup::start(stage, program).await?;
        let outcome = load::run(load.plan(setup.addrs(), self.pace), setup.processes()?).await?;
        if outcome.faults.is_none() { Ok(outcome) } else { Err(Error::Faults(outcome.faults)) }
    }
}

impl Work {
    /// Its figures, without values.
    fn figures(&self) -> Vec<Figure> {
        let figure = |name, goal| Figure { name, goal, ours: Vec::new(), theirs: Vec::new() };
        match self {
            Self::Load(measures) | Self::Alone(measures) => {
                measures.iter().map(|it| figure(it.name, it.goal)).collect()
            }
            Self::Saturate(goal) => vec![figure("deliveries a second", *goal)],
            Self::AgainstRedis { median, tail } => {
                vec![figure(scenario::P50, *median), figure(scenario::P99, *tail)]
            }
            Self::Upkeep(goal) => vec![
                figure("% of one core, Redis", *goal),
                figure("% of one core, server", Goal::None),
            ],
        }
    }

    fn has_rival(&self) -> bool {
        !matches!(self, Self::Upkeep(_) | Self::Alone(_))
    }
}
