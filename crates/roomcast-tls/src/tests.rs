use std::{
    error::Error as _,
    fs, io,
    time::{Duration, SystemTime},
};

use roomcast_testkit::Authority;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::*;

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
    let authority = Authority::new("CA");
    let issue = |from, until| {
        let pair = authority.issue_around(SystemTime::UNIX_EPOCH + NOW, "localhost", from, until);
        (pair.cert, pair.key)
    };
    let ca = authority.pem();
    let (cert, key) = issue(-1, 10);
    let (_, other) = issue(-1, 10);
    let (past, past_key) = issue(-10, -1);
    let (future, future_key) = issue(1, 10);
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
