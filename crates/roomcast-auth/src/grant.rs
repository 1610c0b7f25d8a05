//! Roles in rooms, and who is given them.

use std::{fmt, str::FromStr};

/// The most characters of a room's name.
const MAX_ROOM_CHARS: usize = 64;

/// What somebody may do in a room. Each role includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Sees the room.
    Reader,
    /// Speaks.
    Member,
    /// Kicks, bans, mutes and sets slow mode.
    Moderator,
    /// Makes moderators.
    Owner,
}

/// Why a text is no part of a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GrantError {
    /// It names no role.
    #[error("a role is reader, member, moderator or owner")]
    Role,
    /// It does not say which rooms are meant.
    #[error("rooms are given as the name of a room, or as a prefix and a final *")]
    Pattern,
}

impl Role {
    /// What tokens call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Owner => "owner",
        }
    }
}

impl FromStr for Role {
    type Err = GrantError;

    fn from_str(name: &str) -> Result<Self, GrantError> {
        let all = [Self::Reader, Self::Member, Self::Moderator, Self::Owner];
        all.into_iter().find(|it| it.name() == name).ok_or(GrantError::Role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One room, or all rooms whose names begin alike.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomPattern {
    text: String,
    /// `text` is how the names begin.
    prefix: bool,
}

impl RoomPattern {
    /// Whether a room is meant.
    pub fn matches(&self, room: &str) -> bool {
        if self.prefix { room.starts_with(&self.text) } else { room == self.text }
    }
}

impl FromStr for RoomPattern {
    type Err = GrantError;

    /// Reads a room's name, or a prefix and `*`; `*` alone means every room.
    fn from_str(pattern: &str) -> Result<Self, GrantError> {
        let (text, prefix) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.len() > MAX_ROOM_CHARS || !text.chars().all(allowed) || (text.is_empty() && !prefix)
        {
            return Err(GrantError::Pattern);
        }
        Ok(Self { text: text.to_owned(), prefix })
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.prefix { "*" } else { "" })
    }
}

/// Hidden, because it was in a token.
impl fmt::Debug for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomPattern(..)")
    }
}

/// A role in one room or in several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Where.
    pub rooms: RoomPattern,
    /// Which role.
    pub role: Role,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_have_names() {
        let names = ["reader", "member", "moderator", "owner"];
        let roles = names.map(|name| name.parse::<Role>().unwrap());
        assert!(roles.is_sorted());
        assert_eq!(roles.map(|it| it.to_string()), names);
        for name in ["", "Reader", "admin", "owner "] {
            assert!(name.parse::<Role>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_a_prefix() {
        for (pattern, matching, other) in [
            ("lobby", "lobby", "lobby2"),
            ("team-*", "team-1", "team"),
            ("team-*", "team-", "Team-1"),
            ("a.b", "a.b", "aXb"),
        ] {
            let pattern: RoomPattern = pattern.parse().unwrap();
            assert!(pattern.matches(matching), "{pattern}");
            assert!(!pattern.matches(other), "{pattern}");
        }
        assert!("*".parse::<RoomPattern>().unwrap().matches("any"));
        assert!("x".repeat(64).parse::<RoomPattern>().is_ok());
    }

    #[test]
    fn malformed_patterns_are_refused() {
        let long = "x".repeat(65);
        for pattern in ["", "**", "a*b", "*a", "a b", "a/b", "é", "a\n", "a?", long.as_str()] {
            assert!(pattern.parse::<RoomPattern>().is_err(), "{pattern:?}");
        }
    }
}
