//! The kustomization, as `kubectl` builds it.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use super::{
    assert_accepted, at, image::image, list, longest_exit, number, path, port, run, text, tool,
    variables,
};

/// What `kubectl kustomize` makes of the base.
fn build() -> String {
    let output = run(tool("KUBECTL_BIN", "kubectl").arg("kustomize").arg(path("k8s/base")));
    String::from_utf8(output.stdout).unwrap()
}

struct Resources(Vec<Value>);

impl Resources {
    fn build() -> Self {
        Self(serde_saphyr::from_multiple(&build()).unwrap())
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |resource| text(resource, "/kind") == kind)
    }

    /// The only one of a kind.
    fn one<'a>(&'a self, kind: &str) -> &'a Value {
        let found: Vec<_> = self.of_kind(kind).collect();
        let [one] = found[..] else { panic!("{} of kind {kind}", found.len()) };
        one
    }

    fn pod(&self) -> &Value {
        at(self.one("Deployment"), "/spec/template/spec")
    }

    fn container(&self) -> &Value {
        let [container] = list(self.pod(), "/containers") else { panic!("one container") };
        container
    }

    /// What a replica is configured with: the image's variables, the config map's over them, and
    /// a value in place of the secret's.
    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = image().environment;
        settings.extend(variables(self.one("ConfigMap"), "/data"));
        for variable in list(self.container(), "/env") {
            assert_eq!(text(variable, "/valueFrom/secretKeyRef/name"), "roomcast-redis");
            settings.insert(text(variable, "/name").to_owned(), "redis://redis:6379".to_owned());
        }
        settings
    }

    /// The container's ports by name.
    fn ports(&self) -> BTreeMap<&str, u64> {
        let ports = list(self.container(), "/ports").iter();
        ports.map(|port| (text(port, "/name"), number(port, "/containerPort"))).collect()
    }
}

/// Every resource fits the schema of the newest Kubernetes that the validator knows, and has no
/// field beside it.
#[test]
fn resources_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("base.yaml");
    fs::write(&file, build()).unwrap();
    run(tool("KUBERNETES_VALIDATE_BIN", "kubernetes-validate").arg("--strict").arg(&file));
}

#[test]
fn settings_are_accepted() {
    assert_accepted(&Resources::build().settings());
}

/// Kubernetes kills nobody who is still draining.
#[test]
fn grace_period_covers_the_drain() {
    let resources = Resources::build();
    let grace = number(resources.pod(), "/terminationGracePeriodSeconds");
    assert!(grace >= longest_exit(&resources.settings()), "{grace} s");
}

/// Configuration, container, services and image mean the same two ports.
#[test]
fn ports_agree() {
    let resources = Resources::build();
    let settings = resources.settings();
    let expected = BTreeMap::from([
        ("grpc", port(&settings["ROOMCAST_SERVER__ADDR"])),
        ("admin", port(&settings["ROOMCAST_ADMIN__ADDR"])),
    ]);
    assert_eq!(resources.ports(), expected);
    for (variable, value) in image().environment {
        assert_eq!(settings[&variable], value, "{variable} differs from the image's");
    }
    let mut served = BTreeMap::new();
    for service in resources.of_kind("Service") {
        for port in list(service, "/spec/ports") {
            assert_eq!(text(port, "/name"), text(port, "/targetPort"));
            served.insert(text(port, "/targetPort"), number(port, "/port"));
        }
    }
    assert_eq!(served, expected);
}

/// Only the process's own death restarts it; only what proves delivery makes it ready.
#[test]
fn probes_ask_the_admin_port() {
    let resources = Resources::build();
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        let probe = at(resources.container(), &format!("/{probe}"));
        assert_eq!(text(probe, "/httpGet/path"), path);
        assert!(resources.ports().contains_key(text(probe, "/httpGet/port")));
        assert!(number(probe, "/timeoutSeconds") >= 2, "a busy replica is not a dead one");
    }
}

/// What selects replicas selects these, by labels that no new version changes.
#[test]
fn selectors_match_the_pods() {
    let resources = Resources::build();
    let deployment = resources.one("Deployment");
    let labels = variables(deployment, "/spec/template/metadata/labels");
    let budget = resources.one("PodDisruptionBudget");
    let spreads = list(resources.pod(), "/topologySpreadConstraints");
    let mut selectors = vec![
        variables(deployment, "/spec/selector/matchLabels"),
        variables(budget, "/spec/selector/matchLabels"),
    ];
    selectors.extend(resources.of_kind("Service").map(|s| variables(s, "/spec/selector")));
    selectors.extend(spreads.iter().map(|s| variables(s, "/labelSelector/matchLabels")));
    for selector in selectors {
        assert!(!selector.is_empty());
        assert!(!selector.contains_key("app.kubernetes.io/version"), "{selector:?}");
        for (label, value) in selector {
            assert_eq!(labels.get(&label), Some(&value), "{label}");
        }
    }
}

/// What the pod refers to by name is part of the base, except for the secret.
#[test]
fn references_lead_somewhere() {
    let resources = Resources::build();
    let account = resources.one("ServiceAccount");
    assert_eq!(text(resources.pod(), "/serviceAccountName"), text(account, "/metadata/name"));
    let config = text(resources.container(), "/envFrom/0/configMapRef/name");
    assert_eq!(config, text(resources.one("ConfigMap"), "/metadata/name"));
    let image = concat!("roomcast:", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(resources.container(), "/image"), image);
}

/// A deploy never has fewer replicas ready than it began with.
#[test]
fn rolls_without_loss_of_capacity() {
    let resources = Resources::build();
    let spec = at(resources.one("Deployment"), "/spec");
    assert_eq!(number(spec, "/replicas"), 3);
    assert_eq!(number(spec, "/strategy/rollingUpdate/maxSurge"), 1);
    assert_eq!(number(spec, "/strategy/rollingUpdate/maxUnavailable"), 0);
    assert_eq!(number(resources.one("PodDisruptionBudget"), "/spec/maxUnavailable"), 1);
}

/// A replica may do nothing but what it needs; Kubernetes puts nothing into its environment.
#[test]
fn pods_have_no_privileges() {
    let resources = Resources::build();
    let pod = resources.pod();
    assert_eq!(at(pod, "/enableServiceLinks"), false);
    assert_eq!(at(pod, "/automountServiceAccountToken"), false);
    assert_eq!(at(pod, "/securityContext/runAsNonRoot"), true);
    assert_eq!(text(pod, "/securityContext/seccompProfile/type"), "RuntimeDefault");
    let (user, group) = ("/securityContext/runAsUser", "/securityContext/runAsGroup");
    assert_eq!(format!("{}:{}", number(pod, user), number(pod, group)), image().user);
    let context = at(resources.container(), "/securityContext");
    assert_eq!(at(context, "/allowPrivilegeEscalation"), false);
    assert_eq!(at(context, "/readOnlyRootFilesystem"), true);
    assert_eq!(text(context, "/capabilities/drop/0"), "ALL");
}
