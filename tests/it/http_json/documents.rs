//! The page about the HTTP API and the file that describes it.

mod openapi;

use std::{fs, process::Stdio};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{
    deploy::path,
    harness::{Cluster, SOON},
};

const KEY: &str = "a-key-of-backends-that-only-the-tests-know";

/// The commands of a page and what each of them prints, as the page has it.
fn examples(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split("```console\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().expect("an end"));
    let examples = blocks.flat_map(|block| block.split("$ ").skip(1));
    examples.map(|it| it.split_once('\n').expect("a command and what it prints")).collect()
}

/// JSON without what differs from one time to another.
fn shape(json: &Value) -> Value {
    match json {
        Value::Object(fields) if fields.contains_key("code") => json.clone(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_page_work() {
    let cluster = Cluster::memory().with("ROOMCAST_API__KEY", KEY).start().await;
    let page = fs::read_to_string(path("docs/http-api.md")).expect("the page");
    let examples = examples(&page);
    assert!(examples.len() >= 4, "{examples:?}");
    for (command, prints) in examples {
        let here = command.replace("127.0.0.1:50051", &cluster.replicas[0].grpc().to_string());
        assert_ne!(here, command, "it asks this replica");
        let mut shell = Command::new("sh");
        shell.args(["-c", &here]).env("KEY", KEY).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(SOON, shell.output()).await.expect("in time").expect("a shell");
        let printed = String::from_utf8(output.stdout).expect("text");
        let read = |text: &str| -> Value {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{command}: {error}: {text}"))
        };
        assert_eq!(shape(&read(&printed)), shape(&read(prints)), "{command}: {printed}");
    }
}
