//! The Lua scripts and what every call of them carries.

use std::time::Duration;

use redis::{Cmd, RedisResult, Script, aio::MultiplexedConnection};

use super::{keys::Keys, op::Work, script_name::ScriptName};
use crate::{
    backplane::LogBounds,
    domain::{ReplicaId, RoomName},
};

/// How long it is noted how many partitions there are, at least. Every replica that is there notes it again.
const NOTED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// All scripts with their hashes, and the arguments that are the same for every call.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) keys: Keys,
    hashes: [String; SOURCES.len()],
    bounds: LogBounds,
    lease: Duration,
    /// How long a room outlives its last change.
    remember: Duration,
}

macro_rules! on_log {
    ($($file:literal),+) => {
        concat!(include_str!("log.lua"), $("\n", include_str!($file)),+)
    };
}

/// In the order of [`ScriptName`].
pub(super) const SOURCES: [&str; 16] = [
    on_log!("append.lua"),
    on_log!("roster.lua", "join.lua"),
    on_log!("roster.lua", "leave.lua"),
    include_str!("extend.lua"),
    on_log!("roster.lua", "renew.lua"),
    on_log!("roster.lua", "overdue.lua"),
    on_log!("roster.lua", "reap.lua"),
    on_log!("roster.lua", "linger.lua"),
    include_str!("read.lua"),
    include_str!("lookup.lua"),
    include_str!("members.lua"),
    include_str!("owe.lua"),
    include_str!("contact.lua"),
    include_str!("canary.lua"),
    include_str!("trial.lua"),
    include_str!("partitions.lua"),
];

impl Scripts {
    /// Scripts for keys of these names, logs with these bounds and leases of this length.
    pub(super) fn new(keys: Keys, bounds: LogBounds, lease: Duration) -> Self {
        let hashes = SOURCES.map(|source| Script::new(source).get_hash().to_owned());
        // A room must not be forgotten while somebody holds a name in it.
        Self { keys, hashes, bounds, lease, remember: bounds.age + lease }
    }

    /// Makes Redis know all scripts. Most often it does.
    pub(super) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut exist = redis::cmd("SCRIPT");
        exist.arg("EXISTS").arg(&self.hashes);
        let known: Vec<bool> = exist.query_async(connection).await?;
        let mut load = redis::pipe();
        for (source, _) in SOURCES.iter().zip(known).filter(|(_, known)| !known) {
            load.cmd("SCRIPT").arg("LOAD").arg(*source);
        }
        if load.is_empty() { Ok(()) } else { load.query_async(connection).await }
    }

    /// A trial of all commands that are used, on keys of this partition.
    pub(super) fn trial(&self, replica: ReplicaId, partition: usize) -> Cmd {
        let keys = ["hash", "stream", "sorted", "string", "other"];
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Trial as usize]).arg(keys.len());
        cmd.arg(keys.map(|part| self.keys.trial(partition, replica, part)).to_vec());
        cmd.arg(self.keys.trial_channel(partition, replica));
        cmd
    }

    /// A canary of a replica, by the way that events of a partition take.
    pub(super) fn canary(&self, partition: usize, replica: ReplicaId, number: u64) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Canary as usize]).arg(1);
        cmd.arg(self.keys.trial(partition, replica, "canary"));
        cmd.arg(self.keys.canary(partition, replica)).arg(number);
        cmd
    }

    /// A call of a script on a room, up to the arguments that `log.lua` names; the caller
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
        if let Some(first) = name.own_keys(&self.keys, room) {
            cmd.arg(first.len() + extra_keys.len()).arg(first).arg(extra_keys);
            return cmd;
        }
        let common = self.keys.common(room);
        cmd.arg(common.len() + extra_keys.len()).arg(&common).arg(extra_keys);
        self.add_common(&mut cmd, replid);
        cmd.arg(self.keys.channel(room));
        cmd
    }

    /// A call of `append.lua` with the keys of all rooms, up to the arguments that `log.lua` names.
    pub(super) fn append(&self, keys: &[String], replid: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Append as usize]).arg(keys.len()).arg(keys);
        self.add_common(&mut cmd, replid);
        cmd
    }

    fn add_common(&self, cmd: &mut Cmd, replid: &str) {
        cmd.arg(replid)
            .arg(format!("{:016x}", rand::random::<u64>()))
            .arg(format!("{} {}", self.bounds.length, self.bounds.bytes))
            .arg(millis(self.bounds.age))
            .arg(millis(self.remember));
    }

    /// Asks how many partitions there are, and notes how many there should be where nobody has noted another number.
    pub(super) fn partitions(&self) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Partitions as usize]).arg(1);
        cmd.arg(self.keys.partition_count()).arg(self.keys.partitions());
        cmd.arg(millis(self.remember.max(NOTED_FOR)));
        cmd
    }

    /// A call of `contact.lua`.
    pub(super) fn contact(&self, key: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Contact as usize]).arg(1).arg(key).arg(millis(self.lease));
        cmd
    }

    /// A call of `extend.lua` on the rooms of these works.
    pub(super) fn extend<'a>(&self, works: impl Iterator<Item = &'a Work>, replid: &str) -> Cmd {
        let (mut all_keys, mut args) = (Vec::new(), Vec::new());
        for work in works {
            let Work::Extend { room, leases, names, tokens } = work else { continue };
            all_keys.extend([self.keys.room(room), self.keys.names(room)]);
            all_keys.extend_from_slice(leases);
            args.extend([leases.len().to_string(), tokens.clone()]);
            args.extend_from_slice(names);
        }
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Extend as usize]).arg(all_keys.len()).arg(all_keys);
        cmd.arg(replid).arg(millis(self.lease)).arg(millis(self.bounds.age));
        cmd.arg(millis(self.remember)).arg(args);
        cmd
    }
}

/// Whole milliseconds, the unit of every duration that Redis is told.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
