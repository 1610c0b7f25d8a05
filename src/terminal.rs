//! `roomcast client`: a chat room on standard input and output.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use roomcast_client::{
    AccessTokenError, Address, Credentials, ReadTokenError, Reason, SayError, TlsError, objection,
};

use self::{
    editor::Restored,
    lines::{Lines, Printer},
    style::Style,
    token::{Given, TokenArgs},
};
use crate::{
    config::TOKEN_VARIABLE,
    domain::{RoomName, RoomNameError},
};

mod commands;
mod editor;
mod lines;
mod moderated;
mod plain;
mod rich;
mod show;
mod style;
mod token;

/// Chat in a room: sends the lines of standard input and prints what arrives
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name to speak under
    #[arg(long, value_name = "NAME")]
    pub username: String,
    /// Server to talk to: host:port, or https://host:port for TLS; several are tried in turn
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051", value_parser = Address::parse)]
    pub addr: Vec<Address>,
    /// Room to enter: 1 to 64 characters of A-Z a-z 0-9 . _ -
    #[arg(long, value_name = "ROOM", default_value = "lobby")]
    pub room: String,
    /// CAs to trust, in PEM form [default: those of this system]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate to show to a server that asks for one, in PEM form
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The certificate's key, in PEM form
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The token to show.
    #[command(flatten)]
    pub token: TokenArgs,
    /// How many past events to show on coming in
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub history: u32,
    /// Use the `chat` protocol: no history, and the end of the connection is the end
    #[arg(long)]
    pub plain: bool,
}

/// Why a chat did not end well. Each prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a room's name.
    #[error("--room: {0}")]
    Room(#[from] RoomNameError),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Certificates for an address that asks for no TLS.
    #[error("--ca, --cert and --key are for TLS: the address has to be https://{0}")]
    NoTls(Address),
    /// The variable has no token.
    #[error("{TOKEN_VARIABLE}: {0}")]
    Variable(#[source] AccessTokenError),
    /// The file has no token.
    #[error("--token-file: {0}")]
    TokenFile(#[from] ReadTokenError),
    /// There is no token to show.
    #[error("cannot get a token: {0}")]
    NoToken(String),
    /// The server wants a token, and none was given.
    #[error(
        "the server wants a token: name a file that has one with --token-file, or set {TOKEN_VARIABLE}"
    )]
    TokenWanted,
    /// The server does not take the token, or wants one.
    #[error("the server refused: {0}")]
    Unauthenticated(String),
    /// The token has expired, and there is no newer one.
    #[error("the token has expired; from a file (--token-file) a newer one is read in time")]
    TokenExpired,
    /// A token would go over plain text to another machine.
    #[error(
        "the token would go to {0} over plain text: use https://{0}, or --insecure-token if nobody \
         can read it on its way"
    )]
    InsecureToken(Address),
    /// No address was given.
    #[error("--addr: there is no address to connect to")]
    NoAddress,
    /// No connection came about.
    #[error("cannot reach {addr}: {cause}")]
    Unreachable {
        /// Where it was tried.
        addr: String,
        /// The root of the failure.
        cause: String,
    },
    /// The server does not accept what it was sent, the name first of all.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server ended the stream for reasons of its own.
    #[error("the server ended the stream: {0}")]
    Ended(String),
    /// The connection broke.
    #[error("the connection to {addr} was lost: {cause}")]
    Lost {
        /// Where it led.
        addr: String,
        /// The root of the failure.
        cause: String,
    },
    /// The server has only the `chat` protocol.
    #[error("the server does not know sessions: use --plain")]
    NoSessions,
    /// A line that came through a pipe was not said.
    #[error(transparent)]
    Unsaid(SayError),
    /// The server did not answer the half-close in time.
    #[error(
        "{addr} did not confirm the end within {} s; the last lines may be lost",
        waited.as_secs()
    )]
    Unconfirmed {
        /// Who did not.
        addr: String,
        /// For how long.
        waited: Duration,
    },
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// Standard output cannot be written. That nobody reads it any more is no error.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The system refused a thread or a signal handler.
    #[error("cannot set up the terminal: {0}")]
    Setup(#[source] io::Error),
}

/// Standard input and output: with a line editor where both are a terminal that can be edited on.
struct Standard {
    lines: Lines,
    printer: Printer,
    style: Style,
    /// Gives the terminal back once it is dropped.
    _restored: Option<Restored>,
}

impl Standard {
    fn open() -> io::Result<Self> {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let style = if is_terminal { Style::of_terminal() } else { Style::Pipe };
        // Some terminals cannot be edited on, such as `dumb`: there, lines are read as from a pipe.
        if is_terminal && let Ok((lines, printer, restored)) = editor::open() {
            return Ok(Self { lines, printer, style, _restored: Some(restored) });
        }
        let (lines, printer) = (lines::read(io::stdin())?, Printer::start(io::stdout())?);
        Ok(Self { lines, printer, style, _restored: None })
    }
}

impl From<Reason> for Error {
    /// What the end of a connection or a stream means to the one who typed.
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unreachable { to: addr, cause } => Self::Unreachable { addr, cause },
            Reason::Lost { to: addr, cause } => Self::Lost { addr, cause },
            Reason::Silent { to: addr } => {
                Self::Unreachable { addr, cause: "it does not answer".to_owned() }
            }
            Reason::NoToken { cause } => Self::NoToken(cause),
            other => Self::Ended(other.to_string()),
        }
    }
}

/// Chats until `exit`, the end of input, an interrupt, or for as long as the server goes on.
///
/// Standard input and output are served by threads of their own that nobody waits for, so
/// that neither a silent keyboard nor a stuck pipe holds up the way out.
pub async fn run(args: Args) -> Result<(), Error> {
    let room = RoomName::parse(&args.room)?;
    let tls = credentials(&args)?;
    let token = args.token.given()?;
    let mut outcome = if args.plain {
        plain::run(&args, &room, tls.as_ref(), &token).await
    } else {
        rich::run(&args, tls.clone(), &token).await
    };
    if matches!((&outcome, token), (Err(Error::Unauthenticated(_)), Given::Nothing)) {
        return Err(Error::TokenWanted);
    }
    if let Err(Error::Lost { addr, cause } | Error::Unreachable { addr, cause }) = &mut outcome
        && let Some(addr) = args.addr.iter().find(|it| it.to_string() == *addr)
        && let Some(objection) = objection(addr, tls.as_ref()).await
    {
        *cause = objection;
    }
    outcome
}

/// How to do TLS, if an address asks for it.
fn credentials(args: &Args) -> Result<Option<Credentials>, Error> {
    let pair = args.cert.as_deref().zip(args.key.as_deref());
    let given = args.ca.is_some() || pair.is_some();
    match args.addr.iter().find(|addr| !addr.is_tls()) {
        Some(plain) if given => return Err(Error::NoTls(plain.clone())),
        Some(_) if !args.addr.iter().any(Address::is_tls) => return Ok(None),
        Some(_) | None => {}
    }
    Ok(Some(Credentials::read(args.ca.as_deref(), pair)?))
}
