//! What moderators decide, and about whom.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::DisplayName;

/// When something ends: then, or never.
pub type Until = Option<Timestamp>;

/// Whom a ban, a mute or a role is about: a subject where tokens say who somebody is, else whoever has a name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Identity {
    /// The `sub` of tokens.
    Subject(Arc<str>),
    /// The skeleton of a name.
    Name(Arc<str>),
}

impl Identity {
    /// The text by which it is kept: no two identities have the same.
    pub fn key(&self) -> String {
        match self {
            Self::Subject(subject) => format!("s{subject}"),
            Self::Name(skeleton) => format!("n{skeleton}"),
        }
    }

    /// The `sub`, if it is one.
    pub fn subject(&self) -> Option<&Arc<str>> {
        match self {
            Self::Subject(subject) => Some(subject),
            Self::Name(_) => None,
        }
    }
}

/// What somebody may do in a room. Each role includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RoomRole {
    /// Nothing at all.
    None,
    /// Sees the room.
    Reader,
    /// Speaks.
    Member,
    /// Kicks, bans, mutes and sets slow mode.
    Moderator,
    /// Makes moderators.
    Owner,
}

impl RoomRole {
    const ALL: [Self; 5] = [Self::None, Self::Reader, Self::Member, Self::Moderator, Self::Owner];

    /// One letter that stands for it where it is kept.
    pub fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Reader => 'r',
            Self::Member => 'm',
            Self::Moderator => 'd',
            Self::Owner => 'o',
        }
    }

    /// The role that a letter stands for.
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.letter() == letter)
    }

    /// The role that people call so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Owner => "owner",
        }
    }
}

/// What holds in a room for all but its moderators.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RoomSettings {
    /// How long a member waits between two messages, in whole milliseconds; zero for not at all.
    pub slow_mode: Duration,
    /// Nobody speaks.
    pub read_only: bool,
    /// Nobody sees what happened before it came.
    pub history_hidden: bool,
}

impl RoomSettings {
    /// The longest that members can be made to wait.
    pub const LONGEST_SLOW_MODE: Duration = Duration::from_secs(24 * 3600);

    const READ_ONLY: u64 = 1;
    const HISTORY_HIDDEN: u64 = 2;
    const FLAGS: u64 = 4;

    /// One number that stands for them where they are kept; zero where nothing is set.
    pub fn number(self) -> u64 {
        let slow = self.slow_mode.min(Self::LONGEST_SLOW_MODE).as_millis();
        u64::try_from(slow).unwrap_or(0) * Self::FLAGS
            + u64::from(self.read_only) * Self::READ_ONLY
            + u64::from(self.history_hidden) * Self::HISTORY_HIDDEN
    }

    /// The settings that a number stands for.
    pub fn from_number(number: u64) -> Self {
        Self {
            slow_mode: Duration::from_millis(number / Self::FLAGS),
            read_only: number & Self::READ_ONLY != 0,
            history_hidden: number & Self::HISTORY_HIDDEN != 0,
        }
    }
}

/// What a moderator has done, as the room is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moderation {
    /// What.
    pub action: ModerationAction,
    /// Who, for people: a name, not an identity.
    pub by: DisplayName,
    /// Why, for people; may be empty.
    pub reason: Arc<str>,
}

/// What can be done to a member, or a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModerationAction {
    /// It was put out, and may come again.
    Kicked,
    /// It was put out, and may not come again until then; or not at all.
    Banned(Option<Timestamp>),
    /// It may come again.
    Unbanned,
    /// It may not speak until then; or not at all.
    Muted(Option<Timestamp>),
    /// It may speak again.
    Unmuted,
    /// It has a role in the room, whatever its token says; or again what that says.
    RoleSet(Option<RoomRole>),
    /// What holds in the room is another.
    RoomSet(RoomSettings),
}

impl ModerationAction {
    /// Its name where programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Banned(_) => "banned",
            Self::Unbanned => "unbanned",
            Self::Muted(_) => "muted",
            Self::Unmuted => "unmuted",
            Self::RoleSet(_) => "role_set",
            Self::RoomSet(_) => "room_set",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_roles_come_back_as_they_were() {
        for (slow, read_only, history_hidden) in
            [(0, false, false), (1, true, false), (86_400_000, false, true), (1500, true, true)]
        {
            let slow_mode = Duration::from_millis(slow);
            let settings = RoomSettings { slow_mode, read_only, history_hidden };
            assert_eq!(RoomSettings::from_number(settings.number()), settings);
        }
        assert_eq!(RoomSettings::default().number(), 0);
        for role in RoomRole::ALL {
            assert_eq!(RoomRole::from_letter(role.letter()), Some(role));
        }
        assert_eq!(RoomRole::from_letter('-'), None);
    }

    #[test]
    fn a_subject_is_no_name() {
        let (subject, name) = (Identity::Subject("bob".into()), Identity::Name("bob".into()));
        assert_ne!(subject.key(), name.key());
        assert_eq!((subject.subject().map(|it| &**it), name.subject()), (Some("bob"), None));
    }
}
