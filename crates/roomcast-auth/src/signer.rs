//! Makes tokens.

use std::fmt;

use jsonwebtoken::{EncodingKey, Header, errors::ErrorKind};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde::Serialize;

use crate::{algorithm::Algorithm, grant::Grant, key::check_secret, key_error::KeyError, provider};

/// Signs tokens with one key.
pub struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    kid: Option<String>,
}

/// Why a token could not be signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignError {
    /// The claims cannot be written as JSON.
    #[error("the claims cannot be written as JSON")]
    Claims,
    /// ring does not sign with the key.
    #[error("the key does not sign")]
    Key,
}

impl Signer {
    /// Signs with a secret of at least 32 bytes: HS256.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        check_secret(secret)?;
        let key = EncodingKey::from_secret(secret).map_err(|_| KeyError::ShortSecret(0))?;
        Self::new(Algorithm::Hs256, key)
    }

    /// Signs with a private key in PEM form: RS256, ES256 or `EdDSA`, whichever the key is for.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(pem).map_err(|error| {
            let nothing = matches!(error, rustls::pki_types::pem::Error::NoItemsFound);
            if nothing { KeyError::NoPrivateKey } else { KeyError::Malformed }
        })?;
        match kind {
            SectionKind::PrivateKey => Self::from_pkcs8(&der),
            SectionKind::RsaPrivateKey => {
                Self::new(Algorithm::Rs256, EncodingKey::from_rsa_der(&der))
            }
            SectionKind::EcPrivateKey => Err(KeyError::NotPkcs8),
            _ => Err(KeyError::NoPrivateKey),
        }
    }

    /// Names the key in the tokens.
    #[must_use]
    pub fn with_key_id(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// How it signs.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A token with these claims: [`Claims`], or whatever else is written as a JSON object.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let mut header = Header::new(self.algorithm.jwt());
        header.kid.clone_from(&self.kid);
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|error| match error.kind() {
            ErrorKind::Json(_) => SignError::Claims,
            _ => SignError::Key,
        })
    }

    /// PKCS#8 says in its header which kind of key it has; ring checks the rest.
    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let signers = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256].map(|algorithm| {
            let key = match algorithm {
                Algorithm::Es256 => EncodingKey::from_ec_der(der),
                Algorithm::EdDsa => EncodingKey::from_ed_der(der),
                Algorithm::Hs256 | Algorithm::Rs256 => EncodingKey::from_rsa_der(der),
            };
            Self::new(algorithm, key)
        });
        signers.into_iter().find(Result::is_ok).unwrap_or(Err(KeyError::Unsupported))
    }

    /// A signer whose key works.
    fn new(algorithm: Algorithm, key: EncodingKey) -> Result<Self, KeyError> {
        if !provider::install() {
            return Err(KeyError::OtherProvider);
        }
        if jsonwebtoken::crypto::sign(b"", &key, algorithm.jwt()).is_err() {
            return Err(KeyError::Malformed);
        }
        Ok(Self { algorithm, key, kid: None })
    }
}

/// Without the key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.algorithm)
    }
}

/// What a token says. Times are in seconds since 1970.
#[derive(Clone, Default, Serialize)]
pub struct Claims {
    /// Whom it is for.
    pub sub: String,
    /// When it ends.
    pub exp: i64,
    /// When it was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// When it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Who issued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Which service it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// The only name that the bearer may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the bearer may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roomcast: Option<RoomcastClaim>,
}

/// What the bearer of a token may do.
#[derive(Clone, Default, Serialize)]
pub struct RoomcastClaim {
    /// Rooms, and roles in them.
    #[serde(serialize_with = "grants")]
    pub rooms: Vec<Grant>,
    /// May do everything.
    pub admin: bool,
}

fn grants<S: serde::Serializer>(grants: &[Grant], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(
        grants
            .iter()
            .map(|it| serde_json::json!({ "match": it.rooms.to_string(), "role": it.role.name() })),
    )
}
