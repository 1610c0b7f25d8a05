//! What a line on a terminal asks for, instead of being said.

/// How many events `/history` shows unless it is told, and at most.
const HISTORY: u32 = 20;
const MOST_HISTORY: u32 = 500;

/// What can be typed, as `/help` lists it.
pub(super) const HELP: &[&str] = &[
    "-- /who: who is here",
    "-- /history [N]: the last N events, 20 unless told",
    "-- /quit, exit or Ctrl-D: leave",
    "-- a line that begins with // is said with one /",
];

/// The same with the `chat` protocol, which has neither members nor history.
pub(super) const PLAIN_HELP: &[&str] = HELP.split_at(2).1;

/// What a line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Say(String),
    Who,
    History(u32),
    Help,
    Quit,
    /// It cannot be done; a note of why.
    Unknown(String),
}

impl Command {
    /// Reads a line.
    pub(super) fn read(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else { return Self::Say(line.to_owned()) };
        if rest.starts_with('/') {
            return Self::Say(rest.to_owned());
        }
        let mut words = rest.split_whitespace();
        let (name, argument, more) =
            (words.next().unwrap_or_default(), words.next(), words.next().is_some());
        match (name, argument) {
            ("who", None) => Self::Who,
            ("help", None) => Self::Help,
            ("quit", None) => Self::Quit,
            ("history", None) => Self::History(HISTORY),
            ("history", Some(count)) if !more => match count.parse() {
                Ok(count @ 1..=MOST_HISTORY) => Self::History(count),
                _ => Self::Unknown(format!("-- /history takes a number from 1 to {MOST_HISTORY}")),
            },
            _ => Self::Unknown(
                "-- there is no such command: /help lists them, and // says a line that begins with /"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_only_where_they_begin_with_one_slash() {
        use Command::{Help, History, Quit, Say, Who};
        let say = |text: &str| Say(text.to_owned());
        for (line, command) in [
            ("hello /who", say("hello /who")),
            ("//who", say("/who")),
            ("/who", Who),
            ("/who ", Who),
            ("/help", Help),
            ("/quit", Quit),
            ("/history", History(20)),
            ("/history 3", History(3)),
        ] {
            assert_eq!(Command::read(line), command, "{line}");
        }
        for unknown in
            ["/", "/what", "/who is", "/history 0", "/history 501", "/history x", "/history 1 2"]
        {
            assert!(matches!(Command::read(unknown), Command::Unknown(_)), "{unknown}");
        }
    }
}
