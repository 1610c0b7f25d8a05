//! What watches the chat: that replicas, collector, Jaeger, Prometheus and Grafana find each other.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{
    at,
    compose::{mounted, services, settings},
    envoy::topology,
    list, number, path, port, read, read_yaml, run, text, texts, tool,
};

/// Where Jaeger takes spans, shows them and tells its health, by its own default configuration.
const JAEGER_OTLP_PORT: u64 = 4317;
const JAEGER_PAGE_PORT: u64 = 16686;
const JAEGER_HEALTH_PORT: u64 = 13133;

/// What the collector's image can be configured with. Others are in a larger distribution only.
const COMPONENTS: [(&str, &[&str]); 4] = [
    ("receivers", &["otlp", "prometheus", "jaeger", "zipkin", "kafka", "host_metrics", "nop"]),
    (
        "processors",
        &[
            "batch",
            "memory_limiter",
            "attributes",
            "resource",
            "span",
            "probabilistic_sampler",
            "filter",
        ],
    ),
    ("exporters", &["otlp_grpc", "otlp_http", "debug", "file", "kafka", "prometheus", "nop"]),
    ("extensions", &["health_check", "pprof", "zpages"]),
];

fn collector() -> Value {
    read_yaml("deploy/otel-collector.yaml")
}

fn prometheus() -> Value {
    read_yaml("deploy/prometheus/prometheus.yml")
}

fn data_sources() -> Value {
    read_yaml("deploy/grafana/provisioning/datasources/datasources.yaml")
}

/// The settings of one scrape job.
fn job(name: &str) -> Value {
    let config = prometheus();
    let jobs = list(&config, "/scrape_configs");
    jobs.iter().find(|job| job["job_name"] == name).expect("a job of this name").clone()
}

/// The host and the port of `[http://]host:port[/path]`; the host is a service of compose.
fn service_and_port(address: &str) -> (String, u64) {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let address = address.split('/').next().unwrap();
    let (host, _) = address.split_once(':').expect("host:port");
    assert!(services().get(host).is_some(), "{host} is no service of compose");
    (host.to_owned(), port(address))
}

/// The port that a service's health check asks on its own container.
fn checked_port(service: &str) -> u64 {
    let services = services();
    let check = texts(&services[service], "/healthcheck/test");
    let url = check.last().unwrap().strip_prefix("http://127.0.0.1:").expect("its own container");
    port(&format!(":{}", url.split('/').next().unwrap()))
}

/// The port of a service's page.
fn page_port(service: &str) -> u64 {
    port(texts(&services()[service], "/ports")[0])
}

/// Spans go from the replicas to the collector and from there to Jaeger.
#[test]
fn spans_have_a_way_to_jaeger() {
    let receiver = collector();
    let listens = text(&receiver, "/receivers/otlp/protocols/grpc/endpoint");
    assert!(listens.starts_with("0.0.0.0:"), "{listens} cannot be reached from outside");
    let sends = service_and_port(&settings()["ROOMCAST_TELEMETRY__OTLP_ENDPOINT"]);
    assert_eq!(sends, ("collector".to_owned(), port(listens)));

    let exporter = at(&receiver, "/exporters/otlp_grpc~1jaeger");
    let to = service_and_port(text(exporter, "/endpoint"));
    assert_eq!(to, ("jaeger".to_owned(), JAEGER_OTLP_PORT));
    assert_eq!(page_port("jaeger"), JAEGER_PAGE_PORT);
    assert_eq!(checked_port("jaeger"), JAEGER_HEALTH_PORT);
    // The collector makes batches of a queue that counts spans only.
    assert_eq!(text(exporter, "/sending_queue/sizer"), "items");
}

/// Every part of the collector that is named is there, in its image as well, and is used.
#[test]
fn collector_is_wired() {
    let config = collector();
    for (kind, available) in COMPONENTS {
        let parts = at(&config, &format!("/{kind}")).as_object().unwrap();
        let defined: BTreeSet<_> = parts.keys().map(String::as_str).collect();
        let used: BTreeSet<_> = match kind {
            "extensions" => texts(&config, "/service/extensions").into_iter().collect(),
            _ => at(&config, "/service/pipelines")
                .as_object()
                .unwrap()
                .values()
                .flat_map(|pipeline| texts(pipeline, &format!("/{kind}")))
                .collect(),
        };
        assert_eq!(defined, used, "{kind}");
        for part in defined {
            let name = part.split('/').next().unwrap();
            assert!(available.contains(&name), "{name} is not in the collector's image");
        }
    }
}

/// The collector refuses spans before its container is killed, and answers for its health.
#[test]
fn collector_stays_within_its_container() {
    let (config, services) = (collector(), services());
    let service = &services["collector"];
    let mebibytes = text(service, "/mem_limit").strip_suffix('m').unwrap().parse::<u64>().unwrap();
    assert!(number(&config, "/processors/memory_limiter/limit_mib") < mebibytes);
    let health = text(&config, "/extensions/health_check/endpoint");
    assert_eq!(checked_port("collector"), port(health));
    let file = mounted(service, "./otel-collector.yaml");
    assert_eq!(texts(service, "/command"), ["--config", &file]);

    let (_, version) = text(service, "/image").rsplit_once(':').unwrap();
    let dockerfile = read("deploy/otel-collector.Dockerfile");
    let base = format!("opentelemetry-collector:{version} AS collector\n");
    assert!(dockerfile.contains(&base), "the image is built from version {version}");
    assert_eq!(text(service, "/build/dockerfile"), "otel-collector.Dockerfile");
}

/// Prometheus itself takes its configuration, and the rules that this names.
#[test]
fn prometheus_accepts_the_configuration() {
    let config = path("deploy/prometheus/prometheus.yml");
    run(tool("PROMTOOL_BIN", "promtool").args(["check", "config"]).arg(config));
}

/// It runs with the file of this directory, and keeps which message took so long.
#[test]
fn prometheus_runs_the_configuration_of_this_directory() {
    let services = services();
    let service = &services["prometheus"];
    let file = format!("--config.file={}/prometheus.yml", mounted(service, "./prometheus"));
    for flag in [&file, "--enable-feature=exemplar-storage"] {
        assert!(texts(service, "/command").contains(&flag), "{flag}");
    }
    assert_eq!(checked_port("prometheus"), page_port("prometheus"));
}

/// Every replica is asked, on its admin port; and those around them where they tell.
#[test]
fn everybody_is_scraped() {
    let replicas = job("roomcast");
    let [discovery] = list(&replicas, "/dns_sd_configs") else { panic!("one discovery") };
    assert_eq!(texts(discovery, "/names"), [topology().replica_name]);
    assert_eq!(text(discovery, "/type"), "A");
    assert_eq!(number(discovery, "/port"), port(&settings()["ROOMCAST_ADMIN__ADDR"]));

    let envoy = job("envoy");
    let target = service_and_port(texts(&envoy, "/static_configs/0/targets")[0]);
    assert_eq!(target, ("envoy".to_owned(), topology().stats_port));
    assert_eq!(text(&envoy, "/metrics_path"), topology().stats_path);

    let target = service_and_port(texts(&job("collector"), "/static_configs/0/targets")[0]);
    let reader = "/service/telemetry/metrics/readers/0/pull/exporter/prometheus";
    let reader = at(&collector(), reader).clone();
    assert_eq!(target, ("collector".to_owned(), number(&reader, "/port")));
    assert_eq!(text(&reader, "/host"), "0.0.0.0");
}

/// Grafana finds Prometheus and Jaeger, and a message's trace by the exemplar's label.
#[test]
fn grafana_finds_its_sources() {
    let config = data_sources();
    for source in list(&config, "/datasources") {
        let (service, port) = service_and_port(text(source, "/url"));
        assert_eq!(service, text(source, "/uid"), "panels and services have one name for it");
        assert_eq!(service, text(source, "/type"));
        assert_eq!(port, page_port(&service), "{service}");
    }
    assert!(uids().contains("prometheus"));
    let [exemplars] = list(&config, "/datasources/0/jsonData/exemplarTraceIdDestinations") else {
        panic!("one kind of exemplar")
    };
    assert_eq!(text(exemplars, "/name"), "trace_id");
    assert_eq!(text(exemplars, "/datasourceUid"), "jaeger");
    let interval = text(&config, "/datasources/0/jsonData/timeInterval");
    assert_eq!(interval, text(&prometheus(), "/global/scrape_interval"));
}

fn uids() -> BTreeSet<String> {
    let config = data_sources();
    list(&config, "/datasources").iter().map(|it| text(it, "/uid").to_owned()).collect()
}

/// The dashboards are there from the start, one of them as the first page, and ask those sources.
#[test]
fn dashboards_are_provisioned() {
    let services = services();
    let grafana = &services["grafana"];
    assert_eq!(mounted(grafana, "./grafana/provisioning"), "/etc/grafana/provisioning");
    let target = mounted(grafana, "./grafana/dashboards");
    let providers = read_yaml("deploy/grafana/provisioning/dashboards/dashboards.yaml");
    assert_eq!(text(&providers, "/providers/0/options/path"), target);
    let home = text(grafana, "/environment/GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH");
    let home = home.strip_prefix(&format!("{target}/")).expect("a dashboard of this directory");
    let directory = path("deploy/grafana/dashboards");
    assert!(directory.join(home).is_file(), "{home}");
    assert_eq!(checked_port("grafana"), page_port("grafana"));

    for file in fs::read_dir(directory).unwrap() {
        let file = file.unwrap().path();
        let dashboard: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut asked = BTreeSet::new();
        sources_of(&dashboard, &mut asked);
        // Annotations made by hand are Grafana's own; a source may be chosen by the reader.
        asked.remove("-- Grafana --");
        for variable in list(&dashboard, "/templating/list") {
            if asked.remove(&format!("${{{}}}", text(variable, "/name"))) {
                asked.insert(text(variable, "/current/value").to_owned());
            }
        }
        assert!(asked.contains("prometheus"), "{}: {asked:?}", file.display());
        assert!(asked.is_subset(&uids()), "{}: {asked:?}", file.display());
    }
}

/// The uids of all data sources that are named anywhere below.
fn sources_of(value: &Value, found: &mut BTreeSet<String>) {
    if let Some(uid) = value.pointer("/datasource/uid") {
        found.insert(text(uid, "").to_owned());
    }
    match value {
        Value::Object(map) => map.values().for_each(|value| sources_of(value, found)),
        Value::Array(values) => values.iter().for_each(|value| sources_of(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
