//! Greets everybody who joins a room, for as long as it runs:
//! `cargo run -p roomcast-client --example greeter -- 127.0.0.1:50051`

use std::{env, error::Error};

use roomcast_client::{Address, Client, Connector, EventKind, Options, Update};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let connector = Connector::new(Address::parse(&addr)?);
    let (room, mut events) = Client::join(connector, Options::new("lobby", "greeter")).await?;
    // Acknowledgements come with the events, so a greeting is not waited for where those are read.
    let mut greetings = JoinSet::new();
    while let Some(update) = events.next().await {
        match update? {
            Update::Event(event) if event.what == EventKind::Joined => {
                if event.username != room.username() {
                    let room = room.clone();
                    greetings
                        .spawn(async move { room.say(format!("hello, {}", event.username)).await });
                }
            }
            Update::Event(event) => println!("{}: {:?}", event.username, event.what),
            Update::Gap(gap) => println!("some events are gone from the log: {gap:?}"),
            Update::Disconnected { reason } => println!("disconnected: {reason}"),
            Update::Reconnected { resumed } => println!("connected again, resumed: {resumed}"),
        }
        while let Some(said) = greetings.try_join_next() {
            said??;
        }
    }
    Ok(())
}
