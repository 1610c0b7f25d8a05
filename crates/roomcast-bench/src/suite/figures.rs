//! What a scenario came to: its figures of several rounds, and whether they hold what is promised.

use std::fmt;

/// What is promised of a figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Goal {
    /// Nothing.
    None,
    /// At most this part of the rival's.
    Part(f64),
    /// At least so many times the rival's.
    Times(f64),
    /// At most this.
    AtMost(f64),
    /// At least this, or at least so many times the rival's.
    AtLeastOrTimes(f64, f64),
}

impl Goal {
    /// Whether one round holds it. A promise that needs a rival is not held without one.
    fn is_held(self, ours: f64, theirs: Option<f64>) -> bool {
        let ratio = theirs.map_or(f64::NAN, |theirs| ours / theirs);
        match self {
            Self::None => true,
            Self::Part(part) => ratio <= part,
            Self::Times(times) => ratio >= times,
            Self::AtMost(most) => ours <= most,
            Self::AtLeastOrTimes(least, times) => ours >= least || ratio >= times,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Part(part) => write!(f, "≤ {part} of it"),
            Self::Times(times) => write!(f, "≥ {times} of it"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeastOrTimes(least, times) => write!(f, "≥ {least}, or ≥ {times} of it"),
        }
    }
}

/// A figure of all rounds, ours and the rival's.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) goal: Goal,
    pub(super) ours: Vec<f64>,
    /// Empty where there is no rival.
    pub(super) theirs: Vec<f64>,
}

impl Figure {
    /// In how many rounds the promise held.
    pub(super) fn held(&self) -> usize {
        let rounds = self.ours.iter().enumerate();
        rounds.filter(|&(at, &ours)| self.goal.is_held(ours, self.theirs.get(at).copied())).count()
    }
}

/// The head of the table.
pub(super) const HEAD: &str = "\
| | roomcast | rival | ratio | goal | held |
|---|---|---|---|---|---|";

/// A row of the table, with medians.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = median(&self.ours);
        write!(f, "| {} | {} |", self.name, Shown(ours))?;
        if self.theirs.is_empty() {
            write!(f, " | |")?;
        } else {
            // A round's two runs belong together.
            let ratios: Vec<_> = self.ours.iter().zip(&self.theirs).map(|(a, b)| a / b).collect();
            write!(f, " {} | {:.2} |", Shown(median(&self.theirs)), median(&ratios))?;
        }
        match self.goal {
            Goal::None => write!(f, " | |"),
            goal => write!(f, " {goal} | {} of {} |", self.held(), self.ours.len()),
        }
    }
}

/// A figure with three digits that count.
pub(super) struct Shown(pub(super) f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            size if size >= 1e6 => write!(f, "{:.2} M", self.0 / 1e6),
            size if size >= 1e4 => write!(f, "{:.0} k", self.0 / 1e3),
            size if size >= 100.0 => write!(f, "{:.0}", self.0),
            size if size >= 10.0 => write!(f, "{:.1}", self.0),
            _ => write!(f, "{:.2}", self.0),
        }
    }
}

/// The middle of some values; not a number if there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (_, 0) if values.is_empty() => f64::NAN,
        (middle, 0) => f64::midpoint(values[middle - 1], values[middle]),
        (middle, _) => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(goal: Goal, ours: &[f64], theirs: &[f64]) -> Figure {
        Figure { name: "CPU", goal, ours: ours.to_vec(), theirs: theirs.to_vec() }
    }

    #[test]
    fn medians() {
        for (values, expected) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0], 2.5)] {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_promise_is_held_round_by_round() {
        let (ours, theirs) = ([1.0, 2.0, 4.0], [4.0, 4.0, 4.0]);
        for (goal, held) in [
            (Goal::None, 3),
            (Goal::Part(0.5), 2),
            (Goal::Times(0.75), 1),
            (Goal::AtMost(2.0), 2),
            (Goal::AtLeastOrTimes(3.9, 0.4), 2),
        ] {
            assert_eq!(figure(goal, &ours, &theirs).held(), held, "{goal:?}");
        }
        assert_eq!(figure(Goal::Part(0.5), &ours, &[]).held(), 0);
    }

    #[test]
    fn rows_have_medians_and_ratios() {
        let row = figure(Goal::Part(0.33), &[1.0, 2.0, 3.0], &[10.0, 10.0, 10.0]).to_string();
        assert_eq!(row, "| CPU | 2.00 | 10.0 | 0.20 | ≤ 0.33 of it | 3 of 3 |");
        let row = figure(Goal::None, &[1_234_567.0], &[]).to_string();
        assert_eq!(row, "| CPU | 1.23 M | | | | |");
    }
}
