//! The application of `docs/python.md`: what the page shows is run.

use std::{path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    deploy::{path, run, tool},
    harness::{Cluster, SOON, eventually, free_port},
};

const SECRET: &str = "what the application and the server know";

/// The scripts of the page, and what they need beside them.
struct Scripts(TempDir);

impl Scripts {
    fn of_the_page() -> Self {
        let scripts = Self(tempfile::tempdir().expect("a directory"));
        let page = include_str!("../../docs/python.md");
        for name in ["tokens.py", "chat.py", "moderate.py"] {
            let (_, section) = page.split_once(&format!("## `{name}`")).expect("a section");
            let (_, code) = section.split_once("```python\n").expect("its code");
            let (code, _) = code.split_once("```").expect("the end of its code");
            std::fs::write(scripts.dir().join(name), code).expect("write a script");
        }
        std::fs::write(scripts.dir().join("secret"), format!("{SECRET}\n")).expect("a secret");
        let mut protoc = tool("PYTHON_BIN", "python3");
        protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(path("proto/roomcast/v1"));
        for option in ["--python_out", "--grpc_python_out"] {
            protoc.arg(format!("{option}={}", scripts.dir().display()));
        }
        run(protoc.arg("room.proto"));
        scripts
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::from(tool("PYTHON_BIN", "python3"));
        command.arg(name).current_dir(self.dir()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// What a script prints, which ends well.
    async fn output(&self, name: &str, args: &[&str]) -> String {
        let output = self.command(name).args(args).output();
        let output = timeout(SOON, output).await.expect("it ends soon").expect("start Python");
        assert!(output.status.success(), "{name} {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// Somebody who chats.
struct Chat {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Chat {
    fn start(scripts: &Scripts, args: [&str; 4]) -> Self {
        let mut process = scripts.command("chat.py").args(args).spawn().expect("start Python");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { _process: process, input, output }
    }

    async fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("it listens");
    }

    /// Waits for a line that begins like this.
    async fn until(&mut self, beginning: &str) -> String {
        let mut seen = Vec::new();
        let found = async {
            while let Some(line) = self.output.next_line().await.expect("text") {
                if line.starts_with(beginning) {
                    return line;
                }
                seen.push(line);
            }
            panic!("it ended without {beginning:?}: {seen:?}");
        };
        timeout(2 * SOON, found).await.unwrap_or_else(|_| panic!("no {beginning:?}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_of_the_documentation_works() {
    let scripts = Scripts::of_the_page();
    let secret = scripts.dir().join("secret");
    let plan = Cluster::redis(3).with("ROOMCAST_AUTH__MODE", "token");
    let plan = plan.with("ROOMCAST_AUTH__SECRET_FILE", secret.to_str().expect("UTF-8"));
    let cluster = plan.start().await;
    let port = free_port();
    let mut tokens = scripts.command("tokens.py");
    let _tokens = tokens.args([&port.to_string(), "secret"]).spawn().expect("start Python");
    eventually(SOON, "the application listens", async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    let application = format!("http://127.0.0.1:{port}");
    let address = |replica: usize| cluster.endpoint(replica).addr().to_string();
    let (one, two) = (address(0), address(1));
    let mut alice = Chat::start(&scripts, [&one, &application, "team-1", "alice"]);
    alice.until("in").await;
    let mut bob = Chat::start(&scripts, [&two, &application, "team-1", "bob"]);
    bob.until("in").await;
    alice.until("joined bob").await;
    bob.say("hello").await;
    assert_eq!(alice.until("said bob").await, "said bob hello");

    let server = format!("http://{}", address(2));
    let order = async |order: &'static str, more: &[&'static str]| {
        let mut args = vec![&*server, &application, "alice", order, "team-1", "bob"];
        args.extend(more);
        scripts.output("moderate.py", &args).await
    };
    let muted = order("mute", &["60s"]).await;
    assert!(muted.contains("\"until\""), "{muted}");
    alice.until("moderated bob").await;
    bob.say("quiet?").await;
    assert!(bob.until("refused:").await.contains("muted until 2"));
    order("unmute", &[]).await;
    alice.until("moderated bob").await;
    order("ban", &[]).await;
    alice.until("left bob").await;
    let end = bob.until("ended:").await;
    assert!(end.contains("PERMISSION_DENIED kicked: the rules of the house"), "{end}");
    let mut again = Chat::start(&scripts, [&one, &application, "team-1", "bob"]);
    assert!(again.until("ended:").await.contains("PERMISSION_DENIED banned"));
    // Who is no moderator is told so.
    let args = [&*server, &application, "carol", "kick", "team-1", "alice"];
    let refused = scripts.command("moderate.py").args(args).output();
    let refused = timeout(SOON, refused).await.expect("it ends soon").expect("start Python");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("permission_denied: this needs the role moderator"), "{words}");
    alice.say("bye").await;
    drop(alice.input);
    cluster.assert_no_errors();
}
