//! What can go wrong for good.

use std::time::Duration;

use roomcast_common::text::sanitise;
use tonic::{Code, Status};

use super::{address::Address, update::Reason};

/// Why a client is in its room no more, or never came in. Each prints as one line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The server will not have this client: trying again is no use.
    #[error("the server refused: {}", said(*code, message))]
    Refused {
        /// The status's code.
        code: Code,
        /// The status's message.
        message: String,
    },
    /// The server wants a token and takes none that there is: it is missing, malformed, signed by another key, expired,
    /// or not for this server. Coming in anew helps, with a good token.
    #[error("not authenticated: {message}")]
    InvalidToken {
        /// The status's message, which says why.
        message: String,
    },
    /// The token has expired, and its source has no other. Coming in anew helps, with a newer token.
    #[error("the token has expired, and there is no newer one")]
    TokenExpired,
    /// The token gives no right to be in this room under this name, or a newer one is of another subject than the
    /// session. Coming in anew is no use without a token that says something else.
    #[error("not allowed: {message}")]
    Forbidden {
        /// The status's message, which says what.
        message: String,
    },
    /// A token would go over plain text to another machine.
    #[error("a token would go to {addr} over plain text: use https://{addr}")]
    InsecureToken {
        /// Where.
        addr: Address,
    },
    /// Another client has taken the session over, twice within a minute.
    #[error("somebody else uses this session")]
    Superseded,
    /// The time for coming in or back has passed.
    #[error("{reason}")]
    GaveUp {
        /// What became of the last attempt.
        reason: Reason,
    },
}

/// Why a message was not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SayError {
    /// It has no content. It is not in the log.
    #[error("a message needs a content")]
    Empty,
    /// It is too long. It is not in the log.
    #[error("the message is too long: {0}")]
    TooLarge(String),
    /// The client's token lets it read here, and not speak. It is not in the log.
    #[error("the message was refused: {0}")]
    Forbidden(String),
    /// The server refuses it for a reason that this version does not know. It is not in the log.
    #[error("the message was refused: {0}")]
    Refused(String),
    /// The client ended before it could be sent. It is not in the log.
    #[error("the message was not sent: the client is not in the room any more")]
    NotSent,
    /// The client ended between sending it and hearing an answer. Nobody knows whether it is in the log.
    #[error("the message may be lost: the client ended before it was acknowledged")]
    Unknown,
}

/// The server did not confirm the end in time: the room hears of it once the session has lingered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the end was not confirmed within {} s; the last messages may be lost", waited.as_secs())]
pub struct LeaveError {
    /// How long it was waited for.
    pub waited: Duration,
}

/// Why a question about the room was not answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with a failure, or the connection broke. Asking again may help.
    #[error("{}", said(*code, message))]
    Failed {
        /// The status's code.
        code: Code,
        /// The status's message.
        message: String,
    },
    /// There was no answer in time, or no connection to ask on.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The client is in the room no more.
    #[error("the client is not in the room any more")]
    Ended,
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Failed { code: status.code(), message: status.message().to_owned() }
    }
}

fn said(code: Code, message: &str) -> String {
    match message {
        "" => code.description().to_owned(),
        message => sanitise(message),
    }
}
