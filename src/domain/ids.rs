//! Identities that are drawn at random, never parsed from a client.

use std::fmt;

use uuid::Uuid;

/// One member's stay in one room, from `joined` to `left`, whatever streams carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId(Uuid);

impl SessionId {
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

/// The secret that a lease holds while it is held: fresh for every hold, so that
/// a holder that lost its lease cannot speak under it. Never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HoldToken(Uuid);

impl HoldToken {
    /// A token from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The token as 32 hex digits, the form in which Redis keeps it.
    pub fn to_hex(self) -> String {
        self.0.simple().to_string()
    }
}

impl fmt::Debug for HoldToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoldToken(..)")
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
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}
