//! What proves that a client owns a session.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a session's secret. The secret itself is known to the client alone; it is 32
/// random bytes, so that a fast hash without salt is enough. Compared in constant time, never logged.
#[derive(Clone, Copy, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// The hash of a secret that is good for one subject only.
    pub fn of_subject(secret: &[u8; 32], subject: &str) -> Self {
        Self(Sha256::new().chain_update(secret).chain_update(subject).finalize().into())
    }

    /// A hash that was kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What to keep of it.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_secret_and_does_not_show() {
        let hash = SecretHash::of(&[7; 32]);
        assert_eq!(hash, SecretHash::of(&[7; 32]));
        assert_eq!(hash, SecretHash::from_bytes(*hash.as_bytes()));
        for bit in [0, 255] {
            let mut other = [7; 32];
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash, SecretHash::of(&other));
        }
        // From `printf 'a%.0s' {1..32} | sha256sum`.
        let known = SecretHash::of(&[b'a'; 32]);
        let (first, last) = known.as_bytes().split_at(16);
        assert_eq!(first, 0x3ba3_f5f4_3b92_6026_83c1_9aee_62a2_0342_u128.to_be_bytes());
        assert_eq!(last, 0xb084_dd59_71dd_d338_08d8_1a32_8879_a547_u128.to_be_bytes());
        assert_eq!(format!("{hash:?}"), "SecretHash(..)");
    }
}
