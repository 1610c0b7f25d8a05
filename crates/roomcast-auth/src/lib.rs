//! JSON Web Tokens, verified and turned into principals.
//!
//! A [`Verifier`] has exactly one source of [`Keys`] and judges a token without I/O: signature, times,
//! issuer, audience, and what the token lets its bearer do. A [`JwksSource`] keeps a key set fresh in
//! the background.
//!
//! # What checks what
//! [`jsonwebtoken`](https://docs.rs/jsonwebtoken) takes tokens apart, compares the algorithm with the
//! key's and has the signature checked by ring, which is the only cryptography in this process: its
//! provider here only verifies, and signs with the feature `sign`. That provider is global to the
//! process, so this crate has to be the only one in it that installs one.
//!
//! The library's checks of claims are switched off, because it judges some only if they are present,
//! takes the time from the system instead of as an argument, rounds fractions of seconds, takes a list
//! of issuers for an issuer, and does not tell which claim is wrong. Its reader of PEM files is left
//! out, because it takes a certificate or a private key for a public one. All of that is done here.
//! So are the limit on a token's length, and the refusal of duplicate names in JSON, of any `crit` and
//! of other types of tokens.
//!
//! # What is decided where the standards leave it open
//! - Tokens and keys use HS256, RS256, ES256 or `EdDSA` (Ed25519). Each key takes one of them only.
//! - A token without `kid` is checked with the one key of the set that has its algorithm; with several
//!   it is refused.
//! - Of two keys in a set with the same `kid` and algorithm the first one is used. With different
//!   algorithms both are.
//! - A duplicate name anywhere in a token's JSON makes the token malformed: which value counts differs
//!   between parsers, so that two services could read two different tokens.
//! - `null` is a wrong type for a claim, not its absence.
//! - A token that was issued in the future, beyond the leeway, is not valid yet: a clock that is wrong
//!   about `iat` was wrong about `exp` too.
//! - `iss` and `aud` are not looked at unless they are configured.
//! - Unknown claims, and unknown fields in `roomcast`, are ignored, as RFC 7519 has it, so that
//!   replicas of an older version take tokens made for a newer one. A new field may therefore never
//!   take away a right that the others give.
//!
//! Errors and `Debug` output hold nothing of a token, a secret or a key.

mod algorithm;
mod claims;
mod error;
mod grant;
mod header;
mod json;
mod jwks;
mod key;
mod key_error;
mod key_set;
mod key_store;
mod pem;
mod principal;
mod provider;
#[cfg(any(feature = "sign", test))]
mod signer;
mod validation;
mod verifier;

#[cfg(any(feature = "sign", test))]
pub use self::signer::{Claims, RoomcastClaim, SignError, Signer};
pub use self::{
    algorithm::Algorithm,
    error::{Claim, Malformed, TokenError},
    grant::{Grant, GrantError, Role, RoomPattern},
    jwks::{JwksError, JwksSource, JwksStatus, JwksUrlError, RefreshPolicy},
    key::VerifyingKey,
    key_error::KeyError,
    key_set::{KeySet, KeySetError, SkipReason, SkippedKey},
    key_store::KeyStore,
    principal::Principal,
    validation::Validation,
    verifier::{Keys, Verifier},
};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
