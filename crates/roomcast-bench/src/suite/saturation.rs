//! How much a server delivers before it no longer keeps up.
#![expect(clippy::cast_precision_loss, reason = "figures for people have a few digits")]

use std::time::Duration;

use super::{
    setup::Setup,
    stage::{Load, Pace, Stage},
};
use crate::{Error, Faults, load, server::Program};

/// The rate to begin with, in messages a second.
const FIRST: u32 = 1000;
/// The highest.
const LAST: u32 = 128_000;
/// How often it is looked between a rate that is kept up with and one that is not: the result is
/// then known to within a tenth.
const HALVINGS: u32 = 3;
/// The delay beyond which a server does not keep up.
const PATIENCE: Duration = Duration::from_millis(250);
/// What is measured at each rate.
const MEASURED: Duration = Duration::from_secs(2);

/// The most deliveries a second that arrive whole and in time. Beyond that streams may be ended;
/// fails if anything is lost in silence.
pub(super) async fn most(
    stage: &Stage,
    load: Load,
    program: Program,
    pace: Pace,
) -> Result<f64, Error> {
    let (mut kept, mut most, mut missed) = (0, 0.0, None);
    let mut rate = FIRST;
    let last = if pace.quick { FIRST } else { LAST };
    for _ in 0.. {
        match at(stage, Load { rate, ..load }, program, pace).await? {
            Some(deliveries) => (kept, most) = (rate, deliveries),
            None => missed = Some(rate),
        }
        rate = match missed {
            None if rate >= last => break,
            None => rate * 2,
            Some(missed) if missed - kept <= missed >> HALVINGS => break,
            Some(missed) => kept.midpoint(missed),
        };
    }
    Ok(most)
}

/// The deliveries a second at a rate, if it is kept up with.
async fn at(stage: &Stage, load: Load, program: Program, pace: Pace) -> Result<Option<f64>, Error> {
    let setup = Setup::start(stage, program).await?;
    let mut plan = load.plan(setup.addrs(), pace);
    plan.measured = plan.measured.min(MEASURED);
    let outcome = load::run(plan, setup.processes()?).await?;
    let told = Faults { ended: 0, first_end: None, ..outcome.faults.clone() };
    if program == Program::Roomcast && !told.is_none() {
        return Err(Error::Faults(outcome.faults));
    }
    let tail = Duration::from_micros(outcome.delays.value_at_quantile(0.99));
    let in_time = outcome.faults.is_none() && tail < PATIENCE;
    Ok(in_time.then(|| outcome.delivered as f64 / outcome.window.as_secs_f64()))
}
