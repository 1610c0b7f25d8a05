//! ring, as jsonwebtoken's cryptography.

#[cfg(any(feature = "sign", test))]
mod signing;

use jsonwebtoken::{
    Algorithm as JwtAlgorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{self, Verifier},
};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
        UnparsedPublicKey,
    },
};

#[cfg(not(any(feature = "sign", test)))]
mod signing {
    use jsonwebtoken::{Algorithm, EncodingKey, crypto::JwtSigner, errors};

    /// Refuses to sign: this process only verifies.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "jsonwebtoken asks for this signature")]
    pub(super) fn signer(_: &Algorithm, _: &EncodingKey) -> errors::Result<Box<dyn JwtSigner>> {
        Err(errors::ErrorKind::UnsupportedAlgorithm.into())
    }
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signing::signer,
    verifier_factory: verifier,
    // Only for making JWKs from keys, which this crate does not do.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the cryptography of jsonwebtoken in this process. False if something else is it already.
pub(crate) fn install() -> bool {
    // An error means that there is one; which one is asked below.
    let _ = PROVIDER.install_default();
    CryptoProvider::try_get_default().is_some_and(|it| std::ptr::eq(it, &raw const PROVIDER))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "jsonwebtoken asks for this signature")]
fn verifier(algorithm: &JwtAlgorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    use DecodingKeyKind::{RsaModulusExponent, SecretOrDer};

    let material = match (algorithm, key.kind()) {
        (JwtAlgorithm::HS256, SecretOrDer(secret)) => {
            Material::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))
        }
        (JwtAlgorithm::RS256, RsaModulusExponent { n, e }) => {
            Material::Rs256(RsaPublicKeyComponents { n: n.clone(), e: e.clone() })
        }
        (JwtAlgorithm::ES256, SecretOrDer(point)) => {
            Material::Es256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone()))
        }
        (JwtAlgorithm::EdDSA, SecretOrDer(key)) => {
            Material::EdDsa(UnparsedPublicKey::new(&ED25519, key.clone()))
        }
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, material }))
}

struct RingVerifier {
    algorithm: JwtAlgorithm,
    material: Material,
}

enum Material {
    Hs256(hmac::Key),
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    Es256(UnparsedPublicKey<Vec<u8>>),
    EdDsa(UnparsedPublicKey<Vec<u8>>),
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), signature::Error> {
        let verified = match &self.material {
            Material::Hs256(key) => hmac::verify(key, message, signature),
            Material::Rs256(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::Es256(key) | Material::EdDsa(key) => key.verify(message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}
