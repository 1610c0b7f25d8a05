//! Exports spans by OTLP over gRPC, and counts those that nobody takes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as Otlp, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span,
        SpanData, SpanExporter, SpanProcessor,
    },
};
use tokio::task::spawn_blocking;
use tonic::{
    codegen::http::uri::InvalidUri,
    transport::{self, Channel, ClientTlsConfig},
};
use tracing::{info, warn};

use crate::{
    config::Endpoint,
    domain::ReplicaId,
    metrics::{Metrics, Queue, items},
};

/// Why spans cannot be sent to an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no address.
    #[error(transparent)]
    Uri(#[from] InvalidUri),
    /// TLS cannot be used; the roots of this system, perhaps.
    #[error(transparent)]
    Tls(#[from] transport::Error),
    /// The exporter refuses it.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

/// How many spans wait to be exported; more are dropped.
const QUEUE: usize = 4096;

/// The most spans in one request.
const BATCH: usize = 512;

/// How often spans are exported, unless a batch is full before.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The way of spans to the collector: a bounded queue, and a thread that empties it in batches.
#[derive(Debug)]
pub(super) struct Spans {
    provider: SdkTracerProvider,
    /// The collector took no spans when it was last asked to.
    down: Arc<AtomicBool>,
}

impl Spans {
    /// Nothing is sent yet, so an endpoint at which nobody listens is no error.
    pub(super) fn export_to(
        endpoint: &Endpoint,
        replica: ReplicaId,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        let otlp = Otlp::builder().with_tonic().with_channel(channel(endpoint)?).build()?;
        let queue = Arc::new(Waiting { spans: AtomicUsize::new(0), metrics: metrics.clone() });
        let down = Arc::new(AtomicBool::new(false));
        let exporter = Exporter { otlp, queue: queue.clone(), down: down.clone() };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(INTERVAL)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        let provider = SdkTracerProvider::builder()
            // Whatever is not to be recorded is not even made, see `trace::Sampler`.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource(replica))
            .with_span_processor(Bounded { batches, queue })
            .build();
        Ok(Self { provider, down })
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("roomcast")
    }

    pub(super) async fn shutdown(self, patience: Duration) {
        let provider = self.provider;
        let ended = spawn_blocking(move || provider.shutdown_with_timeout(patience));
        // Who is away was told of when he went.
        if let Ok(Err(error)) = ended.await
            && !self.down.load(Ordering::Relaxed)
        {
            warn!(%error, "the last spans could not be exported");
        }
    }
}

/// Bounds connecting as well as calling: a collector behind a wall that swallows packets would hold
/// up the exporter for minutes.
fn channel(endpoint: &Endpoint) -> Result<Channel, Error> {
    let mut channel = Channel::from_shared(endpoint.as_str().to_owned())?;
    if endpoint.is_https() {
        channel = channel.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    Ok(channel.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect_lazy())
}

/// Who made the spans. What `OTEL_RESOURCE_ATTRIBUTES` says goes before it, such as the names that
/// only Kubernetes knows.
fn resource(replica: ReplicaId) -> Resource {
    Resource::builder_empty()
        .with_service_name("roomcast")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", replica.to_string()),
        ])
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ])
        .build()
}

/// How many spans wait.
#[derive(Debug)]
struct Waiting {
    spans: AtomicUsize,
    metrics: Metrics,
}

impl Waiting {
    /// One more, unless there are too many.
    fn add(&self) -> bool {
        let more = |waiting: usize| (waiting < QUEUE).then_some(waiting + 1);
        let added = self.spans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if added.is_ok() {
            self.metrics.queue_items.of(Queue::Spans).inc();
        } else {
            self.metrics.spans_dropped.inc();
        }
        added.is_ok()
    }

    fn remove(&self, count: usize) {
        self.spans.fetch_sub(count, Ordering::Relaxed);
        self.metrics.queue_items.of(Queue::Spans).dec_by(items(count));
    }
}

/// Drops what the queue has no room for, and counts it: the queue itself does so in silence.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    queue: Arc<Waiting>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.add() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Sends batches and counts them. Warns once when the collector goes away, and tells when it is back.
struct Exporter {
    otlp: Otlp,
    queue: Arc<Waiting>,
    down: Arc<AtomicBool>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.queue.remove(count);
        let sent = self.otlp.export(batch).await;
        let metrics = &self.queue.metrics;
        match &sent {
            Ok(()) => {
                metrics.spans_exported.inc_by(count as u64);
                if self.down.swap(false, Ordering::Relaxed) {
                    let dropped = metrics.spans_dropped.get();
                    info!(dropped, "the collector takes spans again");
                }
            }
            Err(error) => {
                metrics.spans_dropped.inc_by(count as u64);
                if !self.down.swap(true, Ordering::Relaxed) {
                    warn!(%error, "the collector takes no spans; they are dropped until it does");
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}
