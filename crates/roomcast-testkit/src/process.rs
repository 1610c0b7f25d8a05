//! Processes that end with whoever started them.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::net::TcpStream;

use crate::{Log, SOON, answered};

/// Why something could not be started, with the last lines that it wrote.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system does not start it.
    #[error("cannot start {program}: {error}")]
    Spawn {
        /// What.
        program: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// It ended instead of serving.
    #[error("{program} ended at its start: {last_words}")]
    Ended {
        /// What.
        program: String,
        /// The last lines that it wrote.
        last_words: String,
    },
    /// It does not serve.
    #[error("{program} does not serve within {} s: {last_words}", within.as_secs())]
    Late {
        /// What.
        program: String,
        /// How long it had.
        within: Duration,
        /// The last lines that it wrote.
        last_words: String,
    },
}

/// A running process; killed when dropped. What it writes to standard error is kept, what it writes to standard output
/// is not.
#[derive(Debug)]
pub struct Process {
    child: Child,
    program: String,
    log: Log,
}

impl Process {
    /// Starts it, with nothing on standard input.
    pub fn start(mut command: Command) -> Result<Self, StartError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| StartError::Spawn { program: program.clone(), error })?;
        let log = Log::capture(child.stderr.take().expect("piped"));
        Ok(Self { child, program, log })
    }

    /// Waits until this has an answer, and fails as soon as the process ends.
    pub async fn until<T>(
        &mut self,
        within: Duration,
        mut serves: impl AsyncFnMut(&Log) -> Option<T>,
    ) -> Result<T, StartError> {
        let Self { child, program, log } = self;
        let answer = answered(within, async || {
            // Asked first: somebody else may answer in the place of one that has ended.
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Some(None);
            }
            serves(log).await.map(Some)
        });
        let answer = answer.await;
        if let Some(Some(answer)) = answer {
            return Ok(answer);
        }
        let has_ended = answer.is_some();
        if has_ended {
            // What it wrote last may still be on its way.
            answered(Duration::from_secs(1), async || log.ended().then_some(())).await;
        }
        let (program, last_words) = (program.clone(), log.tail());
        Err(if has_ended {
            StartError::Ended { program, last_words }
        } else {
            StartError::Late { program, within, last_words }
        })
    }

    /// Waits until it accepts connections here.
    pub async fn until_listening(&mut self, addr: SocketAddr) -> Result<(), StartError> {
        self.until(2 * SOON, async |_| TcpStream::connect(addr).await.ok().map(drop)).await
    }

    /// What it has written to standard error.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, see [`send_signal`].
    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a process of this test")
    }

    /// Kills it with SIGKILL, as a lost machine would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill a process of this test");
        self.child.wait().expect("reap a process of this test");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a process a signal. When it is SIGSTOP, waits until every thread has stopped: the kernel stops them one by one,
/// and one that still runs could still speak.
pub fn send_signal(pid: u32, signal: Signal) {
    let process = Pid::from_raw(pid.try_into().expect("a pid fits"));
    kill(process, signal).expect("signal a process of this test");
    if signal != Signal::SIGSTOP {
        return;
    }
    let deadline = Instant::now() + SOON;
    while !is_stopped(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not stop");
        thread::yield_now();
    }
}

/// Whether all threads of a process have stopped.
fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process of this test");
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections, so
/// that it is still free when something that was killed is started on it again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    (0..1000)
        .map(|_| 20_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command).expect("there is a shell")
    }

    #[tokio::test]
    async fn a_process_that_ends_is_quoted() {
        let mut process = shell("echo starting >&2; echo the port is in use >&2; exit 3");
        let never = process.until(SOON, async |_| None::<()>).await;
        let error = never.expect_err("it ended").to_string();
        assert_eq!(error, "sh ended at its start: starting\nthe port is in use");
    }

    #[tokio::test]
    async fn one_that_does_not_serve_is_late() {
        let mut process = shell("echo wait >&2; sleep 60");
        let within = Duration::from_millis(200);
        let hang = async |_: &Log| std::future::pending::<Option<()>>().await;
        let error = process.until(within, hang).await.expect_err("it is late");
        assert!(matches!(&error, StartError::Late { .. }), "{error}");
    }

    #[tokio::test]
    async fn the_log_says_where_it_listens() {
        let line = r#"{"level":"INFO","fields":{"message":"listening","listener":"grpc","addr":"127.0.0.1:4123"}}"#;
        let mut process = shell(&format!("echo '{line}' >&2; sleep 60"));
        let listening = async |log: &Log| log.listening("grpc");
        let addr = process.until(SOON, listening).await.expect("it says so");
        assert_eq!(addr.port(), 4123);
        assert_eq!(process.log().listening("admin"), None);
    }
}
