//! From a token to a principal.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;

use crate::{
    algorithm::Algorithm,
    claims,
    error::{Malformed, TokenError},
    header::Header,
    json::Object,
    key::VerifyingKey,
    key_error::KeyError,
    key_set::{KeySet, KeySetError},
    key_store::KeyStore,
    principal::Principal,
    validation::Validation,
};

/// The most bytes of a token.
const MAX_TOKEN: usize = 8 << 10;

/// Where the keys are that verify tokens.
#[derive(Clone, Debug)]
pub enum Keys {
    /// One key, whatever `kid` a token names.
    One(Box<VerifyingKey>),
    /// A set, in which tokens name their key by `kid`.
    Set(Arc<KeyStore>),
}

impl Keys {
    /// A shared secret of at least 32 bytes: HS256.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        VerifyingKey::from_secret(secret).map(|it| Self::One(Box::new(it)))
    }

    /// A public key in PEM form: RS256, ES256 or `EdDSA`, whichever the key is for.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        VerifyingKey::from_pem(pem).map(|it| Self::One(Box::new(it)))
    }

    /// A JWK set.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeySetError> {
        let store = KeyStore::new();
        store.replace(KeySet::parse(json)?);
        Ok(Self::Set(Arc::new(store)))
    }
}

/// Judges tokens, without I/O.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Keys,
    validation: Validation,
}

impl Verifier {
    /// Verifies with these keys what `validation` asks for.
    pub const fn new(keys: Keys, validation: Validation) -> Self {
        Self { keys, validation }
    }

    /// The principal that a token is for, if the token is good at this time. A `kid` that the key set
    /// does not have asks the set's store for a refresh, without waiting for it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed(Malformed::TooLong));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed(Malformed::Parts));
        };
        let header = Header::read(header)?;
        let algorithm = Algorithm::parse(&header.alg).ok_or(TokenError::AlgorithmMismatch)?;
        let claims = match &self.keys {
            Keys::One(key) => signed_claims(token, algorithm, key)?,
            Keys::Set(store) => {
                // No key of a set is for it, so that no newer set would help either.
                if algorithm == Algorithm::Hs256 {
                    return Err(TokenError::AlgorithmMismatch);
                }
                let set = store.current().ok_or(TokenError::KeysUnavailable)?;
                let key = set.find(header.kid.as_deref(), algorithm).inspect_err(|error| {
                    if *error == TokenError::UnknownKeyId {
                        store.request_refresh();
                    }
                })?;
                signed_claims(token, algorithm, key)?
            }
        };
        claims::principal(&claims.0, &self.validation, now)
    }
}

/// The claims of a token, if this key signed it.
fn signed_claims(
    token: &str,
    algorithm: Algorithm,
    key: &VerifyingKey,
) -> Result<Object, TokenError> {
    if algorithm != key.algorithm() {
        return Err(TokenError::AlgorithmMismatch);
    }
    let decoded = jsonwebtoken::decode::<Object>(token, key.decoding_key(), key.only_signature());
    decoded.map(|it| it.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::InvalidAlgorithm => TokenError::AlgorithmMismatch,
        ErrorKind::Base64(_) => TokenError::Malformed(Malformed::Encoding),
        ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_err() => {
            TokenError::Malformed(Malformed::Header)
        }
        ErrorKind::Json(_) => TokenError::Malformed(Malformed::Claims),
        _ => TokenError::Malformed(Malformed::Header),
    })
}
