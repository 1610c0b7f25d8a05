//! The alerts: promtool has each of them fire, and keeps each of them quiet on a normal day.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use promql_parser::label::{MatchOp, Matcher};
use serde_json::Value;

use super::{
    super::{list, number, path, read_yaml, run, seconds, text, variables},
    exposition::Exposition,
    promql::References,
    promtool,
};

const DIRECTORY: &str = "deploy/prometheus";
const FILE: &str = "deploy/prometheus/rules.yaml";

/// The rules of all groups.
fn rules() -> Vec<Value> {
    let groups = read_yaml(FILE);
    list(&groups, "/groups").iter().flat_map(|it| list(it, "/rules").to_vec()).collect()
}

/// The rules that alert, by name.
fn alerts() -> BTreeMap<String, Value> {
    let named = |it: Value| Some((it.get("alert")?.as_str()?.to_owned(), it));
    rules().into_iter().filter_map(named).collect()
}

/// The names of the metrics that rules make.
fn recorded() -> Vec<String> {
    let rules = rules();
    rules.iter().filter_map(|it| Some(it.get("record")?.as_str()?.to_owned())).collect()
}

/// The tests for `promtool`, as paths in the repository.
fn test_files() -> Vec<String> {
    let names = fs::read_dir(path(DIRECTORY)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: Vec<_> = names
        .filter(|name| name.ends_with(".test.yaml"))
        .map(|name| format!("{DIRECTORY}/{name}"))
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    files
}

/// The cases in all test files.
fn cases() -> Vec<Value> {
    test_files().iter().flat_map(|file| list(&read_yaml(file), "/tests").to_vec()).collect()
}

/// The names of the alerts that are tested to fire, and of those tested not to.
fn tested() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut firing, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for case in cases() {
        let tests = case.get("alert_rule_test").and_then(Value::as_array).cloned();
        for test in tests.unwrap_or_default() {
            let fires = test.get("exp_alerts").is_some_and(|it| !list(it, "").is_empty());
            let names = if fires { &mut firing } else { &mut quiet };
            names.insert(text(&test, "/alertname").to_owned());
        }
    }
    (firing, quiet)
}

#[test]
fn promtool_accepts_the_rules() {
    run(promtool().args(["check", "rules"]).arg(path(FILE)));
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let files = test_files();
    run(promtool().args(["test", "rules"]).args(files.iter().map(|it| path(it))));
}

/// Each alert is tested both ways; whether that passes is for the test above to say.
#[test]
fn each_alert_is_tested() {
    let names: BTreeSet<_> = alerts().into_keys().collect();
    assert!(names.len() > 10, "{names:?}");
    assert_eq!(tested(), (names.clone(), names));
}

/// Somebody who is woken is told what is wrong and what to do first.
#[test]
fn each_alert_says_what_to_do() {
    for (name, alert) in alerts() {
        let annotations = variables(&alert, "/annotations");
        let keys: Vec<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["description", "runbook", "summary"], "{name}");
        assert!(annotations.values().all(|it| !it.is_empty() && !it.contains('\n')), "{name}");
        assert!(["critical", "warning"].contains(&text(&alert, "/labels/severity")), "{name}");
        assert!(name.starts_with("Roomcast"), "{name}");
    }
}

/// Nobody is alerted of somebody else's processes.
#[test]
fn rules_are_about_roomcast_only() {
    let recorded = recorded();
    for rule in rules() {
        for selector in References::of(text(&rule, "/expr")).selectors {
            let job = Matcher::new(MatchOp::Equal, "job", "roomcast");
            let of_the_job = selector.matchers.contains(&job);
            assert!(of_the_job || recorded.contains(&selector.metric), "{selector:?} in {rule:#}");
        }
    }
}

/// A drain that takes as long as it may is nobody's alert.
#[test]
fn a_drain_within_its_time_is_not_stuck() {
    let patience = text(&alerts()["RoomcastDrainStuck"], "/for").to_owned();
    let minutes: u64 = patience.strip_suffix('m').unwrap().parse().unwrap();
    let deployment = read_yaml("k8s/base/deployment.yaml");
    let compose = read_yaml("deploy/compose.yaml");
    let grace = number(&deployment, "/spec/template/spec/terminationGracePeriodSeconds");
    let stop = seconds(text(&compose, "/services/roomcast/stop_grace_period"));
    assert!(minutes * 60 > grace.max(stop), "{patience}, {grace} s, {stop} s");
}

/// What rules, and the tests of rules, ask of the metrics and is not there.
pub(super) fn missing(mut exposition: Exposition) -> Vec<String> {
    let recorded = recorded();
    for it in &recorded {
        exposition.add_recorded(it);
    }
    let rules = rules();
    let mut expressions: Vec<_> = rules.iter().map(|it| text(it, "/expr").to_owned()).collect();
    for case in cases() {
        let series = list(&case, "/input_series").iter();
        expressions.extend(series.map(|it| text(it, "/series").to_owned()));
    }
    let elsewhere = |it: &String| it.contains(r#"job="prometheus""#);
    expressions.iter().filter(|it| !elsewhere(it)).flat_map(|it| exposition.missing(it)).collect()
}
