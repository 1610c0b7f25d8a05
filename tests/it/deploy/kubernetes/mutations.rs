//! The rules themselves: what is wrong, they find.

use serde_json::{Value, json};

use super::{Complaints, Resources, complaints, custom, resources::Variant};

const DEV: &str = "overlays/dev with nothing";
const PRODUCTION: &str = "overlays/production with nothing";
const ENVOY: &str = "overlays/production with envoy";
const GATEWAY: &str = "overlays/production with gateway";
const TLS: &str = "overlays/production with tls";

const SENTINEL: &str = "overlays/dev with redis-sentinel";
const CLUSTER: &str = "overlays/dev with redis-cluster";

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// The manifests with one value in the place of another, or of nothing.
fn changed(resources: &Resources, kind: &str, name: &str, pointer: &str, to: Value) -> Resources {
    let mut changed = resources.clone();
    // Generated names end in a hash.
    let full = resources.of_kind(kind).map(|it| it["metadata"]["name"].as_str().expect("a name"));
    let full = full.filter(|it| it.starts_with(name)).min_by_key(|it| it.len());
    let full = full.unwrap_or_else(|| panic!("no {kind} {name}")).to_owned();
    let target = changed.find_mut(kind, &full).expect("it is there");
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match target.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
        Value::Array(list) => list[key.parse::<usize>().expect("an index")] = to,
        parent => parent[key.replace("~1", "/")] = to,
    }
    assert!(changed != *resources, "{kind} {name}{pointer} is that already");
    changed
}

/// A change, and what is said of it.
type Case = (&'static str, &'static str, String, Value, &'static str);

fn assert_found(variant: &str, cases: Vec<Case>) {
    let resources = Variant::named(variant).build();
    for (kind, name, pointer, to, says) in cases {
        let found = complaints(&changed(&resources, kind, name, &pointer, to.clone()));
        let said = found.iter().any(|complaint| complaint.contains(says));
        assert!(said, "{kind} {name}{pointer} = {to}: no word of {says:?} in {found:#?}");
    }
}

#[test]
fn wrong_numbers_of_replicas_are_found() {
    let pod = |pointer: &str| format!("{POD}{pointer}");
    let container = |pointer: &str| format!("{CONTAINER}{pointer}");
    let (deployment, config) = (("Deployment", "roomcast"), ("ConfigMap", "roomcast"));
    let of = |(kind, name), pointer: String, to, says| (kind, name, pointer, to, says);
    assert_found(
        DEV,
        vec![
            of(deployment, pod("/terminationGracePeriodSeconds"), json!(30), "s to exit"),
            of(
                deployment,
                container("/lifecycle"),
                json!({ "preStop": { "sleep": { "seconds": 15 } } }),
                "s to exit",
            ),
            of(config, "/data/ROOMCAST_DRAIN__DEADLINE".into(), json!("60s"), "s to exit"),
            of(config, "/data/ROOMCAST_DRAIN__DELAY".into(), json!("2s"), "Envoy notices"),
            of(config, "/data/ROOMCAST_DRAIN__DELAY".into(), json!("5s"), "the kubelet notices"),
            of(config, "/data/ROOMCAST_DRIAN__DELAY".into(), json!("5s"), "drian.delay"),
            of(config, "/data/ROOMCAST_SERVER__ADDR".into(), json!("0.0.0.0:5051"), "port grpc"),
            of(config, "/data/ROOMCAST_REDIS__URL_FILE".into(), json!("/url"), "no key of a"),
            of(deployment, container("/ports/1/containerPort"), json!(9465), "port admin"),
            of(deployment, container("/readinessProbe/grpc/port"), json!(9464), "readinessProbe"),
            of(deployment, container("/livenessProbe/httpGet/path"), json!("/readyz"), "/livez"),
            of(deployment, container("/livenessProbe/timeoutSeconds"), json!(1), "1 s only"),
            of(deployment, "/spec/strategy/rollingUpdate/maxUnavailable".into(), json!(1), "rolls"),
            of(deployment, "/spec/replicas".into(), json!(1), "Some(1) replicas"),
            of(deployment, pod("/enableServiceLinks"), json!(true), "enableServiceLinks"),
            of(deployment, pod("/securityContext/runAsUser"), json!(0), "is root"),
            of(deployment, container("/image"), json!("roomcast:latest"), "the image is"),
            of(deployment, container("/volumeMounts/0/subPath"), json!("url"), "subPath"),
            of(deployment, pod("/volumes/0/secret/secretName"), json!("other"), "nobody makes"),
            of(deployment, container("/env/4/value"), json!("k8s.pod.name=$(POD)"), "k8s.pod.name"),
            of(deployment, "/metadata/namespace".into(), json!("default"), "several namespaces"),
            ("StatefulSet", "redis", container("/args/3"), json!("no"), "lacks [\"appendonly yes"),
            ("NetworkPolicy", "roomcast", "/metadata/name".into(), json!("other"), "no policy"),
        ],
    );
}

#[test]
fn wrong_numbers_of_production_are_found() {
    let of = |kind, pointer: &str, to, says| (kind, "roomcast", pointer.to_owned(), to, says);
    let scaler = "HorizontalPodAutoscaler";
    let policy = "NetworkPolicy";
    assert_found(
        PRODUCTION,
        vec![
            of("Deployment", "/spec/replicas", json!(3), "sets the number"),
            of(scaler, "/spec/scaleTargetRef/name", json!("romcast"), "autoscaler is for"),
            of(scaler, "/spec/minReplicas", json!(1), "1 to 12"),
            of(scaler, "/spec/behavior/scaleDown/policies/0/periodSeconds", json!(15), "faster"),
            of("PodDisruptionBudget", "/spec/maxUnavailable", json!(2), "may lose"),
            of(
                "PodDisruptionBudget",
                "/spec/selector/matchLabels/app.kubernetes.io~1component",
                json!("srever"),
                "selects 0 workloads",
            ),
            of("Service", "/spec/ports/0/port", json!(50052), "50052 leads to"),
            of(policy, "/spec/ingress/0/ports/0/port", json!(50050), "where nobody listens"),
            of(policy, "/spec/ingress/1/from", json!([]), "admin port is not"),
            of(policy, "/spec/egress/1/ports/0/port", json!(6380), "redis.example.net:6379"),
            of(policy, "/spec/egress/2/ports/0/port", json!(4318), "observability:4317"),
            of("ServiceMonitor", "/spec/endpoints/0/port", json!("grpc"), "port grpc"),
            of("ServiceMonitor", "/spec/endpoints/0/path", json!("/"), "asks for /"),
            of("PrometheusRule", "/spec/groups/0/rules/0/expr", json!("up"), "not rules.yaml"),
            of("ServiceMonitor", "/spec/jobLabel", json!("app"), "the job is"),
        ],
    );
}

#[test]
fn wrong_numbers_of_components_are_found() {
    let envoy = |kind, pointer: String, to, says| (kind, "roomcast-envoy", pointer, to, says);
    let args = json!(["-c", "/etc/envoy.yaml"]);
    let data = "/data/envoy.yaml".to_owned();
    assert_found(
        ENVOY,
        vec![
            envoy("ConfigMap", data, json!("static_resources: {}"), "another configuration"),
            envoy("Deployment", format!("{CONTAINER}/args"), args, "another file"),
            envoy("Deployment", format!("{CONTAINER}/image"), json!("envoy:v1.0.0"), "tested"),
            envoy("Deployment", format!("{POD}/terminationGracePeriodSeconds"), json!(10), "10 s"),
            (
                "NetworkPolicy",
                "roomcast",
                "/spec/ingress/0/from/0/podSelector/matchLabels/app.kubernetes.io~1component"
                    .to_owned(),
                json!("envoy"),
                "Envoy does not reach",
            ),
        ],
    );
    let gateway = |kind, pointer: &str, to, says| (kind, "roomcast", pointer.to_owned(), to, says);
    assert_found(
        GATEWAY,
        vec![
            gateway("GRPCRoute", "/spec/rules/0/backendRefs/0/port", json!(9464), "no replica"),
            gateway("GRPCRoute", "/spec/parentRefs/0/sectionName", json!("http"), "listener http"),
            gateway("Gateway", "/metadata/name", json!("gateway"), "no gateway"),
            gateway(
                "BackendTrafficPolicy",
                "/spec/http2/initialConnectionWindowSize",
                json!("8Mi"),
                "do not fit",
            ),
        ],
    );
    let grpc = json!({ "port": 50051, "service": "chat.ChatService" });
    let tls = |pointer: String, to, says| ("Deployment", "roomcast", pointer, to, says);
    assert_found(
        TLS,
        vec![
            tls(format!("{CONTAINER}/readinessProbe/grpc"), grpc, "in 2 ways"),
            tls(format!("{CONTAINER}/volumeMounts/0/mountPath"), json!("/tls"), "no key of a"),
            ("Service", "roomcast", "/spec/ports/0/appProtocol".into(), json!("h2"), "not https"),
        ],
    );
}

#[test]
fn wrong_numbers_of_redis_are_found() {
    let from = "/spec/ingress/0/from/0/podSelector/matchLabels/app.kubernetes.io~1component";
    let of = |kind, name, pointer: &str, to, says| (kind, name, pointer.to_owned(), to, says);
    let (set, policy) = ("StatefulSet", "NetworkPolicy");
    assert_found(
        SENTINEL,
        vec![
            of(set, "redis-sentinel", "/spec/replicas", json!(2), "leads to redis-sentinel-2"),
            of(set, "redis-ha", "/spec/serviceName", json!("redis"), "told of redis-ha-0.redis-ha"),
            of(policy, "redis-sentinel", from, json!("client"), "does not let in roomcast"),
            of(policy, "roomcast", "/spec/egress/3/ports/0/port", json!(6379), "nobody out to"),
            of("ConfigMap", "redis-scripts", "/data/server.sh", json!(""), "another server.sh"),
            of("PodDisruptionBudget", "redis-ha", "/spec/maxUnavailable", json!(2), "2) pods at"),
            (
                "StatefulSet",
                "redis-ha",
                format!("{CONTAINER}/args/3"),
                json!("no"),
                "redis-ha lacks",
            ),
        ],
    );
    let image = format!("{CONTAINER}/image");
    assert_found(
        CLUSTER,
        vec![
            of(set, "redis-cluster", "/spec/replicas", json!(8), "and not of 8"),
            of(policy, "redis-cluster", "/spec/ingress/1/ports/1/port", json!("redis"), "by 16379"),
            ("Job", "redis-create-cluster", image, json!("redis:8"), "not the image of compose"),
        ],
    );
}

#[test]
fn misspelt_fields_of_custom_resources_are_found() {
    let resources = Variant::named(GATEWAY).build();
    for (kind, pointer, says) in [
        ("GRPCRoute", "/spec/rules/0/backendRef", "has no field /spec/rules/*/backendRef"),
        ("GRPCRoute", "/apiVersion", "not 1"),
        ("ServiceMonitor", "/spec/endpoints/0/timeout", "has no field"),
        ("PrometheusRule", "/spec/groups/0/rules/0/four", "has no field"),
    ] {
        let value = if pointer == "/apiVersion" { json!("1") } else { json!(1) };
        let changed = changed(&resources, kind, "roomcast", pointer, value);
        let mut found = Complaints::new();
        custom::fields_exist(changed.one(kind), &mut found);
        assert!(found.iter().any(|complaint| complaint.contains(says)), "{found:?}");
    }
}
