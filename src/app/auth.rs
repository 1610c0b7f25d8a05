//! The keys that verify tokens, and that of backends: read at the start, and kept up to date.

use std::{sync::Arc, time::Duration};

use roomcast_auth::{JwksSource, JwksStatus, Verifier};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    backplane::Directives,
    config::{ApiConfig, AuthConfig, Config, KeySource},
    gateway::{Authenticator, Users},
    hub::Hub,
    metrics::Metrics,
    token::keyring::{AuthError, KeyFile, Keyring, Origin, role},
};

/// How often a file with a key is read. They are small, and reading them also sees what watching would not: the
/// symbolic links that Kubernetes swaps.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often it is asked what replicas are told about subjects: they are to do it within a second.
const DIRECTIVES: Duration = Duration::from_millis(500);

/// How it is found out who comes, and where the keys for that are from.
#[derive(Clone)]
pub(super) struct Auth {
    pub(super) authenticator: Arc<Authenticator>,
    keyring: Option<Keyring>,
    /// Where the key of backends is, if it is in a file.
    api_key_file: Option<KeyFile>,
}

impl Auth {
    /// Reads what is configured. A key set is not asked for yet.
    pub(super) fn load(auth: &AuthConfig, api: &ApiConfig) -> Result<Self, AuthError> {
        let keyring = Keyring::load(auth)?;
        let authenticator = match &keyring {
            None => Authenticator::open(),
            Some(keyring) => Authenticator::tokens(keyring.verifier(), role(auth.default_role)),
        };
        if let Some(key) = &api.key {
            authenticator.know_backends_by(key.expose());
        }
        let api_key_file = api.key_file.clone().map(|it| KeyFile::read(KeyFile::API_KEY, it));
        Ok(Self { authenticator, keyring, api_key_file: api_key_file.transpose()? })
    }

    /// Whether anybody has to say who they are.
    pub(super) fn asks(&self) -> bool {
        self.keyring.is_some()
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
        let Self { authenticator, keyring, api_key_file } = self;
        tokio::join!(
            watch_keys(&authenticator, keyring, &metrics, &stop),
            watch_api_key(&authenticator, api_key_file, &stop)
        );
    }
}

/// Keeps the keys that verify tokens up to date.
async fn watch_keys(
    authenticator: &Authenticator,
    keyring: Option<Keyring>,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    match keyring {
        None | Some(Keyring { origin: Origin::Fixed, .. }) => stop.cancelled().await,
        Some(Keyring { origin: Origin::File(file), validation, .. }) => {
            let replace = |read: &KeyFile| {
                let keys = read.keys()?;
                authenticator.replace(Verifier::new(keys, validation.clone()));
                Ok(())
            };
            watch_file(file, stop, replace).await;
        }
        Some(Keyring { origin: Origin::KeySet(source), .. }) => {
            let watched = async {
                tokio::join!(source.clone().run(), tell(&source, metrics));
            };
            stop.run_until_cancelled(watched).await;
        }
    }
}

/// Keeps the key of backends up to date.
async fn watch_api_key(
    authenticator: &Authenticator,
    file: Option<KeyFile>,
    stop: &CancellationToken,
) {
    let Some(file) = file else { return stop.cancelled().await };
    let replace = |read: &KeyFile| {
        authenticator.know_backends_by(read.api_key()?);
        Ok(())
    };
    watch_file(file, stop, replace).await;
}

/// Does what all replicas are told about subjects, until it is told to stop. While the backplane does not answer, what
/// it told last holds.
pub(super) async fn follow_directives(hub: Arc<Hub>, users: Arc<Users>, stop: CancellationToken) {
    let mut known = 0;
    let follow = async {
        loop {
            if let Ok(Some(Directives { version, all })) = hub.backplane().directives(known).await {
                users.heed(&all);
                known = version;
            }
            sleep(DIRECTIVES).await;
        }
    };
    stop.run_until_cancelled(follow).await;
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
    mut file: KeyFile,
    stop: &CancellationToken,
    mut replace: impl FnMut(&KeyFile) -> Result<(), AuthError>,
) {
    let mut refused = None;
    while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
        let (key, path) = (file.key, file.path.clone());
        // A file on a network that hangs shall hold up nobody.
        let read = tokio::task::spawn_blocking(move || KeyFile::read(key, path)).await;
        let Ok(read) = read else { return };
        let changed = match read {
            Ok(read) if read.content == file.content => Ok(None),
            read => read.and_then(|read| replace(&read).map(|()| Some(read))),
        };
        match changed {
            Ok(None) => refused = None,
            Ok(Some(read)) => {
                (file, refused) = (read, None);
                info!(key, "the key was loaded anew");
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
