use std::{io::Write as _, time::Duration};

use tempfile::NamedTempFile;

use super::*;

mod api;
mod auth;
mod documentation;
mod redis;
mod tls;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let variables = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Sources { variables, ..Sources::default() }
}

/// The lines of the error that a file leads to, without its changing name.
fn errors_of_file(text: &str) -> Vec<String> {
    let file = file(text);
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let path = file.path().display().to_string();
    lines(&load(&sources).unwrap_err()).iter().map(|line| line.replace(&path, "FILE")).collect()
}

fn errors_of_variables(pairs: &[(&str, &str)]) -> Vec<String> {
    lines(&load(&variables(pairs)).unwrap_err())
}

fn lines(error: &Error) -> Vec<String> {
    error.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn defaults_are_valid_and_as_documented() {
    let Loaded { config, entries } = load(&Sources::default()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.server.addr, "127.0.0.1:50051".parse().unwrap());
    assert_eq!(config.admin.addr, "127.0.0.1:9464".parse().unwrap());
    assert_eq!(config.redis.url, None);
    assert_eq!(config.names.lease, Duration::from_secs(15));
    assert_eq!(config.names.linger, Duration::from_secs(10));
    assert_eq!(config.limits.content_bytes, 16384);
    assert_eq!(config.limits.username_chars, 64);
    assert_eq!(config.limits.window_bytes, 8 << 20);
    assert_eq!(config.limits.gather, Duration::from_millis(8));
    assert_eq!(config.limits.page_size, 500);
    assert_eq!(config.limits.members_per_room, 200_000);
    assert_eq!(config.limits.rooms, 50_000);
    assert_eq!((config.limits.session_interval, config.limits.session_burst), (Duration::ZERO, 10));
    assert_eq!((config.limits.room_interval, config.limits.room_burst), (Duration::ZERO, 100));
    assert_eq!(config.server.ping_interval, Duration::from_secs(5));
    assert_eq!(config.server.idle_timeout, Duration::from_secs(75));
    assert_eq!(config.drain.delay, Duration::ZERO);
    assert_eq!(config.drain.deadline, Duration::from_secs(20));
    assert_eq!(config.history.age, Duration::from_secs(3600));
    assert_eq!(config.telemetry.otlp_endpoint, None);

    // Every key is in the file of defaults, at least as a comment.
    let text = include_str!("defaults.toml");
    for Entry { key, .. } in entries {
        let (_, name) = key.rsplit_once('.').unwrap();
        let there = text.lines().any(|line| {
            line.trim_start_matches("# ").split_once(" = ").is_some_and(|(key, _)| key == name)
        });
        assert!(there, "{key} is not in defaults.toml");
    }
}

#[test]
fn later_sources_go_before_earlier_ones() {
    let file = file("[names]\nlease = \"1m\"\nlinger = \"1m\"\n[history]\nage = \"1h 30m\"");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..variables(&[
            ("ROOMCAST_NAMES__LINGER", "250ms"),
            ("ROOMCAST_SERVER__ADDR", "0.0.0.0:1"),
            ("ROOMCAST_CONFIG", "/is/no/key"),
            ("ROOMCAST_TOKEN", "is.no.key"),
            ("PATH", "/bin"),
        ])
    }
    .flag("--addr", "server.addr", Some("0.0.0.0:2"))
    .flag("--admin-addr", "admin.addr", None);
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.names.lease, Duration::from_secs(60));
    assert_eq!(loaded.config.names.linger, Duration::from_millis(250));
    assert_eq!(loaded.config.history.age, Duration::from_secs(5400));
    assert_eq!(loaded.config.server.addr, "0.0.0.0:2".parse().unwrap());

    let dump = loaded.dump();
    let path = file.path().display();
    for line in [
        "addr = \"0.0.0.0:2\" # flag --addr".to_owned(),
        "addr = \"127.0.0.1:9464\" # default".to_owned(),
        format!("lease = \"1m\" # file {path}"),
        "linger = \"250ms\" # variable ROOMCAST_NAMES__LINGER".to_owned(),
        "window_bytes = 8388608 # default".to_owned(),
        "# otlp_endpoint is not set".to_owned(),
    ] {
        assert!(dump.lines().any(|it| it == line), "no {line:?} in\n{dump}");
    }
}

#[test]
fn a_dump_is_a_configuration() {
    let sources = variables(&[
        ("ROOMCAST_LIMITS__WINDOW_BYTES", "16MiB"),
        ("ROOMCAST_LIMITS__STREAMS", "7"),
        ("ROOMCAST_REDIS__URL", "redis://cache.example:6380/3"),
    ]);
    let loaded = load(&sources).unwrap();
    let file = file(&loaded.dump());
    let again = load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() });
    assert_eq!(again.unwrap().config, loaded.config);
}

#[test]
fn unknown_keys_are_refused_with_path_source_and_suggestion() {
    assert_eq!(
        errors_of_file("lease = 1\n[names]\nleese = \"1s\"\n[cloud]\n[cloud.a.b]\nc = 1\n[limits]"),
        [
            "unknown key cloud.a.b.c (file FILE); roomcast config dump lists all keys",
            "unknown key lease (file FILE); did you mean names.lease?",
            "unknown key names.leese (file FILE); did you mean names.lease?",
        ]
    );
    assert_eq!(
        errors_of_variables(&[
            ("ROOMCAST_NAMES_LEASE", "1s"),
            ("ROOMCAST_names__lease", "1s"),
            ("ROOMCAST_VERSION", "3"),
        ]),
        [
            "unknown key names.lease (variable ROOMCAST_names__lease); \
             did you mean ROOMCAST_NAMES__LEASE?",
            "unknown key names_lease (variable ROOMCAST_NAMES_LEASE); \
             did you mean ROOMCAST_NAMES__LEASE?",
            "unknown key version (variable ROOMCAST_VERSION); roomcast config dump lists all keys",
        ]
    );
}

#[test]
fn the_nearest_key_is_named_however_its_parts_are_separated() {
    for (name, key) in [
        ("ROOMCAST_REDIS_URI", "ROOMCAST_REDIS__URL"),
        ("ROOMCAST_REDIS__ADDR", "ROOMCAST_REDIS__URL"),
        ("ROOMCAST_SERVER_TLS_CERT_FILE", "ROOMCAST_SERVER__TLS__CERT_FILE"),
        ("ROOMCAST_LOG_LEVEL", "ROOMCAST_TELEMETRY__LOG"),
        ("ROOMCAST_HTTP_ADDR", "ROOMCAST_ADMIN__ADDR"),
    ] {
        let errors = errors_of_variables(&[(name, "1")]);
        let hint = format!("did you mean {key}?");
        assert!(errors.len() == 1 && errors[0].ends_with(&hint), "{name}: {errors:?}");
    }
}

#[test]
fn the_variable_that_names_the_file_may_be_empty() {
    let loaded = load(&variables(&[("ROOMCAST_CONFIG", "")])).unwrap();
    assert_eq!(loaded.config, Config::default());

    let named = file("[names]\nlease = \"1m\"");
    let path = named.path().to_str().unwrap();
    let loaded = load(&variables(&[("ROOMCAST_CONFIG", path)])).unwrap();
    assert_eq!(loaded.config.names.lease, Duration::from_secs(60));

    let missing = ("ROOMCAST_CONFIG", "/nowhere/roomcast.toml");
    let errors = errors_of_variables(&[missing]);
    let start = "cannot read /nowhere/roomcast.toml (variable ROOMCAST_CONFIG): ";
    assert!(errors[0].starts_with(start), "{errors:?}");
    let flag = Sources { file: Some(path.into()), ..variables(&[missing]) };
    assert_eq!(load(&flag).unwrap().config, loaded.config, "the flag goes before it");
}

#[test]
fn sections_take_no_value_and_keys_no_table() {
    assert_eq!(
        errors_of_file("server = 5\n[names.lease]\nsecs = 3"),
        [
            "server (file FILE) is a section with keys of its own, such as server.addr",
            "names.lease = a table (file FILE): must be a duration such as \"15s\", \"250ms\" \
             or \"2m\"",
        ]
    );
    assert_eq!(
        errors_of_variables(&[("ROOMCAST_SERVER", "x")]),
        ["server (variable ROOMCAST_SERVER) is a section with keys of its own, \
          such as ROOMCAST_SERVER__ADDR"]
    );
}

#[test]
fn variables_that_kubernetes_injects_are_refused_with_the_way_out() {
    let injected = [
        "ROOMCAST_SERVICE_HOST",
        "ROOMCAST_SERVICE_PORT",
        "ROOMCAST_SERVICE_PORT_GRPC",
        "ROOMCAST_PORT",
        "ROOMCAST_PORT_50051_TCP",
        "ROOMCAST_PORT_50051_TCP_PROTO",
        "ROOMCAST_HEADLESS_PORT_50051_TCP_ADDR",
    ];
    let pairs = injected.map(|name| (name, "tcp://10.0.0.1:50051"));
    let errors = errors_of_variables(&pairs);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].ends_with("set enableServiceLinks: false in the pod's spec"));
    assert!(injected.iter().all(|name| errors[0].contains(name)), "{errors:?}");

    let errors = errors_of_variables(&[("ROOMCAST_ADMIN__PORT", "1")]);
    assert_eq!(
        errors,
        ["unknown key admin.port (variable ROOMCAST_ADMIN__PORT); \
          did you mean ROOMCAST_ADMIN__ADDR?"]
    );
}

#[cfg(unix)]
#[test]
fn variables_that_are_no_text_are_named() {
    use std::os::unix::ffi::OsStringExt;

    let mut sources = Sources::default();
    let broken = OsString::from_vec(b"\xff".to_vec());
    sources.variables.push(("ROOMCAST_NAMES__LEASE".into(), broken.clone()));
    sources.variables.push(("HOME".into(), broken));
    assert_eq!(
        lines(&load(&sources).unwrap_err()),
        ["variable ROOMCAST_NAMES__LEASE is not valid UTF-8"]
    );
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let file =
        file("[names]\nlease = 15\nlinger = \"2 parsecs\"\n[limits]\nstreams = 0\nstrams = 1");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..variables(&[
            ("ROOMCAST_LIMITS__CONTENT_BYTES", "8MiB"),
            ("ROOMCAST_HISTORY__LENGTH", "many"),
            ("ROOMCAST_TELEMETRY__LOG", "info,hub=loud"),
            ("ROOMCAST_TELEMETRY__LOG_FORMAT", "xml"),
            ("ROOMCAST_TELEMETRY__OTLP_ENDPOINT", "collector:4317"),
        ])
    }
    .flag("--addr", "server.addr", Some("localhost"));
    let path = file.path().display().to_string();
    let errors: Vec<_> = lines(&load(&sources).unwrap_err())
        .iter()
        .map(|line| line.replace(&path, "FILE"))
        .collect();
    assert_eq!(
        errors,
        [
            "unknown key limits.strams (file FILE); did you mean limits.streams?",
            "server.addr = \"localhost\" (flag --addr): must be an IP address and a port, \
             such as \"0.0.0.0:50051\" or \"[::]:0\"",
            "names.lease = 15 (file FILE): must be a duration with its unit, such as \"15s\", \
             \"250ms\" or \"2m\": a bare number does not say which",
            "names.linger = \"2 parsecs\" (file FILE): must be a duration such as \"15s\", \
             \"250ms\" or \"2m\"",
            "limits.content_bytes = 8388608 (variable ROOMCAST_LIMITS__CONTENT_BYTES): \
             must be 1 to 4192256",
            "limits.streams = 0 (file FILE): must be 1 to 10000000",
            "history.length = \"many\" (variable ROOMCAST_HISTORY__LENGTH): \
             must be a whole number",
            "telemetry.otlp_endpoint = \"collector:4317\" (variable \
             ROOMCAST_TELEMETRY__OTLP_ENDPOINT): must be an http:// or https:// URL without a user, such as \
             \"http://127.0.0.1:4317\"",
            "telemetry.log = \"info,hub=loud\" (variable ROOMCAST_TELEMETRY__LOG): must be a level \
             or directives, such as \"info,roomcast::hub=debug\"",
            "telemetry.log_format = \"xml\" (variable ROOMCAST_TELEMETRY__LOG_FORMAT): must be \
             \"auto\", \"text\" or \"json\"",
        ]
    );
}

#[test]
fn durations_need_a_sign_that_makes_sense_and_a_range() {
    let lease = |text: &str| errors_of_variables(&[("ROOMCAST_NAMES__LEASE", text)]).remove(0);
    assert!(lease("15").contains("a bare number"), "{}", lease("15"));
    assert!(lease("-3s").ends_with("must be a duration that is not negative"));
    assert!(lease("999ms").ends_with("must be \"1s\" to \"10m\""), "{}", lease("999ms"));
    assert!(lease("").contains("must be a duration"));
}

#[test]
fn a_silence_that_ends_a_stream_leaves_time_for_two_pings() {
    let errors = |pairs: &[(&str, &str)]| match load(&variables(pairs)) {
        Ok(_) => Vec::new(),
        Err(error) => lines(&error),
    };
    let (ping, idle) = ("ROOMCAST_SERVER__PING_INTERVAL", "ROOMCAST_SERVER__IDLE_TIMEOUT");
    assert_eq!(errors(&[(ping, "29s"), (idle, "58s")]), [""; 0]);
    assert_eq!(
        errors(&[(ping, "29s"), (idle, "57999ms")]),
        ["server.idle_timeout = \"57s 999ms\" (variable ROOMCAST_SERVER__IDLE_TIMEOUT): must be \
          at least twice server.ping_interval, that is \"58s\""]
    );
    assert_eq!(
        errors(&[(idle, "9s")]),
        [
            "server.idle_timeout = \"9s\" (variable ROOMCAST_SERVER__IDLE_TIMEOUT): must be at least \
          twice server.ping_interval, that is \"10s\""
        ]
    );
    assert_eq!(
        errors(&[(ping, "30s"), (idle, "999ms")]),
        [
            "server.ping_interval = \"30s\" (variable ROOMCAST_SERVER__PING_INTERVAL): must be \
             \"100ms\" to \"29s\"",
            "server.idle_timeout = \"999ms\" (variable ROOMCAST_SERVER__IDLE_TIMEOUT): must be \
             \"1s\" to \"1h\"",
        ]
    );
}

#[test]
fn proxies_are_listed() {
    let name = "ROOMCAST_SERVER__TRUSTED_PROXIES";
    let proxies = |loaded: Loaded| {
        let proxies = loaded.config.server.trusted_proxies;
        proxies.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let listed = load(&variables(&[(name, "10.0.0.0/8, ::1")])).unwrap();
    assert!(listed.dump().contains("trusted_proxies = [\"10.0.0.0/8\", \"::1/128\"]"));
    assert_eq!(proxies(listed), ["10.0.0.0/8", "::1/128"]);
    let file = file("[server]\ntrusted_proxies = [\"192.0.2.7\"]\nproxy_protocol = true");
    let listed =
        load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() }).unwrap();
    assert!(listed.config.server.proxy_protocol);
    assert_eq!(proxies(listed), ["192.0.2.7/32"]);
    for bad in ["10.0.0.0/33", "proxy.example", "10.0.0.1; 10.0.0.2"] {
        let errors = errors_of_variables(&[(name, bad)]);
        assert!(errors[0].contains("must be a list of addresses and networks"), "{errors:?}");
    }
    let errors = errors_of_variables(&[("ROOMCAST_SERVER__PROXY_PROTOCOL", "v2")]);
    assert!(errors[0].ends_with("must be true or false"), "{errors:?}");
}

#[test]
fn rates_and_pages_have_bounds() {
    for (key, bad, allowed) in [
        ("PAGE_SIZE", "501", "1 to 500"),
        ("MEMBERS_PER_ROOM", "0", "1 to 10000000"),
        ("ROOMS", "0", "1 to 10000000"),
        ("SESSION_INTERVAL", "2h", "\"0s\" to \"1h\""),
        ("SESSION_BURST", "0", "1 to 100000"),
        ("ROOM_INTERVAL", "3601s", "\"0s\" to \"1h\""),
        ("ROOM_BURST", "100001", "1 to 100000"),
    ] {
        let errors = errors_of_variables(&[(&format!("ROOMCAST_LIMITS__{key}"), bad)]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(&format!("must be {allowed}")), "{errors:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let missing = Sources { file: Some("/nowhere/roomcast.toml".into()), ..Sources::default() };
    let errors = lines(&load(&missing).unwrap_err());
    assert!(errors[0].starts_with("cannot read /nowhere/roomcast.toml "), "{errors:?}");
    let errors = errors_of_file("[names]\nlease = \"1s\"\nlease = \"2s\"\n");
    assert_eq!(errors, ["FILE, line 3: duplicate key"]);
}
