//! One server process.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{SOON, command::roomcast, eventually, get, log::Log, redis::signal_process};

/// The binary under test: cargo's, or the one that the variable `ROOMCAST_UNDER_TEST` names, to
/// run this suite against a release or against another version.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("ROOMCAST_UNDER_TEST")
        .map_or_else(|| env!("CARGO_BIN_EXE_roomcast").into(), PathBuf::from)
}

/// The same command by way of a shell that lowers its limit of descriptors first.
fn limited(command: &Command, descriptors: u32) -> Command {
    let mut shell = Command::new("sh");
    let soft = descriptors / 2;
    let limit = format!("ulimit -Sn {soft} && ulimit -Hn {descriptors} && exec \"$0\" \"$@\"");
    shell.args(["-c", &limit]);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// A running `roomcast serve` on free ports. Killed when dropped; when the test failed, the end
/// of its log is printed first.
#[derive(Debug)]
pub(crate) struct Replica {
    label: String,
    settings: Vec<(String, String)>,
    descriptors: Option<u32>,
    child: Child,
    log: Log,
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Replica {
    /// Starts it with these settings and waits until both its ports are bound.
    pub(crate) async fn start(label: &str, settings: &[(String, String)]) -> Self {
        Self::start_with(label, settings, None).await
    }

    /// The same, with so many descriptors, or as many as this process may have.
    pub(crate) async fn start_with(
        label: &str,
        settings: &[(String, String)],
        descriptors: Option<u32>,
    ) -> Self {
        Self::start_at("127.0.0.1:0", label, settings, descriptors).await
    }

    /// Another process in the place of this one, which has ended: with its settings, and where
    /// clients found it.
    pub(crate) async fn successor(&self) -> Self {
        let (addr, label) = (self.grpc.to_string(), format!("{}'", self.label));
        Self::start_at(&addr, &label, &self.settings, self.descriptors).await
    }

    async fn start_at(
        addr: &str,
        label: &str,
        settings: &[(String, String)],
        descriptors: Option<u32>,
    ) -> Self {
        let mut command = roomcast(&["serve", "--addr", addr, "--admin-addr", "127.0.0.1:0"]);
        if let Some(descriptors) = descriptors {
            command = limited(&command, descriptors);
        }
        let mut child = command
            .env("ROOMCAST_TELEMETRY__LOG_FORMAT", "json")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start roomcast");
        let log = Log::capture(child.stderr.take().expect("piped"));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (label, settings) = (label.to_owned(), settings.to_vec());
        let mut replica =
            Self { label, settings, descriptors, child, log, grpc: nowhere, admin: nowhere };
        (replica.grpc, replica.admin) = replica.ports().await;
        replica
    }

    async fn ports(&mut self) -> (SocketAddr, SocketAddr) {
        let (child, log) = (&mut self.child, &self.log);
        eventually(SOON, "the replica listens", async || {
            let exited = child.try_wait().expect("wait for the replica");
            assert!(exited.is_none(), "the replica ended at its start: {exited:?}");
            log.listening("grpc").zip(log.listening("admin"))
        })
        .await
    }

    /// Where gRPC clients connect.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where probes connect.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The status of `/readyz`; `None` when nobody answers.
    pub(crate) async fn readiness(&self) -> Option<u16> {
        get(self.admin, "/readyz").await.ok().map(|(status, _)| status)
    }

    /// Waits for `/readyz` to say 200.
    pub(crate) async fn until_ready(&self, within: Duration) {
        let what = format!("replica {} is ready", self.label);
        eventually(within, &what, async || (self.readiness().await == Some(200)).then_some(()))
            .await;
    }

    /// Waits for `/readyz` to say anything but 200.
    pub(crate) async fn until_unready(&self, within: Duration) {
        let what = format!("replica {} says that it is not ready", self.label);
        eventually(within, &what, async || self.readiness().await.filter(|status| *status != 200))
            .await;
    }

    /// What its `/metrics` say of this series.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = get(self.admin, "/metrics").await.expect("metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
    }

    /// Waits until they say at least this of it.
    pub(crate) async fn until_metric(&self, series: &str, least: f64) {
        let what = format!("{series} is at least {least}");
        eventually(SOON, &what, async || (self.metric(series).await >= least).then_some(())).await;
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the replica lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).map(str::parse::<u64>);
        kib.expect("a VmRSS line").expect("a number") * 1024
    }

    /// Its limits on open files, the soft one and the hard one.
    pub(crate) fn open_files(&self) -> (u64, u64) {
        let path = format!("/proc/{}/limits", self.child.id());
        let limits = fs::read_to_string(path).expect("the replica lives");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let mut numbers = line.expect("a line").split_whitespace().map_while(|it| it.parse().ok());
        numbers.next().zip(numbers.next()).expect("two numbers")
    }

    /// Sends it a signal: SIGTERM, SIGINT, SIGSTOP, SIGCONT. After SIGSTOP it has really stopped.
    pub(crate) fn signal(&self, signal: Signal) {
        signal_process(&self.child, signal);
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill the replica");
        self.child.wait().expect("reap the replica");
    }

    /// Whether it still runs.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().expect("wait for the replica").is_none()
    }

    /// Waits for its end; the exit code, or the negated number of the signal that ended it.
    pub(crate) async fn exit_code(&mut self, within: Duration) -> i32 {
        let what = format!("replica {} exits", self.label);
        let child = &mut self.child;
        let status =
            eventually(within, &what, async || child.try_wait().expect("wait for the replica"))
                .await;
        status.code().or_else(|| status.signal().map(|signal| -signal)).expect("it ended")
    }

    /// Fails the test if it logged an error or panicked.
    pub(crate) fn assert_no_errors(&self) {
        let errors = self.log.errors();
        assert!(errors.is_empty(), "replica {} logged errors: {errors:#?}", self.label);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- end of replica {}'s log\n{}\n---", self.label, self.log.tail());
        }
    }
}
