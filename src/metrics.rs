//! What is counted, for Prometheus. No label ever names a room or a user.

mod labels;

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

pub use labels::{Counters, Hole, Label, LeaseLoss, Refusal, TlsReload};
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

/// All metrics of this process. A clone counts into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handles: Handles,
    registry: Registry,
    canary_age: Gauge<f64, AtomicU64>,
    /// When the last canary came back; at first, when the process began to wait for one.
    canary: Mutex<Instant>,
}

/// The metrics, each by its name without the prefix and the unit.
#[derive(Debug)]
pub struct Handles {
    /// `roomcast_streams`: open streams.
    pub streams: Gauge,
    /// `roomcast_connections`: open connections of the gRPC listener.
    pub connections: Gauge,
    /// `roomcast_rooms`: rooms with members on this replica.
    pub rooms: Gauge,
    /// `roomcast_ready`: 1 while this replica is ready, as of the last probe or scrape.
    pub ready: Gauge,
    /// `roomcast_departures_queued`: members that are gone and whose names are not released yet.
    pub departures_queued: Gauge,
    /// `roomcast_events_in_total`: messages that this replica has accepted.
    pub events_in: Counter,
    /// `roomcast_events_out_total`: events written to streams.
    pub events_out: Counter,
    /// `roomcast_refusals_total{reason}`: streams that were refused or ended for a reason.
    pub refusals: Counters<Refusal>,
    /// `roomcast_append_batch_size`: messages in one append.
    pub append_batch_size: Histogram,
    /// `roomcast_append_seconds`: how long one append took.
    pub append_seconds: Histogram,
    /// `roomcast_lease_renewals_total`: leases renewed.
    pub lease_renewals: Counter,
    /// `roomcast_leases_lost_total{outcome}`: leases that ended under a live stream.
    pub leases_lost: Counters<LeaseLoss>,
    /// `roomcast_reaped_total`: members of dead replicas that this one has declared gone.
    pub reaped: Counter,
    /// `roomcast_holes_total{outcome}`: holes in live delivery.
    pub holes: Counters<Hole>,
    /// `roomcast_slow_readers_dropped_total`: streams ended because their client was too slow.
    pub slow_readers_dropped: Counter,
    /// `roomcast_subscriber_reconnects_total`: times that live delivery was interrupted.
    pub subscriber_reconnects: Counter,
    /// `roomcast_backplane_errors_total`: backplane operations that failed.
    pub backplane_errors: Counter,
    /// `roomcast_stale_messages_dropped_total`: messages of stale holders that were refused.
    pub stale_messages_dropped: Counter,
    /// `roomcast_tls_reloads_total{outcome}`: changes of the TLS files.
    pub tls_reloads: Counters<TlsReload>,
    /// `roomcast_tls_certificate_expiry_timestamp_seconds`: when the certificate in force ends, in
    /// seconds since 1970; 0 without TLS.
    pub tls_certificate_expiry: Gauge,
}

impl Deref for Metrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0.handles
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("roomcast");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What runs here", version);
        let canary_age = Gauge::default();
        registry.register_with_unit(
            "canary_age",
            "Time since a message to oneself last came back by the way that live events take",
            Unit::Seconds,
            canary_age.clone(),
        );
        let handles = Handles::register(&mut registry);
        let canary = Mutex::new(Instant::now());
        Self(Arc::new(Inner { handles, registry, canary_age, canary }))
    }

    /// Notes that so many messages were appended in one batch that took so long.
    pub fn observe_batch(&self, messages: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most a thousand messages")]
        self.append_batch_size.observe(messages as f64);
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// Notes that a canary has just come back.
    pub fn canary_returned(&self) {
        *self.0.canary.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// All metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> String {
        let canary = *self.0.canary.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.canary_age.set(canary.elapsed().as_secs_f64());
        let mut encoded = String::new();
        // A string takes whatever is written.
        let _ = text::encode(&mut encoded, &self.0.registry);
        encoded
    }
}

impl Handles {
    fn register(registry: &mut Registry) -> Self {
        let batch_size = Histogram::new(exponential_buckets(1.0, 2.0, 10));
        registry.register("append_batch_size", "Messages in one append", batch_size.clone());
        let seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let help = "How long one append took";
        registry.register_with_unit("append", help, Unit::Seconds, seconds.clone());

        let mut gauge = |name, help| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let streams = gauge("streams", "Open streams");
        let connections = gauge("connections", "Open connections of the gRPC listener");
        let rooms = gauge("rooms", "Rooms with members on this replica");
        let ready = gauge("ready", "Whether this replica is ready");
        let departures_queued = gauge(
            "departures_queued",
            "Members that are gone and whose names are not released yet",
        );

        let tls_certificate_expiry = gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "When the TLS certificate in force ends, since 1970; 0 without TLS",
        );

        let tls_reloads = Counters::register(registry, "tls_reloads", "Changes of the TLS files");
        let refusals = Counters::register(registry, "refusals", "Streams refused, or ended");
        let leases_lost =
            Counters::register(registry, "leases_lost", "Leases that ended under a live stream");
        let holes = Counters::register(registry, "holes", "Holes in live delivery");

        let mut counter = |name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            streams,
            connections,
            rooms,
            ready,
            departures_queued,
            events_in: counter("events_in", "Messages accepted by this replica"),
            events_out: counter("events_out", "Events written to streams"),
            refusals,
            append_batch_size: batch_size,
            append_seconds: seconds,
            lease_renewals: counter("lease_renewals", "Leases renewed"),
            leases_lost,
            reaped: counter("reaped", "Members of dead replicas that this one declared gone"),
            holes,
            slow_readers_dropped: counter(
                "slow_readers_dropped",
                "Streams ended because their client was too slow",
            ),
            subscriber_reconnects: counter(
                "subscriber_reconnects",
                "Times that live delivery was interrupted",
            ),
            backplane_errors: counter("backplane_errors", "Backplane operations that failed"),
            stale_messages_dropped: counter(
                "stale_messages_dropped",
                "Messages of stale holders that were refused",
            ),
            tls_reloads,
            tls_certificate_expiry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::new();
        metrics.streams.inc();
        metrics.clone().streams.inc();
        metrics.events_in.inc_by(3);
        metrics.refusals.of(Refusal::NameTaken).inc();
        metrics.append_batch_size.observe(16.0);
        metrics.append_seconds.observe(0.001);
        let text = metrics.encode();
        for line in [
            "# TYPE roomcast_streams gauge".to_owned(),
            "roomcast_streams 2".to_owned(),
            "# TYPE roomcast_events_in counter".to_owned(),
            "roomcast_events_in_total 3".to_owned(),
            "roomcast_refusals_total{reason=\"name_taken\"} 1".to_owned(),
            "roomcast_refusals_total{reason=\"unavailable\"} 0".to_owned(),
            "roomcast_leases_lost_total{outcome=\"rejoined\"} 0".to_owned(),
            "roomcast_holes_total{outcome=\"healed\"} 0".to_owned(),
            "roomcast_append_batch_size_bucket{le=\"16.0\"} 1".to_owned(),
            "roomcast_append_batch_size_bucket{le=\"8.0\"} 0".to_owned(),
            "# UNIT roomcast_append_seconds seconds".to_owned(),
            "roomcast_append_seconds_count 1".to_owned(),
            "roomcast_ready 0".to_owned(),
            format!("roomcast_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(text.lines().any(|it| it == line), "no {line:?} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_canary_ages_until_it_comes_back() {
        fn age(text: &str) -> f64 {
            let age = text.lines().find_map(|it| it.strip_prefix("roomcast_canary_age_seconds "));
            age.unwrap().parse().unwrap()
        }
        let metrics = Metrics::new();
        let past = Instant::now().checked_sub(std::time::Duration::from_millis(500)).unwrap();
        *metrics.0.canary.lock().unwrap() = past;
        assert!(age(&metrics.encode()) >= 0.5);
        metrics.canary_returned();
        assert!(age(&metrics.encode()) < 0.5);
    }
}
