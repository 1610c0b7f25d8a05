//! `roomcast client`: a chat room on standard input and output.

use std::{error::Error as StdError, future, io, path::PathBuf, time::Duration};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Endpoint};

use crate::{
    domain::{RoomName, RoomNameError},
    proto::chat::{ChatMessage, chat_service_client::ChatServiceClient},
    tls::{TlsError, fault},
};

mod address;
mod terminal;
mod tls;

pub use address::{Address, AddressError};
use terminal::{Lines, Printer, Typed};
use tls::Credentials;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the server's answer to our half-close. Longer than a server holds a
/// message while its backplane is away, so that its verdict on the last line is heard.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// The same after an interrupt: somebody is waiting at the keyboard.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(2);
/// How many lines wait for the connection before standard input is no longer read.
const OUTGOING: usize = 16;
/// What one stream may have in flight to a terminal that does not read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The connection's window. HTTP/2 implementations count small unread frames against a budget
/// that grows with it: with this one a paused terminal fills its stream's window first, which
/// only pauses the server.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A connection that is silent for so long is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Chat in a room: sends the lines of standard input and prints what arrives
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name to speak under
    #[arg(long, value_name = "NAME")]
    pub username: String,
    /// Server to talk to: host:port, or https://host:port for TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051", value_parser = Address::parse)]
    pub addr: Address,
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
    /// No connection came about.
    #[error("cannot reach {addr}: {cause}")]
    Unreachable {
        /// Where it was tried.
        addr: Address,
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
        addr: Address,
        /// The root of the failure.
        cause: String,
    },
    /// The server did not answer the half-close in time.
    #[error(
        "{addr} did not confirm the end within {} s; the last lines may be lost",
        waited.as_secs()
    )]
    Unconfirmed {
        /// Who did not.
        addr: Address,
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

/// Chats until `exit`, the end of input, an interrupt, or the server's end of the stream.
///
/// Standard input and output are served by threads of their own that nobody waits for, so
/// that neither a silent keyboard nor a stuck pipe holds up the way out.
pub async fn run(args: Args) -> Result<(), Error> {
    let room = RoomName::parse(&args.room)?;
    let tls = tls::credentials(&args)?;
    match (converse(&args, &room, tls.as_ref()).await, tls) {
        (Err(Error::Lost { addr, cause }), Some(tls)) => {
            let cause = tls.objection(&addr).await.unwrap_or(cause);
            Err(Error::Lost { addr, cause })
        }
        (Err(Error::Unreachable { addr, cause }), Some(tls)) => {
            let cause = tls.objection(&addr).await.unwrap_or(cause);
            Err(Error::Unreachable { addr, cause })
        }
        (outcome, _) => outcome,
    }
}

async fn converse(args: &Args, room: &RoomName, tls: Option<&Credentials>) -> Result<(), Error> {
    let mut signals = signal(SignalKind::interrupt()).map_err(Error::Setup)?;
    let mut interrupts = stream::poll_fn(move |cx| signals.poll_recv(cx));
    let connect = connect(&args.addr, tls);
    let client = tokio::select! {
        client = connect => client?,
        _ = interrupts.next() => return Ok(()),
    };
    let lines = terminal::read(io::stdin()).map_err(Error::Setup)?;
    let printer = Printer::start(io::stdout()).map_err(Error::Setup)?;
    chat(client, args, room, lines, printer, interrupts).await
}

type Client = ChatServiceClient<tonic::transport::Channel>;

async fn connect(addr: &Address, tls: Option<&Credentials>) -> Result<Client, Error> {
    let unreachable = |error: tonic::transport::Error| Error::Unreachable {
        addr: addr.clone(),
        cause: root_cause(&error),
    };
    let mut endpoint = Endpoint::from(addr.uri().clone());
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.config()).map_err(unreachable)?;
    }
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(unreachable)?;
    Ok(ChatServiceClient::new(channel))
}

/// What happened next.
enum Step {
    Heard(Option<Result<ChatMessage, Status>>),
    /// Nobody reads what is printed.
    Unheard,
    Typed(Typed),
    /// The stream takes no more messages.
    Unsendable,
    Interrupted,
    Overdue,
}

/// We have half-closed and listen on until the server has taken in everything before it.
#[derive(Clone, Copy)]
struct Closing {
    patience: Duration,
    deadline: Instant,
}

impl Closing {
    fn within(patience: Duration) -> Self {
        Self { patience, deadline: Instant::now() + patience }
    }
}

async fn chat(
    client: Client,
    args: &Args,
    room: &RoomName,
    mut lines: Lines,
    printer: Printer,
    mut interrupts: impl Stream<Item = ()> + Unpin,
) -> Result<(), Error> {
    let (outgoing, mut queue) = mpsc::channel(OUTGOING);
    let registration = ChatMessage { username: args.username.clone(), ..ChatMessage::default() };
    // Before the call is made: some proxies hold it back until it has a body.
    let _ = outgoing.try_send(registration);
    let mut outgoing = Some(outgoing);
    let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let mut inbound = Box::pin(call(client, room, queue));
    let mut output = Some(&printer);
    let mut closing: Option<Closing> = None;
    let mut outcome = Ok(());

    loop {
        let step = tokio::select! {
            step = hear(&mut inbound, output) => step,
            step = next_line(&mut lines, outgoing.as_ref()) => step,
            _ = interrupts.next() => Step::Interrupted,
            () = overdue(closing) => Step::Overdue,
        };
        match step {
            Step::Heard(Some(Ok(_))) | Step::Typed(Typed::Line(_)) => continue,
            Step::Heard(Some(Err(status))) => {
                outcome = Err(verdict(&status, &args.addr));
                break;
            }
            Step::Heard(None) => break,
            Step::Overdue => {
                let waited = closing.map(|closing| closing.patience).unwrap_or_default();
                outcome = Err(Error::Unconfirmed { addr: args.addr.clone(), waited });
                break;
            }
            Step::Interrupted if closing.is_some_and(|c| c.patience == INTERRUPT_PATIENCE) => break,
            Step::Interrupted => closing = Some(Closing::within(INTERRUPT_PATIENCE)),
            Step::Unheard => output = None,
            Step::Typed(Typed::Failed(error)) => outcome = Err(Error::Input(error)),
            Step::Typed(Typed::End) | Step::Unsendable => {}
        }
        outgoing = None;
        closing = closing.or_else(|| Some(Closing::within(CLOSE_PATIENCE)));
    }
    printer.finish().await.map_err(Error::Output).and(outcome)
}

/// The stream as one thing, so that lines are sent while the response's headers are awaited:
/// a proxy may hold those back until the room says something.
fn call(
    mut client: Client,
    room: &RoomName,
    queue: impl Stream<Item = ChatMessage> + Send + 'static,
) -> impl Stream<Item = Result<ChatMessage, Status>> {
    let mut request = Request::new(queue);
    if let Ok(room) = MetadataValue::try_from(room.as_str()) {
        request.metadata_mut().insert("chat-room", room);
    }
    stream::once(async move { client.chat_stream(request).await })
        .map_ok(tonic::Response::into_inner)
        .try_flatten()
}

/// Prints the next message, once there is room to print it. Loses none when dropped.
async fn hear(
    inbound: &mut (impl Stream<Item = Result<ChatMessage, Status>> + Unpin),
    output: Option<&Printer>,
) -> Step {
    let Some(output) = output else { return Step::Heard(inbound.next().await) };
    let Ok(place) = output.reserve().await else { return Step::Unheard };
    let heard = inbound.next().await;
    if let Some(Ok(message)) = &heard {
        place.send(terminal::format(message));
    }
    Step::Heard(heard)
}

/// Sends the next line, once there is room to send it. Loses none when dropped.
async fn next_line(lines: &mut Lines, outgoing: Option<&mpsc::Sender<ChatMessage>>) -> Step {
    let Some(outgoing) = outgoing else { return future::pending().await };
    let Ok(place) = outgoing.reserve().await else { return Step::Unsendable };
    let typed = lines.next().await;
    if let Typed::Line(content) = &typed {
        place.send(ChatMessage { content: content.clone(), ..ChatMessage::default() });
    }
    Step::Typed(typed)
}

async fn overdue(closing: Option<Closing>) {
    match closing {
        Some(closing) => sleep_until(closing.deadline).await,
        None => future::pending().await,
    }
}

/// What the stream's final status means to the one who typed.
fn verdict(status: &Status, addr: &Address) -> Error {
    if let Some(source) = status.source() {
        return Error::Lost { addr: addr.clone(), cause: root_cause(source) };
    }
    let message = match status.message() {
        "" => status.code().description().to_owned(),
        message => terminal::sanitise(message),
    };
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Error::Refused(message),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Error::Ended(message),
    }
}

/// What is behind an error: a failure of TLS, or the innermost source, where the operating system's
/// word is.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    if let Some(fault) = fault(error) {
        return terminal::sanitise(&fault.words);
    }
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let reason = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
    if reason == Some(h2::Reason::FRAME_SIZE_ERROR) {
        // What a server answers that takes this for the beginning of TLS.
        return "it does not speak plain HTTP/2; if it speaks TLS, begin the address with https://"
            .to_owned();
    }
    terminal::sanitise(&error.to_string())
}

#[cfg(test)]
mod tests;
