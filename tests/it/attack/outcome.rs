//! What an attack came to.

use std::{fmt, time::Duration};

use super::stage::Way;

/// What bystanders may feel at most, and what a replica may take, while it is attacked by one client
/// on a machine of two cores, with the default limits.
const P99: Duration = Duration::from_millis(100);
const MEMORY: u64 = 512 << 20;
const KEPT: u64 = 64 << 20;
const LOG: f64 = 50_000.0;

/// All that was measured.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) case: &'static str,
    pub(super) way: Way,
    /// 99 of 100 messages between bystanders took no longer, before the attack and during it.
    pub(super) before: Duration,
    pub(super) during: Duration,
    /// How a bystander's stream ended, or what it never heard.
    pub(super) cut: Option<String>,
    /// Who came meanwhile, and how many of them were not let in within five seconds.
    pub(super) newcomers: (usize, usize),
    /// The replica's resident memory before, at most, and a while after, in bytes.
    pub(super) memory: [u64; 3],
    /// What it wrote into its log, in bytes a second.
    pub(super) log: f64,
    /// The longest that `/livez` took; nothing if it did not answer.
    pub(super) livez: Option<Duration>,
    /// Lines of the log at level ERROR.
    pub(super) errors: Vec<String>,
    /// What the attacker says.
    pub(super) attacker: String,
}

impl Outcome {
    pub(super) const HEAD: &str = "\
| attack | by way of | p99 before, ms | p99 during, ms | cut | newcomers turned away \
| memory before, MB | at most | after | log, kB/s | /livez, ms | what it was |
|---|---|---|---|---|---|---|---|---|---|---|---|";

    /// The bounds that are broken.
    pub(super) fn broken(&self) -> Vec<String> {
        let mut broken = self.always_broken();
        let mut check = |kept: bool, what: String| {
            if !kept {
                broken.push(format!("{} ({}): {what}", self.case, self.way));
            }
        };
        check(self.during <= P99, format!("bystanders waited for {:?}", self.during));
        let [before, _, after] = self.memory;
        let kept = after.saturating_sub(before);
        check(kept <= KEPT, format!("{} MB were kept", kept >> 20));
        check(self.log <= LOG, format!("{:.0} bytes of log a second", self.log));
        broken
    }

    /// Those that hold on every machine.
    fn always_broken(&self) -> Vec<String> {
        let mut broken = vec![];
        let mut check = |kept: bool, what: String| {
            if !kept {
                broken.push(format!("{} ({}): {what}", self.case, self.way));
            }
        };
        check(self.cut.is_none(), format!("a bystander was cut: {:?}", self.cut));
        check(self.memory[1] <= MEMORY, format!("{} MB at most", self.memory[1] >> 20));
        check(self.livez.is_some(), "/livez was not answered".to_owned());
        let errors = self.errors.len();
        check(errors == 0, format!("{errors} errors, the first: {:?}", self.errors.first()));
        broken
    }

    /// Fails if it is not what it has to be on every machine.
    pub(super) fn assert_borne(&self) {
        let broken = self.always_broken();
        assert!(broken.is_empty(), "{}\n{}\n{self}", broken.join("\n"), Self::HEAD);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |it: Duration| format!("{:.1}", it.as_secs_f64() * 1e3);
        let [before, most, after] = self.memory.map(|bytes| bytes >> 20);
        let (came, turned_away) = self.newcomers;
        write!(
            f,
            "| {} | {} | {} | {} | {} | {turned_away} of {came} | {before} | {most} | {after} \
             | {:.1} | {} | {} |",
            self.case,
            self.way,
            millis(self.before),
            millis(self.during),
            self.cut.as_deref().unwrap_or("no"),
            self.log / 1e3,
            self.livez.map_or("none".to_owned(), millis),
            self.attacker,
        )
    }
}
