//! Tokens that say who a client is.

use std::{fmt, fs::File, io, io::Read as _, path::Path, sync::Arc};

use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};

/// The longest token, in bytes: a server refuses requests with more headers.
const MAX_BYTES: usize = 16 * 1024;

/// An access token, such as a JSON Web Token. A server in token mode wants one with every stream and call.
///
/// `Debug` and errors do not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    text: Arc<str>,
    /// The value of `authorization`.
    header: MetadataValue<Ascii>,
}

/// Why a text is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccessTokenError {
    /// There is nothing, or white space only.
    #[error("the token is empty")]
    Empty,
    /// A server would not read it.
    #[error("the token has more than {MAX_BYTES} bytes")]
    TooLong,
    /// It has a character that tokens do not have.
    #[error("not a token: it has other characters than letters, digits and -._~+/=")]
    Character,
}

/// Why there is no token in a file.
#[derive(Debug, thiserror::Error)]
pub enum ReadTokenError {
    /// The system does not let it be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// What it has is no token.
    #[error("{path}: {error}")]
    Unusable {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        error: AccessTokenError,
    },
}

impl AccessToken {
    /// Takes a token, without `Bearer` before it. White space around it does not count.
    pub fn parse(text: &str) -> Result<Self, AccessTokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AccessTokenError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(AccessTokenError::TooLong);
        }
        // As RFC 6750, section 2.1, has it.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if !text.bytes().all(allowed) {
            return Err(AccessTokenError::Character);
        }
        let header = MetadataValue::try_from(format!("Bearer {text}"));
        let mut header = header.map_err(|_| AccessTokenError::Character)?;
        header.set_sensitive(true);
        Ok(Self { text: text.into(), header })
    }

    /// Reads the token that a file consists of. Blocks while it reads.
    pub fn read(path: &Path) -> Result<Self, ReadTokenError> {
        let shown = || path.display().to_string();
        let mut bytes = Vec::new();
        // No more than shows that it is too long, whatever the file is.
        let most = u64::try_from(2 * MAX_BYTES).unwrap_or(u64::MAX);
        File::open(path)
            .and_then(|file| file.take(most).read_to_end(&mut bytes))
            .map_err(|error| ReadTokenError::Unreadable { path: shown(), error })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| AccessTokenError::Character);
        text.and_then(Self::parse)
            .map_err(|error| ReadTokenError::Unusable { path: shown(), error })
    }

    /// Puts the token into the metadata of a request: `authorization: Bearer …`.
    pub fn authorize<T>(&self, request: &mut Request<T>) {
        request.metadata_mut().insert("authorization", self.header.clone());
    }

    /// The token itself.
    pub(super) fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_and_not_shown() {
        let token = AccessToken::parse(" a.b-c_d~e+f/g== \n").unwrap();
        let mut request = Request::new(());
        token.authorize(&mut request);
        let sent = request.metadata().get("authorization").unwrap();
        assert_eq!(sent.to_str().unwrap(), "Bearer a.b-c_d~e+f/g==");
        assert_eq!(format!("{token:?}"), "AccessToken(..)");
        assert!(!format!("{request:?}").contains("a.b"), "{request:?}");
    }

    #[test]
    fn what_is_no_token_is_refused_unseen() {
        for (text, error) in [
            (" \n", AccessTokenError::Empty),
            ("Bearer secret", AccessTokenError::Character),
            ("secret\nsecret", AccessTokenError::Character),
            ("sécret", AccessTokenError::Character),
            (&*"secret".repeat(MAX_BYTES), AccessTokenError::TooLong),
        ] {
            assert_eq!(AccessToken::parse(text), Err(error));
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_file_has_one_token() {
        let nowhere = AccessToken::read(Path::new("/nowhere/token")).unwrap_err().to_string();
        assert!(nowhere.starts_with("cannot read /nowhere/token: "), "{nowhere}");
        let endless = AccessToken::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(endless.starts_with("/dev/zero: the token has more than"), "{endless}");
        let nothing = AccessToken::read(Path::new("/dev/null")).unwrap_err().to_string();
        assert_eq!(nothing, "/dev/null: the token is empty");
    }
}
