//! The keys that verify tokens: read at the start, and kept up to date.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use roomcast_auth::{
    JwksSource, JwksUrlError, KeyError, Keys, RefreshPolicy, Role, Validation, Verifier,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::{AuthConfig, DefaultRole, KeySource},
    gateway::Authenticator,
    metrics::Metrics,
};

/// How often a file with a key is read. They are small, and reading them also sees what watching would not: the
/// symbolic links that Kubernetes swaps.
const INTERVAL: Duration = Duration::from_secs(2);

/// Why tokens cannot be verified with what is configured.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file that cannot be read.
    #[error("{key}: cannot read {}: {error}", .path.display())]
    Unreadable {
        /// Which key of the configuration names it.
        key: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A key that is none.
    #[error("{key}: {error}")]
    Key {
        /// Which key of the configuration has it.
        key: &'static str,
        /// What is wrong with it.
        error: KeyError,
    },
    /// Not a URL of a key set.
    #[error("auth.jwks_url: {0}")]
    Url(#[from] JwksUrlError),
}

/// How it is found out who comes, and where the keys for that are from.
#[derive(Clone)]
pub(super) struct Auth {
    pub(super) authenticator: Arc<Authenticator>,
    origin: Origin,
    validation: Validation,
}

#[derive(Clone)]
enum Origin {
    /// It does not change.
    Fixed,
    File(KeyFile),
    KeySet(Arc<JwksSource>),
}

/// A file with one key, and what it had when that was put in force.
#[derive(Clone)]
struct KeyFile {
    key: &'static str,
    path: PathBuf,
    content: Vec<u8>,
}

impl KeyFile {
    const SECRET: &str = "auth.secret_file";
    const PUBLIC_KEY: &str = "auth.public_key_file";

    fn read(key: &'static str, path: PathBuf) -> Result<Self, AuthError> {
        match fs::read(&path) {
            Ok(content) => Ok(Self { key, path, content }),
            Err(error) => Err(AuthError::Unreadable { key, path, error }),
        }
    }

    fn keys(&self) -> Result<Keys, AuthError> {
        let keys = if self.key == Self::SECRET {
            // Without its line's end, as configuration reads it.
            let last = self.content.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
            Keys::from_secret(&self.content[..last.map_or(0, |last| last + 1)])
        } else {
            Keys::from_pem(&self.content)
        };
        keys.map_err(|error| AuthError::Key { key: self.key, error })
    }
}

impl Auth {
    /// Reads what is configured. A key set is not asked for yet.
    pub(super) fn load(config: &AuthConfig) -> Result<Self, AuthError> {
        let AuthConfig { keys, issuer, audience, leeway, default_role } = config;
        let validation =
            Validation { issuer: issuer.clone(), audience: audience.clone(), leeway: *leeway };
        let (keys, origin) = match keys {
            None => {
                let authenticator = Authenticator::open();
                return Ok(Self { authenticator, origin: Origin::Fixed, validation });
            }
            Some(KeySource::Secret(secret, None)) => {
                let keys = Keys::from_secret(secret.expose().as_bytes())
                    .map_err(|error| AuthError::Key { key: "auth.secret", error })?;
                (keys, Origin::Fixed)
            }
            Some(KeySource::Secret(_, Some(path))) => {
                let file = KeyFile::read(KeyFile::SECRET, path.clone())?;
                (file.keys()?, Origin::File(file))
            }
            Some(KeySource::PublicKey(path)) => {
                let file = KeyFile::read(KeyFile::PUBLIC_KEY, path.clone())?;
                (file.keys()?, Origin::File(file))
            }
            Some(KeySource::KeySetUrl(url)) => {
                let policy = RefreshPolicy::default();
                Self::key_set(JwksSource::from_url(url.expose(), None, policy)?)
            }
            Some(KeySource::KeySetFile(path)) => {
                Self::key_set(JwksSource::from_file(path, RefreshPolicy::default()))
            }
        };
        let verifier = Verifier::new(keys, validation.clone());
        let default_role = match default_role {
            DefaultRole::None => None,
            DefaultRole::Reader => Some(Role::Reader),
            DefaultRole::Member => Some(Role::Member),
        };
        let authenticator = Authenticator::tokens(verifier, default_role);
        Ok(Self { authenticator, origin, validation })
    }

    fn key_set(source: JwksSource) -> (Keys, Origin) {
        let source = Arc::new(source);
        (Keys::Set(source.store().clone()), Origin::KeySet(source))
    }

    /// Why nobody can be let in yet, if that is so.
    pub(super) fn missing(&self) -> Option<String> {
        let Origin::KeySet(source) = &self.origin else { return None };
        let status = source.status();
        if status.is_ready() {
            return None;
        }
        let why = status.error.map_or_else(|| "not fetched yet".to_owned(), |it| it.to_string());
        Some(format!("no keys to verify tokens: {why}"))
    }

    /// Keeps the keys up to date until it is told to stop.
    pub(super) async fn watch(self, metrics: Metrics, stop: CancellationToken) {
        match self.origin.clone() {
            Origin::Fixed => stop.cancelled().await,
            Origin::File(file) => self.watch_file(file, &stop).await,
            Origin::KeySet(source) => {
                let watched = async {
                    tokio::join!(source.clone().run(), tell(&source, &metrics));
                };
                stop.run_until_cancelled(watched).await;
            }
        }
    }

    /// What cannot be used is told once, and what was in force stays.
    async fn watch_file(&self, mut file: KeyFile, stop: &CancellationToken) {
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
                    let verifier = Verifier::new(keys, self.validation.clone());
                    self.authenticator.replace(verifier);
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
