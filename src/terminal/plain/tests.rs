//! The client against the bench's baseline, over real sockets and pipes.

use std::{
    io::{self, PipeReader, PipeWriter, Write, pipe},
    slice,
    time::Duration,
};

use roomcast_bench::baseline;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

use super::*;
use crate::terminal::lines;

const SOON: Duration = Duration::from_secs(10);

/// Somebody at a keyboard.
struct Person {
    keyboard: PipeWriter,
    screen: Lines,
    interrupt: mpsc::Sender<()>,
    chat: JoinSet<Result<(), Error>>,
}

impl Person {
    async fn enter(addr: &Address, name: &str) -> Self {
        let (input, keyboard) = pipe().unwrap();
        let (screen, output) = pipe().unwrap();
        Self::enter_with(addr, name, input, keyboard, screen, output).await
    }

    async fn enter_with(
        addr: &Address,
        name: &str,
        input: PipeReader,
        keyboard: PipeWriter,
        screen: PipeReader,
        output: PipeWriter,
    ) -> Self {
        let username = name.to_owned();
        let (client, addr) = connect(slice::from_ref(addr), None).await.unwrap();
        let lines = lines::read(input).unwrap();
        let printer = Printer::start(output).unwrap();
        let (interrupt, mut interrupts) = mpsc::channel(1);
        let mut chat = JoinSet::new();
        chat.spawn(async move {
            let interrupts = stream::poll_fn(move |cx| interrupts.poll_recv(cx));
            let room = RoomName::lobby();
            let style = Style::Pipe;
            let standard = Standard { lines, printer, style, _restored: None };
            let member = Member { username: &username, room: &room, token: None };
            super::chat(client, &addr, member, standard, interrupts).await
        });
        Self { keyboard, screen: lines::read(screen).unwrap(), interrupt, chat }
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// The next line that is printed, without its timestamp.
    async fn sees(&mut self) -> String {
        match timeout(SOON, self.screen.next()).await.expect("nothing is printed") {
            Typed::Line(line) => {
                let (timestamp, message) = line.split_once("] ").unwrap();
                assert!(timestamp.starts_with("[2") && timestamp.ends_with('Z'), "{line}");
                message.to_owned()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn ends(&mut self) -> Result<(), Error> {
        timeout(SOON, self.chat.join_next()).await.expect("it goes on").unwrap().unwrap()
    }
}

/// A server, until it is dropped.
async fn server() -> (JoinSet<()>, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let mut server = JoinSet::new();
    server.spawn(async { baseline::serve_on(listener).await.unwrap() });
    (server, addr)
}

#[tokio::test]
async fn what_one_types_the_other_sees() {
    let (_server, addr) = server().await;
    let mut alice = Person::enter(&addr, "alice").await;
    // Alice is there for certain once somebody has heard her.
    let mut bob = Person::enter(&addr, "bob").await;
    loop {
        alice.types("are you there?\n");
        if let Ok(Typed::Line(_)) = timeout(Duration::from_millis(50), bob.screen.next()).await {
            break;
        }
    }
    let mut carol = Person::enter(&addr, "carol").await;
    while alice.sees().await != "System: carol joined" {}
    carol.types("one\n\n\ttwo \u{1b}[2J\nexit\nnever\n");
    carol.ends().await.unwrap();
    assert_eq!(alice.sees().await, "carol: one");
    assert_eq!(alice.sees().await, "carol: \ttwo \\u{1b}[2J");
    assert_eq!(alice.sees().await, "System: carol left");

    // The end of input sends the last line, too.
    bob.types("last");
    drop(bob.keyboard);
    let ended = timeout(SOON, bob.chat.join_next()).await.unwrap();
    ended.unwrap().unwrap().unwrap();
    assert_eq!(alice.sees().await, "bob: last");
    assert_eq!(alice.sees().await, "System: bob left");
}

#[tokio::test]
async fn a_refusal_is_one_clear_line() {
    let (_server, addr) = server().await;
    let mut first = Person::enter(&addr, "bob").await;
    let mut second = Person::enter(&addr, "bob").await;
    let error = tokio::select! {
        error = first.ends() => error,
        error = second.ends() => error,
    };
    let text = error.unwrap_err().to_string();
    assert_eq!(text, r#"the server refused: username "bob" is already taken"#);
}

#[tokio::test]
async fn an_interrupt_ends_a_silent_client() {
    let (_server, addr) = server().await;
    let mut bob = Person::enter(&addr, "bob").await;
    bob.interrupt.send(()).await.unwrap();
    bob.ends().await.unwrap();
}

#[tokio::test]
async fn a_closed_output_is_no_error() {
    let (_server, addr) = server().await;
    let (input, keyboard) = pipe().unwrap();
    let (screen, output) = pipe().unwrap();
    let (unread, _) = pipe().unwrap();
    drop(screen);
    let mut bob = Person::enter_with(&addr, "bob", input, keyboard, unread, output).await;
    let mut alice = Person::enter(&addr, "alice").await;
    // Until bob, who may come in last, has heard one of them.
    let talk = async {
        loop {
            alice.types("hello\n");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = bob.ends() => ended.unwrap(),
        () = talk => {}
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    drop(listener);
    let text = connect(slice::from_ref(&addr), None).await.unwrap_err().to_string();
    assert!(text.starts_with(&format!("cannot reach {addr}: Connection refused")), "{text}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    // The system accepts the connection; nobody reads from it.
    let mut bob = Person::enter(&addr, "bob").await;
    bob.interrupt.send(()).await.unwrap();
    let text = bob.ends().await.unwrap_err().to_string();
    assert_eq!(
        text,
        format!("{addr} did not confirm the end within 2 s; the last lines may be lost")
    );
}

#[test]
fn every_status_has_its_reading() {
    let addr = Address::parse("127.0.0.1:1").unwrap();
    let reads = |code, text| verdict(&Status::new(code, text), &addr).to_string();
    assert_eq!(reads(Code::InvalidArgument, "x\n\u{1b}"), "the server refused: x\\n\\u{1b}");
    assert_eq!(reads(Code::OutOfRange, "too big"), "the server refused: too big");
    let away = "server is shutting down";
    assert_eq!(reads(Code::Unavailable, away), format!("the server ended the stream: {away}"));
    let silent = reads(Code::ResourceExhausted, "");
    assert_eq!(silent, "the server ended the stream: Some resource has been exhausted");
    let broken = Status::from_error(Box::new(io::Error::other("broken pipe")));
    let text = verdict(&broken, &addr).to_string();
    assert_eq!(text, "the connection to 127.0.0.1:1 was lost: broken pipe");
}
