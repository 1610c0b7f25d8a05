//! Names of rooms.

use std::{fmt, sync::Arc};

/// The most characters a room name has.
const MAX_CHARS: usize = 64;

/// A room's name: 1 to 64 characters of `A-Z a-z 0-9 . _ -`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RoomName(Arc<str>);

/// Why a room name is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RoomNameError {
    /// Nothing there.
    #[error("room name cannot be empty; allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Empty,
    /// More than 64 characters.
    #[error("room name has {got} characters; at most {MAX_CHARS} are allowed")]
    TooLong {
        /// How many it has.
        got: usize,
    },
    /// A character outside the allowed ones.
    #[error("room name contains {got:?}; allowed are A-Z a-z 0-9 . _ -")]
    Character {
        /// The first such character.
        got: char,
    },
}

impl RoomName {
    /// The room of those who name none.
    pub fn lobby() -> Self {
        Self(Arc::from("lobby"))
    }

    /// Checks a room name.
    pub fn parse(name: &str) -> Result<Self, RoomNameError> {
        if name.is_empty() {
            return Err(RoomNameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(got) = name.chars().find(|&c| !allowed(c)) {
            return Err(RoomNameError::Character { got });
        }
        if name.len() > MAX_CHARS {
            return Err(RoomNameError::TooLong { got: name.len() });
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name as it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_contract_allows() {
        for name in ["lobby", "a", "A-Z_0.9", &"x".repeat(64)] {
            assert_eq!(RoomName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_the_rest_by_name() {
        assert_eq!(RoomName::parse(""), Err(RoomNameError::Empty));
        assert_eq!(RoomName::parse(&"x".repeat(65)), Err(RoomNameError::TooLong { got: 65 }));
        for (name, got) in [("a b", ' '), ("a{b}", '{'), ("caf\u{e9}", '\u{e9}'), ("a/b", '/')] {
            assert_eq!(RoomName::parse(name), Err(RoomNameError::Character { got }));
        }
    }
}
