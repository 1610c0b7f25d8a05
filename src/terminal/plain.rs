//! The chat through the `chat` protocol: no resuming, no acknowledgements; when the stream ends, it ends.

use std::{future, time::Duration};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use roomcast_client::{AccessToken, Address, Credentials, Reason, dial};
use roomcast_proto::chat::{ChatMessage, chat_service_client::ChatServiceClient};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tonic::{Code, Request, Status, metadata::MetadataValue};

use super::{
    Args, Error, Standard,
    commands::{Command, PLAIN_HELP},
    lines::{Lines, Printer, Typed},
    show::line_of,
    style::Style,
    token::Given,
};
use crate::domain::RoomName;

/// How long to wait for the server's answer to our half-close. Longer than a server holds a
/// message while its backplane is away, so that its verdict on the last line is heard.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// The same after an interrupt: somebody is waiting at the keyboard.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(2);
/// How many lines wait for the connection before standard input is no longer read.
const OUTGOING: usize = 16;

/// Chats until `exit`, the end of input, an interrupt, or the server's end of the stream.
pub(super) async fn run(
    args: &Args,
    room: &RoomName,
    tls: Option<&Credentials>,
    token: &Given,
) -> Result<(), Error> {
    let token = args.token.once(&args.addr, token)?;
    let mut signals = signal(SignalKind::interrupt()).map_err(Error::Setup)?;
    let mut interrupts = stream::poll_fn(move |cx| signals.poll_recv(cx));
    let (client, addr) = tokio::select! {
        connected = connect(&args.addr, tls) => connected?,
        _ = interrupts.next() => return Ok(()),
    };
    let standard = Standard::open().map_err(Error::Setup)?;
    let member = Member { username: &args.username, room, token };
    chat(client, &addr, member, standard, interrupts).await
}

type Client = ChatServiceClient<tonic::transport::Channel>;

/// Connects to the first address that answers.
async fn connect(addrs: &[Address], tls: Option<&Credentials>) -> Result<(Client, Address), Error> {
    let mut outcome = Err(Error::NoAddress);
    for addr in addrs {
        outcome = match dial(addr, tls).await {
            Ok(channel) => return Ok((ChatServiceClient::new(channel), addr.clone())),
            Err(reason) => Err(reason.into()),
        };
    }
    outcome
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

/// Who comes in where.
struct Member<'a> {
    username: &'a str,
    room: &'a RoomName,
    token: Option<AccessToken>,
}

async fn chat(
    client: Client,
    addr: &Address,
    member: Member<'_>,
    Standard { mut lines, printer, style, _restored }: Standard,
    mut interrupts: impl Stream<Item = ()> + Unpin,
) -> Result<(), Error> {
    let (outgoing, mut queue) = mpsc::channel(OUTGOING);
    let registration =
        ChatMessage { username: member.username.to_owned(), ..ChatMessage::default() };
    // Before the call is made: some proxies hold it back until it has a body.
    let _ = outgoing.try_send(registration);
    let mut outgoing = Some(outgoing);
    let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let mut inbound = Box::pin(call(client, &member, queue));
    let mut output = Some(&printer);
    let mut closing: Option<Closing> = None;
    let mut outcome = Ok(());

    loop {
        let step = tokio::select! {
            step = hear(&mut inbound, output, &style) => step,
            step = next_line(&mut lines, outgoing.as_ref(), &printer, &style) => step,
            _ = interrupts.next() => Step::Interrupted,
            () = overdue(closing) => Step::Overdue,
        };
        match step {
            Step::Heard(Some(Ok(_))) | Step::Typed(Typed::Line(_)) => continue,
            Step::Heard(Some(Err(status))) => {
                outcome = Err(verdict(&status, addr));
                break;
            }
            Step::Heard(None) => break,
            Step::Overdue => {
                let waited = closing.map(|closing| closing.patience).unwrap_or_default();
                outcome = Err(Error::Unconfirmed { addr: addr.to_string(), waited });
                break;
            }
            Step::Interrupted | Step::Typed(Typed::Interrupt)
                if closing.is_some_and(|c| c.patience == INTERRUPT_PATIENCE) =>
            {
                break;
            }
            Step::Interrupted | Step::Typed(Typed::Interrupt) => {
                closing = Some(Closing::within(INTERRUPT_PATIENCE));
            }
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
    member: &Member<'_>,
    queue: impl Stream<Item = ChatMessage> + Send + 'static,
) -> impl Stream<Item = Result<ChatMessage, Status>> {
    let mut request = Request::new(queue);
    if let Some(token) = &member.token {
        token.authorize(&mut request);
    }
    if let Ok(room) = MetadataValue::try_from(member.room.as_str()) {
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
    style: &Style,
) -> Step {
    let Some(output) = output else { return Step::Heard(inbound.next().await) };
    let Ok(place) = output.reserve().await else { return Step::Unheard };
    let heard = inbound.next().await;
    if let Some(Ok(message)) = &heard {
        place.send(line_of(message, style));
    }
    Step::Heard(heard)
}

/// Sends the next line, or does what it asks for on a terminal, once there is room to send it. Loses none when dropped.
async fn next_line(
    lines: &mut Lines,
    outgoing: Option<&mpsc::Sender<ChatMessage>>,
    printer: &Printer,
    style: &Style,
) -> Step {
    let Some(outgoing) = outgoing else { return future::pending().await };
    let Ok(place) = outgoing.reserve().await else { return Step::Unsendable };
    let typed = lines.next().await;
    let Typed::Line(line) = &typed else { return Step::Typed(typed) };
    let command =
        if style.is_terminal() { Command::read(line) } else { Command::Say(line.to_owned()) };
    let note = |note: &str| printer.try_print(style.note(note));
    match command {
        Command::Say(content) => place.send(ChatMessage { content, ..ChatMessage::default() }),
        Command::Quit => return Step::Typed(Typed::End),
        Command::Help => PLAIN_HELP.iter().for_each(|line| note(line)),
        Command::Who | Command::History(_) => note("-- --plain shows neither members nor history"),
        Command::Unknown(text) => note(&text),
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
    let reason = Reason::of(status, &addr.to_string());
    match &reason {
        Reason::Ended {
            code:
                Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented,
            ..
        } => Error::Refused(reason.to_string()),
        Reason::Ended { code: Code::Unauthenticated, .. } => {
            Error::Unauthenticated(reason.to_string())
        }
        _ => reason.into(),
    }
}

#[cfg(test)]
mod tests;
