//! The operators' port, over plain HTTP/1.1: `/livez`, `/readyz` and `/metrics`.

mod routes;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use futures_util::future::BoxFuture;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::metrics::Metrics;

/// Log lines keep this target, whatever the module is called.
const TARGET: &str = "roomcast::http";

/// How long a readiness check may take before it counts as a no.
pub const READINESS_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection carries one request, and all of it has to be over by then. So whoever stalls, at
/// whatever point, is gone soon.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's headers come at once.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(2);
/// The most connections at a time. Where there are as many, one that has not asked for anything makes way for
/// the next: nobody waits to be accepted.
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
    /// Nothing can be said, as the backplane puts it.
    #[error("{0}")]
    Refused(String),
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
    let (exchange, headers) = (EXCHANGE_TIMEOUT, HEADERS_TIMEOUT);
    Server { routes: routes::router(metrics, readiness), exchange, headers }
        .run(listener, CONNECTIONS, stop)
        .await;
}

struct Server {
    routes: Router,
    exchange: Duration,
    headers: Duration,
}

/// A connection, for as long as it may be under way.
struct Open {
    peer: IpAddr,
    /// Whether its request has come.
    asked: Arc<AtomicBool>,
    exchange: AbortHandle,
}

/// Which of these connections makes way for another one: of those that have asked for nothing yet, if there
/// are any, the first one of the address that has the most. So whoever takes many takes them from
/// themselves.
fn in_the_way(open: &[Open]) -> usize {
    let silent = |it: &&Open| !it.asked.load(Ordering::Relaxed);
    let any_silent = open.iter().any(|it| silent(&it));
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for it in open.iter().filter(|it| !any_silent || silent(it)) {
        *counts.entry(it.peer).or_default() += 1;
    }
    let most = counts.values().max().copied();
    let found = open
        .iter()
        .position(|it| (!any_silent || silent(&it)) && counts.get(&it.peer).copied() == most);
    found.unwrap_or(0)
}

impl Server {
    async fn run(self, listener: TcpListener, connections: usize, stop: CancellationToken) {
        let mut exchanges = JoinSet::new();
        let mut open: Vec<Open> = Vec::with_capacity(connections);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = exchanges.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if open.len() >= connections {
                            open.retain(|it| !it.exchange.is_finished());
                        }
                        if open.len() >= connections {
                            open.remove(in_the_way(&open)).exchange.abort();
                        }
                        let asked = Arc::new(AtomicBool::new(false));
                        let exchange = self.exchange(stream, asked.clone());
                        let exchange = exchanges.spawn(async move {
                            if let Err(error) = exchange.await {
                                debug!(target: TARGET, %peer, %error, "an exchange on the admin port failed");
                            }
                        });
                        open.push(Open { peer: peer.ip(), asked, exchange });
                    }
                    Err(error) => {
                        warn!(target: TARGET, %error, "the admin port cannot accept");
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
        asked: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let routes = TowerToHyperService::new(self.routes.clone());
        let service = service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            routes.call(request)
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(self.headers)
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
    if let Err(error) = ended
        && !error.is_cancelled()
    {
        error!(target: TARGET, %error, "an exchange on the admin port broke off");
    }
}

#[cfg(test)]
mod tests;
