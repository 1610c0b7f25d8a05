//! Gets a key set again and again.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::RootCertStore;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    endpoint::Endpoint,
    error::{JwksError, JwksUrlError},
    file,
    schedule::{RefreshPolicy, Schedule},
};
use crate::{key_set::KeySet, key_store::KeyStore};

/// A key set at a URL or in a file. [`run`](Self::run) keeps the [`store`](Self::store) fresh; what
/// cannot be used never replaces a set that could.
pub struct JwksSource {
    origin: Origin,
    policy: RefreshPolicy,
    store: Arc<KeyStore>,
    status: watch::Sender<JwksStatus>,
}

enum Origin {
    Url(Box<Endpoint>),
    File(PathBuf),
}

/// How getting a key set goes.
#[derive(Clone, Default, Debug)]
pub struct JwksStatus {
    /// When a usable set was there the last time.
    pub last_success: Option<Instant>,
    /// Why the last attempt failed, if it did.
    pub error: Option<Arc<JwksError>>,
}

impl JwksStatus {
    /// Whether a set was had. It is kept, so that this stays true.
    pub const fn is_ready(&self) -> bool {
        self.last_success.is_some()
    }

    /// How long ago a usable set was there the last time.
    pub fn age(&self) -> Option<Duration> {
        self.last_success.map(|it| it.elapsed())
    }
}

impl JwksSource {
    /// A key set at an `https://` or `http://` URL. The server's certificate is judged by `roots`, or
    /// by those of this system. A user and a password in the URL are sent; redirects are not followed,
    /// and proxies are not used.
    pub fn from_url(
        url: &str,
        roots: Option<RootCertStore>,
        policy: RefreshPolicy,
    ) -> Result<Self, JwksUrlError> {
        let endpoint = Endpoint::new(url, roots)?;
        Ok(Self::new(Origin::Url(Box::new(endpoint)), policy))
    }

    /// A key set in a file, which is read again whenever it has changed.
    pub fn from_file(path: impl Into<PathBuf>, policy: RefreshPolicy) -> Self {
        Self::new(Origin::File(path.into()), policy)
    }

    fn new(origin: Origin, policy: RefreshPolicy) -> Self {
        let status = watch::Sender::default();
        Self { origin, policy, store: Arc::default(), status }
    }

    /// Where the set is kept, for [`Keys::Set`](crate::Keys::Set).
    pub const fn store(&self) -> &Arc<KeyStore> {
        &self.store
    }

    /// How it goes.
    pub fn status(&self) -> JwksStatus {
        self.status.borrow().clone()
    }

    /// Tells of every fetch, and of every change of a file or of its error.
    pub fn subscribe(&self) -> watch::Receiver<JwksStatus> {
        self.status.subscribe()
    }

    /// Gets the set, and refreshes it for as long as this is polled: at a fixed interval, after
    /// failures with growing waits, and when the store is asked for a refresh.
    pub async fn run(self: Arc<Self>) {
        match &self.origin {
            Origin::Url(endpoint) => self.follow_url(endpoint).await,
            Origin::File(path) => self.follow_file(path).await,
        }
    }

    async fn follow_url(&self, endpoint: &Endpoint) {
        let mut schedule = Schedule::new(Instant::now());
        loop {
            let on_demand_from = schedule.on_demand_from;
            let on_demand = async {
                sleep_until(on_demand_from).await;
                self.store.refresh_requested().await;
            };
            tokio::select! {
                biased;
                () = sleep_until(schedule.due) => {}
                () = on_demand => schedule.on_demand(&self.policy, Instant::now()),
            }
            let limit = self.policy.timeout;
            let fetched = timeout(limit, endpoint.fetch()).await;
            let fetched = fetched.unwrap_or(Err(JwksError::Timeout(limit)));
            let outcome = fetched.and_then(|body| self.replace(&body));
            schedule.fetched(&self.policy, Instant::now(), outcome.is_ok());
            self.report(outcome);
        }
    }

    async fn follow_file(&self, path: &Path) {
        // What was judged last: a file that does not change is neither parsed nor told of again.
        let mut last = None;
        loop {
            match file::read(path).await {
                Ok(content) if last.as_ref() == Some(&content) => self.confirm(),
                Ok(content) => {
                    self.report(self.replace(&content));
                    last = Some(content);
                }
                Err(error) => {
                    last = None;
                    // Told of once, not at every look.
                    let told =
                        self.status().error.is_some_and(|it| it.to_string() == error.to_string());
                    if !told {
                        self.report(Err(error));
                    }
                }
            }
            sleep(self.policy.file_interval).await;
        }
    }

    fn replace(&self, json: &[u8]) -> Result<(), JwksError> {
        self.store.replace(KeySet::parse(json)?);
        Ok(())
    }

    fn report(&self, outcome: Result<(), JwksError>) {
        let error = outcome.err().map(Arc::new);
        self.status.send_modify(|status| {
            if error.is_none() {
                status.last_success = Some(Instant::now());
            }
            status.error = error;
        });
    }

    /// The file is as it was when it was judged: if it was good, it still is.
    fn confirm(&self) {
        self.status.send_if_modified(|status| {
            if status.error.is_none() {
                status.last_success = Some(Instant::now());
            }
            false
        });
    }
}

/// Where the set comes from, without user, password and query of a URL.
impl fmt::Display for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Url(endpoint) => f.write_str(&endpoint.shown),
            Origin::File(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksSource")
            .field("origin", &format_args!("{self}"))
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
