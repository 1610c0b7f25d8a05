//! Runs of the binary that end by themselves.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Log, answered, eventually};

/// What a run came to.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The binary under test: the one beside the tests, which cargo has built for them, or the one that the variable
/// `ROOMCAST_UNDER_TEST` names, to run a suite against a release or against another version.
fn binary() -> PathBuf {
    if let Some(path) = env::var_os("ROOMCAST_UNDER_TEST") {
        return path.into();
    }
    let tests = env::current_exe().expect("the path of this program");
    // Cargo puts tests into `deps`, below the binaries.
    let binary =
        tests.ancestors().skip(1).take(2).map(|it| it.join("roomcast")).find(|it| it.is_file());
    binary.unwrap_or_else(|| panic!("no roomcast above {}", tests.display()))
}

/// `roomcast` with these arguments, and no variable of ours from outside.
pub fn roomcast(arguments: &[&str]) -> Command {
    let ours = |name: &OsString| name.to_string_lossy().starts_with("ROOMCAST_");
    let mut command = Command::new(binary());
    command.env_clear();
    command.envs(env::vars_os().filter(|(name, _)| !ours(name)));
    command.args(arguments);
    command
}

/// Runs to the end, for at most `within`, with nothing on standard input.
pub async fn run(command: Command, within: Duration) -> Finished {
    run_reading(command, Stdio::null(), within).await
}

/// The same with this on standard input.
pub async fn run_reading(mut command: Command, input: Stdio, within: Duration) -> Finished {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start roomcast");
    let stdout = Log::capture(child.stdout.take().expect("piped"));
    let stderr = Log::capture(child.stderr.take().expect("piped"));
    let ended = async || child.try_wait().expect("wait for roomcast");
    let Some(status) = answered(within, ended).await else {
        let _ = child.kill().and_then(|()| child.wait());
        panic!("{shown} did not end within {within:?}\n{}", stderr.tail());
    };
    let whole = async |log: Log| {
        eventually(within, "the pipe ends", async || log.ended().then_some(())).await;
        log.lines().join("\n")
    };
    Finished { code: status.code(), stdout: whole(stdout).await, stderr: whole(stderr).await }
}
