//! Why a key set could not be had.

use std::{io, time::Duration};

use roomcast_tls::TlsError;

use crate::key_set::KeySetError;

/// The most bytes of a key set.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Why the last attempt to get a key set failed. Neither a user, a password or a query of a URL nor
/// any part of a key is in it.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The server cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// TLS failed; why, in words.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is no HTTP, or ended early.
    #[error("the answer broke off or is no HTTP")]
    Transfer(#[source] hyper::Error),
    /// The server redirects.
    #[error("the answer is a redirect (status {0}), which is not followed; configure its target")]
    Redirect(u16),
    /// The server answers with an error.
    #[error("the answer has status {0}")]
    Status(u16),
    /// There is more than a key set has.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    File(#[source] io::Error),
    /// There is something, but no key set.
    #[error("not a usable key set: {0}")]
    KeySet(#[from] KeySetError),
}

/// Why a URL cannot be used for a key set.
#[derive(Debug, thiserror::Error)]
pub enum JwksUrlError {
    /// It is no absolute URL.
    #[error("not a URL; give one such as https://issuer.example/.well-known/jwks.json")]
    Malformed,
    /// It is for another protocol.
    #[error("the URL has to begin with https:// or http://")]
    Scheme,
    /// Its host is no name or address that a certificate can be for.
    #[error("the URL's host is neither a name nor an address")]
    Host,
    /// Nothing is there to judge the server's certificate by.
    #[error(transparent)]
    Roots(#[from] TlsError),
}
