//! Redis: that replicas find it, and those of its servers that are part of the manifests are the tested ones.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{at, list, number, read, read_yaml, redis_servers, text, texts, variables},
    Complaints, Resources, demand,
    resources::Workload,
};

/// Kustomizations that make the secret with the URL.
const MAKERS: [&str; 3] = ["overlays/dev", "components/redis-sentinel", "components/redis-cluster"];

/// Examples of URLs for secrets that are made beforehand.
pub(super) const EXAMPLES: [(&str, &str); 3] = [
    ("roomcast-redis", "overlays/production"),
    ("roomcast-redis-sentinel", "components/sentinel"),
    ("roomcast-redis-cluster", "components/cluster"),
];

/// The URL in the secret that replicas mount: as it is generated, else as in the example.
pub(super) fn url(resources: &Resources) -> String {
    let mut volumes = list(resources.roomcast().pod(), "/volumes").iter();
    let volume = volumes.find(|it| it["name"] == "redis").expect("a volume with the URL");
    let secret = text(volume, "/secret/secretName");
    if resources.find("Secret", secret).is_some() {
        // Generated names end in a hash.
        let (name, _) = secret.rsplit_once('-').expect("a hash");
        let mut makers = MAKERS.iter().map(|it| read_yaml(&format!("k8s/{it}/kustomization.yaml")));
        let maker = makers.find(|it| text(it, "/secretGenerator/0/name") == name);
        let maker = maker.expect("a kustomization that makes it");
        let literal = text(&maker, "/secretGenerator/0/literals/0");
        return literal.strip_prefix("url=").expect("the key url").to_owned();
    }
    // A secret that nobody makes is found elsewhere.
    let example = EXAMPLES.iter().find(|(name, _)| *name == secret).unwrap_or(&EXAMPLES[0]);
    read(&format!("k8s/{}/redis-url.example", example.1))
}

/// The set that a pod with this name is of, as in `set-0.service`.
pub(super) fn set_of<'a>(resources: &'a Resources, host: &str) -> Option<Workload<'a>> {
    let (pod, service) = host.split_once('.')?;
    let (set, number) = pod.rsplit_once('-')?;
    let number: u64 = number.parse().ok()?;
    let set = resources.find("StatefulSet", set)?;
    let there = number < at(set, "/spec/replicas").as_u64()?;
    let named = text(set, "/spec/serviceName") == service;
    let headless = at(resources.find("Service", service)?, "/spec/clusterIP") == "None";
    (there && named && headless).then_some(Workload(set))
}

/// The workloads that run Redis in any way.
fn redises(resources: &Resources) -> impl Iterator<Item = Workload<'_>> {
    resources.workloads().filter(|it| text(it.container(), "/image").starts_with("redis:"))
}

/// What a container is started with.
fn words(container: &Value) -> Vec<&str> {
    let args = container.get("args").map(|_| texts(container, "/args"));
    [texts(container, "/command"), args.unwrap_or_default()].concat()
}

/// The URL leads to servers of the manifests, or elsewhere over TLS.
pub(super) fn url_leads_to_redis(resources: &Resources, complaints: &mut Complaints) {
    let url = url(resources);
    let kind = url.split("://").next().unwrap_or_default();
    for (host, port) in redis_servers(&url) {
        if host.ends_with(".example.net") {
            demand!(complaints, kind.starts_with("rediss"), "{url} is not over TLS");
            continue;
        }
        let service = || resources.find("StatefulSet", &host).map(Workload);
        let Some(set) = set_of(resources, &host).or_else(service) else {
            complaints.push(format!("the URL leads to {host}, which is no pod and no service"));
            continue;
        };
        let listens = set.ports().values().any(|it| *it == port);
        demand!(complaints, listens, "nobody listens on {host}:{port}");
    }
    let others = ["redis-ha", "redis-cluster"];
    let other = others.iter().any(|it| resources.find("StatefulSet", it).is_some());
    let both = other && resources.find("StatefulSet", "redis").is_some();
    demand!(complaints, !both, "there is a Redis that nobody uses");
}

/// The Redis of a cluster for trying things out is that of compose, and keeps what that keeps.
pub(super) fn redis_is_the_one_of_compose(resources: &Resources, complaints: &mut Complaints) {
    let compose = read_yaml("deploy/compose.yaml");
    let service = at(&compose, "/services/redis");
    let options = |words: &[&str]| -> BTreeSet<String> {
        words.join(" ").split("--").skip(1).map(|it| it.trim().to_owned()).collect()
    };
    let there = options(&texts(service, "/command"));
    let bounded = there.iter().any(|it| it.starts_with("maxmemory "));
    demand!(complaints, bounded, "Redis has no bound on its memory");
    for redis in redises(resources) {
        let (name, image) = (redis.name(), text(redis.container(), "/image"));
        let same = image == text(service, "/image");
        demand!(complaints, same, "{image} of {name} is not the image of compose");
        if redis.ports().contains_key("redis") {
            let here = options(&words(redis.container()));
            let missing: Vec<_> = there.difference(&here).collect();
            demand!(complaints, missing.is_empty(), "{name} lacks {missing:?}");
        }
    }
}

/// Servers are started by the scripts of compose, as pods that are there, and are known by the names of these.
pub(super) fn scripts_are_those_of_compose(resources: &Resources, complaints: &mut Complaints) {
    for redis in redises(resources) {
        let (name, words) = (redis.name(), words(redis.container()));
        let Some(script) = words.iter().find_map(|it| it.strip_prefix("/etc/redis/")) else {
            continue;
        };
        let mut mounts = redis.mounts();
        let mount = mounts.find(|(mount, _)| mount["mountPath"] == "/etc/redis");
        let map = mount.and_then(|(_, volume)| volume?.pointer("/configMap/name")?.as_str());
        let map = map.and_then(|map| resources.find("ConfigMap", map));
        let text_of = map.and_then(|map| variables(map, "/data").remove(script));
        let same = text_of == Some(read(&format!("deploy/redis/{script}")));
        demand!(complaints, same, "{name} has another {script} than compose");
        for host in words.iter().filter(|it| it.contains(".redis-")) {
            let known = set_of(resources, host).is_some();
            demand!(complaints, known, "{name} is told of {host}, which is no pod");
        }
        if let Some(service) = redis.0.pointer("/spec/serviceName").and_then(Value::as_str) {
            let known_by = format!("$(POD_NAME).{service}");
            let said = list(redis.container(), "/env").iter().any(|it| it["value"] == *known_by);
            demand!(complaints, said, "{name} is not known by {known_by}");
        }
    }
    let Some(job) = resources.of_kind("Job").next().map(Workload) else { return };
    let nodes = texts(job.container(), "/args");
    let set = set_of(resources, nodes[0]).expect("nodes of a set");
    let all = number(set.0, "/spec/replicas");
    demand!(complaints, nodes.len() as u64 == all, "a cluster of {nodes:?}, and not of {all}");
}

/// Several servers are not all on one node, and are not taken away together.
pub(super) fn servers_do_not_go_together(resources: &Resources, complaints: &mut Complaints) {
    for set in resources.of_kind("StatefulSet").filter(|it| number(it, "/spec/replicas") > 1) {
        let name = text(set, "/metadata/name");
        let budget = resources.find("PodDisruptionBudget", name);
        let lost = budget.map(|budget| number(budget, "/spec/maxUnavailable"));
        demand!(complaints, lost == Some(1), "{name} may lose {lost:?} pods at once");
        let spread = "/spec/template/spec/topologySpreadConstraints/0/topologyKey";
        let spread = set.pointer(spread).and_then(Value::as_str);
        demand!(complaints, spread == Some("kubernetes.io/hostname"), "{name} is not spread");
    }
}
