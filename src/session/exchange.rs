//! What a client sends, and what it is told beside events.

use std::time::Duration;

use super::{Ending, Rights};
use crate::{
    backplane::Silenced,
    domain::{Position, TraceParent, Until},
    metrics::Nack,
};

/// What a client sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A message.
    Say(Say),
    /// A question whether anybody is there, with a number that comes back.
    Ping(u64),
    /// The session shall end.
    Leave,
    /// From now on the client may do this.
    Renewed(Rights),
    /// Something that this version does not know.
    Unknown,
}

/// What a client says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Say {
    /// The client's number of the message. The server counts for those who do not.
    pub client_seq: Option<u64>,
    /// The text.
    pub content: String,
    /// The trace that the message belongs to.
    pub trace: Option<TraceParent>,
    /// The trace of the stream that it came on, to which its own one points.
    pub stream_trace: Option<TraceParent>,
}

/// What a client is told beside events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A message is in the log.
    Ack {
        /// Which one.
        client_seq: u64,
        /// Where; unknown for a duplicate that is not found any more.
        position: Option<Position>,
        /// It was there before.
        duplicate: bool,
    },
    /// A message is not in the log.
    Nack {
        /// Which one.
        client_seq: u64,
        /// Why.
        refused: Refused,
    },
    /// Somebody is here.
    Pong(u64),
    /// The stream will end soon: go elsewhere after this time.
    Reconnect(Duration, ReconnectReason),
    /// The client's token expires in so long.
    Expiring(Duration),
}

/// Why a client is sent elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReconnectReason {
    /// The replica shuts down.
    ShuttingDown,
    /// The stream has been open for long: another replica may have fewer.
    TooOld,
}

impl ReconnectReason {
    /// How a stream ends whose client does not go by itself.
    pub(super) fn ending(self) -> Ending {
        match self {
            Self::ShuttingDown => Ending::ShuttingDown,
            Self::TooOld => Ending::TooOld,
        }
    }
}

/// What is said to a client that may not speak.
pub(super) const READS: &str = "this token lets its bearer read in this room, and not speak";

/// Why a message was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It has no content.
    #[error("a message needs some content")]
    Empty,
    /// It is too long.
    #[error("content has {got} bytes; at most {max} bytes are allowed")]
    TooLarge {
        /// Its bytes.
        got: usize,
        /// The bytes allowed.
        max: usize,
    },
    /// There were too many before it.
    #[error("too many messages; wait {} ms", .0.as_millis())]
    TooFast(Duration),
    /// One before it is missing.
    #[error("message {expected} comes next")]
    OutOfOrder {
        /// The number that comes next.
        expected: u64,
    },
    /// The client may only read.
    #[error("{READS}")]
    Forbidden,
    /// A moderator has made the client a reader.
    #[error("your role in this room lets you read, and not speak")]
    Reader,
    /// Nobody may speak but moderators.
    #[error("the room is read-only")]
    ReadOnly,
    /// A moderator has silenced the client.
    #[error("{}", muted(*.0))]
    Muted(Until),
    /// The room is in slow mode, and the client has just spoken.
    #[error("the room is in slow mode; wait {} ms", .0.as_millis())]
    SlowMode(Duration),
    /// It could not be stored in time.
    #[error(
        "it could not be stored in time; it may or may not be delivered, and once if it is sent again"
    )]
    Unavailable,
    /// The name had been lost for a moment, and is held anew.
    #[error("the name was lost and is held again; send it again")]
    HeldAnew,
}

impl Refused {
    pub(super) fn counted(self) -> Nack {
        match self {
            Self::Empty => Nack::Empty,
            Self::TooLarge { .. } => Nack::TooLarge,
            Self::TooFast(_) | Self::SlowMode(_) => Nack::TooFast,
            Self::OutOfOrder { .. } => Nack::OutOfOrder,
            Self::Forbidden | Self::Reader | Self::ReadOnly => Nack::Forbidden,
            Self::Muted(_) => Nack::Muted,
            Self::Unavailable | Self::HeldAnew => Nack::Unavailable,
        }
    }
}

impl From<Silenced> for Refused {
    fn from(silenced: Silenced) -> Self {
        match silenced {
            Silenced::Muted(until) => Self::Muted(until),
            Silenced::Reader => Self::Reader,
            Silenced::ReadOnly => Self::ReadOnly,
            Silenced::SlowMode(wait) => Self::SlowMode(wait),
        }
    }
}

/// What is said to a client that is silenced.
pub fn muted(until: Until) -> String {
    until.map_or_else(|| "muted".to_owned(), |until| format!("muted until {until:.0}"))
}
