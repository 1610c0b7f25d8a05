//! The Lua scripts and what every call of them carries.

use std::time::Duration;

use redis::{Cmd, RedisResult, Script, aio::MultiplexedConnection};

use super::{keys::Keys, op::Work, script_name::ScriptName};
use crate::{
    backplane::{KEY_LIFETIME, LogBounds},
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

macro_rules! on_partition {
    ($file:literal) => {
        concat!(include_str!("partition.lua"), "\n", include_str!($file))
    };
}

/// In the order of [`ScriptName`].
pub(super) const SOURCES: [&str; 29] = [
    on_log!("append.lua"),
    on_log!("partition.lua", "roster.lua", "join.lua"),
    on_log!("partition.lua", "roster.lua", "leave.lua"),
    on_log!("partition.lua", "roster.lua", "linger.lua"),
    on_log!("partition.lua", "roster.lua", "check.lua"),
    on_log!("heads.lua"),
    on_partition!("renew.lua"),
    on_partition!("overdue.lua"),
    on_partition!("survey.lua"),
    on_log!("partition.lua", "roster.lua", "reap.lua"),
    include_str!("bury.lua"),
    include_str!("read.lua"),
    include_str!("lookup.lua"),
    include_str!("members.lua"),
    include_str!("owe.lua"),
    include_str!("decide.lua"),
    on_log!("partition.lua", "roster.lua", "enforce.lua"),
    include_str!("standing.lua"),
    include_str!("bans.lua"),
    include_str!("direct.lua"),
    include_str!("directives.lua"),
    include_str!("contact.lua"),
    include_str!("canary.lua"),
    include_str!("trial.lua"),
    include_str!("partitions.lua"),
    on_log!("publish.lua"),
    include_str!("rooms.lua"),
    include_str!("summaries.lua"),
    include_str!("delete.lua"),
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
        let keys = ["hash", "stream", "sorted", "string"];
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

    /// A call of a script on a room, up to the arguments that `log.lua` and `roster.lua` name and the live channel; the
    /// caller adds the script's own. `extra_keys` follow the common ones.
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
        cmd.arg(millis(self.lease)).arg(self.keys.channel(room));
        cmd
    }

    /// A call of a script on a partition, up to the arguments that `log.lua` names, if it needs them.
    pub(super) fn call_on_partition(&self, name: ScriptName, keys: &[String], replid: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[name as usize]).arg(keys.len()).arg(keys);
        if name.changes_logs() {
            self.add_common(&mut cmd, replid);
        }
        cmd
    }

    /// A call of `append.lua` with the keys of all rooms, up to the arguments that `log.lua` names.
    pub(super) fn append(&self, keys: &[String], replid: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Append as usize]).arg(keys.len()).arg(keys);
        self.add_common(&mut cmd, replid);
        cmd
    }

    /// A call of `publish.lua` with all its keys, up to the arguments of its rooms.
    pub(super) fn publish(&self, keys: &[String], replid: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Publish as usize]).arg(keys.len()).arg(keys);
        self.add_common(&mut cmd, replid);
        cmd.arg(millis(KEY_LIFETIME));
        cmd
    }

    fn add_common(&self, cmd: &mut Cmd, replid: &str) {
        cmd.arg(replid)
            .arg(format!("{:016x}", rand::random::<u64>()))
            .arg([self.bounds.length, self.bounds.bytes].map(packed).concat())
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

    /// A call of `renew.lua` for the partitions of these works.
    pub(super) fn renew<'a>(&self, works: impl Iterator<Item = &'a Work>) -> Cmd {
        let (mut keys, mut incarnations) = (Vec::new(), Vec::new());
        for work in works {
            let Work::Renew { partition, incarnation } = work else { continue };
            keys.extend(self.keys.shared(*partition));
            incarnations.push(incarnation.map_or_else(String::new, |it| it.to_string()));
        }
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hashes[ScriptName::Renew as usize]).arg(keys.len()).arg(keys);
        cmd.arg(millis(self.lease)).arg(incarnations);
        cmd
    }
}

/// A number as scripts unpack it. A bound that is so large that this is not exact is none.
#[expect(clippy::cast_precision_loss, reason = "it need not be exact")]
fn packed(number: usize) -> [u8; 8] {
    (number as f64).to_be_bytes()
}

/// How long a replica of Redis may take to have what was appended, where one has to. Less than a
/// connection's patience with an answer.
pub(super) const REPLICATED_WITHIN: Duration = Duration::from_secs(1);

/// Whole milliseconds, the unit of every duration that Redis is told.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
