//! Keys, each pinned to one algorithm.

use std::fmt;

use jsonwebtoken::{DecodingKey, Validation};

use crate::{
    algorithm::Algorithm,
    key_error::KeyError,
    pem::{self, PublicKey},
    provider,
};

/// The least bytes of a secret: as many as HMAC-SHA-256 puts out (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;
/// The least and the most bits of an RSA key's modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What verifies signatures of one algorithm.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
    only_signature: Validation,
}

impl VerifyingKey {
    /// A secret that issuer and server share: HS256.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        check_secret(secret)?;
        let key = DecodingKey::from_secret(secret).map_err(|_| KeyError::ShortSecret(0))?;
        Self::new(Algorithm::Hs256, key)
    }

    /// A public key in PEM form: RS256, ES256 or `EdDSA`, whichever the key is for.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        match pem::public_key(pem)? {
            PublicKey::Rsa { modulus, exponent } => Self::from_rsa(&modulus, &exponent),
            PublicKey::P256(point) => Self::from_p256(&point),
            PublicKey::Ed25519(key) => Self::from_ed25519(&key),
        }
    }

    /// An RSA key, its numbers in big-endian order.
    pub(crate) fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        // Some issuers write the zero that DER puts before a number whose first bit is set.
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |it| it.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaSize(bits));
        }
        // ring would refuse every signature by such a key; its exponents are short.
        let is_odd = |number: &[u8]| number.last().is_some_and(|it| it % 2 == 1);
        if !is_odd(modulus) || !is_odd(exponent) || exponent == [1] || exponent.len() > 4 {
            return Err(KeyError::Malformed);
        }
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Self::new(Algorithm::Rs256, key)
    }

    /// A point on P-256, not compressed.
    pub(crate) fn from_p256(point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 65 || point[0] != 4 {
            return Err(KeyError::Malformed);
        }
        Self::new(Algorithm::Es256, DecodingKey::from_ec_der(point))
    }

    /// The 32 bytes of an Ed25519 key.
    pub(crate) fn from_ed25519(key: &[u8]) -> Result<Self, KeyError> {
        if key.len() != 32 {
            return Err(KeyError::Malformed);
        }
        Self::new(Algorithm::EdDsa, DecodingKey::from_ed_der(key))
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Result<Self, KeyError> {
        if !provider::install() {
            return Err(KeyError::OtherProvider);
        }
        // Claims are judged elsewhere.
        let mut only_signature = Validation::new(algorithm.jwt());
        only_signature.required_spec_claims.clear();
        only_signature.validate_exp = false;
        only_signature.validate_aud = false;
        Ok(Self { algorithm, key, only_signature })
    }

    /// The only algorithm that it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) const fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }

    /// What the library has to check: the algorithm and the signature.
    pub(crate) const fn only_signature(&self) -> &Validation {
        &self.only_signature
    }
}

/// Without the key.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm)
    }
}

/// Whether a secret is one, and long enough.
pub(crate) fn check_secret(secret: &[u8]) -> Result<(), KeyError> {
    if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
        return Err(KeyError::PemSecret);
    }
    if secret.len() < MIN_SECRET {
        return Err(KeyError::ShortSecret(secret.len()));
    }
    Ok(())
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|it| **it == 0).count();
    &number[zeros..]
}
