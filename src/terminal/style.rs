//! How lines look: on a terminal for people, through a pipe for programs.

use std::{
    env,
    hash::{DefaultHasher, Hash, Hasher},
    time::SystemTime,
};

use jiff::{Timestamp, tz::TimeZone};

/// What follows is dim; follows in this color; follows as usual.
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";
/// Colors that can be read on dark and on light ground: red, green, yellow, blue, magenta, cyan.
const COLORS: [u8; 6] = [31, 32, 33, 34, 35, 36];

/// How lines look.
#[derive(Clone, Debug)]
pub(super) enum Style {
    /// Whole timestamps, and nothing but the text.
    Pipe,
    /// Local time to the minute.
    Terminal {
        zone: TimeZone,
        /// Names have colors and notes are dim.
        colored: bool,
    },
}

/// A time that the library tells, as it can be written.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Style {
    /// That of this process's terminal. `NO_COLOR`, unless empty, turns colors off: <https://no-color.org>.
    pub(super) fn of_terminal() -> Self {
        let colored = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|value| value != "dumb");
        Self::Terminal { zone: TimeZone::system(), colored }
    }

    /// When something happened.
    pub(super) fn time(&self, time: Timestamp) -> String {
        match self {
            Self::Pipe => time.to_string(),
            Self::Terminal { zone, .. } => {
                time.to_zoned_datetime(zone.clone()).strftime("%H:%M").to_string()
            }
        }
    }

    /// A name, which is always of the same color. It has to be safe to show.
    pub(super) fn name(&self, name: &str) -> String {
        match self {
            Self::Terminal { colored: true, .. } => {
                let mut hasher = DefaultHasher::new();
                name.hash(&mut hasher);
                let color = COLORS[usize::try_from(hasher.finish() % 6).unwrap_or_default()];
                format!("\x1b[{color}m{name}{RESET}")
            }
            _ => name.to_owned(),
        }
    }

    /// A note, which is one line.
    pub(super) fn note(&self, note: &str) -> String {
        match self {
            Self::Terminal { colored: true, .. } => format!("{DIM}{note}{RESET}"),
            _ => note.to_owned(),
        }
    }

    /// Whether this is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz;

    use super::*;

    #[test]
    fn a_terminal_has_local_time_and_colors_unless_told_otherwise() {
        let zone = TimeZone::fixed(tz::offset(2));
        let time: Timestamp = "2026-11-30T12:32:59.9Z".parse().unwrap();
        let [plain, colored] =
            [false, true].map(|colored| Style::Terminal { zone: zone.clone(), colored });
        assert_eq!(plain.time(time), "14:32");
        assert_eq!(Style::Pipe.time(time), "2026-11-30T12:32:59.9Z");
        for style in [&plain, &Style::Pipe] {
            assert_eq!(style.name("bob") + &style.note("-- x"), "bob-- x");
        }
        assert_eq!(colored.note("-- x"), "\x1b[2m-- x\x1b[0m");
        let name = colored.name("bob");
        assert_eq!(name, colored.name("bob"));
        assert!(name.starts_with("\x1b[3") && name.ends_with("mbob\x1b[0m"), "{name:?}");
    }
}
