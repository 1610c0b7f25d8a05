//! Certificates.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// A CA, and a directory with what it has issued.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, both as PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// The certificate as it is sent.
    pub der: Vec<u8>,
}

/// Where a [`Pair`] is.
#[derive(Clone, Debug)]
pub struct PairFiles {
    /// The certificate's file.
    pub cert: String,
    /// Its key's.
    pub key: String,
}

impl Authority {
    /// A CA whose certificate is in the file `ca.crt` of its directory.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let dir = tempfile::tempdir().expect("a directory for certificates");
        let authority = Self { issuer, dir };
        fs::write(authority.ca_file(), authority.pem()).expect("write the CA");
        authority
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its certificate as it is stored by rustls.
    pub fn der(&self) -> &rustls::pki_types::CertificateDer<'static> {
        self.issuer.der()
    }

    /// The file with its certificate.
    pub fn ca_file(&self) -> String {
        self.path("ca.crt")
    }

    /// A certificate for this name or address that is valid from yesterday to tomorrow.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_around(SystemTime::now(), name, -1, 1)
    }

    /// A certificate that ended yesterday.
    pub fn issue_expired(&self, name: &str) -> Pair {
        self.issue_around(SystemTime::now(), name, -2, -1)
    }

    /// A certificate that begins tomorrow.
    pub fn issue_early(&self, name: &str) -> Pair {
        self.issue_around(SystemTime::now(), name, 1, 2)
    }

    /// A certificate that is valid from one day to another, counted from `now`.
    pub fn issue_around(&self, now: SystemTime, name: &str, from: i64, until: i64) -> Pair {
        let now = time::OffsetDateTime::from(now);
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = now + time::Duration::days(from);
        params.not_after = now + time::Duration::days(until);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec() }
    }

    /// Issues a certificate for loopback into files.
    pub fn issue_files(&self, label: &str) -> PairFiles {
        self.write(label, &self.issue("127.0.0.1"))
    }

    /// Writes a pair into files of this CA's directory.
    pub fn write(&self, label: &str, pair: &Pair) -> PairFiles {
        let cert = self.path(&format!("{label}.crt"));
        let key = self.path(&format!("{label}.key"));
        fs::write(&cert, &pair.cert).expect("write the certificate");
        fs::write(&key, &pair.key).expect("write the key");
        PairFiles { cert, key }
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> String {
        let path: PathBuf = Path::new(self.dir.path()).join(name);
        path.to_str().expect("a UTF-8 path").to_owned()
    }

    /// A client that trusts this CA.
    pub fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem()))
    }

    /// A client that trusts this CA and shows a certificate.
    pub fn trusted_with(&self, pair: &Pair) -> ClientTlsConfig {
        self.trusted().identity(Identity::from_pem(&pair.cert, &pair.key))
    }
}
