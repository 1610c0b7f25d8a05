//! The names of a room's keys. All of them share the hash tag `{room}`.

use crate::domain::{ReplicaId, RoomName, SessionId};

/// `rc:{room}:` and what follows.
pub(super) fn key(room: &RoomName, part: &str) -> String {
    format!("rc:{{{room}}}:{part}")
}

/// The keys that every script takes first: meta, log, roster, leases.
pub(super) fn common(room: &RoomName) -> Vec<String> {
    ["meta", "log", "roster", "leases"].map(|part| key(room, part)).to_vec()
}

/// The lease of a name.
pub(super) fn lease(room: &RoomName, skeleton: &str) -> String {
    key(room, &format!("name:{skeleton}"))
}

/// There for a while once a session has left.
pub(super) fn gone(room: &RoomName, session: SessionId) -> String {
    key(room, &format!("gone:{session}"))
}

/// The live channel of a room.
pub(super) fn channel(room: &RoomName) -> String {
    key(room, "live")
}

/// The room whose live channel this is.
pub(super) fn room_of(channel: &[u8]) -> Option<RoomName> {
    let name = channel.strip_prefix(b"rc:{")?.strip_suffix(b"}:live")?;
    RoomName::parse(std::str::from_utf8(name).ok()?).ok()
}

/// The channel by which a replica proves to itself that live delivery works.
pub(super) fn canary(replica: ReplicaId) -> String {
    format!("rc:canary:{replica}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_its_room() {
        let room = RoomName::parse("a.B_c-1").unwrap();
        assert_eq!(channel(&room), "rc:{a.B_c-1}:live");
        assert_eq!(room_of(channel(&room).as_bytes()), Some(room));
        assert_eq!(room_of(b"rc:canary:00"), None);
        assert_eq!(room_of(b"rc:{a b}:live"), None);
    }
}
