//! Where a client gets its access tokens from.

use std::{error::Error, fmt, path::PathBuf, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::task::spawn_blocking;

use super::access_token::AccessToken;

/// How long getting a token may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that may be said for that.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

type BoxError = Box<dyn Error + Send + Sync>;
pub(super) type Gotten = Result<AccessToken, BoxError>;
type Get = Arc<dyn Fn() -> BoxFuture<'static, Gotten> + Send + Sync>;

/// Where a client gets its access tokens from: a fixed one, a file, or a function of the application's.
///
/// ```
/// use roomcast_client::{AccessToken, TokenSource};
///
/// # async fn sign_in() -> Result<String, std::io::Error> { Ok(String::new()) }
/// let tokens = TokenSource::new(|| async {
///     let token = sign_in().await?;
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(AccessToken::parse(&token)?)
/// });
/// ```
///
/// A client asks it for its first token, and again when the server says that the token in use is about to
/// expire, or refuses it. All tokens have to be of one subject: a session belongs to it.
#[derive(Clone)]
pub struct TokenSource {
    kind: Kind,
    patience: Duration,
}

#[derive(Clone)]
enum Kind {
    Fixed(AccessToken),
    Renewable(Get),
}

impl TokenSource {
    /// This token, and no other. The client ends with
    /// [`Error::TokenExpired`](super::Error::TokenExpired) a little after it has expired.
    pub fn fixed(token: AccessToken) -> Self {
        Self { kind: Kind::Fixed(token), patience: PATIENCE }
    }

    /// What this function gives: one token for each call.
    ///
    /// It runs in a task of its own, one call at a time. A call that fails, panics, or takes longer than
    /// [`within`](Self::within) says is made again after a random wait, of up to 500 ms at first and 10 s in
    /// the end while a stream is open, and as between any two attempts while there is none. Its error may be
    /// shown to people, in [`Reason::NoToken`](super::Reason::NoToken): it must not have a token in it.
    pub fn new<F, T, E>(get: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<AccessToken, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let get: Get = Arc::new(move || get().map(|gotten| gotten.map_err(Into::into)).boxed());
        Self { kind: Kind::Renewable(get), patience: PATIENCE }
    }

    /// What this file has each time that a token is needed: somebody else replaces it before its token expires.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::new(move || {
            let path = path.clone();
            // A file on a network that hangs shall hold up nobody.
            async move { Ok::<_, BoxError>(spawn_blocking(move || AccessToken::read(&path)).await??) }
        })
    }

    /// How long a call may take, a day at the most; 10 s unless it is said.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience.min(LONGEST_PATIENCE);
        self
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether there may be another token than the first.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self.kind, Kind::Renewable(_))
    }

    /// The next token.
    pub(super) async fn get(self) -> Gotten {
        match self.kind {
            Kind::Fixed(token) => Ok(token),
            Kind::Renewable(get) => get().await,
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Fixed(_) => "TokenSource::fixed(..)",
            Kind::Renewable(_) => "TokenSource::new(..)",
        })
    }
}
