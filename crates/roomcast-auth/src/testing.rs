//! Keys and tokens for tests.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use serde_json::{Value, json};

use crate::{
    algorithm::Algorithm,
    pem::{self, PublicKey},
    provider,
};

/// The time of these tests, in seconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SECRET: &[u8] = b"ThirtyTwoBytesAreEnoughForASecret";
pub(crate) const RSA_PEM: &str = include_str!("testdata/rsa-2048.pem");

/// A key whose private part is known.
pub(crate) struct TestKey {
    pub(crate) algorithm: Algorithm,
    /// Empty for a secret.
    pub(crate) private_pem: String,
    pub(crate) public_pem: String,
    encoding: EncodingKey,
}

pub(crate) static HS256: LazyLock<TestKey> = LazyLock::new(|| TestKey::of_secret(SECRET));
pub(crate) static RS256: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::of_pair(Algorithm::Rs256, &KeyPair::from_pem(RSA_PEM).unwrap()));
pub(crate) static ES256: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::generate(Algorithm::Es256, &PKCS_ECDSA_P256_SHA256));
pub(crate) static EDDSA: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::generate(Algorithm::EdDsa, &PKCS_ED25519));
/// One that no verifier knows.
pub(crate) static STRANGER: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::generate(Algorithm::EdDsa, &PKCS_ED25519));

impl TestKey {
    pub(crate) fn of_secret(secret: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::Hs256,
            private_pem: String::new(),
            public_pem: String::new(),
            encoding: EncodingKey::from_secret(secret).unwrap(),
        }
    }

    fn generate(algorithm: Algorithm, kind: &'static SignatureAlgorithm) -> Self {
        Self::of_pair(algorithm, &KeyPair::generate_for(kind).unwrap())
    }

    fn of_pair(algorithm: Algorithm, pair: &KeyPair) -> Self {
        let der = pair.serialize_der();
        let encoding = match algorithm {
            Algorithm::Rs256 => EncodingKey::from_rsa_der(&der),
            Algorithm::Es256 => EncodingKey::from_ec_der(&der),
            Algorithm::EdDsa => EncodingKey::from_ed_der(&der),
            Algorithm::Hs256 => panic!("a secret is no pair"),
        };
        let (private_pem, public_pem) = (pair.serialize_pem(), pair.public_key_pem());
        Self { algorithm, private_pem, public_pem, encoding }
    }

    /// The public part.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match pem::public_key(self.public_pem.as_bytes()).unwrap() {
            PublicKey::Rsa { modulus, exponent } => {
                json!({ "kty": "RSA", "n": base64url(modulus), "e": base64url(exponent) })
            }
            PublicKey::P256(point) => {
                let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            PublicKey::Ed25519(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(key) })
            }
        };
        jwk["kid"] = kid.into();
        jwk
    }

    /// A token with any header and any claims, even such as nobody would sign.
    #[expect(clippy::needless_pass_by_value, reason = "so that literals can be given")]
    pub(crate) fn sign(&self, header: impl ToString, claims: impl ToString) -> String {
        let parts = [header.to_string(), claims.to_string()].map(base64url);
        self.sign_message(&parts.join("."))
    }

    pub(crate) fn sign_message(&self, message: &str) -> String {
        assert!(provider::install());
        let jwt = self.algorithm.jwt();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.encoding, jwt);
        format!("{message}.{}", signature.unwrap())
    }

    /// A token with its own algorithm and this `kid`.
    pub(crate) fn token(&self, kid: &str, claims: impl ToString) -> String {
        self.sign(json!({ "alg": self.algorithm.name(), "kid": kid }), claims)
    }
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Claims that are good at [`NOW`].
pub(crate) fn claims() -> Value {
    json!({
        "sub": "user-4711",
        "name": "Barbara",
        "iss": "https://issuer.example",
        "aud": "roomcast",
        "exp": NOW + 600,
        "nbf": NOW - 5,
        "iat": NOW - 5,
        "roomcast": { "rooms": [{ "match": "team-*", "role": "moderator" }], "admin": false },
    })
}

/// Good claims, except that one is another.
pub(crate) fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

/// Good claims, except that one is missing.
pub(crate) fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}
