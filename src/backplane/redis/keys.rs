//! The names of keys and channels. All of a room's share the hash tag `{room}`.

use crate::domain::{ReplicaId, RoomName, SessionId};

/// Names the keys and channels of one deployment.
///
/// Keys belong to a database, channels to the whole Redis: so channels name the database as well, unless
/// it is 0. Without that, what is published in one database is heard in all others.
#[derive(Debug)]
pub(super) struct Keys {
    /// What every key begins with.
    keys: String,
    /// What every channel begins with.
    channels: String,
}

impl Keys {
    /// Names that begin with `prefix`, which has no colon, in a database.
    pub(super) fn new(prefix: &str, database: i64) -> Self {
        let keys = format!("{prefix}:");
        let channels = if database == 0 { keys.clone() } else { format!("{keys}{database}:") };
        Self { keys, channels }
    }

    /// `<prefix>:{room}:` and what follows.
    pub(super) fn key(&self, room: &RoomName, part: &str) -> String {
        format!("{}{{{room}}}:{part}", self.keys)
    }

    /// The keys that every script takes first: meta, log, roster, leases.
    pub(super) fn common(&self, room: &RoomName) -> Vec<String> {
        ["meta", "log", "roster", "leases"].map(|part| self.key(room, part)).to_vec()
    }

    /// There for as long as a name owes what was said under it.
    pub(super) fn owes(&self, room: &RoomName, skeleton: &str) -> String {
        self.key(room, &format!("owes:{skeleton}"))
    }

    /// The lease of a name.
    pub(super) fn lease(&self, room: &RoomName, skeleton: &str) -> String {
        self.key(room, &format!("name:{skeleton}"))
    }

    /// There for a while once a session or a stream of it has ended.
    pub(super) fn ended(&self, room: &RoomName, session: SessionId) -> String {
        self.key(room, &format!("ended:{session}"))
    }

    /// The live channel of a room.
    pub(super) fn channel(&self, room: &RoomName) -> String {
        format!("{}{{{room}}}:live", self.channels)
    }

    /// The room whose live channel this is.
    pub(super) fn room_of(&self, channel: &[u8]) -> Option<RoomName> {
        let name = channel.strip_prefix(self.channels.as_bytes())?;
        let name = name.strip_prefix(b"{")?.strip_suffix(b"}:live")?;
        RoomName::parse(std::str::from_utf8(name).ok()?).ok()
    }

    /// A key that no room has, for what a replica tries out.
    pub(super) fn trial(&self, replica: ReplicaId, part: &str) -> String {
        format!("{}{{trial:{replica}}}:{part}", self.keys)
    }

    /// A channel that nobody listens to, for the same.
    pub(super) fn trial_channel(&self, replica: ReplicaId) -> String {
        format!("{}trial:{replica}", self.channels)
    }

    /// The channel by which a replica proves to itself that live delivery works.
    pub(super) fn canary(&self, replica: ReplicaId) -> String {
        format!("{}canary:{replica}", self.channels)
    }

    /// Written by a replica to find out whether Redis takes writes.
    pub(super) fn contact(&self, replica: ReplicaId) -> String {
        format!("{}contact:{replica}", self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_its_room() {
        let room = RoomName::parse("a.B_c-1").unwrap();
        for (database, channel) in [(0, "rc:{a.B_c-1}:live"), (3, "rc:3:{a.B_c-1}:live")] {
            let keys = Keys::new("rc", database);
            assert_eq!(keys.channel(&room), channel);
            assert_eq!(keys.room_of(channel.as_bytes()), Some(room.clone()));
            assert_eq!(keys.key(&room, "meta"), "rc:{a.B_c-1}:meta");
            assert_eq!(keys.room_of(keys.canary(ReplicaId::from_bytes([0; 16])).as_bytes()), None);
        }
        assert_eq!(Keys::new("rc", 0).room_of(b"rc:{a b}:live"), None);
    }

    #[test]
    fn no_two_deployments_share_a_channel_or_a_replicas_canary() {
        let room = RoomName::parse("0").unwrap();
        let replica = ReplicaId::from_bytes([7; 16]);
        let mut names = std::collections::HashSet::new();
        for (prefix, database) in [("rc", 0), ("rc", 1), ("rc", 10), ("rc1", 0), ("r", 0), ("r", 1)]
        {
            let keys = Keys::new(prefix, database);
            assert!(names.insert(keys.channel(&room)), "{prefix} {database}");
            assert!(names.insert(keys.canary(replica)), "{prefix} {database}");
        }
    }
}
