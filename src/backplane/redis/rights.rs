//! What roomcast may need to be allowed in Redis, and how to say what is missing.

use super::{RedisRefusal, remedy::Remedy};

/// Every command that is used, by itself or in a script; `select` only with a database other than 0, `wait` only
/// with `redis.durability = "replicated"`, and `cluster` and `asking` only in a cluster.
const COMMANDS: &str = "+evalsha +script|exists +script|load +info +ssubscribe +sunsubscribe +spublish \
     +select +wait +cluster|slots +cluster|nodes +asking +time +del +pexpire +pexpireat +pttl +get +set +hset +hget +hmget +hdel +hlen \
     +hscan +xadd +xrange +xtrim +zadd +zscore +zmscore +zscan +zrange +zrangebyscore +zrem";

/// The line that gives a user all that is needed.
pub(super) fn acl_line(user: &str, prefix: &str) -> String {
    format!("ACL SETUSER {user} ~{prefix}:* &{prefix}:* {COMMANDS}")
}

/// What a trial of all commands came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All can be used.
    Good,
    /// Redis refuses for now, in these words.
    Refused(String),
    /// It is not a Redis that takes writes.
    NotMaster,
    /// Some cannot be used, and time does not help.
    Missing(String),
}

/// Judges what Redis said of each command that it did not carry out: `XADD: ERR …`.
pub(super) fn judge(said: &[String]) -> Verdict {
    let parts = || said.iter().filter_map(|it| it.split_once(": "));
    let with = |wanted: Remedy| parts().find(|(_, words)| Remedy::of_text(words) == wanted);
    if with(Remedy::Connection).is_some() {
        return Verdict::NotMaster;
    }
    let passing = |words: &str| Remedy::of_text(words) == Remedy::Wait;
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for (command, words) in parts().filter(|(_, words)| !passing(words)) {
        match missing.iter_mut().find(|(known, _)| *known == words) {
            Some((_, commands)) if commands.contains(&command) => {}
            Some((_, commands)) => commands.push(command),
            None => missing.push((words, vec![command])),
        }
    }
    if !missing.is_empty() {
        let each =
            missing.iter().map(|(words, commands)| format!("{}: {words}", commands.join(", ")));
        return Verdict::Missing(each.collect::<Vec<_>>().join("; "));
    }
    with(Remedy::Wait).map_or(Verdict::Good, |(_, words)| Verdict::Refused(words.to_owned()))
}

/// What to say where a command of a connection is refused for good, in Redis's words.
pub(super) fn refusal(words: String, user: &str, prefix: &str) -> RedisRefusal {
    if words.contains("unknown command") || words.contains("Unknown Redis command") {
        RedisRefusal::Renamed(words)
    } else {
        RedisRefusal::Rights { words, acl: acl_line(user, prefix) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The words in capitals behind each of these, as scripts and the trial name commands.
    fn commands<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
        let rest = text.split(before).skip(1);
        rest.map(|rest| &rest[..rest.find('\'').expect("a quote ends it")]).collect()
    }

    #[test]
    fn what_scripts_use_is_tried_and_in_the_line() {
        let trial = include_str!("trial.lua");
        let tried = commands(trial, "{ '");
        let used: BTreeSet<_> = super::super::scripts::SOURCES
            .iter()
            .flat_map(|source| commands(source, "redis.call('"))
            .collect();
        assert_eq!(used.difference(&tried).collect::<Vec<_>>(), [&""; 0], "a trial for each");
        let line = acl_line("roomcast", "rc");
        for command in used {
            assert!(line.contains(&format!("+{}", command.to_lowercase())), "{command}");
        }
    }

    #[test]
    fn documentation_has_the_line() {
        let page = include_str!("../../../docs/operations.md");
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = acl_line("roomcast on >PASSWORD", "rc").replace(r" \", "");
        assert!(plain(&page.replace("\\\n", " ")).contains(&plain(&line)), "{line}");
    }

    #[test]
    fn what_is_missing_is_told_by_its_reason() {
        let said =
            |lines: &[&str]| judge(&lines.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(said(&[]), Verdict::Good);
        let no = "ERR The user executing the script can't run this command or subcommand";
        let full = "OOM command not allowed when used memory > 'maxmemory'.";
        let lines = [format!("XADD: {no}"), format!("DEL: {full}"), format!("XTRIM: {no}")];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(said(&lines), Verdict::Missing(format!("XADD, XTRIM: {no}")));
        assert_eq!(said(&lines[1..2]), Verdict::Refused(full.to_owned()));
        let read_only = "XADD: READONLY You can't write against a read only replica.";
        assert_eq!(said(&[lines[0], read_only]), Verdict::NotMaster);
        assert!(matches!(said(&["HSCAN: ERR odd"]), Verdict::Missing(_)), "what is odd is no good");
    }
}
