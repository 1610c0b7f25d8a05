//! The names of keys and channels.
//!
//! A room belongs to a partition, and all keys of a partition share a hash tag. So in a cluster each partition is on
//! one node, and partitions are spread over all of them.

use crate::domain::{ReplicaId, RoomName, SessionId};

/// The slots of a Redis Cluster.
pub(super) const SLOTS: usize = 16_384;

/// Names the keys and channels of one deployment.
///
/// Keys belong to a database, channels to the whole Redis: so channels name the database as well, unless
/// it is 0. Without that, what is published in one database is heard in all others.
#[derive(Debug)]
pub(super) struct Keys {
    /// What every key begins with.
    prefix: String,
    /// What every channel begins with.
    channels: String,
    /// The hash tag of each partition.
    tags: Vec<String>,
}

impl Keys {
    /// Names that begin with `prefix`, which has no colon, in a database; rooms are in so many partitions, at
    /// least one.
    pub(super) fn new(prefix: &str, database: i64, partitions: usize) -> Self {
        let prefix = format!("{prefix}:");
        let channels = if database == 0 { prefix.clone() } else { format!("{prefix}{database}:") };
        Self { prefix, channels, tags: tags(partitions) }
    }

    /// How many partitions there are.
    pub(super) fn partitions(&self) -> usize {
        self.tags.len()
    }

    /// The slot of a partition's keys and channels.
    pub(super) fn slot(&self, partition: usize) -> u16 {
        self.tags.get(partition).map_or(0, |tag| slot(tag.as_bytes()))
    }

    /// The partition of a room, counted from 0.
    pub(super) fn partition(&self, room: &RoomName) -> usize {
        let partitions = u64::try_from(self.tags.len()).unwrap_or(1);
        usize::try_from(fnv1a(room.as_str().as_bytes()) % partitions).unwrap_or(0)
    }

    /// `<prefix>:{<tag>}:<kind>:<room>`.
    fn of_room(&self, kind: &str, room: &RoomName) -> String {
        format!("{}{{{}}}:{kind}:{room}", self.prefix, self.tags[self.partition(room)])
    }

    /// The room's members, and where its log stands.
    pub(super) fn room(&self, room: &RoomName) -> String {
        self.of_room("room", room)
    }

    /// The room's log.
    pub(super) fn log(&self, room: &RoomName) -> String {
        self.of_room("log", room)
    }

    /// `<prefix>:{<tag>}:<kind>`.
    fn of_partition(&self, kind: &str, partition: usize) -> String {
        format!("{}{{{}}}:{kind}", self.prefix, self.tags[partition % self.tags.len()])
    }

    /// Which rooms a partition has.
    pub(super) fn rooms(&self, partition: usize) -> String {
        self.of_partition("rooms", partition)
    }

    /// The leases of replicas in a partition.
    pub(super) fn replicas(&self, partition: usize) -> String {
        self.of_partition("replicas", partition)
    }

    /// The replicas that were declared dead in a partition.
    pub(super) fn dead(&self, partition: usize) -> String {
        self.of_partition("dead", partition)
    }

    /// Who lingers in a partition.
    pub(super) fn lingering(&self, partition: usize) -> String {
        self.of_partition("lingering", partition)
    }

    /// What all replicas are told about subjects, which one partition keeps.
    pub(super) fn directives(&self, partition: usize) -> String {
        self.of_partition("directives", partition)
    }

    /// The keys of a partition: rooms, replicas, dead, lingering.
    pub(super) fn shared(&self, partition: usize) -> [String; 4] {
        [Self::rooms, Self::replicas, Self::dead, Self::lingering].map(|key| key(self, partition))
    }

    /// The keys that scripts take first that change who is in a room: those of its partition, room, log.
    pub(super) fn common(&self, room: &RoomName) -> Vec<String> {
        let mut keys = self.shared(self.partition(room)).to_vec();
        keys.extend([self.room(room), self.log(room)]);
        keys
    }

    /// There for as long as a name owes what was said under it.
    pub(super) fn owes(&self, room: &RoomName, skeleton: &str) -> String {
        self.of_room("owes", room) + ":" + skeleton
    }

    /// There for a while once a session or a stream of it has ended.
    pub(super) fn ended(&self, room: &RoomName, session: SessionId) -> String {
        format!("{}:{session}", self.of_room("ended", room))
    }

    /// What moderators have decided of a room.
    pub(super) fn decided(&self, room: &RoomName) -> String {
        self.of_room("decided", room)
    }

    /// There for as long as it is known what was published in a room under this idempotency key.
    pub(super) fn published(&self, room: &RoomName, key: &str) -> String {
        self.of_room("published", room) + ":" + key
    }

    /// The live channel of a room.
    pub(super) fn channel(&self, room: &RoomName) -> String {
        format!("{}{{{}}}:live:{room}", self.channels, self.tags[self.partition(room)])
    }

    /// The room whose live channel this is.
    pub(super) fn room_of(&self, channel: &[u8]) -> Option<RoomName> {
        let channel = std::str::from_utf8(channel).ok()?;
        let (_, room) = channel.strip_prefix(&self.channels)?.split_once("}:live:")?;
        RoomName::parse(room).ok()
    }

    /// Says how many partitions the deployment has.
    pub(super) fn partition_count(&self) -> String {
        format!("{}partitions", self.prefix)
    }

    /// The slot of that key, which belongs to no partition: what they are is not known before it is read.
    pub(super) fn partition_count_slot(&self) -> u16 {
        slot(self.partition_count().as_bytes())
    }

    /// A key of a partition that no room has, for what a replica tries out.
    pub(super) fn trial(&self, partition: usize, replica: ReplicaId, part: &str) -> String {
        format!("{}{{{}}}:trial:{replica}:{part}", self.prefix, self.tags[partition])
    }

    /// A channel that nobody listens to, for the same.
    pub(super) fn trial_channel(&self, partition: usize, replica: ReplicaId) -> String {
        format!("{}{{{}}}:trial:{replica}", self.channels, self.tags[partition])
    }

    /// The channel by which a replica proves to itself that live delivery from the server of a partition works.
    pub(super) fn canary(&self, partition: usize, replica: ReplicaId) -> String {
        format!("{}{{{}}}:canary:{replica}", self.channels, self.tags[partition])
    }

    /// Whether this is the channel of a replica's canaries, by whatever way.
    pub(super) fn is_canary(&self, channel: &[u8], replica: ReplicaId) -> bool {
        let end = format!("}}:canary:{replica}");
        channel.starts_with(self.channels.as_bytes()) && channel.ends_with(end.as_bytes())
    }

    /// Written by a replica to find out whether the server of a partition takes writes.
    pub(super) fn contact(&self, partition: usize, replica: ReplicaId) -> String {
        format!("{}{{{}}}:contact:{replica}", self.prefix, self.tags[partition])
    }
}

/// A hash tag for each partition, so that their slots are spread evenly: the first number that leads into the
/// partition's share of the slots.
fn tags(partitions: usize) -> Vec<String> {
    let partitions = partitions.max(1);
    let mut tags = vec![None; partitions];
    let mut missing = tags.len();
    for number in 0_u64.. {
        let tag = number.to_string();
        let partition = usize::from(slot(tag.as_bytes())) * partitions / SLOTS;
        if let Some(free @ None) = tags.get_mut(partition) {
            *free = Some(tag);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags.into_iter().flatten().collect()
}

/// The slot of a hash tag: CRC-16/XMODEM. Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.
fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

/// Which partition a room is in has to be the same for all versions and replicas: FNV-1a, 64 bits. Source:
/// <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_its_room() {
        let room = RoomName::parse("a.B_c-1").unwrap();
        for (database, begin) in [(0, "rc:{"), (3, "rc:3:{")] {
            let keys = Keys::new("rc", database, 256);
            let channel = keys.channel(&room);
            assert!(channel.starts_with(begin) && channel.ends_with("}:live:a.B_c-1"), "{channel}");
            assert_eq!(keys.room_of(channel.as_bytes()), Some(room.clone()));
            assert!(
                keys.room(&room).starts_with("rc:{")
                    && keys.room(&room).ends_with("}:room:a.B_c-1")
            );
            assert_eq!(
                keys.room_of(keys.canary(0, ReplicaId::from_bytes([0; 16])).as_bytes()),
                None
            );
        }
        assert_eq!(Keys::new("rc", 0, 256).room_of(b"rc:{1}:live:a b"), None);
    }

    #[test]
    fn no_two_deployments_share_a_channel_or_a_replicas_canary() {
        let room = RoomName::parse("0").unwrap();
        let replica = ReplicaId::from_bytes([7; 16]);
        let mut names = std::collections::HashSet::new();
        for (prefix, database) in [("rc", 0), ("rc", 1), ("rc", 10), ("rc1", 0), ("r", 0), ("r", 1)]
        {
            let keys = Keys::new(prefix, database, 256);
            assert!(names.insert(keys.channel(&room)), "{prefix} {database}");
            assert!(names.insert(keys.canary(0, replica)), "{prefix} {database}");
        }
    }

    #[test]
    fn slots_are_those_of_redis() {
        // As CLUSTER KEYSLOT says.
        for (tag, expected) in [("123456789", 0x31c3_u16), ("foo", 12182), ("bar", 5061), ("", 0)] {
            assert_eq!(slot(tag.as_bytes()), expected % 16_384, "{tag}");
        }
    }

    #[test]
    fn partitions_are_spread_evenly_over_the_slots() {
        for partitions in [1, 3, 16, 256, 1000] {
            let tags = tags(partitions);
            let shares =
                tags.iter().map(|tag| usize::from(slot(tag.as_bytes())) * partitions / SLOTS);
            assert!(shares.eq(0..partitions), "{partitions}: one in each share");
        }
        // They must never change.
        assert_eq!(tags(4), ["3", "2", "1", "0"]);
        let keys = Keys::new("rc", 0, 256);
        assert_eq!(keys.room(&RoomName::lobby()), "rc:{420}:room:lobby");
    }

    #[test]
    fn rooms_are_spread_over_the_partitions() {
        let keys = Keys::new("rc", 0, 16);
        let mut rooms = [0; 16];
        for number in 0..16_000 {
            rooms[keys.partition(&RoomName::parse(&format!("room-{number}")).unwrap())] += 1;
        }
        assert!(rooms.iter().all(|count| (800..1200).contains(count)), "{rooms:?}");
    }
}
