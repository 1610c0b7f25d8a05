//! Resources that Kubernetes itself does not know: Gateway API, Envoy Gateway and Prometheus operator.
//!
//! No validator with their schemas can be installed by the tests, so the fields that are used are
//! written out here, as the public specifications of `gateway.networking.k8s.io/v1`,
//! `gateway.envoyproxy.io/v1alpha1` and `monitoring.coreos.com/v1` have them; any other field is a mistake, and so is a lack of those
//! that are required.

use serde_json::Value;

use super::{
    super::{at, envoy::stalled_streams_fit, list, number, read_yaml, seconds, text, variables},
    Complaints, Resources, demand,
};

/// The kinds that the validator does not know.
pub(super) const KINDS: [&str; 5] =
    ["BackendTrafficPolicy", "Gateway", "GRPCRoute", "PrometheusRule", "ServiceMonitor"];

struct Shape {
    kind: &'static str,
    api: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const SHAPES: [Shape; 5] = [
    Shape {
        kind: "BackendTrafficPolicy",
        api: "gateway.envoyproxy.io/v1alpha1",
        required: &[
            "/spec/targetRefs/*/group",
            "/spec/targetRefs/*/kind",
            "/spec/targetRefs/*/name",
            "/spec/http2/initialStreamWindowSize",
            "/spec/http2/initialConnectionWindowSize",
            "/spec/http2/maxConcurrentStreams",
        ],
        optional: &[
            "/spec/circuitBreaker/maxConnections",
            "/spec/circuitBreaker/maxPendingRequests",
            "/spec/circuitBreaker/maxParallelRequests",
        ],
    },
    Shape {
        kind: "Gateway",
        api: "gateway.networking.k8s.io/v1",
        required: &[
            "/spec/gatewayClassName",
            "/spec/listeners/*/name",
            "/spec/listeners/*/port",
            "/spec/listeners/*/protocol",
        ],
        optional: &["/spec/listeners/*/allowedRoutes/namespaces/from"],
    },
    Shape {
        kind: "GRPCRoute",
        api: "gateway.networking.k8s.io/v1",
        required: &["/spec/parentRefs/*/name", "/spec/rules/*/backendRefs/*/name"],
        optional: &["/spec/parentRefs/*/sectionName", "/spec/rules/*/backendRefs/*/port"],
    },
    Shape {
        kind: "ServiceMonitor",
        api: "monitoring.coreos.com/v1",
        required: &["/spec/selector/matchLabels/", "/spec/endpoints/*/port"],
        optional: &[
            "/spec/jobLabel",
            "/spec/endpoints/*/path",
            "/spec/endpoints/*/interval",
            "/spec/endpoints/*/scrapeTimeout",
        ],
    },
    Shape {
        kind: "PrometheusRule",
        api: "monitoring.coreos.com/v1",
        required: &["/spec/groups/*/name", "/spec/groups/*/rules/*/expr"],
        optional: &[
            "/spec/groups/*/interval",
            "/spec/groups/*/rules/*/alert",
            "/spec/groups/*/rules/*/record",
            "/spec/groups/*/rules/*/for",
            "/spec/groups/*/rules/*/keep_firing_for",
            "/spec/groups/*/rules/*/labels/",
            "/spec/groups/*/rules/*/annotations/",
        ],
    },
];

/// Maps whose keys anybody chooses.
const FREE: [&str; 3] = ["/matchLabels", "/labels", "/annotations"];

/// The paths of all leaves, with `*` for each index, and free maps as one.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(_) if FREE.iter().any(|it| path.ends_with(it)) => {
            found.push(format!("{path}/"));
        }
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found));
        }
        Value::Array(list) => list.iter().for_each(|it| leaves(it, &format!("{path}/*"), found)),
        _ => found.push(path.to_owned()),
    }
}

/// A custom resource has the fields that it must have, and no others. Answers its kind.
pub(super) fn fields_exist(resource: &Value, complaints: &mut Complaints) -> Option<&'static str> {
    let shape = SHAPES.iter().find(|shape| shape.kind == text(resource, "/kind"))?;
    let api = text(resource, "/apiVersion");
    demand!(complaints, api == shape.api, "{} is of {}, not {api}", shape.kind, shape.api);
    let mut found = vec![];
    leaves(at(resource, "/spec"), "/spec", &mut found);
    for path in &found {
        let mut known = shape.required.iter().chain(shape.optional);
        demand!(complaints, known.any(|it| it == path), "{} has no field {path}", shape.kind);
    }
    for path in shape.required {
        demand!(complaints, found.iter().any(|it| it == path), "{} lacks {path}", shape.kind);
    }
    Some(shape.kind)
}

/// Prometheus finds the one service with metrics, by the path that the admin port has.
pub(super) fn monitor_scrapes(resources: &Resources, complaints: &mut Complaints) {
    let Some(monitor) = resources.of_kind("ServiceMonitor").next() else { return };
    let wanted = variables(monitor, "/spec/selector/matchLabels");
    let has_all = |service: &&Value| {
        let labels = variables(service, "/metadata/labels");
        wanted.iter().all(|(label, value)| labels.get(label) == Some(value))
    };
    let services: Vec<_> = resources.of_kind("Service").filter(has_all).collect();
    let [service] = services[..] else {
        complaints.push(format!("the monitor finds {} services", services.len()));
        return;
    };
    let [endpoint] = list(monitor, "/spec/endpoints") else { panic!("one endpoint") };
    let port = text(endpoint, "/port");
    let admin = |it: &Value| text(it, "/name") == port && text(it, "/targetPort") == "admin";
    let found = list(service, "/spec/ports").iter().any(admin);
    demand!(complaints, found, "the monitor asks the port {port}, which is not the admin port");
    let path = text(endpoint, "/path");
    demand!(complaints, path == "/metrics", "the monitor asks for {path}");
    let (patience, interval) =
        (seconds(text(endpoint, "/scrapeTimeout")), seconds(text(endpoint, "/interval")));
    // An answer may wait a second for its canary.
    demand!(complaints, (2..interval).contains(&patience), "waits {patience} s of {interval} s");
    let label = text(monitor, "/spec/jobLabel").replace('/', "~1");
    let job = service.pointer(&format!("/metadata/labels/{label}"));
    demand!(complaints, job == Some(&"roomcast".into()), "the job is called {job:?}");
    let all = at(service, "/spec/publishNotReadyAddresses");
    demand!(complaints, *all == true, "replicas that are not ready are not looked at");
}

/// The alerts are those that are tested, all of them.
pub(super) fn alerts_are_the_tested_ones(resources: &Resources, complaints: &mut Complaints) {
    let Some(rule) = resources.of_kind("PrometheusRule").next() else { return };
    let tested = read_yaml("deploy/prometheus/rules.yaml");
    let same = at(rule, "/spec/groups") == at(&tested, "/groups");
    demand!(complaints, same, "prometheusrule.yaml is not rules.yaml; its head says what to do");
}

/// The route leads from a listener that exists to the port of the replicas.
pub(super) fn gateway_routes(resources: &Resources, complaints: &mut Complaints) {
    let Some(route) = resources.of_kind("GRPCRoute").next() else { return };
    demand!(complaints, !resources.has_tls(), "the gateway speaks no TLS to replicas");
    let gateway = resources.one("Gateway");
    let parent = at(route, "/spec/parentRefs/0");
    let named = at(parent, "/name") == at(gateway, "/metadata/name");
    demand!(complaints, named, "the route is of no gateway: {parent}");
    let section = text(parent, "/sectionName");
    let listener = list(gateway, "/spec/listeners").iter().find(|it| text(it, "/name") == section);
    demand!(complaints, listener.is_some(), "there is no listener {section}");
    let backend = at(route, "/spec/rules/0/backendRefs/0");
    let (name, port) = (text(backend, "/name"), number(backend, "/port"));
    let service = resources.find("Service", name);
    let serves = |service: &Value| {
        let served = at(service, "/spec/ports/0");
        number(served, "/port") == port && text(served, "/targetPort") == "grpc"
    };
    let reached = name == resources.roomcast().name() && service.is_some_and(serves);
    demand!(complaints, reached, "the route leads to {name}:{port}, where no replica listens");
}

/// Readers that take nothing leave others room in the connections to replicas.
pub(super) fn gateway_windows_fit(resources: &Resources, complaints: &mut Complaints) {
    let Some(route) = resources.of_kind("GRPCRoute").next() else { return };
    let policy = resources.one("BackendTrafficPolicy");
    let target = at(policy, "/spec/targetRefs/0");
    let named =
        text(target, "/kind") == "GRPCRoute" && at(target, "/name") == at(route, "/metadata/name");
    demand!(complaints, named, "the policy is for no route: {target}");
    let window = |name: &str| bytes(text(policy, &format!("/spec/http2/{name}")));
    let (stream, connection) =
        (window("initialStreamWindowSize"), window("initialConnectionWindowSize"));
    let streams = number(policy, "/spec/http2/maxConcurrentStreams");
    let fits = stalled_streams_fit(stream, streams, connection);
    demand!(complaints, fits, "{streams} windows of {stream} do not fit into half of {connection}");
}

/// A quantity of Kubernetes in bytes.
fn bytes(quantity: &str) -> u64 {
    let (digits, unit) = quantity.split_at(quantity.len() - 2);
    let unit = ["Ki", "Mi", "Gi"].iter().position(|it| *it == unit).expect("a unit of bytes");
    let digits: u64 = digits.parse().expect("a number");
    digits << (10 * (unit + 1))
}
