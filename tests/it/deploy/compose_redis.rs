//! The compose files that go over `compose.yaml`: with Sentinels, and with a Redis Cluster.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use super::{
    assert_accepted, at, compose, path, read, redis_servers, run, seconds, text, texts, tool,
    variables,
};

/// What stands in the names of the files, and how many Redis servers there are.
const FILES: [(&str, usize); 2] = [("sentinel", 3), ("cluster", 6)];

/// For how long messages wait, unless `redis.timeout` says otherwise.
const DEFAULT_TIMEOUT_S: u64 = 5;

/// Compose, told of `compose.yaml` and a file over it.
fn merging(file: &str) -> Command {
    let mut compose = tool("DOCKER_COMPOSE_BIN", "docker-compose");
    for file in ["compose.yaml", &format!("compose.{file}.yaml")] {
        compose.arg("-f").arg(path("deploy").join(file));
    }
    compose
}

/// The services, as compose puts them together.
fn services(file: &str) -> Value {
    let merged = run(merging(file).env("COMPOSE_PROFILES", "").arg("config")).stdout;
    let merged: Value = serde_saphyr::from_str(&String::from_utf8(merged).unwrap()).unwrap();
    at(&merged, "/services").clone()
}

/// The Redis servers by name.
fn servers(services: &Value) -> Vec<(&String, &Value)> {
    let is_server = |(name, _): &(&String, _)| name.starts_with("redis");
    services.as_object().unwrap().iter().filter(is_server).collect()
}

/// What is mounted and where. Some versions of compose write that as a text, others as a map.
fn mounts(service: &Value) -> Vec<(String, String)> {
    let mount = |mount: &Value| match mount.as_str() {
        Some(mount) => {
            let mut parts = mount.split(':').map(str::to_owned);
            (parts.next().unwrap(), parts.next().unwrap())
        }
        None => (text(mount, "/source").to_owned(), text(mount, "/target").to_owned()),
    };
    service["volumes"].as_array().unwrap().iter().map(mount).collect()
}

/// The number that follows some words in a script.
fn number_after(script: &str, words: &str) -> u64 {
    let script = read(&format!("deploy/redis/{script}"));
    let (_, rest) = script.split_once(words).unwrap_or_else(|| panic!("no {words:?}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// Compose itself takes each file, with and without what watches the chat.
#[test]
fn compose_accepts_the_files() {
    for (file, _) in FILES {
        for profiles in ["", "observability"] {
            run(merging(file).env("COMPOSE_PROFILES", profiles).args(["config", "--quiet"]));
        }
    }
}

/// Each server runs what the one Redis of `compose.yaml` runs, with the same flags and bounds, and has data and a
/// name of its own.
#[test]
fn servers_are_like_the_one_redis() {
    let one = &compose::services()["redis"];
    for (file, count) in FILES {
        let services = services(file);
        let servers = servers(&services);
        assert_eq!(servers.len(), count, "{file}");
        let mut volumes = BTreeSet::from(["redis-data".to_owned()]);
        for (name, server) in servers {
            for key in ["image", "command", "healthcheck/test", "logging", "restart", "init"] {
                let pointer = format!("/{key}");
                assert_eq!(at(server, &pointer), at(one, &pointer), "{file}: {name}");
            }
            assert_eq!(text(server, "/hostname"), name);
            let own = mounts(server).into_iter().find(|(_, target)| target == "/data");
            let (volume, _) = own.expect("a volume");
            assert!(volumes.insert(volume.clone()), "{file}: {name} shares {volume}");
        }
    }
}

/// What is started by a script finds it, and may do nothing but what it needs.
#[test]
fn scripts_are_found_and_have_no_privileges() {
    for (file, _) in FILES {
        let services = services(file);
        let mut scripts = BTreeSet::new();
        for (name, service) in services.as_object().unwrap() {
            let Some(entry) = service.get("entrypoint") else { continue };
            let script = texts(entry, "")[1].strip_prefix("/etc/redis/").expect("a script");
            run(Command::new("sh").arg("-n").arg(path("deploy/redis").join(script)));
            scripts.insert(script.to_owned());
            let mounts = mounts(service);
            let mounted = mounts.iter().any(|(source, target)| {
                source.ends_with("/deploy/redis") && target == "/etc/redis"
            });
            assert!(mounted, "{file}: {name} mounts {mounts:?}");
            assert_eq!(text(service, "/user"), "redis", "{file}: {name}");
            assert_eq!(texts(service, "/cap_drop"), ["ALL"], "{file}: {name}");
            assert_eq!(service["read_only"], true, "{file}: {name}");
            assert_eq!(text(service, "/logging/options/max-size"), "10m", "{file}: {name}");
        }
        assert_eq!(scripts.len(), 2, "{file}: {scripts:?}");
    }
}

/// Replicas are told of services that are there, in a URL that they take, and wait for them.
#[test]
fn replicas_find_redis() {
    for (file, _) in FILES {
        let services = services(file);
        let mut settings = compose::settings();
        settings.extend(variables(&services, "/roomcast/environment"));
        let url = settings["ROOMCAST_REDIS__URL"].clone();
        for (host, port) in redis_servers(&url) {
            let asks = text(&services[&host], "/healthcheck/test/1").to_owned();
            let expected =
                if port == 6379 { "redis-cli ping".into() } else { format!("-p {port}") };
            assert!(asks.contains(&expected), "{file}: {host}:{port} is not {asks}");
        }
        assert_accepted(&settings);
    }
    let sentinels = services("sentinel");
    let url = text(&sentinels, "/roomcast/environment/ROOMCAST_REDIS__URL");
    let (_, master) = url.rsplit_once('/').unwrap();
    let script = read("deploy/redis/sentinel.sh");
    assert!(script.contains(&format!("sentinel monitor {master} $1 6379 2\n")), "{master}");
    let names = redis_servers(url);
    assert_eq!(names.len(), 3, "two of them are a majority");
    for (sentinel, _) in names {
        let condition = format!("/roomcast/depends_on/{sentinel}/condition");
        assert_eq!(text(&sentinels, &condition), "service_healthy");
        assert_eq!(texts(&sentinels[&sentinel], "/command"), ["redis"], "the first master");
    }
    for (name, server) in servers(&sentinels) {
        assert_eq!(texts(server, "/entrypoint")[2], "redis", "{name}: the first master");
    }
}

/// All nodes are there before the cluster is made of them, and it is made before replicas start.
#[test]
fn the_cluster_is_made_of_all_nodes() {
    let services = services("cluster");
    let nodes: Vec<_> = servers(&services).into_iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(texts(&services, "/create-cluster/command"), nodes);
    for node in nodes {
        let condition = format!("/create-cluster/depends_on/{node}/condition");
        assert_eq!(text(&services, &condition), "service_healthy");
    }
    let condition = text(&services, "/roomcast/depends_on/create-cluster/condition");
    assert_eq!(condition, "service_completed_successfully");
    assert_eq!(text(&services, "/create-cluster/restart"), "no");
}

/// A failover, of which silence is less than half, is over before messages are refused.
#[test]
fn failovers_are_shorter_than_messages_wait() {
    let sentinels = number_after("sentinel.sh", "down-after-milliseconds roomcast ");
    let nodes = number_after("node.sh", "--cluster-node-timeout ");
    for ((file, _), silence) in FILES.into_iter().zip([sentinels, nodes]) {
        let set = variables(&services(file), "/roomcast/environment");
        let wait = set.get("ROOMCAST_REDIS__TIMEOUT").map_or(DEFAULT_TIMEOUT_S, |it| seconds(it));
        assert!(2 * silence < 1000 * wait, "{file}: {silence} ms");
    }
}
