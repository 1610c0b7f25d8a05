//! The keys that verify tokens: read at the start, and kept up to date.

use std::{sync::Arc, time::Duration};

use roomcast_auth::{JwksSource, JwksStatus, Validation, Verifier};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::{AuthConfig, Config, KeySource},
    gateway::Authenticator,
    metrics::Metrics,
    token::keyring::{AuthError, KeyFile, Keyring, Origin, role},
};

/// How often a file with a key is read. They are small, and reading them also sees what watching would not: the
/// symbolic links that Kubernetes swaps.
const INTERVAL: Duration = Duration::from_secs(2);

/// How it is found out who comes, and where the keys for that are from.
#[derive(Clone)]
pub(super) struct Auth {
    pub(super) authenticator: Arc<Authenticator>,
    keyring: Option<Keyring>,
}

impl Auth {
    /// Reads what is configured. A key set is not asked for yet.
    pub(super) fn load(config: &AuthConfig) -> Result<Self, AuthError> {
        let keyring = Keyring::load(config)?;
        let authenticator = match &keyring {
            None => Authenticator::open(),
            Some(keyring) => Authenticator::tokens(keyring.verifier(), role(config.default_role)),
        };
        Ok(Self { authenticator, keyring })
    }

    /// Why nobody can be let in yet, if that is so.
    pub(super) fn missing(&self) -> Option<String> {
        let Origin::KeySet(source) = &self.keyring.as_ref()?.origin else { return None };
        let status = source.status();
        if status.is_ready() {
            return None;
        }
        let why = status.error.map_or_else(|| "not fetched yet".to_owned(), |it| it.to_string());
        Some(format!("no keys to verify tokens: {why}"))
    }

    /// Waits until the keys are there; then they stay.
    pub(super) async fn until_there(&self) {
        if let Some(Keyring { origin: Origin::KeySet(source), .. }) = &self.keyring {
            // Its sender is the source's own.
            let _ = source.subscribe().wait_for(JwksStatus::is_ready).await;
        }
    }

    /// Keeps the keys up to date until it is told to stop.
    pub(super) async fn watch(self, metrics: Metrics, stop: CancellationToken) {
        match self.keyring {
            None | Some(Keyring { origin: Origin::Fixed, .. }) => stop.cancelled().await,
            Some(Keyring { origin: Origin::File(file), validation, .. }) => {
                watch_file(&self.authenticator, &validation, file, &stop).await;
            }
            Some(Keyring { origin: Origin::KeySet(source), .. }) => {
                let watched = async {
                    tokio::join!(source.clone().run(), tell(&source, &metrics));
                };
                stop.run_until_cancelled(watched).await;
            }
        }
    }
}

/// Tells an operator what is open that may not be meant to be.
pub(super) fn warn_of(config: &Config) {
    if config.auth.keys.is_none() && !config.server.addr.ip().is_loopback() {
        warn!(
            addr = %config.server.addr,
            "whoever reaches this address may chat and read every room: auth.mode is \"open\""
        );
    }
    if let Some(KeySource::KeySetUrl(url)) = &config.auth.keys
        && url.expose().starts_with("http://")
    {
        warn!("whoever can answer for the host of auth.jwks_url can sign tokens: use https://");
    }
}

/// Puts a changed key in force. What cannot be used is told once, and what was in force stays.
async fn watch_file(
    authenticator: &Authenticator,
    validation: &Validation,
    mut file: KeyFile,
    stop: &CancellationToken,
) {
    let mut refused = None;
    while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
        let (key, path) = (file.key, file.path.clone());
        // A file on a network that hangs shall hold up nobody.
        let read = tokio::task::spawn_blocking(move || KeyFile::read(key, path)).await;
        let Ok(read) = read else { return };
        let found = read.and_then(|read| Ok((read.keys()?, read)));
        match found {
            Ok((_, read)) if read.content == file.content => refused = None,
            Ok((keys, read)) => {
                authenticator.replace(Verifier::new(keys, validation.clone()));
                (file, refused) = (read, None);
                info!(key, "the key that verifies tokens was loaded anew");
            }
            Err(error) => {
                let words = error.to_string();
                if refused.as_ref() != Some(&words) {
                    warn!(
                        error = words,
                        "the changed key cannot be used; the old one stays in force"
                    );
                }
                refused = Some(words);
            }
        }
    }
}

/// Tells how getting a key set goes: its age, and errors once.
async fn tell(source: &JwksSource, metrics: &Metrics) {
    let mut told = None;
    loop {
        let status = source.status();
        if let Some(age) = status.age() {
            metrics.key_set_age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
        let error = status.error.map(|error| error.to_string());
        if told != error {
            match &error {
                Some(error) => warn!(error, "the keys that verify tokens cannot be fetched"),
                None => info!("the keys that verify tokens are there again"),
            }
            told = error;
        }
        sleep(Duration::from_secs(1)).await;
    }
}
