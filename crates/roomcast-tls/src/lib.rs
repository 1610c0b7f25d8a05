//! Certificates and keys in PEM files: read, checked, and errors explained.
//!
//! rustls with ring is the only implementation of TLS and of its cryptography in this process.

mod error;
mod explain;
mod files;
mod pem_file;

use std::sync::Arc;

use rustls::{RootCertStore, crypto::CryptoProvider, pki_types::CertificateDer};
use x509_cert::{Certificate, der::Decode};

pub use self::{
    error::TlsError,
    explain::{Fault, fault},
    files::{Contents, Shown, TlsFiles},
    pem_file::PemFile,
};

/// The cryptography that all TLS here uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whom a certificate names: the subject's distinguished name, as RFC 4514 writes it, at most 200
/// characters of it.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    let parsed = Certificate::from_der(certificate);
    parsed.map_or_else(
        |_| "unreadable".to_owned(),
        |it| it.tbs_certificate().subject().to_string().chars().take(200).collect(),
    )
}

/// The root certificates of this system, or none. Fails if any of its files cannot be read.
pub fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.first() {
        return Err(TlsError::SystemRoots(error.to_string()));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    Ok(roots)
}

#[cfg(test)]
mod tests;
