//! What a listener shows to its clients, kept up to date with the files.
//!
//! rustls with ring is the only implementation of TLS and of its cryptography in this process.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use roomcast_tls::{Contents, PemFile, Shown, TlsError, TlsFiles, provider};
use rustls::{ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{Metrics, TlsReload};

/// How often the files are read. They are small, and reading them also sees what watching would
/// not: the symbolic links that Kubernetes swaps.
const INTERVAL: Duration = Duration::from_secs(2);

/// The certificate in force, and what clients have to show.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    first: Contents,
    metrics: Metrics,
}

impl Certificates {
    /// Reads and checks the files. With a CA among them, clients have to show a certificate of it.
    pub fn load(
        cert: PemFile,
        key: PemFile,
        client_ca: Option<PemFile>,
        metrics: Metrics,
    ) -> Result<Self, TlsError> {
        let files = TlsFiles { pair: Some((cert, key)), ca: client_ca };
        let first = files.read()?;
        let (config, expiry) = build(&files, &first, SystemTime::now())?;
        set_expiry(&metrics, expiry);
        Ok(Self { files, current: RwLock::new(config), first, metrics })
    }

    /// For one connection, with the certificate that is in force now.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Follows the files until it is told to stop. What cannot be used is told once, and what was in
    /// force stays.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut watch = Watch::new(self.files.clone(), self.first.clone());
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            let files = self.files.clone();
            // A file on a network that hangs shall not hold up connections.
            let Ok(found) = tokio::task::spawn_blocking(move || files.read()).await else { return };
            match watch.look(found, SystemTime::now()) {
                None => {}
                Some(Ok((config, expiry))) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                    set_expiry(&self.metrics, expiry);
                    self.metrics.tls_reloads.of(TlsReload::Reloaded).inc();
                    info!("the TLS certificate was loaded anew");
                }
                Some(Err(error)) => {
                    self.metrics.tls_reloads.of(TlsReload::Refused).inc();
                    warn!(%error, "the changed TLS files cannot be used; the old ones stay in force");
                }
            }
        }
    }
}

/// What is served, and when its certificate ends.
type Built = (Arc<ServerConfig>, Duration);

fn build(files: &TlsFiles, contents: &Contents, now: SystemTime) -> Result<Built, TlsError> {
    let Some((cert, _)) = &files.pair else { unreachable!("a server has a certificate") };
    let Some(Shown { certified, expiry }) = files.shown(contents, now)? else {
        return Err(TlsError::NoCertificate(cert.clone()));
    };
    let unusable = |file: &PemFile, cause: &dyn std::fmt::Display| TlsError::Unusable {
        file: file.clone(),
        cause: cause.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(cert, &error))?;
    let builder = match (files.trusted(contents)?, &files.ca) {
        (Some(roots), Some(ca)) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(ca, &error))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), expiry))
}

fn set_expiry(metrics: &Metrics, expiry: Duration) {
    metrics.tls_certificate_expiry.set(i64::try_from(expiry.as_secs()).unwrap_or(i64::MAX));
}

/// What was found in the files, to compare with what is found next.
type Found = Result<Contents, String>;

/// Decides what to do about what is in the files.
#[derive(Debug)]
struct Watch {
    files: TlsFiles,
    in_force: Contents,
    /// Of no use when last seen. The files may have been caught between the change of one and that
    /// of the other, so nothing is said until it is seen twice.
    suspect: Option<Found>,
    /// Of no use, and that was said.
    refused: Option<Found>,
}

impl Watch {
    fn new(files: TlsFiles, in_force: Contents) -> Self {
        Self { files, in_force, suspect: None, refused: None }
    }

    /// What is to be put in force, or said.
    fn look(
        &mut self,
        found: Result<Contents, TlsError>,
        now: SystemTime,
    ) -> Option<Result<Built, TlsError>> {
        let mark: Found = found.as_ref().map(Clone::clone).map_err(ToString::to_string);
        if mark.as_ref() == Ok(&self.in_force) {
            (self.suspect, self.refused) = (None, None);
            return None;
        }
        // Also what was refused before: it may just not have been valid yet.
        match found.and_then(|contents| Ok((build(&self.files, &contents, now)?, contents))) {
            Ok((built, contents)) => {
                *self = Self::new(self.files.clone(), contents);
                Some(Ok(built))
            }
            Err(_) if self.refused.as_ref() == Some(&mark) => None,
            Err(error) if self.suspect.as_ref() == Some(&mark) => {
                self.refused = Some(mark);
                Some(Err(error))
            }
            Err(_) => {
                self.suspect = Some(mark);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
