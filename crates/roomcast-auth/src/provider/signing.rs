//! Signing with ring.

use jsonwebtoken::{
    Algorithm, EncodingKey,
    crypto::JwtSigner,
    errors::{ErrorKind, Result},
    signature::{self, Signer},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};

/// What signs with a secret, or with a private key in PKCS#8 form (RSA also in PKCS#1 form).
#[expect(clippy::trivially_copy_pass_by_ref, reason = "jsonwebtoken asks for this signature")]
pub(super) fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let bytes = key.as_bytes();
    let material = match algorithm {
        Algorithm::HS256 => Material::Hs256(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        Algorithm::RS256 => RsaKeyPair::from_pkcs8(bytes)
            .or_else(|_| RsaKeyPair::from_der(bytes))
            .map(Material::Rs256)
            .map_err(|_| ErrorKind::InvalidKeyFormat)?,
        Algorithm::ES256 => {
            let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
            EcdsaKeyPair::from_pkcs8(kind, bytes, &SystemRandom::new())
                .map(Material::Es256)
                .map_err(|_| ErrorKind::InvalidEcdsaKey)?
        }
        Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
            .map(Material::EdDsa)
            .map_err(|_| ErrorKind::InvalidEddsaKey)?,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(RingSigner { algorithm: *algorithm, material }))
}

struct RingSigner {
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Hs256(hmac::Key),
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        let random = SystemRandom::new();
        match &self.material {
            Material::Hs256(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Material::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| signature::Error::new())?;
                Ok(signature)
            }
            Material::Es256(key) => {
                let signature = key.sign(&random, message).map_err(|_| signature::Error::new())?;
                Ok(signature.as_ref().to_vec())
            }
            Material::EdDsa(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}
