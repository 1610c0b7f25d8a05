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

/// Why something could not be started. Prints as one line.
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
        /// The last line that it wrote.
        last_words: String,
    },
    /// It does not serve.
    #[error("{program} does not serve within {} s", within.as_secs())]
    Late {
        /// What.
        program: String,
        /// How long it had.
        within: Duration,
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
        let answer = answered(within, async || match serves(log).await {
            Some(answer) => Some(Some(answer)),
            // Only what has ended is waited for.
            None => child.try_wait().is_ok_and(|ended| ended.is_some()).then_some(None),
        });
        let program = program.clone();
        match answer.await {
            Some(Some(answer)) => Ok(answer),
            Some(None) => {
                let last_words = log.lines().pop().unwrap_or_default();
                Err(StartError::Ended { program, last_words })
            }
            None => Err(StartError::Late { program, within }),
        }
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
