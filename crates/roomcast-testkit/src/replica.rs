//! One server process.

use std::{
    fs, net::SocketAddr, os::unix::process::ExitStatusExt, process::Command, thread, time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    Log, SOON,
    command::roomcast,
    eventually, get,
    process::{Process, StartError},
};

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
pub struct Replica {
    label: String,
    settings: Vec<(String, String)>,
    descriptors: Option<u32>,
    process: Process,
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Replica {
    /// Starts it with these settings and waits until both its ports are bound.
    pub async fn start(label: &str, settings: &[(String, String)]) -> Self {
        Self::start_with(label, settings, None).await
    }

    /// The same, with so many descriptors, or as many as this process may have.
    pub async fn start_with(
        label: &str,
        settings: &[(String, String)],
        descriptors: Option<u32>,
    ) -> Self {
        Self::start_at("127.0.0.1:0", label, settings, descriptors).await
    }

    /// Another process in the place of this one, which has ended: with its settings, and where
    /// clients found it.
    pub async fn successor(&self) -> Self {
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
        command.env("ROOMCAST_TELEMETRY__LOG_FORMAT", "json");
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut replica = Self::launch(command).await.expect("the replica serves");
        (replica.label, replica.settings) = (label.to_owned(), settings.to_vec());
        replica.descriptors = descriptors;
        replica
    }

    /// Starts what this command, a `roomcast serve` that logs in JSON, makes of its variables, and waits until both ports
    /// are bound.
    pub async fn launch(command: Command) -> Result<Self, StartError> {
        let mut process = Process::start(command)?;
        let bound = async |log: &Log| log.listening("grpc").zip(log.listening("admin"));
        let (grpc, admin) = process.until(2 * SOON, bound).await?;
        let (label, settings) = (String::new(), Vec::new());
        Ok(Self { label, settings, descriptors: None, process, grpc, admin })
    }

    /// Where gRPC clients connect.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where probes connect.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What it has logged.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Its process's id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The status of `/readyz`; `None` when nobody answers.
    pub async fn readiness(&self) -> Option<u16> {
        get(self.admin, "/readyz").await.ok().map(|(status, _)| status)
    }

    /// Waits for `/readyz` to say 200.
    pub async fn until_ready(&self, within: Duration) {
        let what = format!("replica {} is ready", self.label);
        eventually(within, &what, async || (self.readiness().await == Some(200)).then_some(()))
            .await;
    }

    /// Waits for `/readyz` to say anything but 200.
    pub async fn until_unready(&self, within: Duration) {
        let what = format!("replica {} says that it is not ready", self.label);
        eventually(within, &what, async || self.readiness().await.filter(|status| *status != 200))
            .await;
    }

    /// What its `/metrics` say of this series.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = get(self.admin, "/metrics").await.expect("metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
    }

    /// Waits until they say at least this of it.
    pub async fn until_at_least(&self, series: &str, least: f64) {
        let what = format!("{series} is at least {least}");
        eventually(SOON, &what, async || (self.metric(series).await >= least).then_some(())).await;
    }

    /// Waits until they say at most this of it.
    pub async fn until_at_most(&self, series: &str, most: f64) {
        let what = format!("{series} is at most {most}");
        eventually(SOON, &what, async || (self.metric(series).await <= most).then_some(())).await;
    }

    /// Its resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the replica lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).map(str::parse::<u64>);
        kib.expect("a VmRSS line").expect("a number") * 1024
    }

    /// Its limits on open files, the soft one and the hard one.
    pub fn open_files(&self) -> (u64, u64) {
        let path = format!("/proc/{}/limits", self.pid());
        let limits = fs::read_to_string(path).expect("the replica lives");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let mut numbers = line.expect("a line").split_whitespace().map_while(|it| it.parse().ok());
        numbers.next().zip(numbers.next()).expect("two numbers")
    }

    /// Sends it a signal: SIGTERM, SIGINT, SIGSTOP, SIGCONT. After SIGSTOP it has really stopped.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end; the exit code, or the negated number of the signal that ended it.
    pub async fn exit_code(&mut self, within: Duration) -> i32 {
        let what = format!("replica {} exits", self.label);
        let process = &mut self.process;
        let status = eventually(within, &what, async || process.ended()).await;
        status.code().or_else(|| status.signal().map(|signal| -signal)).expect("it ended")
    }

    /// Fails the test if it logged an error or panicked.
    pub fn assert_no_errors(&self) {
        let errors = self.log().errors();
        assert!(errors.is_empty(), "replica {} logged errors: {errors:#?}", self.label);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- end of replica {}'s log\n{}\n---", self.label, self.log().tail());
        }
    }
}
