//! `roomcast bench`: drives servers that speak the `chat` protocol, measures them from outside and
//! checks what they deliver.
//!
//! Load is offered on schedule, whatever the server does with it. A figure only counts when
//! nothing was lost, doubled or out of order; else the run fails.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use roomcast_client::{AccessTokenError, ReadTokenError};
use roomcast_testkit::StartError;
use tokio::signal::unix::{SignalKind, signal};

pub mod baseline;
mod check;
mod load;
mod member;
mod plan;
mod report;
mod server;
mod shared;
mod suite;
mod token;
mod usage;
mod wire;

use plan::Plan;
use server::{Launch, Program, Server};
use token::VARIABLE as TOKEN_VARIABLE;
use usage::Process;

/// Drive servers with chat clients, measure them from outside and check what they deliver
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Server to drive, on a loopback address; repeat it to spread the clients over several.
    /// Without it a server is started on the memory backplane, and ended afterwards
    #[arg(long, value_name = "ADDR", value_parser = loopback)]
    addr: Vec<SocketAddr>,
    /// Process to measure: first those of the servers, in the order of --addr, then any that
    /// help them, such as Redis or a proxy
    #[arg(long, value_name = "PID", requires = "addr")]
    pid: Vec<u32>,
    /// The file; the variable has a token itself.
    #[arg(
        long,
        value_name = "FILE",
        requires = "addr",
        help = "File with the token that all clients show, where the servers want one: for any name, and good until \
                the run is over [env: ROOMCAST_TOKEN, the token itself]"
    )]
    token_file: Option<PathBuf>,
    /// Start the baseline instead of roomcast: a plain tonic server with a channel per client
    #[arg(long, conflicts_with = "addr")]
    baseline: bool,
    /// Number of clients, each a stream and a member of a room
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(2..=20_000))]
    clients: u32,
    /// Number of connections the clients share; as many as clients unless given
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Number of clients that send; each room also needs one that only listens
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    senders: u32,
    /// Messages per second that all senders send together
    #[arg(long, value_name = "PER_SECOND", default_value_t = 480,
          value_parser = clap::value_parser!(u32).range(1..=200_000))]
    rate: u32,
    /// Size of a message's content in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(16..=65_536))]
    content_bytes: u32,
    /// Seconds that are measured
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Seconds of the same load before that
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(0..=60))]
    warmup: u32,
    /// Number of rooms the clients are spread over; one means the lobby
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rooms: u32,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// Measure everything that is promised, beside the rivals it is promised against
    Suite(suite::SuiteArgs),
    /// Serve the baseline until interrupted
    #[command(hide = true)]
    Baseline {
        /// Where to listen; port 0 picks a free one
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = loopback)]
        addr: SocketAddr,
        /// Redis to share rooms through
        #[arg(long, value_name = "URL")]
        redis: Option<String>,
    },
}

/// Why there is no result, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arguments that are each fine do not go together.
    #[error("--{flag} {got} is out of bounds: {rule}")]
    Bounds {
        /// The argument.
        flag: &'static str,
        /// Its value.
        got: u64,
        /// What is allowed.
        rule: String,
    },
    /// The file has no token.
    #[error("--token-file: {0}")]
    TokenFile(#[source] ReadTokenError),
    /// The variable has none.
    #[error("{TOKEN_VARIABLE}: {0}")]
    TokenVariable(#[source] AccessTokenError),
    /// A server of the bench itself could not serve.
    #[error("the bench cannot serve on {addr}: {reason}")]
    Baseline {
        /// Where.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// No server could be started.
    #[error("cannot start a server: {0}")]
    Start(String),
    /// What stands beside the servers could not be started.
    #[error("{0}; tests/bench installs what the scenarios need")]
    Helper(#[source] StartError),
    /// A server cannot be connected to.
    #[error("cannot reach {addr}: {reason}")]
    Unreachable {
        /// Where it was tried.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A client was not let in.
    #[error("a client's stream ended before the load began: {0}")]
    NotJoined(String),
    /// Not all clients were in their rooms in time.
    #[error("only {joined} of {clients} clients were in their rooms after {} s", waited.as_secs())]
    JoinTimeout {
        /// How many were.
        joined: u32,
        /// How many there are.
        clients: u32,
        /// After how long.
        waited: Duration,
    },
    /// A process to measure is not there.
    #[error("cannot measure process {pid}: {reason}")]
    Process {
        /// Which.
        pid: u32,
        /// Why.
        reason: String,
    },
    /// The run is no result: the report says what went wrong.
    #[error("not everything arrived once and in order: {0}")]
    Faults(Faults),
    /// Somebody wanted it to stop.
    #[error("interrupted")]
    Interrupted,
    /// The system refused a signal handler.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// What went wrong in a run, in receipts unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Faults {
    /// Never arrived.
    pub lost: u64,
    /// Arrived again.
    pub doubled: u64,
    /// Arrived after a later message of the same sender.
    pub reordered: u64,
    /// Belongs to another room.
    pub strayed: u64,
    /// Clients that saw all messages, but in another order than others in their room.
    pub disagreeing: u32,
    /// Streams that the server ended.
    pub ended: u32,
    /// Why it ended the first of them.
    pub first_end: Option<String>,
}

impl Faults {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.strayed += other.strayed;
        self.disagreeing += other.disagreeing;
        self.ended += other.ended;
        self.first_end = self.first_end.take().or_else(|| other.first_end.clone());
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, doubled, reordered, strayed, disagreeing, ended, first_end } = self;
        write!(
            f,
            "{lost} lost, {doubled} doubled, {reordered} out of order, {strayed} astray, \
             {disagreeing} clients disagree on the order, {ended} streams ended"
        )?;
        first_end.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

/// Runs the load and prints its table, or serves the baseline. Wants a runtime of two or more
/// threads.
pub async fn run(args: Args) -> Result<(), Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let serving = matches!(args.command, Some(Command::Baseline { .. }));
    let work = async {
        match &args.command {
            Some(Command::Baseline { addr, redis }) => baseline::serve(*addr, redis.clone()).await,
            Some(Command::Suite(args)) => suite::run(args).await,
            None => measure(&args).await,
        }
    };
    tokio::select! {
        result = work => return result,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if serving { Ok(()) } else { Err(Error::Interrupted) }
}

async fn measure(args: &Args) -> Result<(), Error> {
    let mut plan = Plan::new(args)?;
    plan.headers = token::headers(args.token_file.as_deref())?;
    let mut pids = args.pid.clone();
    // Ends when it is dropped, whichever way this function is left.
    let mut _server = None;
    if plan.addrs.is_empty() {
        let program = if args.baseline { Program::Baseline } else { Program::Roomcast };
        let server = Server::start(Launch::alone(program)).await?;
        plan.addrs.push(server.addr());
        pids.push(server.pid());
        _server = Some(server);
    }
    let processes = pids.into_iter().map(Process::find).collect::<Result<Vec<_>, _>>()?;
    let outcome = load::run(plan, processes).await?;
    println!("{}", report::Table(&outcome));
    if outcome.faults.is_none() { Ok(()) } else { Err(Error::Faults(outcome.faults)) }
}

/// An address on this machine: the load program is no weapon.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let addr: SocketAddr = numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "allowed are 127.0.0.1:port, [::1]:port and localhost:port".to_owned())?;
    if addr.ip().is_loopback() {
        Ok(addr)
    } else {
        Err(format!(
            "{} is not a loopback address; only servers on this machine are driven",
            addr.ip()
        ))
    }
}
