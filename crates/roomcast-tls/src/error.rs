//! What can be wrong with certificates.

use std::io;

use jiff::Timestamp;

use super::PemFile;

/// Why files cannot be used for TLS. Each prints as one line that names the file and its key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file}: cannot be read: {error}")]
    Unreadable {
        /// Which one.
        file: PemFile,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// A file is no PEM, or what is in it is no certificate or key.
    #[error("{file}: cannot be parsed: {cause}")]
    Malformed {
        /// Which one.
        file: PemFile,
        /// What is wrong with it.
        cause: String,
    },
    /// A file has no certificate.
    #[error("{0}: holds no certificate in PEM form")]
    NoCertificate(PemFile),
    /// A file has no private key.
    #[error("{0}: holds no private key in PEM form")]
    NoKey(PemFile),
    /// A key is of another certificate.
    #[error("{key}: is not the key of the certificate in {cert}")]
    Mismatch {
        /// Where the key is.
        key: PemFile,
        /// Where the certificate is.
        cert: PemFile,
    },
    /// A certificate has expired.
    #[error("{file}: the certificate expired at {at}")]
    Expired {
        /// Where it is.
        file: PemFile,
        /// When.
        at: Timestamp,
    },
    /// A certificate is not valid yet.
    #[error("{file}: the certificate is not valid before {from}")]
    NotYetValid {
        /// Where it is.
        file: PemFile,
        /// When it will be.
        from: Timestamp,
    },
    /// rustls does not take it.
    #[error("{file}: cannot be used: {cause}")]
    Unusable {
        /// Which file.
        file: PemFile,
        /// Why not.
        cause: String,
    },
    /// The root certificates of this system cannot be read.
    #[error(
        "the root certificates of this system (SSL_CERT_FILE, SSL_CERT_DIR) cannot be read: {0}"
    )]
    SystemRoots(String),
    /// There are no root certificates on this system.
    #[error("this system has no root certificates; name a file that has some with {0}")]
    NoSystemRoots(&'static str),
}
