//! Identities that are drawn at random, never parsed from a client.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// One membership in one room, from `joined` to `left`, whatever streams carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Stands in the events of services, which have none.
    pub const SERVICE: Self = Self::from_bytes([0; 16]);

    /// A session from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// The secret that a lease holds while it is held: fresh for every hold, so that a holder that
/// lost its lease cannot speak under it. Its first half is the same for all holds of one
/// [`StreamId`]. Never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FencingToken(Uuid);

impl FencingToken {
    /// A token from its 16 bytes, all of them drawn at random for a new stream.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// A fresh token of the same stream: what was sent under the old one is void once it holds.
    #[must_use]
    pub fn again(self, drawn: [u8; 8]) -> Self {
        let mut bytes = *self.0.as_bytes();
        bytes[8..].copy_from_slice(&drawn);
        Self::from_bytes(bytes)
    }

    /// Whose token it is.
    pub fn stream(self) -> StreamId {
        StreamId(self.0.as_u64_pair().0)
    }

    /// The token as 32 hex digits, the form in which Redis keeps it; the first 16 are the stream's.
    pub fn to_hex(self) -> String {
        self.0.simple().to_string()
    }
}

impl fmt::Debug for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FencingToken(..)")
    }
}

/// One stream that carries a session, for as long as it does. A session that is resumed goes on
/// under another one. No secret: it is told to other replicas. Prints as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamId(u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for StreamId {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(s, 16).map(Self)
    }
}

/// One running server process; fresh at every start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReplicaId(Uuid);

impl ReplicaId {
    /// A replica from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// A replica from what its `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_taken_again_is_another_of_the_same_stream() {
        let token = FencingToken::from_bytes([7; 16]);
        let again = token.again([8; 8]);
        assert_ne!(token, again);
        assert_eq!(token.stream(), again.stream());
        assert_ne!(token.stream(), FencingToken::from_bytes([9; 16]).stream());
        let hex = again.to_hex();
        assert_eq!(hex, format!("{}{}", "07".repeat(8), "08".repeat(8)));
        assert_eq!(hex[..16].parse(), Ok(again.stream()));
        assert_eq!(hex[..16], again.stream().to_string());
        assert_eq!(format!("{token:?}"), "FencingToken(..)");
    }
}
