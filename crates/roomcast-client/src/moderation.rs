//! What moderators do, as clients are told.

use std::time::SystemTime;

use roomcast_proto::room as proto;

/// Something that a moderator did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moderation {
    /// What.
    pub action: ModerationAction,
    /// Who, for people.
    pub by: String,
    /// Why, for people; may be empty.
    pub reason: String,
}

/// What was done to the member that the event names; or to somebody who is not here, or to the room, where it names
/// none.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ModerationAction {
    /// Put out. Its `left` comes next.
    Kicked,
    /// Put out until then; or for ever.
    Banned(Option<SystemTime>),
    /// May come in again.
    Unbanned,
    /// Silenced until then; or for ever.
    Muted(Option<SystemTime>),
    /// May speak again.
    Unmuted,
    /// Has this role; or, where that is empty, that of its token.
    RoleSet(String),
    /// What holds in the room is another.
    RoomSet,
    /// Something that this version does not know.
    Unknown,
}

impl From<proto::Moderated> for Moderation {
    fn from(moderated: proto::Moderated) -> Self {
        use proto::ModerationAction as Told;
        let told = moderated.action();
        let until = moderated.until.and_then(|until| SystemTime::try_from(until).ok());
        let action = match told {
            Told::Unspecified => ModerationAction::Unknown,
            Told::Kicked => ModerationAction::Kicked,
            Told::Banned => ModerationAction::Banned(until),
            Told::Unbanned => ModerationAction::Unbanned,
            Told::Muted => ModerationAction::Muted(until),
            Told::Unmuted => ModerationAction::Unmuted,
            Told::RoleSet => ModerationAction::RoleSet(moderated.role),
            Told::RoomSet => ModerationAction::RoomSet,
        };
        Self { action, by: moderated.by, reason: moderated.reason }
    }
}
