//! The chat through the `v1` protocol, on the library.

use std::{future, io, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    poll,
    stream::{self, FuturesUnordered},
};
use roomcast_client::{
    self as client, CallError, Client, Connector, Credentials, Events, LeaveError, Members,
    Options, Page, Range, Said, SayError,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until, timeout},
};
use tonic::Code;

use super::{
    Args, Error, Standard,
    commands::{Command, HELP},
    lines::{Lines, Printer, Typed},
    show::{Screen, Us, note_of_members},
    token::Given,
};

/// How long the last lines may take, and leaving after them, once somebody has interrupted.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(2);
/// How long a terminal may take for the lines of `/history`.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// How many lines wait for their acknowledgement before standard input is no longer read.
const UNANSWERED: usize = 64;
/// How many names are shown of those who are here.
const NAMES: usize = 20;

/// Chats until `exit`, the end of input, an interrupt, or the server's refusal.
pub(super) async fn run(args: &Args, tls: Option<Credentials>, token: &Given) -> Result<(), Error> {
    let mut signals = signal(SignalKind::interrupt()).map_err(Error::Setup)?;
    let mut interrupts = stream::poll_fn(move |cx| signals.poll_recv(cx));
    let mut options = Options::new(args.room.as_str(), args.username.as_str());
    options.history = args.history;
    options.join_within = Some(Duration::ZERO);
    let connector = args.token.authorize(connector(args, tls)?, token);
    let joined = tokio::select! {
        joined = Client::join(connector, options) => joined,
        _ = interrupts.next() => return Ok(()),
    };
    let (client, events) = joined.map_err(refusal)?;
    let us = Us::new(client.username(), client.entered_at());
    let Standard { lines, printer, style, _restored } = Standard::open().map_err(Error::Setup)?;
    let screen = if style.is_terminal() {
        Screen::of_terminal(printer, us, style)
    } else {
        Screen::of_pipe(printer, Printer::start(io::stderr()).map_err(Error::Setup)?, us)
    };
    Chat::new(args, client, events, lines, screen).go_on(interrupts).await
}

fn connector(args: &Args, tls: Option<Credentials>) -> Result<Connector, Error> {
    let (first, others) = args.addr.split_first().ok_or(Error::NoAddress)?;
    let connector = others.iter().cloned().fold(Connector::new(first.clone()), Connector::or);
    Ok(match tls {
        Some(tls) => connector.with_tls(tls),
        None => connector,
    })
}

/// What happened next.
enum Step {
    Told(Option<Result<(), client::Error>>),
    /// Nobody reads what is printed.
    Unheard,
    Typed(Typed),
    Said(Result<Said, SayError>),
    Here(Result<Members, CallError>),
    Past(Result<Page, CallError>),
    Interrupted,
    Left(Result<(), LeaveError>),
    Overdue,
}

/// A chat that goes on.
pub(super) struct Chat<'a> {
    args: &'a Args,
    /// None: it is leaving.
    client: Option<Client>,
    /// None: nobody wants to hear anything.
    events: Option<Events>,
    lines: Lines,
    screen: Screen,
    /// Lines without an acknowledgement.
    says: FuturesUnordered<BoxFuture<'static, Result<Said, SayError>>>,
    here: Option<BoxFuture<'static, Result<Members, CallError>>>,
    past: Option<BoxFuture<'static, Result<Page, CallError>>>,
    leaving: Option<BoxFuture<'static, Result<(), LeaveError>>>,
    /// When somebody who interrupted no longer waits.
    deadline: Option<Instant>,
    outcome: Result<(), Error>,
}

impl<'a> Chat<'a> {
    pub(super) fn new(
        args: &'a Args,
        client: Client,
        events: Events,
        lines: Lines,
        screen: Screen,
    ) -> Self {
        let asking = client.clone();
        Self {
            args,
            client: Some(client),
            events: Some(events),
            lines,
            screen,
            says: FuturesUnordered::new(),
            here: Some(async move { asking.members(NAMES).await }.boxed()),
            past: None,
            leaving: None,
            deadline: None,
            outcome: Ok(()),
        }
    }

    /// Until it ends.
    pub(super) async fn go_on(
        mut self,
        mut interrupts: impl stream::Stream<Item = ()> + Unpin,
    ) -> Result<(), Error> {
        loop {
            let step = tokio::select! {
                step = self.step() => step,
                _ = interrupts.next() => Step::Interrupted,
            };
            match step {
                Step::Told(Some(Ok(()))) => {}
                Step::Told(Some(Err(error))) => {
                    self.outcome = Err(refusal(error));
                    break;
                }
                Step::Told(None) => self.events = None,
                Step::Unheard => {
                    self.events = None;
                    self.leave();
                }
                Step::Typed(typed) => self.typed(typed).await,
                Step::Said(said) => self.said(said),
                Step::Here(members) => {
                    self.here = None;
                    match members {
                        Ok(members) => self.screen.note(&note_of_members(&members)),
                        Err(error) if self.screen.is_terminal() => {
                            self.screen.note(&format!("-- nobody knows who is here: {error}"));
                        }
                        Err(_) => {}
                    }
                }
                Step::Past(page) => {
                    self.past = None;
                    match page {
                        // A terminal that is stopped must not keep anybody from leaving.
                        Ok(page) => drop(timeout(SHOWN_WITHIN, self.screen.past(&page)).await),
                        Err(error) => self.screen.note(&format!("-- no history: {error}")),
                    }
                }
                Step::Interrupted if self.deadline.is_some() => break,
                Step::Interrupted => self.interrupted(),
                Step::Left(left) => {
                    self.left(left);
                    break;
                }
                Step::Overdue => {
                    self.left(Err(LeaveError { waited: INTERRUPT_PATIENCE }));
                    break;
                }
            }
        }
        self.screen.finish().await.map_err(Error::Output).and(self.outcome)
    }

    /// Waits for what happens next. Loses nothing when dropped.
    async fn step(&mut self) -> Step {
        let reads = self.client.is_some() && self.says.len() < UNANSWERED;
        let Self { events, lines, screen, says, here, past, leaving, deadline, .. } = self;
        tokio::select! {
            step = hear(screen, events.as_mut()) => step,
            typed = lines.next(), if reads => Step::Typed(typed),
            Some(said) = says.next() => Step::Said(said),
            members = pending(here) => Step::Here(members),
            page = pending(past) => Step::Past(page),
            left = pending(leaving) => Step::Left(left),
            () = until(*deadline) => Step::Overdue,
        }
    }

    async fn typed(&mut self, typed: Typed) {
        self.screen.typed();
        match typed {
            Typed::Line(line) if self.screen.is_terminal() => match Command::read(&line) {
                Command::Say(line) => self.say(line).await,
                Command::Who => self.ask_who_is_here(),
                Command::History(count) => self.ask_for_history(count),
                Command::Help => HELP.iter().for_each(|line| self.screen.note(line)),
                Command::Quit => self.leave(),
                Command::Unknown(note) => self.screen.note(&note),
            },
            Typed::Line(line) => self.say(line).await,
            Typed::Failed(error) => {
                self.outcome = Err(Error::Input(error));
                self.leave();
            }
            Typed::Interrupt => self.interrupted(),
            Typed::End => self.leave(),
        }
    }

    async fn say(&mut self, line: String) {
        let Some(client) = self.client.clone() else { return };
        let mut say = async move { client.say(line).await }.boxed();
        // Polled here, lines keep their order.
        match poll!(&mut say) {
            std::task::Poll::Ready(said) => self.said(said),
            std::task::Poll::Pending => self.says.push(say),
        }
    }

    /// Asks who is here, unless that is asked already.
    fn ask_who_is_here(&mut self) {
        let Some(client) = self.client.clone().filter(|_| self.here.is_none()) else { return };
        self.here = Some(async move { client.members(NAMES).await }.boxed());
    }

    fn ask_for_history(&mut self, count: u32) {
        if self.past.is_some() {
            return self
                .screen
                .note("-- history was asked for already; it comes once the server answers");
        }
        let Some(client) = self.client.clone() else { return };
        self.past = Some(async move { client.history(Range::Latest, count).await }.boxed());
    }

    fn said(&mut self, said: Result<Said, SayError>) {
        match said {
            Ok(_) => {}
            Err(error) if self.screen.is_terminal() => self.screen.note(&format!("-- {error}")),
            // Whoever writes into a pipe expects each line to be said.
            Err(error) => {
                if self.outcome.is_ok() {
                    self.outcome = Err(Error::Unsaid(error));
                }
                self.leave();
            }
        }
    }

    /// Leaves; what was said before goes first.
    fn leave(&mut self) {
        if let Some(client) = self.client.take() {
            self.leaving = Some(client.leave().boxed());
        }
    }

    fn interrupted(&mut self) {
        self.deadline = Some(Instant::now() + INTERRUPT_PATIENCE);
        self.leave();
    }

    fn left(&mut self, left: Result<(), LeaveError>) {
        if let Err(LeaveError { waited }) = left
            && self.outcome.as_ref().err().is_none_or(|it| matches!(it, Error::Unsaid(_)))
        {
            let addr: Vec<_> = self.args.addr.iter().map(ToString::to_string).collect();
            self.outcome = Err(Error::Unconfirmed { addr: addr.join(", "), waited });
        }
    }
}

/// Shows the next update, once there is room to show it.
async fn hear(screen: &mut Screen, events: Option<&mut Events>) -> Step {
    let Some(events) = events else { return future::pending().await };
    match screen.show_next(events.next()).await {
        Some(told) => Step::Told(told),
        None => Step::Unheard,
    }
}

async fn pending<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => future::pending().await,
    }
}

/// What the library's last word means to the one who typed.
fn refusal(error: client::Error) -> Error {
    match error {
        client::Error::Refused { code: Code::Unimplemented, .. } => Error::NoSessions,
        client::Error::Refused { ref message, .. } if !message.is_empty() => {
            Error::Refused(message.clone())
        }
        client::Error::Refused { code, .. } => Error::Refused(code.description().to_owned()),
        client::Error::InvalidToken { message } => Error::Unauthenticated(message),
        client::Error::TokenExpired => Error::TokenExpired,
        client::Error::Forbidden { message } => Error::Refused(message),
        client::Error::InsecureToken { addr } => Error::InsecureToken(addr),
        client::Error::Superseded => Error::Ended(error.to_string()),
        client::Error::GaveUp { reason } => reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use roomcast_bench::baseline;
    use roomcast_client::{Address, Details, Reason};
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    #[tokio::test]
    async fn a_server_without_v1_is_one_for_plain() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let mut server = JoinSet::new();
        server.spawn(async { baseline::serve_on(listener).await.unwrap() });
        let joined = Client::join(Connector::new(addr), Options::new("lobby", "bob")).await;
        let error = refusal(joined.unwrap_err()).to_string();
        assert_eq!(error, "the server does not know sessions: use --plain");
    }

    #[test]
    fn every_end_has_its_reading() {
        let to = "a:1".to_owned();
        let gave_up = |reason| refusal(client::Error::GaveUp { reason }).to_string();
        let cause = "reset".to_owned();
        let unreachable = Reason::Unreachable { to: to.clone(), cause: cause.clone() };
        assert_eq!(gave_up(unreachable), "cannot reach a:1: reset");
        let lost = Reason::Lost { to: to.clone(), cause };
        assert_eq!(gave_up(lost), "the connection to a:1 was lost: reset");
        assert_eq!(gave_up(Reason::Silent { to }), "cannot reach a:1: it does not answer");
        let (code, message) = (Code::Unavailable, "away".to_owned());
        let ended = Reason::Ended { code, message, details: Details::default() };
        assert_eq!(gave_up(ended), "the server ended the stream: away");
        let refused = |code, message: &str| {
            refusal(client::Error::Refused { code, message: message.to_owned() }).to_string()
        };
        assert_eq!(refused(Code::AlreadyExists, "taken"), "the server refused: taken");
        let silent = refused(Code::ResourceExhausted, "");
        assert_eq!(silent, "the server refused: Some resource has been exhausted");
        let no_token = Reason::NoToken { cause: "x".to_owned() };
        assert_eq!(gave_up(no_token), "cannot get a token: x");
        let message = "no access".to_owned();
        let forbidden = refusal(client::Error::Forbidden { message }).to_string();
        assert_eq!(forbidden, "the server refused: no access");
        let superseded = refusal(client::Error::Superseded).to_string();
        assert_eq!(superseded, "the server ended the stream: somebody else uses this session");
    }
}
