//! Names of members.

mod chars;
mod error;
mod scripts;
mod skeleton;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use error::UsernameError;

/// A name as its user spelled it: what others are shown. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DisplayName(Arc<str>);

impl DisplayName {
    /// Takes back a name that was checked when it was registered, from a log or a roster.
    pub fn from_log(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A member's name: kept as spelled, compared by skeleton. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Username {
    display: DisplayName,
    skeleton: Arc<str>,
}

/// Bounds on names that are configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsernameLimits {
    /// The most Unicode scalar values a name has.
    pub max_chars: usize,
}

impl Default for UsernameLimits {
    fn default() -> Self {
        Self { max_chars: 64 }
    }
}

impl UsernameLimits {
    /// The most bytes that the skeleton of a name within these limits has: 2,048 by default.
    pub const fn max_skeleton_bytes(self) -> usize {
        self.max_chars.saturating_mul(skeleton::MAX_BYTES_PER_CHAR)
    }
}

impl Username {
    /// The name under which the server itself speaks. Nobody can register it or its look-alikes.
    pub const SYSTEM: &'static str = "System";

    /// The server's own name, which nobody holds.
    pub fn system() -> Self {
        let skeleton = skeleton::skeleton(Self::SYSTEM);
        Self { display: DisplayName::from_log(Self::SYSTEM), skeleton: Arc::from(skeleton) }
    }

    /// Checks a name from a client.
    ///
    /// Spaces around and between words are kept for display and ignored in comparison. The cheap
    /// questions come first: a name of any length costs one scan before its length is judged,
    /// and only what is left after that meets the tables. Control characters are refused even in
    /// a name that is too long: that is how the `chat` protocol's dialects are told apart.
    pub fn parse(name: &str, limits: UsernameLimits) -> Result<Self, UsernameError> {
        if chars::is_blank(name) {
            return Err(UsernameError::Empty);
        }
        if let Some(got) = name.chars().find(|c| c.is_control()) {
            return Err(UsernameError::Control { got });
        }
        let got = name.chars().count();
        if got > limits.max_chars {
            return Err(UsernameError::TooLong { got, max: limits.max_chars });
        }
        // What is left of ASCII is visible and of no foreign script.
        if !name.is_ascii() {
            chars::check(name)?;
            scripts::check(name)?;
        }
        let skeleton = skeleton::skeleton(name);
        if skeleton::bare(&skeleton) == skeleton::bare(&skeleton::skeleton(Self::SYSTEM)) {
            return Err(UsernameError::System { got: Box::from(name) });
        }
        Ok(Self { display: DisplayName::from_log(name), skeleton: Arc::from(skeleton) })
    }

    /// The same name as it was spelled when it was registered.
    #[must_use]
    pub fn spelled(self, display: DisplayName) -> Self {
        Self { display, ..self }
    }

    /// The spelling that the user chose.
    pub fn display(&self) -> &DisplayName {
        &self.display
    }

    /// What names are compared by: the same for all spellings that differ in case, in width or
    /// only to a machine. At most [`UsernameLimits::max_skeleton_bytes`] long, without control
    /// characters, and the same again when taken of itself.
    pub fn skeleton(&self) -> &str {
        &self.skeleton
    }
}

impl PartialEq for Username {
    fn eq(&self, other: &Self) -> bool {
        self.skeleton == other.skeleton
    }
}

impl Eq for Username {}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display.fmt(f)
    }
}
