//! What operators are handed — image, compose, proxy, Kubernetes — is well-formed and agrees with
//! itself. The real tools judge the files; the tests judge the numbers that stand in several.

mod compose;
mod compose_redis;
pub(crate) mod envoy;
mod image;
mod kubernetes;
mod observability;
mod watchers;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// What a replica takes to exit once its deadline has passed, with time to spare.
const EXIT_MARGIN_S: u64 = 5;

/// The absolute path of a file of the repository.
pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The text of a file of the repository.
fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The one document of a YAML file of the repository.
fn read_yaml(relative: &str) -> Value {
    serde_saphyr::from_str(&read(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// A tool that `tests/run` provides: where the variable says, else on `PATH`.
pub(crate) fn tool(variable: &str, name: &str) -> Command {
    let program = env::var_os(variable).unwrap_or_else(|| name.into());
    let found = Command::new(&program).arg("--help").output();
    assert!(
        found.as_ref().is_ok_and(|help| help.status.success()),
        "{} ({variable} or PATH) does not run: {found:?}. Run tests/run, which installs it",
        program.display(),
    );
    Command::new(program)
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The value at a JSON pointer, which has to be there.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer} in {value:#}"))
}

/// The text at a JSON pointer.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = at(value, pointer);
    found.as_str().unwrap_or_else(|| panic!("{pointer} is no text but {found}"))
}

/// The number at a JSON pointer.
fn number(value: &Value, pointer: &str) -> u64 {
    let found = at(value, pointer);
    found.as_u64().unwrap_or_else(|| panic!("{pointer} is no number but {found}"))
}

/// The elements of the list at a JSON pointer.
fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = at(value, pointer);
    found.as_array().unwrap_or_else(|| panic!("{pointer} is no list but {found}"))
}

/// The texts in the list at a JSON pointer.
fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(value, pointer).iter().map(|element| text(element, "")).collect()
}

/// A map of texts at a JSON pointer, such as labels or variables.
fn variables(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let found = at(value, pointer);
    let map = found.as_object().unwrap_or_else(|| panic!("{pointer} is no map but {found}"));
    map.iter().map(|(key, value)| (key.clone(), text(value, "").to_owned())).collect()
}

/// A duration in whole seconds, as in `20s`.
fn seconds(duration: &str) -> u64 {
    duration
        .strip_suffix('s')
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("{duration:?} is no number of whole seconds"))
}

/// The port of an address, as in `0.0.0.0:50051`.
fn port(address: &str) -> u64 {
    address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .unwrap_or_else(|| panic!("{address:?} does not end in a port"))
}

/// The servers that a URL of Redis names, each with its port.
fn redis_servers(url: &str) -> Vec<(String, u64)> {
    let (scheme, rest) = url.trim().split_once("://").unwrap_or_else(|| panic!("no URL: {url}"));
    let default = if scheme.ends_with("+sentinel") { 26379 } else { 6379 };
    let servers = rest.split('/').next().and_then(|it| it.rsplit('@').next());
    let server = |server: &str| match server.split_once(':') {
        Some((host, _)) => (host.to_owned(), port(server)),
        None => (server.to_owned(), default),
    };
    servers.expect("a split has a first part").split(',').map(server).collect()
}

/// How long a replica with these settings may take from SIGTERM until it has surely exited.
fn longest_exit(settings: &BTreeMap<String, String>) -> u64 {
    seconds(&settings["ROOMCAST_DRAIN__DELAY"])
        + seconds(&settings["ROOMCAST_DRAIN__DEADLINE"])
        + EXIT_MARGIN_S
}

/// Whether the binary itself finds these settings good; if not, what it says.
fn accepts(settings: &BTreeMap<String, String>) -> Result<(), String> {
    let mut check = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    check.args(["config", "check"]).env_clear().envs(settings);
    let output = check.output().expect("run roomcast");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("config check: {said}")) }
}

/// No container dies of a misspelt setting.
fn assert_accepted(settings: &BTreeMap<String, String>) {
    assert_eq!(accepts(settings), Ok(()));
}
