mod failures;
mod files;
mod on_demand;
mod server;
mod urls;

use std::{sync::Arc, time::Duration};

use roomcast_testkit::{SOON, eventually};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{JwksSource, JwksStatus, RefreshPolicy};
use crate::{
    Keys, Validation, Verifier,
    testing::{TestKey, claims, jwks, now},
};

/// Everything soon, except what an unknown `kid` asks for.
fn quick() -> RefreshPolicy {
    RefreshPolicy {
        interval: Duration::from_millis(20),
        first_retry: Duration::from_millis(5),
        max_retry: Duration::from_millis(20),
        on_demand_gap: Duration::from_secs(30),
        timeout: Duration::from_millis(500),
        file_interval: Duration::from_millis(10),
    }
}

/// A source that runs until the test ends.
struct Running {
    source: Arc<JwksSource>,
    verifier: Verifier,
    task: JoinSet<()>,
}

impl Running {
    fn start(source: JwksSource) -> Self {
        let source = Arc::new(source);
        let mut task = JoinSet::new();
        task.spawn(source.clone().run());
        let verifier = Verifier::new(Keys::Set(source.store().clone()), Validation::default());
        Self { source, verifier, task }
    }

    /// Waits for a state of the source.
    async fn status(&self, what: &str, is: impl Fn(&JwksStatus) -> bool) -> JwksStatus {
        let mut told = self.source.subscribe();
        let status = tokio::time::timeout(SOON, told.wait_for(|it| is(it))).await;
        status.unwrap_or_else(|_| panic!("not soon: {what}")).unwrap().clone()
    }

    async fn good(&self) {
        self.status("a usable set", |it| it.is_ready() && it.error.is_none()).await;
    }

    /// Waits for an error, and returns what is said of it.
    async fn error(&self, part: &str) -> String {
        let has_part = |status: &JwksStatus| {
            status.error.as_ref().is_some_and(|it| it.to_string().contains(part))
        };
        self.status(part, has_part).await.error.unwrap().to_string()
    }

    /// Waits until a key is known.
    async fn knows(&self, kid: &str) {
        let store = self.source.store();
        eventually(SOON, kid, async || store.knows(kid).then_some(())).await;
    }

    fn takes(&self, key: &TestKey, kid: &str) -> bool {
        self.verifier.verify(&key.token(kid, claims()), now()).is_ok()
    }
}

fn set(keys: &[Value]) -> String {
    String::from_utf8(jwks(keys)).unwrap()
}
