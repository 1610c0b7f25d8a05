//! PEM files and what is in them.

use std::{
    fmt, fs,
    io::{self, Read as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use x509_cert::{Certificate, der::Decode};

use super::{PemFile, TlsError, provider};

/// The most bytes of a file. A bundle of all public authorities has about 200 KiB.
const MAX_BYTES: u64 = 4 << 20;

impl PemFile {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        self.read_bounded().map_err(|error| TlsError::Unreadable { file: self.clone(), error })
    }

    /// Neither waits for somebody to write, as a pipe would, nor reads without end.
    fn read_bounded(&self) -> io::Result<Vec<u8>> {
        let about = fs::metadata(&self.path)?;
        if about.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !about.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut content = Vec::new();
        fs::File::open(&self.path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
        }
        Ok(content)
    }

    fn certificates(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| self.malformed(error.to_string()))?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate(self.clone()));
        }
        Ok(certificates)
    }

    fn key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(self.clone()),
            error => self.malformed(error.to_string()),
        })
    }

    fn malformed(&self, cause: String) -> TlsError {
        TlsError::Malformed { file: self.clone(), cause }
    }

    fn unusable(&self, cause: impl fmt::Display) -> TlsError {
        TlsError::Unusable { file: self.clone(), cause: cause.to_string() }
    }
}

/// Which files one side of TLS uses.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsFiles {
    /// What this side shows: its certificate, with those that lead to its CA behind it, and the
    /// certificate's key.
    pub pair: Option<(PemFile, PemFile)>,
    /// The CAs that the other side's certificate has to come from.
    pub ca: Option<PemFile>,
}

/// What was in the files.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Certificates and key.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
    /// CAs.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A certificate that can be shown, and when it ends.
#[derive(Debug)]
pub struct Shown {
    /// The certificate, those behind it, and its key.
    pub certified: CertifiedKey,
    /// When it ends, since 1970.
    pub expiry: Duration,
}

impl TlsFiles {
    /// Reads all of them.
    pub fn read(&self) -> Result<Contents, TlsError> {
        let pair = match &self.pair {
            Some((cert, key)) => Some((cert.read()?, key.read()?)),
            None => None,
        };
        Ok(Contents { pair, ca: self.ca.as_ref().map(PemFile::read).transpose()? })
    }

    /// Whether all that is in them can be used at this time: the key is the certificate's, the
    /// certificate is valid now, and each CA can be trusted.
    pub fn check(&self, contents: &Contents, now: SystemTime) -> Result<(), TlsError> {
        self.shown(contents, now)?;
        self.trusted(contents)?;
        Ok(())
    }

    /// What this side shows.
    pub fn shown(&self, contents: &Contents, now: SystemTime) -> Result<Option<Shown>, TlsError> {
        let (Some((cert, key)), Some((chain, secret))) = (&self.pair, &contents.pair) else {
            return Ok(None);
        };
        let chain = cert.certificates(chain)?;
        // Of the others an old one may have expired: clients look for a way round it.
        let expiry = validity(cert, &chain[0], now)?;
        let secret = key.key(secret)?;
        let certified =
            CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    TlsError::Mismatch { key: key.clone(), cert: cert.clone() }
                }
                rustls::Error::InvalidCertificate(_) => cert.unusable(error),
                error => key.unusable(error),
            })?;
        Ok(Some(Shown { certified, expiry }))
    }

    /// Whom this side trusts, if files say so.
    pub fn trusted(&self, contents: &Contents) -> Result<Option<RootCertStore>, TlsError> {
        let (Some(file), Some(pem)) = (&self.ca, &contents.ca) else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in file.certificates(pem)? {
            roots.add(certificate).map_err(|error| file.unusable(error))?;
        }
        Ok(Some(roots))
    }
}

/// When a certificate ends, if now is within its time.
fn validity(
    file: &PemFile,
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<Duration, TlsError> {
    let parsed =
        Certificate::from_der(certificate).map_err(|error| file.malformed(error.to_string()))?;
    let validity = parsed.tbs_certificate().validity();
    let from = validity.not_before.to_unix_duration();
    let until = validity.not_after.to_unix_duration();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if now > until {
        return Err(TlsError::Expired { file: file.clone(), at: timestamp(until) });
    }
    if now < from {
        return Err(TlsError::NotYetValid { file: file.clone(), from: timestamp(from) });
    }
    Ok(until)
}

fn timestamp(since_epoch: Duration) -> Timestamp {
    i64::try_from(since_epoch.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}
