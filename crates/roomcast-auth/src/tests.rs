mod accepted;
mod hidden;
mod keys;
mod mutated;
mod refused;
mod refused_claims;
mod signed;
mod speed;

use std::time::Duration;

use crate::{
    Keys, Validation, Verifier,
    testing::{EDDSA, ES256, RS256, jwks},
};

/// The issuer and the audience of the tests' claims, and a leeway of 30 seconds.
fn validation() -> Validation {
    Validation {
        issuer: Some("https://issuer.example".to_owned()),
        audience: Some("roomcast".to_owned()),
        leeway: Duration::from_secs(30),
    }
}

/// A set with the keys `rs`, `es` and `ed`.
fn set_verifier() -> Verifier {
    let keys = jwks(&[RS256.jwk("rs"), ES256.jwk("es"), EDDSA.jwk("ed")]);
    Verifier::new(Keys::from_jwks(&keys).unwrap(), validation())
}
