//! What a token has to say to be accepted.

use std::time::Duration;

/// What a token has to be, beyond well signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validation {
    /// What `iss` has to be. Without it, `iss` is not looked at.
    pub issuer: Option<String>,
    /// What `aud` has to be or contain. Without it, `aud` is not looked at.
    pub audience: Option<String>,
    /// How far the issuer's clock may be from ours, either way.
    pub leeway: Duration,
}

impl Default for Validation {
    /// Any issuer, any audience, and a leeway of 30 seconds.
    fn default() -> Self {
        Self { issuer: None, audience: None, leeway: Duration::from_secs(30) }
    }
}
