//! What is served under which path.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::time::timeout;

use super::{NotReady, READINESS_TIMEOUT, Readiness};
use crate::metrics::Metrics;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    readiness: Arc<dyn Readiness>,
}

pub(super) fn router(metrics: Metrics, readiness: Arc<dyn Readiness>) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .fallback(async || (StatusCode::NOT_FOUND, "try /livez, /readyz or /metrics\n"))
        .with_state(Admin { metrics, readiness })
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.ready().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn render(State(admin): State<Admin>) -> impl IntoResponse {
    // For its gauge, which must be true whether or not anybody probes.
    let _ = admin.ready().await;
    ([(CONTENT_TYPE, OPENMETRICS)], admin.metrics.encode())
}

impl Admin {
    async fn ready(&self) -> Result<(), NotReady> {
        let verdict = timeout(READINESS_TIMEOUT, self.readiness.ready())
            .await
            .unwrap_or(Err(NotReady::Unknown));
        self.metrics.ready.set(i64::from(verdict.is_ok()));
        verdict
    }
}
