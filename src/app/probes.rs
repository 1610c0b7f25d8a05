//! Whether this replica is ready, for those who ask.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use super::auth::Auth;
use crate::{
    admin::{NotReady, Readiness},
    gateway::Services,
    hub::{Hub, Silent},
};

/// Lets gRPC health follow the canary, once there are keys that tokens are verified with.
pub(super) async fn follow_health(hub: &Hub, services: &Services, auth: &Auth) {
    auth.until_there().await;
    let mut alive = hub.delivery_probe().alive();
    loop {
        let serving = *alive.borrow_and_update();
        services.set_serving(serving).await;
        if alive.changed().await.is_err() {
            return;
        }
    }
}

/// What the admin port is told about readiness.
pub(super) struct Probes {
    pub(super) hub: Arc<Hub>,
    pub(super) auth: Auth,
    pub(super) leaving: CancellationToken,
}

impl Readiness for Probes {
    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        async {
            if self.leaving.is_cancelled() {
                return Err(NotReady::ShuttingDown);
            }
            if let Some(missing) = self.auth.missing() {
                return Err(NotReady::Refused(missing));
            }
            self.hub.prove_delivery().await.map_err(|silent| match silent {
                Silent::Never => NotReady::Starting,
                Silent::Since(age) => NotReady::Deaf(age),
                Silent::Refused(reason) => NotReady::Refused(reason),
            })
        }
        .boxed()
    }
}
