//! The proxy's configuration: for the real Envoy to judge, and for process tests to run.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use roomcast_testkit::Envoy;
use serde_json::{Value, json};

use super::{at, list, number, path, read, read_yaml, run, seconds, text};
use crate::harness::{eventually, free_port, get};

const FILE: &str = "deploy/envoy.yaml";
const ADMIN: &str = "/admin/address/socket_address";
const LISTENER: &str = "/static_resources/listeners/0";
const CLUSTER: &str = "/static_resources/clusters/0";
const ENDPOINTS: &str = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints";
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const STATS_LISTENER: &str = "/static_resources/listeners/1";
const STATS_ROUTES: &str = "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config/\
    route_config/virtual_hosts/0/routes";
const ADMIN_ENDPOINT: &str = "/static_resources/clusters/1/load_assignment/endpoints/0/\
    lb_endpoints/0/endpoint/address/socket_address";
const UPSTREAM: &str = "/static_resources/clusters/0/typed_extension_protocol_options/\
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions/explicit_http_config/\
    http2_protocol_options";

/// Where Envoy listens, sends and answers questions, as in the file.
pub(super) struct Topology {
    pub(super) listener_port: u64,
    pub(super) admin_port: u64,
    /// Where metrics are for Prometheus.
    pub(super) stats_port: u64,
    pub(super) stats_path: String,
    pub(super) replica_name: String,
    pub(super) replica_port: u64,
    /// How long Envoy may take to notice that a replica has become not ready.
    pub(super) notices_within_s: u64,
}

/// Reads the file for those that have to agree with it.
pub(super) fn topology() -> Topology {
    let config = read_yaml(FILE);
    let replica = at(&config, &format!("{ENDPOINTS}/0/endpoint/address/socket_address"));
    let check = at(&config, &format!("{CLUSTER}/health_checks/0"));
    // With the jitter rounded up to a whole second.
    let interval = seconds(text(check, "/no_traffic_interval"));
    assert_eq!(interval, seconds(text(check, "/interval")), "asked as often without traffic");
    Topology {
        listener_port: number(&config, &format!("{LISTENER}/address/socket_address/port_value")),
        admin_port: number(&config, &format!("{ADMIN}/port_value")),
        stats_port: number(&config, &format!("{STATS_LISTENER}/address/socket_address/port_value")),
        stats_path: text(&config, &format!("{STATS_ROUTES}/0/match/path")).to_owned(),
        replica_name: text(replica, "/address").to_owned(),
        replica_port: number(replica, "/port_value"),
        notices_within_s: interval + 1 + seconds(text(check, "/timeout")),
    }
}

/// The file as it stands, but for the addresses: a listener and an admin port on the loopback
/// interface (0 for any free one), in front of replicas on these ports of it; and what the caller changes of
/// the listener for clients.
///
/// The text is JSON, which Envoy takes from a file named `*.json`.
pub(crate) fn local_config(
    listener: u16,
    admin: u16,
    replicas: &[u16],
    change: impl FnOnce(&mut Value),
) -> String {
    let mut config = local_config_with_stats(listener, admin, 0, replicas);
    change(config.pointer_mut(MANAGER).expect("a listener for clients"));
    config.to_string()
}

/// The same, where the port for Prometheus is of interest.
fn local_config_with_stats(listener: u16, admin: u16, stats: u16, replicas: &[u16]) -> Value {
    let local = |port: u16| json!({ "address": "127.0.0.1", "port_value": port });
    let endpoint =
        |&port: &u16| json!({ "endpoint": { "address": { "socket_address": local(port) } } });
    let mut config = read_yaml(FILE);
    replace(&mut config, ADMIN, local(admin));
    replace(&mut config, &format!("{LISTENER}/address/socket_address"), local(listener));
    replace(&mut config, &format!("{STATS_LISTENER}/address/socket_address"), local(stats));
    replace(&mut config, ADMIN_ENDPOINT, local(admin));
    replace(&mut config, ENDPOINTS, replicas.iter().map(endpoint).collect());
    config
}

fn replace(config: &mut Value, pointer: &str, value: Value) {
    *config.pointer_mut(pointer).unwrap_or_else(|| panic!("nothing at {pointer}")) = value;
}

fn validate(file: &Path) {
    let output = run(Envoy::command().args(["--mode", "validate", "-c"]).arg(file));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("deprecated"), "{log}");
}

/// Envoy itself takes the file, and warns of nothing that its next version would refuse.
#[test]
fn envoy_accepts_the_configuration() {
    validate(&path(FILE));
}

/// And takes it with the addresses of a test, each of which the file marks.
#[test]
fn addresses_can_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("envoy.json");
    let config = local_config(0, 0, &[1001, 1002, 1003], |_| ());
    for address in ["0.0.0.0", "\"roomcast\",\"port_value\"", "50051", "9901", "9902"] {
        assert!(!config.contains(address), "{address} was not replaced in {config}");
    }
    fs::write(&file, config).unwrap();
    validate(&file);
    assert_eq!(read(FILE).matches("# TEST").count(), 5);
}

/// A stream lives as long as its client wants: no timer of the proxy's ends it.
#[test]
fn no_timer_ends_a_stream() {
    let config = read_yaml(FILE);
    let manager = at(&config, MANAGER);
    let route = at(manager, "/route_config/virtual_hosts/0/routes/0/route");
    for (value, pointer) in [
        (manager, "/stream_idle_timeout"),
        (manager, "/request_timeout"),
        (route, "/timeout"),
        (route, "/idle_timeout"),
    ] {
        assert_eq!(seconds(text(value, pointer)), 0, "{pointer}");
    }
    let config = config.to_string();
    for key in ["max_stream_duration", "max_connection_duration"] {
        assert!(!config.contains(key), "{key} is set");
    }
}

/// Clients that do not read fill their own streams' windows. The window of the connection to the
/// replica, which they share with their neighbours, has room for all of them in the half that is used
/// before Envoy opens it again.
pub(super) fn stalled_streams_fit(stream: u64, streams: u64, connection: u64) -> bool {
    connection / 2 > stream * streams
}

#[test]
fn stalled_streams_cannot_fill_the_connection() {
    let config = read_yaml(FILE);
    let option = |name: &str| number(at(&config, UPSTREAM), name);
    let (stream, streams) =
        (option("/initial_stream_window_size"), option("/max_concurrent_streams"));
    assert!(stalled_streams_fit(stream, streams, option("/initial_connection_window_size")));
}

/// A replica that drains gets no new streams, whatever the others are doing, and keeps its own.
#[test]
fn draining_replicas_keep_their_streams_only() {
    let config = read_yaml(FILE);
    let cluster = at(&config, CLUSTER);
    assert_eq!(at(cluster, "/close_connections_on_host_health_failure"), false);
    assert_eq!(number(cluster, "/common_lb_config/healthy_panic_threshold/value"), 0);
    // Or it would take longer to notice than `topology` says.
    assert_eq!(seconds(text(cluster, "/common_lb_config/update_merge_window")), 0);
}

/// Prometheus is told how the proxy is by way of the admin port, and has no way to stop it.
#[tokio::test]
async fn metrics_are_all_that_the_admin_port_gives_away() {
    let config = read_yaml(FILE);
    let [route] = list(&config, STATS_ROUTES) else { panic!("one route") };
    let upstream = text(&config, "/static_resources/clusters/1/name");
    assert_eq!(text(route, "/route/cluster"), upstream);
    assert_eq!(
        at(&config, ADMIN_ENDPOINT),
        at(&config, ADMIN),
        "the route leads to the admin port"
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("envoy.json");
    let (admin, stats) = (free_port(), free_port());
    fs::write(&file, local_config_with_stats(0, admin, stats, &[1001]).to_string()).unwrap();
    let mut envoy = tokio::process::Command::from(Envoy::command());
    envoy.args(["--concurrency", "1", "-c"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = envoy.kill_on_drop(true).spawn().unwrap();
    let stats: SocketAddr = ([127, 0, 0, 1], stats).into();
    let metrics = eventually(Duration::from_secs(20), "Envoy tells its metrics", async || {
        let (status, metrics) = get(stats, &topology().stats_path).await.ok()?;
        (status == 200).then_some(metrics)
    })
    .await;
    let closed = get(stats, "/server_info").await.unwrap();
    assert!(metrics.contains("envoy_cluster_membership_healthy{"), "{metrics}");
    assert_eq!(closed.0, 404, "{}", closed.1);
}
