//! The alerts and the dashboard: Prometheus's own tools find them good, and every metric that they
//! name is one that a replica really has.

mod dashboard;
mod exposition;
mod prometheus;
mod promql;
mod rules;
mod scraped;

use std::{fs, process::Command};

use super::{run, tool};

/// The real `promtool`.
fn promtool() -> Command {
    tool("PROMTOOL_BIN", "promtool")
}

/// Has `promtool` parse these expressions.
fn check_syntax(expressions: &[String]) {
    let rules: Vec<_> = (0..)
        .zip(expressions)
        .map(|(number, expression)| {
            serde_json::json!({ "record": format!("check:{number}"), "expr": expression })
        })
        .collect();
    let file = serde_json::json!({ "groups": [{ "name": "check", "rules": rules }] });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    // JSON is YAML.
    fs::write(&path, file.to_string()).unwrap();
    run(promtool().args(["check", "rules"]).arg(&path));
}
