//! What went wrong with the other side, in words for people.

use std::{error::Error, io, sync::Arc};

use rustls::{AlertDescription, CertificateError};

/// A failure of TLS, as the side that connects sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// About the other side, which the reader puts before it: "its certificate has expired".
    pub words: String,
    /// Trying again does not help: certificates or configuration have to change.
    pub lasting: bool,
}

/// The failure of TLS that is behind an error, if one is.
pub fn fault(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = rustls_error(error) {
            return Some(describe(error));
        }
        if let Some(alert) = alert_in_words(error) {
            return Some(describe(&alert));
        }
        next = error.source();
    }
    None
}

/// `io::Error` and `Arc` do not tell of what they wrap as a source.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return rustls_error(&**error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let inner: &(dyn Error + 'static) = error.get_ref()?;
        return rustls_error(inner);
    }
    error.downcast_ref()
}

/// HTTP/2 keeps only the words of what ended its connection, and with TLS 1.3 a client learns there
/// what the server thinks of its certificate.
fn alert_in_words(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let words = error.to_string();
    let alerts = [
        AlertDescription::CertificateRequired,
        AlertDescription::BadCertificate,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnknownCA,
        AlertDescription::AccessDenied,
    ];
    alerts.map(rustls::Error::AlertReceived).into_iter().find(|alert| alert.to_string() == words)
}

fn describe(error: &rustls::Error) -> Fault {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};

    let (words, lasting) = match error {
        InvalidCertificate(error) => (of_certificate(error), true),
        AlertReceived(AlertDescription::CertificateRequired) => {
            ("it asks for a client certificate".to_owned(), true)
        }
        AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        ) => (format!("it does not accept our certificate ({alert:?})"), true),
        AlertReceived(AlertDescription::HandshakeFailure) => {
            ("it refuses the TLS handshake; it may ask for a client certificate".to_owned(), true)
        }
        AlertReceived(AlertDescription::NoApplicationProtocol) => {
            ("it speaks another protocol over TLS than HTTP/2".to_owned(), true)
        }
        InvalidMessage(_) => ("it does not speak TLS".to_owned(), true),
        error => (format!("TLS failed: {error}"), false),
    };
    Fault { words, lasting }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is not from a CA that is trusted here".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let asked = expected.to_str();
            format!("its certificate is not for {asked}, but for {}", presented.join(", "))
        }
        error => format!("its certificate is not accepted: {error}"),
    }
}
