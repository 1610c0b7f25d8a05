//! What the process tells of itself as it runs: log lines, and spans for a collector.

mod logs;
mod spans;
mod throttle;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{Layer as _, filter::Targets, layer::SubscriberExt as _};

pub use self::spans::Error as EndpointError;
use self::{spans::Spans, throttle::Throttle};
use crate::{
    config::TelemetryConfig,
    domain::ReplicaId,
    metrics::Metrics,
    trace::{self, Sampler},
};

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has set up logging in this process.
    #[error("logging is set up already")]
    AlreadySet(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// Spans cannot be sent to such an address.
    #[error("telemetry.otlp_endpoint cannot be used: {0}")]
    Endpoint(#[from] EndpointError),
}

/// Writes out what is still to be written when it is dropped, but for spans, see
/// [`Telemetry::shutdown`].
#[derive(Debug)]
#[must_use = "what was logged last is lost without it"]
pub struct Telemetry {
    spans: Option<Spans>,
    throttle: Throttle,
    _lines: WorkerGuard,
}

/// Starts logging and, where there is an endpoint for them, exporting spans. Once per process,
/// within its runtime.
pub fn init(
    config: &TelemetryConfig,
    replica: ReplicaId,
    metrics: &Metrics,
) -> Result<(Telemetry, Sampler), Error> {
    let endpoint = config.otlp_endpoint.as_ref();
    let spans = endpoint.map(|url| Spans::export_to(url, replica, metrics)).transpose()?;
    let (writer, lines) = logs::writer(metrics);
    let layer = spans.as_ref().map(|spans| {
        tracing_opentelemetry::layer()
            .with_tracer(spans.tracer())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(trace::TARGET, Level::INFO))
    });
    let throttle = Throttle::default();
    let subscriber = logs::logging(config, writer, throttle.clone()).with(layer);
    tracing::subscriber::set_global_default(subscriber)?;
    let sampler = match spans {
        Some(_) => Sampler::new(config.sample_ratio.get()),
        None => Sampler::off(),
    };
    Ok((Telemetry { spans, throttle, _lines: lines }, sampler))
}

impl Telemetry {
    /// Tells of lines that were not logged because there were too many alike, until it is cancelled.
    pub fn tell_sums(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        self.throttle.clone().tell_until(stop)
    }

    /// Exports what has not been exported yet, as far as that gets within `patience`.
    pub async fn shutdown(self, patience: Duration) {
        if let Some(spans) = self.spans {
            spans.shutdown(patience).await;
        }
    }
}
