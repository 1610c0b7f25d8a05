//! Public keys in PEM files.

use rustls::pki_types::pem::{PemObject as _, SectionKind};
use x509_cert::{
    der::{
        Decode as _, Reader as _, SliceReader,
        asn1::{ObjectIdentifier, UintRef},
    },
    spki::SubjectPublicKeyInfoRef,
};

use crate::key_error::KeyError;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A public key of a kind that is supported.
pub(crate) enum PublicKey {
    /// Its two numbers, in big-endian order.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// A point on P-256.
    P256(Vec<u8>),
    /// The key as it is.
    Ed25519(Vec<u8>),
}

/// The one public key of a PEM file, which has to hold nothing else.
pub(crate) fn public_key(pem: &[u8]) -> Result<PublicKey, KeyError> {
    let mut found = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(|_| KeyError::Malformed)?;
        match kind {
            SectionKind::PublicKey if found.is_some() => return Err(KeyError::SeveralKeys),
            SectionKind::PublicKey => found = Some(der),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err(KeyError::PrivateKey);
            }
            SectionKind::Certificate => return Err(KeyError::Certificate),
            _ => return Err(KeyError::NoPublicKey),
        }
    }
    match found {
        Some(der) => from_spki(&der),
        None if holds(pem, b"-----BEGIN RSA PUBLIC KEY-----") => Err(KeyError::Pkcs1),
        None if holds(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") => Err(KeyError::PrivateKey),
        None => Err(KeyError::NoPublicKey),
    }
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|it| it == part)
}

fn from_spki(der: &[u8]) -> Result<PublicKey, KeyError> {
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyError::Malformed)?;
    let key = info.subject_public_key.as_bytes().ok_or(KeyError::Malformed)?;
    match (info.algorithm.oid, info.algorithm.parameters_oid()) {
        (RSA, _) => {
            let (modulus, exponent) = rsa_components(key).map_err(|_| KeyError::Malformed)?;
            Ok(PublicKey::Rsa { modulus, exponent })
        }
        (EC, Ok(P256)) => Ok(PublicKey::P256(key.to_vec())),
        (ED25519, _) => Ok(PublicKey::Ed25519(key.to_vec())),
        _ => Err(KeyError::Unsupported),
    }
}

fn rsa_components(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), x509_cert::der::Error> {
    let mut reader = SliceReader::new(der)?;
    let components: (UintRef<'_>, UintRef<'_>) =
        reader.sequence(|it| Ok::<_, x509_cert::der::Error>((it.decode()?, it.decode()?)))?;
    reader.finish()?;
    Ok((components.0.as_bytes().to_vec(), components.1.as_bytes().to_vec()))
}
