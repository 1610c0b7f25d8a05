//! The keys that verify tokens, as they are configured.

use std::{fs, io, path::PathBuf, sync::Arc};

use roomcast_auth::{
    JwksSource, JwksUrlError, KeyError, Keys, RefreshPolicy, Role, Validation, Verifier,
};

use crate::config::{AuthConfig, DefaultRole, KeySource, unfit_key};

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
    /// A key of backends that will not do.
    #[error("{key}: a key has to be {needed}")]
    ApiKey {
        /// Which key of the configuration has it.
        key: &'static str,
        /// What it is not.
        needed: &'static str,
    },
    /// Not a URL of a key set.
    #[error("auth.jwks_url: {0}")]
    Url(#[from] JwksUrlError),
}

/// The keys that verify tokens, what these have to say, and where the keys are from.
#[derive(Clone)]
pub struct Keyring {
    keys: Keys,
    /// Where they are from.
    pub origin: Origin,
    /// What tokens have to say.
    pub validation: Validation,
}

/// Where keys are from.
#[derive(Clone)]
pub enum Origin {
    /// They do not change.
    Fixed,
    /// A file with one of them.
    File(KeyFile),
    /// A key set, which is to be fetched.
    KeySet(Arc<JwksSource>),
}

/// A file with one key, and what it had when that was put in force.
#[derive(Clone)]
pub struct KeyFile {
    /// Which key of the configuration names it.
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// What it had.
    pub content: Vec<u8>,
}

impl KeyFile {
    const SECRET: &str = "auth.secret_file";
    const PUBLIC_KEY: &str = "auth.public_key_file";
    /// Names the file with the key of backends.
    pub const API_KEY: &str = "api.key_file";

    /// Reads it, whatever it has.
    pub fn read(key: &'static str, path: PathBuf) -> Result<Self, AuthError> {
        match fs::read(&path) {
            Ok(content) => Ok(Self { key, path, content }),
            Err(error) => Err(AuthError::Unreadable { key, path, error }),
        }
    }

    /// The key that it has.
    pub fn keys(&self) -> Result<Keys, AuthError> {
        let keys = if self.key == Self::SECRET {
            Keys::from_secret(self.line())
        } else {
            Keys::from_pem(&self.content)
        };
        keys.map_err(|error| AuthError::Key { key: self.key, error })
    }

    /// The key of backends that it has.
    pub fn api_key(&self) -> Result<&str, AuthError> {
        let key = std::str::from_utf8(self.line()).unwrap_or_default();
        match unfit_key(key) {
            None => Ok(key),
            Some(needed) => Err(AuthError::ApiKey { key: self.key, needed }),
        }
    }

    /// What it has without its line's end, as configuration reads it.
    fn line(&self) -> &[u8] {
        let last = self.content.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        &self.content[..last.map_or(0, |last| last + 1)]
    }
}

/// What a role is called in tokens.
pub fn role(default: DefaultRole) -> Option<Role> {
    match default {
        DefaultRole::None => None,
        DefaultRole::Reader => Some(Role::Reader),
        DefaultRole::Member => Some(Role::Member),
    }
}

impl Keyring {
    /// Reads what is configured, if tokens are wanted. A key set is not asked for yet.
    pub fn load(config: &AuthConfig) -> Result<Option<Self>, AuthError> {
        let AuthConfig { keys, issuer, audience, leeway, .. } = config;
        let Some(source) = keys else { return Ok(None) };
        let validation =
            Validation { issuer: issuer.clone(), audience: audience.clone(), leeway: *leeway };
        let (keys, origin) = match source {
            KeySource::Secret(secret, None) => {
                let keys = Keys::from_secret(secret.expose().as_bytes())
                    .map_err(|error| AuthError::Key { key: "auth.secret", error })?;
                (keys, Origin::Fixed)
            }
            KeySource::Secret(_, Some(path)) => {
                let file = KeyFile::read(KeyFile::SECRET, path.clone())?;
                (file.keys()?, Origin::File(file))
            }
            KeySource::PublicKey(path) => {
                let file = KeyFile::read(KeyFile::PUBLIC_KEY, path.clone())?;
                (file.keys()?, Origin::File(file))
            }
            KeySource::KeySetUrl(url) => {
                let policy = RefreshPolicy::default();
                Self::key_set(JwksSource::from_url(url.expose(), None, policy)?)
            }
            KeySource::KeySetFile(path) => {
                Self::key_set(JwksSource::from_file(path, RefreshPolicy::default()))
            }
        };
        Ok(Some(Self { keys, origin, validation }))
    }

    /// What verifies tokens by these keys.
    pub fn verifier(&self) -> Verifier {
        Verifier::new(self.keys.clone(), self.validation.clone())
    }

    fn key_set(source: JwksSource) -> (Keys, Origin) {
        let source = Arc::new(source);
        (Keys::Set(source.store().clone()), Origin::KeySet(source))
    }
}
