//! The operators' door, over plain HTTP/1.1: `/livez`, `/readyz` and `/metrics`.

mod routes;

use std::{sync::Arc, time::Duration};

use axum::Router;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::metrics::Metrics;

/// How long a readiness check may take before it counts as a no.
pub const READINESS_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection carries one request, and all of it has to be over by then. So whoever stalls, at
/// whatever point, is gone soon.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's headers come at once. Probes are short-tempered, and wait behind those who stall.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(2);
/// The most connections at a time; more wait in the listener's backlog.
pub const CONNECTIONS: usize = 256;
/// How long exchanges that are under way at the end may still take.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long to wait when the system has no resources for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Says whether a message published now would be delivered by this replica now.
pub trait Readiness: Send + Sync + 'static {
    /// `Ok` if so.
    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>>;
}

/// Why a replica is not ready.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotReady {
    /// No canary has come back yet.
    #[error("starting: no canary has come back yet")]
    Starting,
    /// Live delivery does not work.
    #[error("deaf: the last canary came back {} s ago", .0.as_secs())]
    Deaf(Duration),
    /// It was told to stop.
    #[error("shutting down")]
    ShuttingDown,
    /// The check itself did not end.
    #[error("the readiness check did not end within {} s", READINESS_TIMEOUT.as_secs())]
    Unknown,
}

/// Serves until `stop` is cancelled, then lets exchanges that are under way end, within a second.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Arc<dyn Readiness>,
    stop: CancellationToken,
) {
    Server { routes: routes::router(metrics, readiness), exchange: EXCHANGE_TIMEOUT }
        .run(listener, CONNECTIONS, stop)
        .await;
}

struct Server {
    routes: Router,
    exchange: Duration,
}

impl Server {
    async fn run(self, listener: TcpListener, connections: usize, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(connections));
        let mut exchanges = JoinSet::new();
        let accept = async || {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = exchanges.join_next() => report(ended),
                (slot, accepted) = accept() => match accepted {
                    Ok((stream, peer)) => {
                        let exchange = self.exchange(stream);
                        exchanges.spawn(async move {
                            let _slot = slot;
                            if let Err(error) = exchange.await {
                                debug!(%peer, %error, "an exchange on the admin port failed");
                            }
                        });
                    }
                    Err(error) => {
                        warn!(%error, "the admin port cannot accept");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        let rest = async {
            while let Some(ended) = exchanges.join_next().await {
                report(ended);
            }
        };
        if timeout(FAREWELL, rest).await.is_err() {
            exchanges.shutdown().await;
        }
    }

    fn exchange(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let service = TowerToHyperService::new(self.routes.clone());
        let connection = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIMEOUT)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        let limit = self.exchange;
        async move {
            timeout(limit, connection).await.map_err(|_| ExchangeError::Slow(limit))??;
            Ok(())
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("it took longer than {} s", .0.as_secs())]
    Slow(Duration),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "an exchange on the admin port broke off");
    }
}

#[cfg(test)]
mod tests;
