use std::{
    error::Error as _,
    fs, io,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::*;

/// A CA of a test's own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key, valid from so many days before to so many days after a time.
    pub(super) fn issue(&self, now: Duration, before: i64, after: i64) -> (String, String) {
        let day = |days: i64| {
            let now = i64::try_from(now.as_secs()).unwrap();
            time::OffsetDateTime::from_unix_timestamp(now + days * 24 * 3600).unwrap()
        };
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (day(-before), day(after));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

const NOW: Duration = Duration::from_secs(1_700_000_000);

/// What is wrong with a certificate, its key and a CA.
fn verdict(cert: &str, key: &str, ca: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name, text| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        PemFile { name, path }
    };
    let files = TlsFiles {
        pair: Some((file("cert_file", cert), file("key_file", key))),
        ca: Some(file("ca_file", ca)),
    };
    let contents = files.read().unwrap();
    let checked = files.check(&contents, SystemTime::UNIX_EPOCH + NOW);
    checked.map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), "DIR"))
}

#[test]
fn what_is_wrong_is_said_with_the_file_and_its_name() {
    let authority = Authority::new();
    let ca = authority.pem();
    let (cert, key) = authority.issue(NOW, 1, 10);
    let (_, other) = authority.issue(NOW, 1, 10);
    let (past, past_key) = authority.issue(NOW, 10, -1);
    let (future, future_key) = authority.issue(NOW, -1, 10);
    let chain = format!("{cert}{ca}");
    assert_eq!(verdict(&chain, &key, &ca), Ok(()));
    // A CA that is no longer valid may stand behind the certificate.
    assert_eq!(verdict(&format!("{cert}{past}"), &key, &ca), Ok(()));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (cert, key, ca, said) in [
        ("", key.as_str(), ca.as_str(), "cert_file = DIR/cert_file: holds no certificate"),
        (&key, &key, &ca, "cert_file = DIR/cert_file: holds no certificate"),
        (broken, &key, &ca, "cert_file = DIR/cert_file: cannot be parsed: "),
        (&cert, "", &ca, "key_file = DIR/key_file: holds no private key"),
        (&cert, &cert, &ca, "key_file = DIR/key_file: holds no private key"),
        (
            &cert,
            &other,
            &ca,
            "key_file = DIR/key_file: is not the key of the certificate in \
             cert_file = DIR/cert_file",
        ),
        (
            &past,
            &past_key,
            &ca,
            "cert_file = DIR/cert_file: the certificate expired at 2023-11-13T22:13:20Z",
        ),
        (
            &future,
            &future_key,
            &ca,
            "cert_file = DIR/cert_file: the certificate is not valid before 2023-11-15T22:13:20Z",
        ),
        (&cert, &key, "", "ca_file = DIR/ca_file: holds no certificate"),
        (&cert, &key, broken, "ca_file = DIR/ca_file: cannot be used: "),
    ] {
        let error = verdict(cert, key, ca).unwrap_err();
        assert!(error.starts_with(said), "{error:?} is not {said:?}");
        assert_eq!(error.lines().count(), 1, "{error:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = "/nowhere/ca\n.crt".into();
    let files = TlsFiles { pair: None, ca: Some(PemFile { name: "redis.tls.ca_file", path }) };
    let error = files.read().unwrap_err();
    assert!(error.source().is_some());
    let said = error.to_string();
    let expected = "redis.tls.ca_file = /nowhere/ca?.crt: cannot be read: No such file";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn secrets_are_hidden() {
    let contents = Contents { pair: Some((b"cert".into(), b"key".into())), ca: None };
    assert_eq!(format!("{contents:?}"), "(hidden)");
}

#[test]
fn faults_are_found_behind_other_errors() {
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let words = "its certificate is not from a CA that is trusted here";
    let plain = io::Error::new(io::ErrorKind::InvalidData, unknown.clone());
    assert_eq!(fault(&plain).unwrap().words, words);
    let nested = io::Error::other(io::Error::other(unknown));
    assert_eq!(fault(&nested), Some(Fault { words: words.to_owned(), lasting: true }));
    // As HTTP/2 tells of it.
    let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    let words = fault(&io::Error::other(alert.to_string())).unwrap().words;
    assert_eq!(words, "it asks for a client certificate");
    assert_eq!(fault(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
}

#[test]
fn faults_that_certificates_have_to_end_are_lasting() {
    use rustls::Error::{AlertReceived, General, InvalidCertificate, InvalidMessage as Invalid};

    for (error, words, lasting) in [
        (InvalidCertificate(CertificateError::Expired), "expired", true),
        (InvalidCertificate(CertificateError::NotValidYet), "not valid yet", true),
        (InvalidCertificate(CertificateError::NotValidForName), "another name", true),
        (AlertReceived(AlertDescription::CertificateRequired), "asks for a client", true),
        (AlertReceived(AlertDescription::UnknownCA), "our certificate (UnknownCA)", true),
        (AlertReceived(AlertDescription::HandshakeFailure), "refuses", true),
        (AlertReceived(AlertDescription::NoApplicationProtocol), "HTTP/2", true),
        (AlertReceived(AlertDescription::InternalError), "TLS failed", false),
        (Invalid(InvalidMessage::InvalidContentType), "does not speak TLS", true),
        (General("x".into()), "TLS failed", false),
    ] {
        let fault = fault(&error).unwrap();
        assert!(fault.words.contains(words), "{error:?}: {fault:?}");
        assert_eq!(fault.lasting, lasting, "{error:?}: {fault:?}");
    }
}
