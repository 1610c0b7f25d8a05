//! Two servers under the same load, in turn: machines change from minute to minute, ratios do not.
#![expect(clippy::cast_precision_loss, reason = "figures for people have a few digits")]

use std::fmt;

use super::{
    Args, Error,
    load::{self, Outcome},
    plan::Plan,
    process_table::Process,
    server::{Launch, Program, Server},
    sink::Sink,
    suite::median,
};

/// What roomcast is compared with.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rival {
    /// A plain tonic server with a channel per client.
    Baseline,
    /// Itself without traces; then it sends them to a collector of the bench, sampled as they are
    /// by default.
    Untraced,
}

/// A name, and what of an outcome bears it.
type Figure = (&'static str, fn(&Outcome) -> f64);

/// What is measured in each round. Less is better.
const FIGURES: [Figure; 6] = [
    ("CPU s/million deliveries", |it| {
        it.processes.iter().map(|it| it.cpu).sum::<f64>() * 1e6 / it.delivered as f64
    }),
    ("delay p50, ms", |it| it.delays.value_at_quantile(0.5) as f64 / 1e3),
    ("delay p99, ms", |it| it.delays.value_at_quantile(0.99) as f64 / 1e3),
    ("delay p99.9, ms", |it| it.delays.value_at_quantile(0.999) as f64 / 1e3),
    ("KiB/client, joined", |it| it.kib_per_client(|server| server.joined)),
    ("KiB/client, after load", |it| it.kib_per_client(|server| server.after)),
];

/// Runs the rounds and prints the table. Fails on the first run that lost something.
pub(super) async fn run(args: &Args, rival: Rival) -> Result<(), Error> {
    let sink = Sink::start().await?;
    let (ours, theirs) = match rival {
        Rival::Baseline => (Launch::alone(Program::Roomcast), Launch::alone(Program::Baseline)),
        Rival::Untraced => {
            let untraced = Launch::alone(Program::Roomcast);
            (Launch { collector: Some(sink.addr()), ..untraced }, untraced)
        }
    };
    let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        our_rounds.push(figures(args, ours).await?);
        their_rounds.push(figures(args, theirs).await?);
    }
    print!("{}", Table { rival, ours: medians(&our_rounds), theirs: medians(&their_rounds) });
    if rival == Rival::Untraced {
        println!("\n{} spans were exported in {} rounds", sink.spans(), args.rounds);
    }
    Ok(())
}

type Figures = [f64; FIGURES.len()];

async fn figures(args: &Args, launch: Launch) -> Result<Figures, Error> {
    let mut plan = Plan::new(args)?;
    let server = Server::start(launch).await?;
    plan.addrs.push(server.addr());
    let outcome = load::run(plan, vec![Process::find(server.pid())?]).await?;
    if !outcome.faults.is_none() {
        return Err(Error::Faults(outcome.faults));
    }
    Ok(FIGURES.map(|(_, figure)| figure(&outcome)))
}

/// The median of each figure over all rounds.
fn medians(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|figure| {
        median(&rounds.iter().map(|round| round[figure]).collect::<Vec<_>>())
    })
}

struct Table {
    rival: Rival,
    ours: Figures,
    theirs: Figures,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, theirs) = match self.rival {
            Rival::Baseline => ("roomcast", "baseline"),
            Rival::Untraced => ("traced", "untraced"),
        };
        writeln!(f, "{:<28}{ours:>12}{theirs:>12}{:>10}", "median", "ratio")?;
        for ((name, _), (ours, theirs)) in FIGURES.iter().zip(self.ours.iter().zip(self.theirs)) {
            writeln!(f, "{name:<28}{ours:>12.2}{theirs:>12.2}{:>10.2}", ours / theirs)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_each_figure() {
        let rounds = [3.0, 1.0, 2.0].map(|it| std::array::from_fn(|at| it * at as f64));
        let shown = |rounds: &[Figures]| format!("{:?}", medians(rounds));
        assert_eq!(shown(&rounds), "[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]");
        assert_eq!(shown(&rounds[..2]), "[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]");
    }

    #[test]
    fn the_table_has_ratios() {
        let table = Table { rival: Rival::Baseline, ours: [1.0; 6], theirs: [4.0; 6] };
        let line = "CPU s/million deliveries            1.00        4.00      0.25";
        assert!(table.to_string().lines().any(|it| it == line), "{table}");
    }
}
