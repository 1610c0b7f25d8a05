//! The client: a member of a room that comes back by itself.
//!
//! [`Client::join`] comes into a room through the `v1` protocol and gives two handles. [`Client`] says things
//! and asks about the room; [`Events`] is what happens there. Behind them a task keeps the client in its
//! room: it connects again when the connection breaks or the server asks for it (a new connection each
//! time, with full jitter and bounds), resumes its session, sends again what has no answer, and leaves
//! out what the application has had. So the application gets every event once, in the order of the
//! room's log, or is told by [`Update::Gap`] what is gone; and what it says is in the log once when
//! [`Client::say`] resolves.
//!
//! Where the server wants tokens, [`Connector::with_tokens`] says where they come from ([`TokenSource`]). They are renewed
//! while the stream is open. [`Error::InvalidToken`] and [`Error::TokenExpired`] ask for a good one, and
//! [`Error::Forbidden`] says that another one would not help.
//!
//! ```no_run
//! use roomcast_client::{Address, Client, Connector, EventKind, Options, Update};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connector = Connector::new(Address::parse("chat-a.example:50051")?)
//!     .or(Address::parse("chat-b.example:50051")?);
//! let mut options = Options::new("lobby", "echo");
//! options.history = 20;
//! let (room, mut events) = Client::join(connector, options).await?;
//! println!("{} are here", room.members(1).await?.total);
//! while let Some(update) = events.next().await {
//!     match update? {
//!         Update::Event(event) => match event.what {
//!             EventKind::Said(text) if text == "bye" => break,
//!             EventKind::Said(text) => println!("{} {}: {text}", event.position, event.username),
//!             other => println!("{} {}: {other:?}", event.position, event.username),
//!         },
//!         Update::Gap(gap) => println!("gone: {gap:?}"),
//!         Update::Disconnected { reason } => println!("away: {reason}"),
//!         Update::Reconnected { resumed } => println!("back; did nobody notice? {resumed}"),
//!     }
//! }
//! // Whoever says something has to read on: answers come with the events.
//! drop(events);
//! let said = room.say("that was all").await?;
//! println!("it is in the log: {said:?}");
//! room.leave().await?;
//! # Ok(())
//! # }
//! ```

mod access_token;
mod address;
mod ask;
mod connector;
mod core;
mod details;
mod driver;
mod error;
mod handle;
mod moderation;
mod options;
mod requests;
mod stream;
mod tls;
mod token_request;
mod token_source;
mod update;
mod words;

pub use self::{
    access_token::{AccessToken, AccessTokenError, ReadTokenError},
    address::{Address, AddressError},
    ask::{Member, Members, Page, Range},
    connector::{Connector, dial},
    details::Details,
    error::{CallError, Error, LeaveError, SayError},
    handle::{Client, Events},
    moderation::{Moderation, ModerationAction},
    options::Options,
    requests::Said,
    tls::{Credentials, objection},
    token_source::TokenSource,
    update::{Event, EventKind, Gap, LeftCause, Reason, Update},
};
pub use roomcast_common::{Epoch, Position};
pub use roomcast_tls::TlsError;

/// How long connecting may take.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests;
