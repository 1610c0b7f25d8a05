//! Runs of the binary that end by themselves.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
    time::Duration,
};

use super::{eventually, log::Log, replica::binary};

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// `roomcast` with these arguments, and no variable of ours from outside.
pub(crate) fn roomcast(arguments: &[&str]) -> Command {
    let ours = |name: &OsString| name.to_string_lossy().starts_with("ROOMCAST_");
    let mut command = Command::new(binary());
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| !ours(name)));
    command.args(arguments);
    command
}

/// Runs to the end, for at most `within`, with nothing on standard input.
pub(crate) async fn run(mut command: Command, within: Duration) -> Finished {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start roomcast");
    let stdout = Log::capture(child.stdout.take().expect("piped"));
    let stderr = Log::capture(child.stderr.take().expect("piped"));
    let deadline = std::time::Instant::now() + within;
    let status = loop {
        match child.try_wait().expect("wait for roomcast") {
            Some(status) => break status,
            None if std::time::Instant::now() > deadline => {
                let _ = child.kill().and_then(|()| child.wait());
                panic!("{shown} did not end within {within:?}\n{}", stderr.tail());
            }
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let whole = async |log: Log| {
        eventually(within, "the pipe ends", async || log.ended().then_some(())).await;
        log.lines().join("\n")
    };
    Finished { code: status.code(), stdout: whole(stdout).await, stderr: whole(stderr).await }
}
