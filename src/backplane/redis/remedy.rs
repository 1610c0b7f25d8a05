//! What helps where Redis answers with an error instead of doing what it is asked: one table.

use redis::{RedisError, ServerError};

use super::address::Endpoint;

/// What helps, the more the later it stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Remedy {
    /// Nothing: it is the operation itself that cannot be done.
    Nothing,
    /// Time. Redis refuses for now, and the connection is as good as any other.
    Wait,
    /// Another configuration, of Redis or of this replica.
    Configure,
    /// The scripts, which it does not know or has forgotten.
    Scripts,
    /// Another node of the cluster, which it names.
    Elsewhere,
    /// Another connection, since this one does not lead to a Redis that takes writes.
    Connection,
}

impl Remedy {
    /// By the first word of an error, and by what follows it.
    fn of(code: &str, details: &str) -> Self {
        match code {
            // Full, cannot save, has too few replicas, reads its data, runs a script or moves a slot.
            "OOM" | "MISCONF" | "NOREPLICAS" | "LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN"
            | "CLUSTERDOWN" => Self::Wait,
            "READONLY" => Self::Connection,
            "NOSCRIPT" => Self::Scripts,
            "MOVED" | "ASK" => Self::Elsewhere,
            "NOPERM" | "NOAUTH" | "WRONGPASS" | "CROSSSLOT" => Self::Configure,
            // Without a word of their own: in a script, of Redis 7.0 and of later ones; and of commands
            // that were renamed or are not there.
            "ERR" if CONFIGURE.iter().any(|begin| details.starts_with(begin)) => Self::Configure,
            "ERR" if details.starts_with("max number of clients reached") => Self::Wait,
            _ => Self::Nothing,
        }
    }

    pub(super) fn of_answer(error: &ServerError) -> Self {
        Self::of(error.code(), error.details().unwrap_or_default())
    }

    pub(super) fn of_error(error: &RedisError) -> Self {
        Self::of(error.code().unwrap_or_default(), error.detail().unwrap_or_default())
    }

    /// Of an error as Redis writes it.
    pub(super) fn of_text(text: &str) -> Self {
        let (code, details) = text.split_once(' ').unwrap_or((text, ""));
        Self::of(code, details)
    }
}

/// Whether a slot is on its way to another node, or there.
pub(super) fn is_moving(error: &RedisError) -> bool {
    matches!(error.code(), Some("MOVED" | "ASK" | "TRYAGAIN"))
}

/// Where a node of a cluster says that something is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Redirection {
    /// The slot has moved there for good.
    Moved(u16, Endpoint),
    /// It is moving there, and what was asked for is there already.
    Ask(Endpoint),
}

impl Redirection {
    /// Reads `MOVED 3999 10.0.0.2:6379`. A node that does not tell a host means its own, `here`.
    pub(super) fn read(error: &ServerError, here: Option<&Endpoint>) -> Option<Self> {
        let (slot, address) = error.details()?.split_once(' ')?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match host {
            "" => here?.host.clone(),
            // It does not know.
            "?" => return None,
            host => host.to_owned(),
        };
        let there = Endpoint { host, port: port.parse().ok()? };
        match error.code() {
            "MOVED" => Some(Self::Moved(slot.parse().ok()?, there)),
            "ASK" => Some(Self::Ask(there)),
            _ => None,
        }
    }
}

/// An error as Redis wrote it.
pub(super) fn words(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}

const CONFIGURE: [&str; 4] = [
    "The user executing the script can't",
    "ACL failure in script",
    "Unknown Redis command called from script",
    "unknown command",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_remedy() {
        use Remedy::{Configure, Connection, Elsewhere, Nothing, Scripts, Wait};
        let table = [
            ("OOM command not allowed when used memory > 'maxmemory'.", Wait),
            (
                "OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:1.",
                Wait,
            ),
            ("MISCONF Redis is configured to save RDB snapshots, but …", Wait),
            ("NOREPLICAS Not enough good replicas to write.", Wait),
            ("LOADING Redis is loading the dataset in memory", Wait),
            ("BUSY Redis is busy running a script.", Wait),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Wait),
            ("MASTERDOWN Link with MASTER is down", Wait),
            ("CLUSTERDOWN Hash slot not served", Wait),
            ("ERR max number of clients reached", Wait),
            ("READONLY You can't write against a read only replica.", Connection),
            ("NOSCRIPT No matching script.", Scripts),
            ("NOPERM this user has no permissions to run the 'evalsha' command", Configure),
            ("NOAUTH Authentication required.", Configure),
            ("MOVED 3999 127.0.0.1:6381", Elsewhere),
            ("ASK 3999 127.0.0.1:6381", Elsewhere),
            ("CROSSSLOT Keys in request don't hash to the same slot", Configure),
            ("ERR The user executing the script can't run this command or subcommand", Configure),
            (
                "ERR ACL failure in script: User x has no permissions to run the 'xadd' command",
                Configure,
            ),
            ("ERR unknown command 'EVALSHA', with args beginning with: ", Configure),
            (
                "ERR Unknown Redis command called from script script: 98, on @user_script:1.",
                Configure,
            ),
            (
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
                Nothing,
            ),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Nothing),
        ];
        for (error, remedy) in table {
            assert_eq!(Remedy::of_text(error), remedy, "{error}");
        }
    }

    #[test]
    fn who_has_to_connect_anew_need_not_wait_or_load() {
        assert!(Remedy::Connection > Remedy::Scripts && Remedy::Scripts > Remedy::Wait);
        assert!(Remedy::Wait > Remedy::Nothing);
    }
}
