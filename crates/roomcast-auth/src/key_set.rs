//! Sets of public keys (RFC 7517).

mod entry;
mod skipped;

use std::{collections::HashMap, fmt};

use serde::Deserialize;
use serde_json::Value;

pub use self::skipped::{SkipReason, SkippedKey};
use crate::{algorithm::Algorithm, error::TokenError, key::VerifyingKey, provider};

/// Keys by their `kid`. It does not change; a [`KeyStore`](crate::KeyStore) replaces it.
pub struct KeySet {
    named: HashMap<String, Vec<VerifyingKey>>,
    nameless: Vec<VerifyingKey>,
    skipped: Vec<SkippedKey>,
}

/// Why a text cannot be used as a key set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is no JSON.
    #[error("it is not JSON (line {line}, column {column})")]
    Json {
        /// Where reading failed, counted from 1.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// It is JSON of another kind.
    #[error("it is no JWK set: it has no list `keys`")]
    NoKeys,
    /// No key in it can be used.
    #[error("none of its {} keys can be used{}", .0.len(), first(.0))]
    NothingUsable(Vec<SkippedKey>),
    /// Something else in the process chose the cryptography of jsonwebtoken.
    #[error("another cryptography provider for tokens is installed in this process")]
    OtherProvider,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWK set. Keys that cannot be used are skipped.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if !provider::install() {
            return Err(KeySetError::OtherProvider);
        }
        let Document { keys } = serde_json::from_slice(json).map_err(|error| {
            if error.is_data() {
                return KeySetError::NoKeys;
            }
            KeySetError::Json { line: error.line(), column: error.column() }
        })?;
        let mut set = Self { named: HashMap::new(), nameless: vec![], skipped: vec![] };
        for (index, key) in keys.into_iter().enumerate() {
            let kid = key.get("kid").and_then(Value::as_str).map(str::to_owned);
            let read = entry::verifying_key(key);
            if let Err(reason) = read.and_then(|it| set.add(kid.clone(), it)) {
                set.skipped.push(SkippedKey::new(index, kid.as_deref(), reason));
            }
        }
        if set.is_empty() { Err(KeySetError::NothingUsable(set.skipped)) } else { Ok(set) }
    }

    fn add(&mut self, kid: Option<String>, key: VerifyingKey) -> Result<(), SkipReason> {
        let Some(kid) = kid else {
            self.nameless.push(key);
            return Ok(());
        };
        let same = self.named.entry(kid).or_default();
        if same.iter().any(|it| it.algorithm() == key.algorithm()) {
            return Err(SkipReason::Duplicate);
        }
        same.push(key);
        Ok(())
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.all().count()
    }

    /// Whether no key can be used, which no set that was parsed is.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Whether a key has this `kid`.
    pub fn contains(&self, kid: &str) -> bool {
        self.named.contains_key(kid)
    }

    /// Which keys are not used, for a log.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    fn all(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.named.values().flatten().chain(&self.nameless)
    }

    /// The key for a token.
    pub(crate) fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&VerifyingKey, TokenError> {
        if let Some(kid) = kid {
            let keys = self.named.get(kid).ok_or(TokenError::UnknownKeyId)?;
            let key = keys.iter().find(|it| it.algorithm() == algorithm);
            return key.ok_or(TokenError::AlgorithmMismatch);
        }
        let mut matching = self.all().filter(|it| it.algorithm() == algorithm);
        match (matching.next(), matching.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(TokenError::MissingKeyId),
            (None, _) => Err(TokenError::AlgorithmMismatch),
        }
    }
}

/// Without the keys.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("keys", &self.len())
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

fn first(skipped: &[SkippedKey]) -> String {
    skipped.first().map_or_else(String::new, |it| format!("; {it}"))
}

#[cfg(test)]
mod tests;
