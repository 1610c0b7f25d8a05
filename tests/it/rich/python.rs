//! A client that is generated in another language, and is told of the session by nothing but the
//! protocol: `resume.py`, which `docs/client.md` shows.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use roomcast_proto::room::{Event, LeftCause, Position, connect_response::Frame, event::What};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet};

use crate::{
    deploy::{path, run, tool},
    harness::{Cluster, Inbox, Proxy, RichClient, SOON, eventually},
};

/// How many messages the client says, and after how many its replica is killed.
const MESSAGES: usize = 5_000;
const BEFORE: usize = 500;

/// What the witness says in the end.
const MARKER: &str = "that is enough";

/// How soon all is said, the kill included.
const SAID: Duration = Duration::from_secs(60);

/// The Python that `tests/run` provides, or one that has the same packages.
fn python() -> std::process::Command {
    let mut python = tool("PYTHON_BIN", "python3");
    let found = python.args(["-c", "import grpc, grpc_tools"]).output().expect("run Python");
    assert!(found.status.success(), "{found:?}. Run tests/run, which installs grpcio-tools");
    tool("PYTHON_BIN", "python3")
}

fn generate(into: &Path) {
    let protoc = &mut python();
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(path("proto/roomcast/v1"));
    for option in ["--python_out", "--grpc_python_out"] {
        protoc.arg(format!("{option}={}", into.display()));
    }
    run(protoc.arg("room.proto"));
}

/// The script as a process of its own. Killed when dropped.
struct Script {
    process: JoinSet<std::process::Output>,
    _stubs: TempDir,
}

impl Script {
    fn start(address: &str, room: &str, name: &str, marker: &str) -> Self {
        let stubs = tempfile::tempdir().expect("a directory");
        generate(stubs.path());
        let child = Command::from(python())
            .arg(path("tests/it/rich/resume.py"))
            .args([address, room, name, &MESSAGES.to_string(), marker])
            .env("PYTHONPATH", stubs.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start Python");
        let mut process = JoinSet::new();
        process.spawn(async move { child.wait_with_output().await.expect("wait for Python") });
        Self { process, _stubs: stubs }
    }

    /// Waits for its end, which must be a good one; what it was told.
    async fn told(mut self) -> Vec<Value> {
        let output = tokio::time::timeout(SOON, self.process.join_next()).await;
        let output = output.expect("it ends soon").expect("one process").expect("no panic");
        assert!(output.status.success(), "{}", output.status);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The number of the replica that told of this user.
async fn carrier(cluster: &Cluster, told: &str, user: &str) -> usize {
    let (told, user) = (format!("\"message\":\"{told}\""), format!("\"user\":\"{user}\""));
    eventually(SOON, &format!("a replica tells {told} {user}"), async || {
        cluster
            .replicas
            .iter()
            .position(|replica| replica.log().with(&told).iter().any(|line| line.contains(&user)))
    })
    .await
}

fn events(inbox: &Inbox) -> Vec<Event> {
    let state = inbox.state();
    let events = state.told.iter().filter_map(|told| match &told.frame {
        Frame::Event(event) => Some(event.clone()),
        _ => None,
    });
    events.collect()
}

/// The documentation shows all of it but its docstring.
#[test]
fn the_documentation_shows_the_script() {
    let script = include_str!("resume.py");
    let code = script.rsplit("\"\"\"\n").next().expect("something behind the head");
    assert!(
        include_str!("../../../docs/client.md").contains(code),
        "docs/client.md shows another one"
    );
}

/// What a user said, as far as it came.
fn said<'a>(events: &'a [Event], user: &str) -> Vec<(Position, &'a str)> {
    let own = events.iter().filter(|event| event.username == user);
    let said = own.filter_map(|event| match &event.what {
        Some(What::Said(said)) => Some((event.position?, said.content.as_str())),
        _ => None,
    });
    said.collect()
}

/// A position in Protobuf's JSON, where such numbers are texts.
fn position(value: &Value) -> Position {
    let number = |key: &str| value[key].as_str().and_then(|it| it.parse().ok());
    let found = number("epoch").zip(number("seq"));
    let (epoch, seq) = found.unwrap_or_else(|| panic!("no position: {value}"));
    Position { epoch, seq }
}

/// Everything of one kind that the script was told.
fn kind<'a>(told: &'a [Value], kind: &str) -> Vec<&'a Value> {
    told.iter().filter_map(|frame| frame.get(kind)).collect()
}

/// What an event is, and what was said.
fn what(event: &Event) -> (&str, &str) {
    match event.what.as_ref().expect("a known kind") {
        What::Said(said) => ("said", &said.content),
        What::Joined(_) => ("joined", ""),
        What::Left(_) => ("left", ""),
        What::Moderated(_) => ("moderated", ""),
    }
}

/// The script was told these events, in order and each once, so many at least; and of nothing that
/// is gone.
fn assert_told(told: &[Value], events: &[Event], at_least: usize) {
    assert!(kind(told, "gap").is_empty(), "{:?}", kind(told, "gap"));
    let told = kind(told, "event");
    for (told, event) in told.iter().zip(events) {
        assert_eq!(Some(position(&told["position"])), event.position, "{told} {event:?}");
        assert_eq!(told["username"], *event.username, "{told} {event:?}");
        let (kind, content) = what(event);
        assert!(told.get(kind).is_some(), "{told} {event:?}");
        assert_eq!(told[kind]["content"].as_str().unwrap_or_default(), content, "{event:?}");
    }
    assert!((at_least..=events.len()).contains(&told.len()), "{} events", told.len());
}

/// Each of these messages was acknowledged once, at its place.
fn assert_acknowledged(told: &[Value], messages: &[(Position, &str)]) {
    let acks = kind(told, "ack");
    let number = |ack: &Value| ack["clientSeq"].as_str().and_then(|it| it.parse().ok());
    let acked = acks.iter().map(|ack| (number(ack).expect("a number"), &ack["position"]));
    let acked: BTreeMap<usize, _> = acked.collect();
    assert_eq!((acked.len(), acks.len()), (messages.len(), messages.len()));
    for (number, (place, content)) in (1..).zip(messages) {
        assert_eq!(*content, format!("message {number}"));
        assert_eq!(position(acked[&number]), *place, "message {number}");
    }
}

/// The room saw it come once, say these messages, and go once, because it asked to.
fn assert_seen(own: &[&Event], messages: usize) {
    let [came, said @ .., left] = own else { panic!("only {own:?}") };
    assert!(matches!(came.what, Some(What::Joined(_))), "{came:?}");
    assert!(said.iter().all(|it| matches!(it.what, Some(What::Said(_)))), "came or went: {own:?}");
    assert_eq!(said.len(), messages);
    let cause = |left: &roomcast_proto::room::Left| left.cause();
    assert!(matches!(&left.what, Some(What::Left(left)) if cause(left) == LeftCause::Asked));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_client_in_python_resumes_through_a_killed_replica() {
    let mut cluster = Cluster::redis(3).start().await;
    let proxy = Proxy::start(&cluster).await;
    // Wherever the client comes in, one of these is elsewhere.
    let mut witnesses = vec![];
    for replica in [0, 1] {
        let join = RichClient::asking("den", &format!("witness {replica}"));
        let mut witness = RichClient::open(&cluster.endpoint(replica), join).await;
        witness.welcome().await;
        witnesses.push(witness);
    }
    let address = proxy.addr().to_string();
    let script = Script::start(&address, "den", "python", MARKER);
    let killed = carrier(&cluster, "joined", "python").await;
    let mut witness = witnesses.swap_remove(usize::from(killed == 0));
    let inbox = witness.inbox().clone();
    let count = || said(&events(&inbox), "python").len();
    eventually(SOON, "messages flow", async || (count() >= BEFORE).then_some(())).await;
    cluster.replicas[killed].kill();
    assert!(count() < MESSAGES, "it was killed when all was said");
    let carrier = carrier(&cluster, "resumed", "python").await;
    assert_ne!(carrier, killed);
    let all = async || (count() >= MESSAGES).then_some(());
    eventually(SAID, "everything is said", all).await;
    witness.say_and_wait(1, MARKER).await;
    let told = script.told().await;

    let seen = eventually(SOON, "it is seen to leave", async || {
        let events = events(&inbox);
        let left = |it: &Event| it.username == "python" && what(it).0 == "left";
        events.iter().any(left).then_some(events)
    })
    .await;
    let own: Vec<_> = seen.iter().filter(|it| it.username == "python").collect();
    assert_seen(&own, MESSAGES);
    let place = |fits: &dyn Fn(&Event) -> bool| seen.iter().position(fits).expect("it was seen");
    let came = place(&|it| it.username == "python");
    let marker = place(&|it| what(it) == ("said", MARKER));
    // Its own leaving is the last thing of all.
    assert_told(&told, &seen[came + 1..], marker - came);
    assert_acknowledged(&told, &said(&seen, "python"));
}
