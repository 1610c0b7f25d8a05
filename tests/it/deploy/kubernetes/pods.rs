//! Pods: how they start, are asked, are stopped, and what they may do.

use serde_json::Value;

use super::{
    super::{
        EXIT_MARGIN_S, at, envoy::topology, image::image, list, longest_exit, number, port,
        seconds, text, texts,
    },
    Complaints, Resources, demand,
};

/// How long the hook before SIGTERM takes.
fn pre_stop(container: &Value) -> u64 {
    container.pointer("/lifecycle/preStop/sleep/seconds").and_then(Value::as_u64).unwrap_or(0)
}

/// Kubernetes kills nobody who is still draining, and whoever balances has noticed before streams
/// are ended.
pub(super) fn drain_fits(resources: &Resources, complaints: &mut Complaints) {
    for workload in resources.workloads() {
        // Kubernetes' own default.
        let grace = workload
            .pod()
            .get("terminationGracePeriodSeconds")
            .map_or(30, |grace| grace.as_u64().expect("a number"));
        let hook = pre_stop(workload.container());
        demand!(complaints, grace >= hook + EXIT_MARGIN_S, "{} has {grace} s", workload.name());
    }
    let (settings, replicas) = (resources.settings(), resources.roomcast());
    let grace = number(replicas.pod(), "/terminationGracePeriodSeconds");
    let needed = longest_exit(&settings) + pre_stop(replicas.container());
    demand!(
        complaints,
        grace >= needed,
        "a replica has {grace} s to exit, and may take {needed} s"
    );
    let delay = seconds(&settings["ROOMCAST_DRAIN__DELAY"]);
    let probe = at(replicas.container(), "/readinessProbe");
    let noticed = number(probe, "/periodSeconds") * number(probe, "/failureThreshold")
        + number(probe, "/timeoutSeconds");
    demand!(complaints, delay >= noticed, "the kubelet notices in {noticed} s, delay is {delay} s");
    let noticed = topology().notices_within_s;
    demand!(complaints, delay >= noticed, "Envoy notices in {noticed} s, delay is {delay} s");
}

/// Configuration, container and image mean the same two ports.
pub(super) fn ports_agree(resources: &Resources, complaints: &mut Complaints) {
    let settings = resources.settings();
    let ports = resources.roomcast().ports();
    for (name, key) in [("grpc", "ROOMCAST_SERVER__ADDR"), ("admin", "ROOMCAST_ADMIN__ADDR")] {
        let (found, expected) = (ports.get(name), port(&settings[key]));
        demand!(complaints, found == Some(&expected), "port {name} is {found:?}, not {expected}");
        let image = &image().environment[key];
        demand!(complaints, settings[key] == *image, "{key} is not the image's {image}");
    }
}

/// Only the process's own death restarts it; only what proves delivery makes it ready.
pub(super) fn probes_ask_the_right_port(resources: &Resources, complaints: &mut Complaints) {
    let replicas = resources.roomcast();
    let ports = replicas.ports();
    let asks_admin = |probe: &Value, path: &str| {
        probe.pointer("/httpGet/path") == Some(&path.into())
            && probe.pointer("/httpGet/port").and_then(|it| replicas.port(it))
                == ports.get("admin").copied()
    };
    for name in ["startupProbe", "livenessProbe"] {
        let probe = at(replicas.container(), &format!("/{name}"));
        demand!(complaints, asks_admin(probe, "/livez"), "{name} does not ask /livez: {probe}");
    }
    let ready = at(replicas.container(), "/readinessProbe");
    let asks_grpc = ready.pointer("/grpc/port").and_then(Value::as_u64)
        == ports.get("grpc").copied()
        && ready.pointer("/grpc/service") == Some(&"chat.ChatService".into());
    let right = if resources.has_tls() { asks_admin(ready, "/readyz") } else { asks_grpc };
    demand!(complaints, right, "readinessProbe does not ask for delivery: {ready}");
    for workload in resources.workloads() {
        for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let Some(probe) = workload.container().get(name) else { continue };
            let who = workload.name();
            let ways = ["httpGet", "grpc", "tcpSocket", "exec"];
            let ways = ways.iter().filter(|way| probe.get(way).is_some()).count();
            demand!(complaints, ways == 1, "{name} of {who} asks in {ways} ways: {probe}");
            // A busy replica is not a dead one.
            let patience = number(probe, "/timeoutSeconds");
            demand!(complaints, patience >= 2, "{name} of {who} waits for {patience} s only");
        }
    }
}

/// A deploy never has fewer pods ready than it began with.
pub(super) fn rolls_without_loss_of_capacity(resources: &Resources, complaints: &mut Complaints) {
    for deployment in resources.of_kind("Deployment") {
        let name = text(deployment, "/metadata/name");
        let (surge, missing) = (
            number(deployment, "/spec/strategy/rollingUpdate/maxSurge"),
            number(deployment, "/spec/strategy/rollingUpdate/maxUnavailable"),
        );
        demand!(complaints, (surge, missing) == (1, 0), "{name} rolls by {surge} and {missing}");
        let settled = deployment.pointer("/spec/minReadySeconds").and_then(Value::as_u64);
        demand!(complaints, settled >= Some(1), "{name} goes on at the first sign of readiness");
        let budget = resources.find("PodDisruptionBudget", name);
        let budget = budget.map(|budget| number(budget, "/spec/maxUnavailable"));
        demand!(complaints, budget == Some(1), "{name} may lose {budget:?} pods at once");
    }
}

/// A pod may do nothing but what it needs, and Kubernetes puts nothing into its environment.
pub(super) fn has_no_privileges(resources: &Resources, complaints: &mut Complaints) {
    for workload in resources.workloads() {
        let (name, pod, container) = (workload.name(), workload.pod(), workload.container());
        let context = at(container, "/securityContext");
        for (value, pointer, expected) in [
            (pod, "/enableServiceLinks", false),
            (pod, "/automountServiceAccountToken", false),
            (pod, "/securityContext/runAsNonRoot", true),
            (context, "/allowPrivilegeEscalation", false),
            (context, "/readOnlyRootFilesystem", true),
        ] {
            let found = value.pointer(pointer);
            demand!(complaints, found == Some(&expected.into()), "{name}: {pointer} is {found:?}");
        }
        let user = number(pod, "/securityContext/runAsUser");
        demand!(complaints, user > 0, "{name} is root");
        let profile = text(pod, "/securityContext/seccompProfile/type");
        demand!(complaints, profile == "RuntimeDefault", "{name}: seccomp is {profile}");
        let dropped = texts(context, "/capabilities/drop");
        demand!(complaints, dropped == ["ALL"], "{name} drops {dropped:?}");
        let limits = at(container, "/resources");
        let bounded = limits.pointer("/limits/memory").is_some()
            && limits.pointer("/requests/memory").is_some()
            && limits.pointer("/requests/cpu").is_some();
        demand!(complaints, bounded, "{name} has resources {limits}");
    }
    let context = at(resources.roomcast().pod(), "/securityContext");
    let user = format!("{}:{}", number(context, "/runAsUser"), number(context, "/runAsGroup"));
    demand!(complaints, user == image().user, "{user} is not the image's {}", image().user);
}

/// What a replica's traces say of where it runs is true, and every name in it is given before.
pub(super) fn traces_name_the_place(resources: &Resources, complaints: &mut Complaints) {
    let replicas = resources.roomcast();
    let mut places = vec![
        ("k8s.deployment.name".to_owned(), replicas.name().to_owned()),
        ("k8s.container.name".to_owned(), text(replicas.container(), "/name").to_owned()),
    ];
    for (attribute, field) in [
        ("k8s.namespace.name", "metadata.namespace"),
        ("k8s.pod.name", "metadata.name"),
        ("k8s.pod.uid", "metadata.uid"),
        ("k8s.node.name", "spec.nodeName"),
    ] {
        places.push((attribute.to_owned(), field.to_owned()));
    }
    let mut given = vec![];
    for variable in list(replicas.container(), "/env") {
        if let Some(field) = variable.pointer("/valueFrom/fieldRef/fieldPath") {
            given.push((format!("$({})", text(variable, "/name")), field.as_str().unwrap_or("")));
        }
        if text(variable, "/name") != "OTEL_RESOURCE_ATTRIBUTES" {
            continue;
        }
        let resolved = |value: &str| {
            given
                .iter()
                .find(|(name, _)| name == value)
                .map_or(value, |(_, field)| field)
                .to_owned()
        };
        let pairs = text(variable, "/value").split(',').map(|pair| pair.split_once('='));
        let found: Vec<_> = pairs
            .map(|pair| pair.map(|(name, value)| (name.to_owned(), resolved(value))))
            .collect();
        for place in &places {
            let said = found.contains(&Some(place.clone()));
            demand!(complaints, said, "traces do not say {place:?}: {found:?}");
        }
        return;
    }
    complaints.push("OTEL_RESOURCE_ATTRIBUTES is not set".to_owned());
}
