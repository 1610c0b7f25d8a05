//! One key of a set.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use serde_json::Value;

use super::skipped::SkipReason;
use crate::{key::VerifyingKey, key_error::KeyError};

/// The key of a JWK, if it can verify tokens.
pub(super) fn verifying_key(jwk: Value) -> Result<VerifyingKey, SkipReason> {
    if jwk.get("kty").is_some_and(|kty| kty == "oct") {
        return Err(SkipReason::Symmetric);
    }
    if jwk.get("d").is_some() {
        return Err(SkipReason::Private);
    }
    let alg = jwk.get("alg").cloned();
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| SkipReason::Malformed)?;
    if !verifies(&jwk) {
        return Err(SkipReason::Use);
    }
    let key = of_kind(&jwk.algorithm)?;
    if alg.is_some_and(|alg| alg != key.algorithm().name()) {
        return Err(SkipReason::Algorithm);
    }
    Ok(key)
}

fn verifies(jwk: &Jwk) -> bool {
    let for_signatures =
        jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    let operations = jwk.common.key_operations.as_ref();
    for_signatures && operations.is_none_or(|it| it.contains(&KeyOperations::Verify))
}

fn of_kind(parameters: &AlgorithmParameters) -> Result<VerifyingKey, SkipReason> {
    let key = match parameters {
        AlgorithmParameters::RSA(rsa) => VerifyingKey::from_rsa(&decode(&rsa.n)?, &decode(&rsa.e)?),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            VerifyingKey::from_p256(&[&[4], &*coordinate(&ec.x)?, &*coordinate(&ec.y)?].concat())
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            VerifyingKey::from_ed25519(&decode(&pair.x)?)
        }
        _ => return Err(SkipReason::Kind),
    };
    key.map_err(|error| match error {
        KeyError::RsaSize(_) => SkipReason::RsaSize,
        _ => SkipReason::Malformed,
    })
}

/// Both coordinates have 32 bytes, or one could take bytes from the other.
fn coordinate(text: &str) -> Result<Vec<u8>, SkipReason> {
    decode(text).and_then(|it| if it.len() == 32 { Ok(it) } else { Err(SkipReason::Malformed) })
}

fn decode(text: &str) -> Result<Vec<u8>, SkipReason> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| SkipReason::Malformed)
}
