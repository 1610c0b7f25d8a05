//! Keys of a set that are not used.

use std::fmt;

/// The most characters of a `kid` that are shown.
const SHOWN_KID: usize = 64;

/// A key of a set that is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SkippedKey {
    /// Its place in the set, counted from 0.
    pub index: usize,
    /// Its `kid`, at most 64 characters of it.
    pub kid: Option<String>,
    /// Why it is not used.
    pub reason: SkipReason,
}

/// Why a key of a set is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SkipReason {
    /// It is no JWK.
    #[error("it cannot be parsed")]
    Malformed,
    /// It is a symmetric key, which would let whoever reads the set sign tokens.
    #[error("it is a symmetric key")]
    Symmetric,
    /// It has the private part, so that whoever reads the set can sign tokens.
    #[error("it is a private key")]
    Private,
    /// `use` or `key_ops` keep it from verifying signatures.
    #[error("it is not for verifying signatures")]
    Use,
    /// `kty` or `crv` is another one.
    #[error("it is neither RSA nor EC on P-256 nor Ed25519")]
    Kind,
    /// `alg` is neither of those that are accepted, or not one for this kind of key.
    #[error("its alg is not supported for its kind (RSA: RS256, P-256: ES256, Ed25519: EdDSA)")]
    Algorithm,
    /// An RSA key of fewer than 2048 or more than 8192 bits.
    #[error("it is an RSA key of fewer than 2048 or more than 8192 bits")]
    RsaSize,
    /// An earlier key has the same `kid` and the same algorithm.
    #[error("an earlier key has the same kid")]
    Duplicate,
}

impl SkippedKey {
    pub(super) fn new(index: usize, kid: Option<&str>, reason: SkipReason) -> Self {
        let kid = kid.map(|it| it.chars().take(SHOWN_KID).collect());
        Self { index, kid, reason }
    }
}

impl fmt::Display for SkippedKey {
    /// `key 2 ("2024-01"): it is a symmetric key`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.index)?;
        if let Some(kid) = &self.kid {
            write!(f, " ({kid:?})")?;
        }
        write!(f, ": {}", self.reason)
    }
}
