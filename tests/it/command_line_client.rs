//! `roomcast client`, through its pipes.

use std::{
    io::Write,
    process::{Child, ChildStdin, Stdio},
};

use nix::sys::signal::Signal;
use roomcast_testkit::send_signal;

use crate::harness::{
    ChatClient, Cluster, Layout, Log, SOON, eventually, free_port, quiet, roomcast, run,
};

on_both_backplanes!(
    it_sends_lines_and_prints_what_arrives,
    it_ends_on_exit_on_end_of_input_and_on_ctrl_c,
    it_says_why_it_was_refused,
    it_says_when_the_server_goes_away,
    it_shows_the_past_and_who_is_here,
    it_says_each_line_of_a_pipe_or_fails,
);

/// A running `roomcast client`. Killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    input: Option<ChildStdin>,
    output: Log,
    pub(crate) errors: Log,
}

impl Terminal {
    pub(crate) fn open(addr: &impl ToString, name: &str, more: &[&str]) -> Self {
        let addr = addr.to_string();
        let arguments = ["client", "--username", name, "--addr", &addr];
        let mut child = roomcast(&[&arguments[..], more].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the client");
        let input = child.stdin.take();
        let output = Log::capture(child.stdout.take().expect("piped"));
        let errors = Log::capture(child.stderr.take().expect("piped"));
        Self { child, input, output, errors }
    }

    pub(crate) fn enter(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("input is open"), "{line}").expect("write a line");
    }

    /// Waits for a line that ends so; answers it.
    pub(crate) async fn prints(&self, end: &str) -> String {
        eventually(SOON, &format!("the client prints {end:?}"), async || {
            self.output.lines().into_iter().find(|line| line.ends_with(end))
        })
        .await
    }

    /// Waits for a note on standard error that begins so; answers it.
    async fn notes(&self, begin: &str) -> String {
        eventually(SOON, &format!("the client notes {begin:?}"), async || {
            self.errors.lines().into_iter().find(|line| line.starts_with(begin))
        })
        .await
    }

    pub(crate) async fn exit_code(&mut self) -> i32 {
        let child = &mut self.child;
        let status =
            eventually(SOON, "the client ends", async || child.try_wait().expect("wait")).await;
        status.code().expect("an exit code, not a signal")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("client: {:?} {:?}", self.output.lines(), self.errors.lines());
        }
    }
}

async fn it_sends_lines_and_prints_what_arrives(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = Terminal::open(&cluster.replicas.last().expect("one").grpc(), "bob", &[]);
    alice.expect_system("bob joined").await;
    bob.enter("hello from a pipe");
    let heard = alice.expect_said("bob", "hello from a pipe").await;
    assert!(heard.timestamp.ends_with('Z'));
    alice.say("hello, pipe").await;
    let line = bob.prints("] alice: hello, pipe").await;
    let time = line.strip_prefix('[').and_then(|line| line.split(']').next()).expect("[timestamp]");
    time.parse::<jiff::Timestamp>().expect("RFC 3339");
    let carol = cluster.endpoint(0).enter_seen_by("carol", &mut [&mut alice]).await;
    bob.prints("] System: carol joined").await;
    // Empty lines are nothing to say.
    bob.enter("");
    bob.enter("second");
    alice.expect_said("bob", "second").await;
    quiet(&carol, &mut [&mut alice]).await;

    let mut kitchen = cluster.endpoint(0).into_room("kitchen").enter("alice").await;
    let addr = cluster.replicas[0].grpc();
    let mut cook = Terminal::open(&addr, "bob", &["--room", "kitchen"]);
    kitchen.expect_system("bob joined").await;
    cook.enter("soup");
    kitchen.expect_said("bob", "soup").await;
}

async fn it_ends_on_exit_on_end_of_input_and_on_ctrl_c(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    for way in 0..3 {
        let mut bob = Terminal::open(&cluster.replicas[0].grpc(), "bob", &[]);
        alice.expect_system("bob joined").await;
        bob.enter("last words");
        match way {
            0 => bob.enter("exit"),
            1 => bob.input = None,
            _ => {
                alice.expect_said("bob", "last words").await;
                send_signal(bob.child.id(), Signal::SIGINT);
            }
        }
        if way < 2 {
            alice.expect_said("bob", "last words").await;
        }
        alice.expect_system("bob left").await;
        assert_eq!(bob.exit_code().await, 0);
        assert_eq!(bob.errors.with("rror"), [""; 0]);
    }
    cluster.assert_no_errors();
}

async fn it_says_why_it_was_refused(layout: Layout) {
    let cluster = layout.plan().start().await;
    let alice: ChatClient = cluster.endpoint(0).enter("alice").await;
    let cases = [
        ("ALICE", "lobby", "username \"ALICE\" is already taken"),
        ("system", "lobby", "system"),
        ("  ", "lobby", "username cannot be empty"),
        ("bob", "no such/room", "room"),
    ];
    for (name, room, mentions) in cases {
        let mut refused = Terminal::open(&cluster.replicas[0].grpc(), name, &["--room", room]);
        assert_ne!(refused.exit_code().await, 0, "{name:?}");
        let errors = &refused.errors;
        eventually(SOON, "the pipe ends", async || errors.ended().then_some(())).await;
        let said = errors.lines();
        assert_eq!(said.len(), 1, "one clear line: {said:?}");
        assert!(said[0].contains(mentions), "{name:?}: {said:?}");
    }
    alice.assert_open();
    // Nobody there at all.
    let nowhere = format!("127.0.0.1:{}", free_port());
    let finished = run(roomcast(&["client", "--username", "bob", "--addr", &nowhere]), SOON).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains(&nowhere), "{finished:?}");
}

async fn it_says_when_the_server_goes_away(layout: Layout) {
    let mut cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = Terminal::open(&cluster.replicas[0].grpc(), "bob", &["--plain"]);
    alice.expect_system("bob joined").await;
    cluster.replicas[0].signal(Signal::SIGTERM);
    assert_ne!(bob.exit_code().await, 0);
    let said = bob.errors.lines().join("\n");
    assert!(said.contains("server is shutting down"), "{said:?}");
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
}

async fn it_shows_the_past_and_who_is_here(layout: Layout) {
    let cluster = layout.plan().start().await;
    let addr = cluster.replicas[0].grpc();
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut carol = cluster.endpoint(0).enter_seen_by("carol", &mut [&mut alice]).await;
    for text in ["one", "two", "three", "four"] {
        alice.say(text).await;
        // It is in the log when others hear it.
        carol.expect_said("alice", text).await;
    }
    let mut bob = Terminal::open(&addr, "bob", &["--history", "3"]);
    alice.expect_system("bob joined").await;
    bob.notes("-- here: ").await;
    alice.say("five").await;
    bob.prints("] alice: five").await;
    bob.enter("mine");
    alice.expect_said("bob", "mine").await;
    alice.say("six").await;
    bob.prints("] alice: six").await;
    let shown: Vec<_> = bob.output.lines().iter().map(|line| after_time(line)).collect();
    let expected = ["alice: two", "alice: three", "alice: four", "alice: five", "alice: six"];
    // What was asked for, our own coming in among it or not; nothing of our own.
    assert!(shown.ends_with(&expected.map(str::to_owned)[1..]), "{shown:?}");
    assert!(shown.len() <= expected.len(), "{shown:?}");
    let here = bob.notes("-- here: ").await;
    for name in ["alice", "bob", "carol"] {
        assert!(here.contains(name), "{here}");
    }
    let fresh = Terminal::open(&addr, "dan", &["--history", "0"]);
    alice.expect_system("dan joined").await;
    alice.say("seven").await;
    fresh.prints("] alice: seven").await;
    assert_eq!(fresh.output.lines().len(), 1, "{:?}", fresh.output.lines());
}

async fn it_says_each_line_of_a_pipe_or_fails(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = Terminal::open(&cluster.replicas[0].grpc(), "bob", &[]);
    alice.expect_system("bob joined").await;
    // More than may be under way at once; the end comes at once.
    for number in 0..500 {
        bob.enter(&format!("line {number}"));
    }
    bob.input = None;
    for number in 0..500 {
        alice.expect_said("bob", &format!("line {number}")).await;
    }
    alice.expect_system("bob left").await;
    assert_eq!(bob.exit_code().await, 0);

    let mut long = Terminal::open(&cluster.replicas[0].grpc(), "long", &[]);
    alice.expect_system("long joined").await;
    long.enter("fine");
    long.enter(&"x".repeat(20_000));
    assert_ne!(long.exit_code().await, 0);
    let said = long.errors.with("rror");
    assert!(said.len() == 1 && said[0].contains("too long"), "{said:?}");
    alice.expect_said("long", "fine").await;
    alice.expect_system("long left").await;
}

/// A line without its timestamp.
fn after_time(line: &str) -> String {
    line.split_once("] ").expect("[timestamp]").1.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_elsewhere_and_nobody_notices() {
    let mut cluster = Cluster::redis(2).start().await;
    let mut alice = cluster.endpoint(1).enter("alice").await;
    let addr = cluster.replicas[0].grpc();
    let other = cluster.replicas[1].grpc().to_string();
    let mut bob = Terminal::open(&addr, "bob", &["--addr", &other]);
    alice.expect_system("bob joined").await;
    bob.notes("-- here: ").await;
    cluster.replicas[0].kill();
    // Said while nobody is there to hear it, on either side.
    alice.say("are you there?").await;
    bob.enter("yes");
    alice.expect_said("bob", "yes").await;
    bob.prints("] alice: are you there?").await;
    bob.notes("-- reconnecting: ").await;
    bob.notes("-- back").await;
    bob.enter("exit");
    alice.expect_system("bob left").await;
    assert_eq!(bob.exit_code().await, 0);
}
