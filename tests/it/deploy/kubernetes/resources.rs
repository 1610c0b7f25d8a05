//! What `kubectl kustomize` makes of a kustomization.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Component, Path},
};

use serde_json::Value;

use super::super::{at, image::image, list, number, path, run, text, tool, variables};

/// A kustomization that is there, or one over it, as `docs/operations.md` shows how to write it.
pub(super) struct Variant {
    base: &'static str,
    component: Option<&'static str>,
}

const fn variant(base: &'static str, component: Option<&'static str>) -> Variant {
    Variant { base, component }
}

/// Everything that `docs/operations.md` offers.
pub(super) const VARIANTS: [Variant; 19] = [
    variant("base", None),
    variant("base", Some("sentinel")),
    variant("base", Some("cluster")),
    variant("base", Some("redis-sentinel")),
    variant("base", Some("redis-cluster")),
    variant("overlays/dev", None),
    variant("overlays/dev", Some("envoy")),
    variant("overlays/dev", Some("gateway")),
    variant("overlays/dev", Some("tls")),
    variant("overlays/dev", Some("sentinel")),
    variant("overlays/dev", Some("cluster")),
    variant("overlays/dev", Some("redis-sentinel")),
    variant("overlays/dev", Some("redis-cluster")),
    variant("overlays/production", None),
    variant("overlays/production", Some("envoy")),
    variant("overlays/production", Some("gateway")),
    variant("overlays/production", Some("tls")),
    variant("overlays/production", Some("sentinel")),
    variant("overlays/production", Some("cluster")),
];

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.base, self.component.unwrap_or("nothing"))
    }
}

impl Variant {
    /// The one that is shown so.
    pub(super) fn named(name: &str) -> &'static Self {
        let found = VARIANTS.iter().find(|variant| variant.to_string() == name);
        found.unwrap_or_else(|| panic!("no variant {name}"))
    }

    /// The manifests as text.
    pub(super) fn render(&self) -> String {
        let base = path("k8s").join(self.base);
        let Some(component) = self.component else { return kustomize(&base) };
        let directory = tempfile::tempdir().unwrap();
        // Kustomize takes no absolute path.
        let here = directory.path().canonicalize().unwrap();
        let levels = here.components().filter(|part| matches!(part, Component::Normal(_))).count();
        let seen_from_here = |path: &Path| format!("{}{}", "../".repeat(levels), path.display());
        let alone = Resources::parse(&kustomize(&base));
        let namespace = alone.of_kind("Namespace").next();
        let namespace = namespace.map_or("roomcast", |it| text(it, "/metadata/name"));
        let kustomization = serde_json::json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": namespace,
            "resources": [seen_from_here(&base)],
            "components": [seen_from_here(&path("k8s/components").join(component))],
        });
        fs::write(here.join("kustomization.yaml"), kustomization.to_string()).unwrap();
        kustomize(&here)
    }

    pub(super) fn build(&self) -> Resources {
        Resources::parse(&self.render())
    }
}

fn kustomize(directory: &Path) -> String {
    let output = run(tool("KUBECTL_BIN", "kubectl").arg("kustomize").arg(directory));
    String::from_utf8(output.stdout).unwrap()
}

/// The manifests of one variant.
#[derive(Clone, PartialEq)]
pub(super) struct Resources(Vec<Value>);

impl Resources {
    fn parse(rendered: &str) -> Self {
        Self(serde_saphyr::from_multiple(rendered).unwrap())
    }

    pub(super) fn all(&self) -> &[Value] {
        &self.0
    }

    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |resource| text(resource, "/kind") == kind)
    }

    /// The only one of a kind.
    pub(super) fn one<'a>(&'a self, kind: &str) -> &'a Value {
        let found: Vec<_> = self.of_kind(kind).collect();
        let [one] = found[..] else { panic!("{} of kind {kind}", found.len()) };
        one
    }

    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of_kind(kind).find(|resource| text(resource, "/metadata/name") == name)
    }

    /// The one of this kind and name, to be changed.
    pub(super) fn find_mut(&mut self, kind: &str, name: &str) -> Option<&mut Value> {
        let named = |it: &&mut Value| it["kind"] == kind && it["metadata"]["name"] == name;
        self.0.iter_mut().find(named)
    }

    /// What runs pods.
    pub(super) fn workloads(&self) -> impl Iterator<Item = Workload<'_>> {
        let runs_pods = |it: &&Value| it.pointer("/spec/template/spec/containers").is_some();
        self.0.iter().filter(runs_pods).map(Workload)
    }

    /// The replicas.
    pub(super) fn roomcast(&self) -> Workload<'_> {
        Workload(self.find("Deployment", "roomcast").expect("the deployment of replicas"))
    }

    /// The proxy, where the variant has one.
    pub(super) fn envoy(&self) -> Option<Workload<'_>> {
        self.find("Deployment", "roomcast-envoy").map(Workload)
    }

    /// What a replica is configured with: the image's variables, the config map's over them, and
    /// the container's own over those.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let container = self.roomcast().container();
        let config = text(container, "/envFrom/0/configMapRef/name");
        let config = self.find("ConfigMap", config).expect("the config map of replicas");
        let mut settings = image().environment;
        settings.extend(variables(config, "/data"));
        let own = list(container, "/env").iter().filter(|it| it.get("value").is_some());
        settings.extend(own.map(|it| (text(it, "/name").into(), text(it, "/value").into())));
        settings.retain(|name, _| name.starts_with("ROOMCAST_"));
        settings
    }

    /// Whether clients have to speak TLS to replicas.
    pub(super) fn has_tls(&self) -> bool {
        self.settings().contains_key("ROOMCAST_SERVER__TLS__CERT_FILE")
    }
}

/// What runs pods of one container each.
#[derive(Clone, Copy)]
pub(super) struct Workload<'a>(pub(super) &'a Value);

impl<'a> Workload<'a> {
    pub(super) fn name(self) -> &'a str {
        text(self.0, "/metadata/name")
    }

    pub(super) fn labels(self) -> BTreeMap<String, String> {
        variables(self.0, "/spec/template/metadata/labels")
    }

    pub(super) fn pod(self) -> &'a Value {
        at(self.0, "/spec/template/spec")
    }

    pub(super) fn container(self) -> &'a Value {
        let [container] = list(self.pod(), "/containers") else { panic!("one container") };
        container
    }

    /// The container's ports by name.
    pub(super) fn ports(self) -> BTreeMap<&'a str, u64> {
        let ports = self.container().get("ports").and_then(Value::as_array);
        let named = |port| (text(port, "/name"), number(port, "/containerPort"));
        ports.into_iter().flatten().map(named).collect()
    }

    /// The port that a name or a number means, if it is one of the container's.
    pub(super) fn port(self, port: &Value) -> Option<u64> {
        let ports = self.ports();
        match port.as_u64() {
            Some(number) => ports.values().any(|known| *known == number).then_some(number),
            None => ports.get(port.as_str()?).copied(),
        }
    }

    /// Where volumes are mounted, each with its volume.
    pub(super) fn mounts(self) -> impl Iterator<Item = (&'a Value, Option<&'a Value>)> {
        let volumes = self.pod().get("volumes").and_then(Value::as_array);
        let claims = self.0.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
        let mounts = self.container().get("volumeMounts").and_then(Value::as_array);
        mounts.into_iter().flatten().map(move |mount| {
            let named = |it: &&Value| {
                let name = it.get("name").or_else(|| it.pointer("/metadata/name"));
                name == mount.get("name")
            };
            let volume = volumes.into_iter().chain(claims).flatten().find(named);
            (mount, volume)
        })
    }
}
