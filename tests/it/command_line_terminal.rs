//! `roomcast client` on a terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Child,
    sync::{Arc, Mutex},
    thread,
};

use nix::pty::{Winsize, openpty};

use crate::harness::{Cluster, Heard, SOON, eventually, roomcast};

/// A client on a terminal. Killed when dropped.
struct OnTerminal {
    child: Child,
    keyboard: File,
    /// All that the terminal got.
    shown: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn open(addr: &impl ToString, name: &str, variables: &[(&str, &str)]) -> Self {
        Self::open_with(addr, name, &[], variables)
    }

    fn open_with(
        addr: &impl ToString,
        name: &str,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let end = |end: &std::os::fd::OwnedFd| File::from(end.try_clone().expect("another end"));
        let child = roomcast(&["client", "--username", name, "--addr", &addr.to_string()])
            .args(flags)
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .env("TZ", "IST-5:30")
            .envs(variables.iter().copied())
            .stdin(end(&pty.slave))
            .stdout(end(&pty.slave))
            .stderr(end(&pty.slave))
            .spawn()
            .expect("start the client");
        let shown = Arc::<Mutex<String>>::default();
        let (mut screen, to) = (end(&pty.master), shown.clone());
        // It ends when the client has, whose end of the terminal is the last one.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { child, keyboard: end(&pty.master), shown }
    }

    fn types(&mut self, line: &str) {
        write!(self.keyboard, "{line}\r").expect("type a line");
    }

    async fn shows(&self, text: &str) {
        eventually(SOON, &format!("the terminal shows {text:?}"), async || {
            self.text().contains(text).then_some(())
        })
        .await;
    }

    /// Waits for a note of who is here, in any order, that begins so.
    async fn shows_here(&self, begin: &str, names: &[&str]) {
        eventually(SOON, &format!("the terminal shows {names:?}"), async || {
            let shown = self.text();
            let mut notes = shown.lines().filter_map(|line| line.split_once(begin));
            notes.any(|(_, note)| names.iter().all(|name| note.contains(name))).then_some(())
        })
        .await;
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    async fn exit_code(&mut self) -> Option<i32> {
        eventually(SOON, "the client ends", async || {
            self.child.try_wait().expect("wait for the client")
        })
        .await
        .code()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The local time of the last `[14:32]`, with a name's color behind it, as a number of minutes.
fn minutes_before(shown: &str) -> u64 {
    let (time, _) = shown.rsplit_once("] \x1b[3").expect("a color");
    let (_, time) = time.rsplit_once('[').expect("a time");
    let (hours, minutes) = time.split_once(':').unwrap_or_else(|| panic!("no time in {shown:?}"));
    let number = |digits: &str| {
        assert_eq!(digits.len(), 2, "{shown:?}");
        digits.parse::<u64>().unwrap_or_else(|_| panic!("no time in {shown:?}"))
    };
    number(hours) * 60 + number(minutes)
}

/// Bob's hello has just come, and has the time of where the terminal is.
fn assert_has_local_time(text: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // Five and a half hours ahead of UTC, and by now maybe a minute more.
    let expected = (now.as_secs() / 60 + 330) % 1440;
    let shown = minutes_before(text.split("mbob\x1b[0m: hello").next().expect("the part before"));
    assert!((expected + 1440 - shown) % 1440 <= 1, "{shown} is shown at {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_colors_local_time_and_commands() {
    let cluster = Cluster::memory().start().await;
    let bob = cluster.endpoint(0).enter("bob").await;
    let mut alice = OnTerminal::open(&cluster.replicas[0].grpc(), "alice", &[]);
    bob.until_heard("alice joined").await;
    alice.shows_here("\x1b[2m-- here: ", &["alice", "bob"]).await;
    bob.say("hello\x1b[2J").await;
    alice.shows("mbob\x1b[0m: hello\\u{1b}[2J").await;
    assert_has_local_time(&alice.text());

    alice.types("/history 1");
    eventually(SOON, "it is shown again", async || {
        (alice.text().matches("mbob\x1b[0m: hello").count() == 2).then_some(())
    })
    .await;
    for number in 0..200 {
        bob.say(&format!("number {number}.")).await;
    }
    alice.shows("number 199.").await;
    alice.types("/history 200");
    let times =
        |alice: &OnTerminal, number| alice.text().matches(&format!("number {number}.")).count();
    eventually(SOON, "all are shown again", async || (times(&alice, 199) == 2).then_some(())).await;
    for number in 0..200 {
        assert_eq!(times(&alice, number), 2, "number {number}");
    }
    alice.types("/help");
    alice.shows("-- /who: who is here").await;
    alice.types("/nothing");
    alice.shows("-- there is no such command").await;
    alice.types("//who");
    let said = |text: &'static str| {
        let said = bob.record().wait(SOON, move |state| {
            state.heard.iter().any(|it| it.username == "alice" && it.content == text).then_some(())
        });
        async move { assert!(said.await.is_some(), "alice did not say {text:?}") }
    };
    said("/who").await;
    let carol = cluster.endpoint(0).enter("carol").await;
    alice.types("/who");
    alice.shows_here("-- here: ", &["alice", "bob", "carol"]).await;
    alice.types("/quit");
    assert_eq!(alice.exit_code().await, Some(0));
    for witness in [&bob, &carol] {
        witness.until_heard("alice left").await;
    }
    let heard = bob.record().state().heard.clone();
    let by_alice: Vec<_> = heard.iter().filter(|it| it.username == "alice").collect();
    assert_eq!(by_alice.len(), 1, "commands are not said: {by_alice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_without_colors_has_none() {
    let cluster = Cluster::memory().start().await;
    let bob = cluster.endpoint(0).enter("bob").await;
    let mut alice = OnTerminal::open(&cluster.replicas[0].grpc(), "alice", &[("NO_COLOR", "1")]);
    bob.until_heard("alice joined").await;
    alice.shows_here("-- here: ", &["alice", "bob"]).await;
    bob.say("hello").await;
    alice.shows("] bob: hello").await;
    alice.types("exit");
    assert_eq!(alice.exit_code().await, Some(0));
    let text = alice.text();
    let colors = (31..=36).map(|color| format!("\x1b[{color}m"));
    for style in colors.chain(["\x1b[2m".to_owned()]) {
        assert!(!text.contains(&style), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chat_protocol_has_the_same_terminal() {
    let cluster = Cluster::memory().start().await;
    let bob = cluster.endpoint(0).enter("bob").await;
    let addr = cluster.replicas[0].grpc();
    let mut alice = OnTerminal::open_with(&addr, "alice", &["--plain"], &[]);
    bob.until_heard("alice joined").await;
    bob.say("hello\x1b[2J").await;
    alice.shows("mbob\x1b[0m: hello\\u{1b}[2J").await;
    assert_has_local_time(&alice.text());
    alice.types("/help");
    alice.shows("\x1b[2m-- /quit, exit or Ctrl-D: leave").await;
    assert!(!alice.text().contains("-- /who:"), "it cannot be asked for");
    alice.types("/who");
    alice.shows("-- --plain shows neither members nor history").await;
    alice.types("//who");
    bob.record()
        .wait(SOON, |state| {
            let said = |it: &Heard| it.username == "alice" && it.content == "/who";
            state.heard.iter().any(said).then_some(())
        })
        .await
        .expect("alice says what begins with a slash");
    alice.types("/quit");
    assert_eq!(alice.exit_code().await, Some(0));
    bob.until_heard("alice left").await;
    let heard = bob.record().state().heard.clone();
    assert_eq!(heard.iter().filter(|it| it.username == "alice").count(), 1, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_leaves_and_a_terminal_without_an_editor_has_lines() {
    let cluster = Cluster::memory().start().await;
    let bob = cluster.endpoint(0).enter("bob").await;
    let addr = cluster.replicas[0].grpc();
    for (name, flags) in [("alice", &[][..]), ("carol", &["--plain"])] {
        for (terminal, suffix) in [("xterm", ""), ("dumb", " the second")] {
            let name = format!("{name}{suffix}");
            let mut client = OnTerminal::open_with(&addr, &name, flags, &[("TERM", terminal)]);
            bob.until_heard(&format!("{name} joined")).await;
            bob.say("hello").await;
            client.shows("bob").await;
            if terminal == "dumb" {
                client.types("exit");
            } else {
                // Ctrl-C, as the editor reads it.
                client.keyboard.write_all(&[3]).expect("type Ctrl-C");
            }
            bob.until_heard(&format!("{name} left")).await;
            assert_eq!(client.exit_code().await, Some(0), "{name}");
        }
    }
}
