//! Real replicas: what they show is what rules and dashboard ask for.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use super::{
    super::{at, list, text},
    dashboard,
    exposition::Exposition,
    prometheus::Prometheus,
    rules,
};
use crate::harness::{Cluster, Collector, RedisCluster, SOON, eventually};

/// Panels that have nothing to show when all is well, without TLS.
const EMPTY_WHEN_WELL: [&str; 3] = ["Alerts", "Refusals", "Certificate"];

/// Replicas that have all that there is to show: they tell of each node of a Redis Cluster.
async fn on_nodes(replicas: usize) -> Cluster {
    Cluster::on_redis_cluster(RedisCluster::start(3, 0, &[]).await, replicas).start().await
}

/// No rule, no test of a rule and no panel asks for a metric, a label or a label's value that a
/// replica does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_is_asked_for_is_there() {
    let cluster = on_nodes(1).await;
    let exposition = Exposition::of(&cluster.replicas[0]).await;
    let mut missing = dashboard::missing(&exposition);
    missing.extend(rules::missing(exposition));
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "not in /metrics:\n{}", missing.join("\n"));
}

/// A real Prometheus scrapes two replicas while alice and bob talk across them. It understands all
/// that it gets, every query of the dashboard has an answer, and nothing is alerted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_answers_the_dashboard() {
    let cluster = on_nodes(2).await;
    let prometheus = Prometheus::over(&cluster).await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let began = now();

    // A rate needs two scrapes with a change between them: they talk until there is one.
    let mut said = 0;
    eventually(Duration::from_secs(30), "a rate of deliveries", async || {
        said += 1;
        alice.say(&format!("hello {said}")).await;
        bob.expect_said("alice", &format!("hello {said}")).await;
        let delay = "sum(rate(roomcast_delivery_delay_seconds_count[10s])) > 0";
        prometheus.number(delay).await
    })
    .await;

    assert_scraped_as_openmetrics(&prometheus).await;
    let mut empty = Vec::new();
    for query in dashboard::queries("30s") {
        let found = if query.instant {
            prometheus.query(&query.expression).await
        } else {
            // With a step after the last scrape, however little time it has been.
            prometheus.query_range(&query.expression, began, now() + 1.0).await
        };
        if found.is_empty() && !EMPTY_WHEN_WELL.contains(&query.title.as_str()) {
            empty.push(query);
        }
    }
    assert!(empty.is_empty(), "no data for {empty:#?}");

    let p99 = "histogram_quantile(0.99, \
        sum by (le) (rate(roomcast_delivery_delay_seconds_bucket[30s])))";
    let p99 = prometheus.number(p99).await.expect("a quantile");
    assert!(p99 > 0.0 && p99 < 5.0, "{p99} s");
    // A replica that gets no time on a busy machine says once that it is not ready.
    for both in ["sum(roomcast_ready)", "sum(roomcast_streams)"] {
        let two = async || prometheus.number(both).await.filter(|it| (it - 2.0).abs() < 0.1);
        eventually(SOON, &format!("{both} is 2"), two).await;
    }
    assert_rules_are_quiet(&prometheus).await;
}

/// Prometheus keeps the exemplars that Grafana asks it for with the query of the delay's panel, and
/// they name traces that the collector has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exemplars_lead_to_traces() {
    let collector = Collector::start().await;
    let plan = Cluster::redis(2).with("ROOMCAST_TELEMETRY__OTLP_ENDPOINT", &collector.endpoint());
    let cluster = plan.with("ROOMCAST_TELEMETRY__SAMPLE_RATIO", "1").start().await;
    let prometheus = Prometheus::over(&cluster).await;
    let began = now();
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    alice.say("follow me").await;
    bob.expect_said("alice", "follow me").await;

    let said = collector.until("room.say", 1, |_| true).await;
    let traces: HashSet<_> = said.into_iter().map(|span| span.trace).collect();
    let queries = dashboard::queries("30s");
    let delay = queries.iter().find(|it| it.title == "Delivery delay").expect("the delay's panel");
    eventually(SOON, "an exemplar that names the trace of a message", async || {
        let exemplars = prometheus.exemplars(&delay.expression, began, now()).await;
        exemplars.iter().any(|it| traces.contains(it)).then_some(())
    })
    .await;
}

/// Only `OpenMetrics` says what a metric's unit is; exemplars come with nothing else either.
async fn assert_scraped_as_openmetrics(prometheus: &Prometheus) {
    let targets = prometheus.get("/api/v1/targets", &[]).await;
    for target in list(&targets, "/data/activeTargets") {
        assert_eq!((text(target, "/health"), text(target, "/lastError")), ("up", ""));
    }
    let name = "roomcast_canary_age_seconds";
    let metadata = prometheus.get("/api/v1/metadata", &[("metric", name)]).await;
    assert_eq!(text(&metadata, &format!("/data/{name}/0/unit")), "seconds", "{metadata:#}");
}

/// All rules have been evaluated, and nothing is wrong in their eyes.
async fn assert_rules_are_quiet(prometheus: &Prometheus) {
    let groups = eventually(SOON, "all rules were evaluated", async || {
        let rules = prometheus.get("/api/v1/rules", &[]).await;
        let groups = list(&rules, "/data/groups").to_vec();
        let mut all = groups.iter().flat_map(|it| list(it, "/rules"));
        all.all(|it| text(it, "/health") != "unknown").then_some(groups)
    })
    .await;
    for rule in groups.iter().flat_map(|it| list(it, "/rules")) {
        assert_eq!(text(rule, "/health"), "ok", "{rule:#}");
        if text(rule, "/type") == "alerting" {
            assert_ne!(at(rule, "/state"), "firing", "{rule:#}");
        }
    }
}

/// Seconds since the epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}
