//! The Lua scripts and what every call of them carries.

use std::time::Duration;

use redis::{Cmd, Pipeline, Script};

use super::keys;
use crate::{backplane::LogBounds, domain::RoomName};

/// One of the scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ScriptName {
    Append,
    Join,
    Leave,
    Renew,
    Overdue,
    Reap,
    Linger,
    Read,
    Lookup,
    Members,
}

impl ScriptName {
    /// The keys that it takes first, where these are not the common ones: it only looks, and its reply
    /// does not begin with where the log stands.
    fn read_only_keys(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Read => Some(&["meta", "log"]),
            Self::Lookup | Self::Members => Some(&["roster"]),
            Self::Append
            | Self::Join
            | Self::Leave
            | Self::Renew
            | Self::Overdue
            | Self::Reap
            | Self::Linger => None,
        }
    }

    /// Whether it changes nothing.
    pub(super) fn is_read_only(self) -> bool {
        self.read_only_keys().is_some()
    }
}

/// All scripts with their hashes, and the arguments that are the same for every call.
#[derive(Debug)]
pub(super) struct Scripts {
    hashes: [String; SOURCES.len()],
    bounds: LogBounds,
    /// How long a room outlives its last change.
    remember: Duration,
}

macro_rules! with_lib {
    ($file:literal) => {
        concat!(include_str!("lib.lua"), "\n", include_str!($file))
    };
}

/// In the order of [`ScriptName`].
const SOURCES: [&str; 10] = [
    with_lib!("append.lua"),
    with_lib!("join.lua"),
    with_lib!("leave.lua"),
    with_lib!("renew.lua"),
    with_lib!("overdue.lua"),
    with_lib!("reap.lua"),
    with_lib!("linger.lua"),
    include_str!("read.lua"),
    include_str!("lookup.lua"),
    include_str!("members.lua"),
];

impl Scripts {
    /// Scripts for logs with these bounds and leases of this length.
    pub(super) fn new(bounds: LogBounds, lease: Duration) -> Self {
        let hashes = SOURCES.map(|source| Script::new(source).get_hash().to_owned());
        // A room must not be forgotten while somebody holds a name in it.
        Self { hashes, bounds, remember: bounds.age + lease }
    }

    /// The commands that make Redis know all scripts.
    pub(super) fn load() -> Pipeline {
        let mut pipeline = redis::pipe();
        for source in SOURCES {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(source);
        }
        pipeline
    }

    /// A call of a script on a room, up to the arguments that `lib.lua` names; the caller
    /// adds the script's own. `extra_keys` follow the common ones.
    pub(super) fn call(
        &self,
        name: ScriptName,
        room: &RoomName,
        extra_keys: &[String],
        replid: &str,
    ) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[name as usize]);
        if let Some(first) = name.read_only_keys() {
            let first: Vec<String> = first.iter().map(|part| keys::key(room, part)).collect();
            cmd.arg(first.len() + extra_keys.len()).arg(first).arg(extra_keys);
            return cmd;
        }
        let common = keys::common(room);
        cmd.arg(common.len() + extra_keys.len()).arg(common).arg(extra_keys);
        cmd.arg(replid)
            .arg(format!("{:016x}", rand::random::<u64>()))
            .arg(keys::channel(room))
            .arg(self.bounds.length)
            .arg(millis(self.bounds.age))
            .arg(millis(self.remember));
        cmd
    }
}

/// Whole milliseconds, the unit of every duration that Redis is told.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
