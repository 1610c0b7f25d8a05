//! What is counted, for Prometheus. No label ever names a room or a user.

mod labels;
mod process;

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
pub use labels::{
    Counters, Gauges, Hole, Label, LeaseLoss, Leave, Nack, Nodes, Queue, Redirected, Refusal,
    TlsReload,
};
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        exemplar::HistogramWithExemplars,
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
    /// What every process tells, under names that every process gives it.
    process: Registry,
    canary_age: Gauge<f64, AtomicU64>,
    log_lines_dropped: Counter,
    /// How many there are by now.
    count_log_lines_dropped: OnceLock<Count>,
    /// When the last canary came back; at first, when the process began to wait for one.
    canary: Mutex<Instant>,
}

/// Counts when it is asked to.
struct Count(Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Count")
    }
}

/// The metrics, each by its name without the prefix and the unit.
#[derive(Debug)]
pub struct Handles {
    /// `roomcast_streams`: open streams.
    pub streams: Gauge,
    /// `roomcast_connections`: open connections of the gRPC listener.
    pub connections: Gauge,
    /// `roomcast_rooms`: rooms with members on this replica, or that are watched here.
    pub rooms: Gauge,
    /// `roomcast_watchers`: open streams of backends that watch rooms.
    pub watchers: Gauge,
    /// `roomcast_watched_rooms`: rooms that they watch, each once for each of them.
    pub watched_rooms: Gauge,
    /// `roomcast_members`: members on this replica.
    pub members: Gauge,
    /// `roomcast_window_bytes`: what the windows of all rooms hold for readers, about.
    pub window_bytes: Gauge,
    /// `roomcast_ready`: 1 while this replica is ready, as of the last probe or scrape.
    pub ready: Gauge,
    /// `roomcast_key_set_age_seconds`: how long ago the key set that verifies tokens was fetched.
    pub key_set_age: Gauge,
    /// `roomcast_draining`: 1 once this replica was told to stop.
    pub draining: Gauge,
    /// `roomcast_queue_items{queue}`: what waits, in each of the bounded queues.
    pub queue_items: Gauges<Queue>,
    /// `roomcast_events_in_total`: messages that this replica has accepted.
    pub events_in: Counter,
    /// `roomcast_published_total`: those of them that services have published.
    pub published: Counter,
    /// `roomcast_events_out_total`: events written to streams.
    pub events_out: Counter,
    /// `roomcast_joins_total`: members that came in here.
    pub joins: Counter,
    /// `roomcast_resumes_total`: sessions that went on with a stream here.
    pub resumes: Counter,
    /// `roomcast_nacks_total`, by `reason`: messages that were refused, and may be sent again.
    pub nacks: Counters<Nack>,
    /// `roomcast_log_pages_total`: pages of logs read for single streams.
    pub log_pages: Counter,
    /// `roomcast_leaves_total{cause}`: members of this replica that went.
    pub leaves: Counters<Leave>,
    /// `roomcast_refusals_total{reason}`: streams that were refused or ended for a reason.
    pub refusals: Counters<Refusal>,
    /// `roomcast_append_batch_size`: messages in one call of the append script.
    pub append_batch_size: Histogram,
    /// `roomcast_append_seconds`: from sending a pipeline that appends to its answer.
    pub append_seconds: Histogram,
    /// `roomcast_redis_roundtrip_seconds`: the same for every pipeline.
    pub redis_roundtrip: Histogram,
    /// `roomcast_redis_node_up{node}`: 1 while live delivery from a node of a Redis Cluster works.
    pub redis_nodes: Nodes,
    /// `roomcast_redis_node_slots{node}`: how many slots of a Redis Cluster a node has.
    pub redis_node_slots: Nodes,
    /// `roomcast_redis_redirections_total{kind}`: times that a node of a Redis Cluster referred to another one.
    pub redis_redirections: Counters<Redirected>,
    /// `roomcast_lease_renewals_total`: leases renewed, one in each partition.
    pub lease_renewals: Counter,
    /// `roomcast_leases_lost_total{outcome}`: names that were lost under a live stream.
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
    /// `roomcast_spans_exported_total`: spans that the collector took.
    pub spans_exported: Counter,
    /// `roomcast_spans_dropped_total`: spans that no collector took, or that waited for one in vain.
    pub spans_dropped: Counter,
    /// `roomcast_delivery_delay_seconds`, see [`Metrics::observe_delivery`].
    delivery_delay: HistogramWithExemplars<[(&'static str, String); 1]>,
}

/// Counts one more in a gauge, until it is dropped.
#[derive(Debug)]
pub struct InGauge(Gauge);

impl InGauge {
    /// One more, from now on.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A length as gauges take it.
pub fn items(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
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
        let log_lines_dropped = Counter::default();
        let help = "Log lines that nobody read in time";
        registry.register("log_lines_dropped", help, log_lines_dropped.clone());
        let handles = Handles::register(&mut registry);
        let canary = Mutex::new(Instant::now());
        let process = process::registry();
        Self(Arc::new(Inner {
            handles,
            registry,
            process,
            canary_age,
            log_lines_dropped,
            count_log_lines_dropped: OnceLock::new(),
            canary,
        }))
    }

    /// Notes that a pipeline was answered, with so many messages in each of its calls of the append
    /// script.
    pub fn observe_pipeline(&self, took: Duration, appended: impl Iterator<Item = usize>) {
        let took = took.as_secs_f64();
        self.redis_roundtrip.observe(took);
        let mut appends = false;
        for messages in appended {
            #[expect(clippy::cast_precision_loss, reason = "there are some hundred at most")]
            self.append_batch_size.observe(messages as f64);
            appends = true;
        }
        if appends {
            self.append_seconds.observe(took);
        }
    }

    /// Notes that events were written to the streams of a connection, the oldest of which was accepted at
    /// `accepted` by the clock of its replica, in the trace of that id.
    pub fn observe_delivery(&self, accepted: Timestamp, trace_id: Option<&str>) {
        // Clocks of two replicas may differ by more than a message takes.
        let delay = Timestamp::now().duration_since(accepted).as_secs_f64().max(0.0);
        let exemplar = trace_id.map(|id| [("trace_id", id.to_owned())]);
        let at = exemplar.is_some().then(SystemTime::now);
        self.delivery_delay.observe(delay, exemplar, at);
    }

    /// Notes that a canary has just come back.
    pub fn canary_returned(&self) {
        *self.0.canary.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Asks `count` at each scrape how many log lines were dropped so far. The first one counts.
    pub fn follow_log_lines_dropped(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.0.count_log_lines_dropped.set(Count(Box::new(count)));
    }

    /// All metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> String {
        let canary = *self.0.canary.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.canary_age.set(canary.elapsed().as_secs_f64());
        if let Some(Count(count)) = self.0.count_log_lines_dropped.get() {
            let counted = self.0.log_lines_dropped.get();
            self.0.log_lines_dropped.inc_by(count().saturating_sub(counted));
        }
        let mut encoded = String::new();
        // A string takes whatever is written.
        let _ = text::encode_registry(&mut encoded, &self.0.process);
        let _ = text::encode(&mut encoded, &self.0.registry);
        encoded
    }
}

impl Handles {
    fn register(registry: &mut Registry) -> Self {
        let append_batch_size = Histogram::new(exponential_buckets(1.0, 2.0, 9));
        let help = "Messages in one call of the append script";
        registry.register("append_batch_size", help, append_batch_size.clone());
        let mut seconds = |name, help| {
            let histogram = Histogram::new(times());
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let append_seconds =
            seconds("append", "From sending a pipeline that appends to its answer");
        let redis_roundtrip =
            seconds("redis_roundtrip", "From sending a pipeline to Redis to its answer");
        let delivery_delay = HistogramWithExemplars::new(times());
        registry.register_with_unit(
            "delivery_delay",
            "From accepting an event to writing it to a stream: the oldest one of each write",
            Unit::Seconds,
            delivery_delay.clone(),
        );
        let window_bytes = Gauge::default();
        let help = "What the windows of all rooms hold for readers, about";
        registry.register_with_unit("window", help, Unit::Bytes, window_bytes.clone());

        let refusals = Counters::register(registry, "refusals", "Streams refused, or ended");
        let nacks =
            Counters::register(registry, "nacks", "Messages refused that may be sent again");
        let leaves = Counters::register(registry, "leaves", "Members of this replica that went");
        let leases_lost =
            Counters::register(registry, "leases_lost", "Names lost under a live stream");
        let holes = Counters::register(registry, "holes", "Holes in live delivery");
        let tls_reloads = Counters::register(registry, "tls_reloads", "Changes of the TLS files");
        let help = "Whether live delivery from a node of a Redis Cluster works";
        let redis_nodes = Nodes::register(registry, "redis_node_up", help);
        let help = "How many slots of a Redis Cluster a node has";
        let redis_node_slots = Nodes::register(registry, "redis_node_slots", help);
        let help = "Times that a node of a Redis Cluster referred to another one";
        let redis_redirections = Counters::register(registry, "redis_redirections", help);
        let queue_items = Gauges::register(registry, "queue_items", "What waits in bounded queues");

        let mut gauge = |name, help| gauge(registry, name, help);
        let streams = gauge("streams", "Open streams");
        let connections = gauge("connections", "Open connections of the gRPC listener");
        let rooms = gauge("rooms", "Rooms with members on this replica, or watched here");
        let watchers = gauge("watchers", "Open streams of backends that watch rooms");
        let watched_rooms = gauge("watched_rooms", "Rooms that watchers watch");
        let members = gauge("members", "Members on this replica");
        let ready = gauge("ready", "Whether this replica is ready");
        let key_set_age = gauge("key_set_age_seconds", "Age of the keys that verify tokens");
        let draining = gauge("draining", "Whether this replica was told to stop");
        let (name, end) = ("tls_certificate_expiry_timestamp_seconds", "When the certificate ends");
        let tls_certificate_expiry = gauge(name, end);

        let mut counter = |name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let lost = "Streams ended because their client was too slow";
        let stale = "Messages of stale holders that were refused";
        Self {
            streams,
            connections,
            rooms,
            members,
            watchers,
            watched_rooms,
            window_bytes,
            ready,
            key_set_age,
            draining,
            queue_items,
            events_in: counter("events_in", "Messages accepted by this replica"),
            published: counter("published", "Messages of services accepted by this replica"),
            events_out: counter("events_out", "Events written to streams"),
            joins: counter("joins", "Members that came in here"),
            resumes: counter("resumes", "Sessions that went on with a stream here"),
            nacks,
            log_pages: counter("log_pages", "Pages of logs read for single streams"),
            leaves,
            refusals,
            append_batch_size,
            append_seconds,
            redis_roundtrip,
            redis_nodes,
            redis_node_slots,
            redis_redirections,
            lease_renewals: counter("lease_renewals", "Leases renewed, one in each partition"),
            leases_lost,
            reaped: counter("reaped", "Members of dead replicas that this one declared gone"),
            holes,
            slow_readers_dropped: counter("slow_readers_dropped", lost),
            subscriber_reconnects: counter(
                "subscriber_reconnects",
                "Interruptions of live delivery",
            ),
            backplane_errors: counter("backplane_errors", "Backplane operations that failed"),
            stale_messages_dropped: counter("stale_messages_dropped", stale),
            tls_reloads,
            tls_certificate_expiry,
            spans_exported: counter("spans_exported", "Spans that the collector took"),
            spans_dropped: counter("spans_dropped", "Spans that no collector took"),
            delivery_delay,
        }
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// Upper bounds from a quarter of a millisecond to eight seconds.
fn times() -> impl Iterator<Item = f64> {
    exponential_buckets(0.000_25, 2.0, 16)
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
        metrics.leaves.of(Leave::Asked).inc();
        metrics.queue_items.of(Queue::Signals).set(7);
        metrics.observe_pipeline(Duration::from_millis(1), [16].into_iter());
        metrics.observe_pipeline(Duration::from_millis(1), [].into_iter());
        let trace = "0af7651916cd43dd8448eb211c80319c";
        metrics.observe_delivery(Timestamp::now() + Duration::from_secs(9), Some(trace));
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
            "roomcast_redis_roundtrip_seconds_count 2".to_owned(),
            "roomcast_leaves_total{cause=\"asked\"} 1".to_owned(),
            "roomcast_queue_items{queue=\"signals\"} 7".to_owned(),
            "roomcast_delivery_delay_seconds_count 1".to_owned(),
            "# TYPE process_cpu_seconds counter".to_owned(),
            "roomcast_ready 0".to_owned(),
            format!("roomcast_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(text.lines().any(|it| it == line), "no {line:?} in\n{text}");
        }
        let exemplar = r#"roomcast_delivery_delay_seconds_bucket{le="0.00025"} 1 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.0 "#;
        assert!(text.contains(exemplar), "{text}");
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
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
