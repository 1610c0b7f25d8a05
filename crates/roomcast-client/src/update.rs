//! What an application hears of its room, and of the way to it.

use std::{error::Error as _, fmt, time::SystemTime};

use roomcast_common::text::sanitise;
use roomcast_common::{Epoch, Position};
use roomcast_proto::room as proto;
use tonic::{Code, Status};

use super::{details::Details, moderation::Moderation, words::root_cause};

/// What comes out of [`Events`](super::Events), in the order of the room's log.
#[derive(Clone, PartialEq, Debug)]
pub enum Update {
    /// Something happened in the room. Each event comes once.
    Event(Event),
    /// Events are gone.
    Gap(Gap),
    /// The server is out of reach. Nothing has to be done: the client tries to come back, and messages
    /// wait.
    Disconnected {
        /// What became of the stream.
        reason: Reason,
    },
    /// The client is in the room again; what it missed follows.
    Reconnected {
        /// Whether nobody noticed. Otherwise the session had ended: the room may have heard that this
        /// member left and came. What was said meanwhile follows all the same.
        resumed: bool,
    },
}

/// Something that happened in a room.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Where it is in the room's log. Positions are dense within an epoch.
    pub position: Position,
    /// When the server took it in, by its clock.
    pub time: SystemTime,
    /// The name of the member that it is about.
    pub username: String,
    /// What happened.
    pub what: EventKind,
}

/// The kinds of events.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// The member said this.
    Said(String),
    /// The member came.
    Joined,
    /// The member went.
    Left(LeftCause),
    /// A moderator did something to the member, or to the room.
    Moderated(Moderation),
    /// Something of a kind that this version does not know.
    Unknown,
}

/// Why a member went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LeftCause {
    /// It asked to.
    Asked,
    /// Its connection broke, and it had no session that could be resumed.
    Disconnected,
    /// The server ended it: bad input, too slow, or the server's store away.
    Ended,
    /// Its replica was shut down, and it had no session that could be resumed.
    Shutdown,
    /// Its replica was lost.
    ReplicaLost,
    /// It did not come back in time.
    TimedOut,
    /// It was told to go.
    Kicked,
    /// A cause that this version does not know.
    Unknown,
}

/// Which events are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// Those from the first position to the last one, both included. Either they never came; or they
    /// did, and the log has lost them since, so that others never see them.
    Range {
        /// The first one.
        from: Position,
        /// The last one.
        to: Position,
    },
    /// All of the log, and with it whatever came after what this client has. How many those were,
    /// nobody knows.
    Everything,
}

/// Why the client is, or stays, away.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// No connection came about.
    Unreachable {
        /// Where it was tried.
        to: String,
        /// The root of the failure.
        cause: String,
    },
    /// The connection broke.
    Lost {
        /// Where it led.
        to: String,
        /// The root of the failure.
        cause: String,
    },
    /// Nothing was heard for too long.
    Silent {
        /// From whom.
        to: String,
    },
    /// The server ended or refused the stream.
    Ended {
        /// The status's code.
        code: Code,
        /// The status's message.
        message: String,
        /// What else it says, for programs.
        details: Details,
    },
    /// There is no token to show: its source failed.
    NoToken {
        /// How.
        cause: String,
    },
    /// The server did what the protocol does not allow.
    Broken {
        /// What.
        what: String,
    },
}

impl Reason {
    /// What a status says of the end of a stream that led to this address.
    pub fn of(status: &Status, to: &str) -> Self {
        match status.source() {
            Some(source) => Self::Lost { to: to.to_owned(), cause: root_cause(source) },
            None => Self::Ended {
                code: status.code(),
                message: sanitise(status.message()),
                details: Details::of(status),
            },
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { to, cause } => write!(f, "cannot reach {to}: {cause}"),
            Self::Lost { to, cause } => write!(f, "the connection to {to} was lost: {cause}"),
            Self::Silent { to } => write!(f, "nothing was heard from {to}"),
            Self::Ended { code, message, .. } if message.is_empty() => {
                f.write_str(code.description())
            }
            Self::Ended { message, .. } => f.write_str(&sanitise(message)),
            Self::NoToken { cause } => write!(f, "cannot get a token: {cause}"),
            Self::Broken { what } => write!(f, "the server broke the protocol: {what}"),
        }
    }
}

impl Event {
    /// An event of the protocol; none if it lacks a position.
    pub(super) fn from_wire(event: proto::Event) -> Option<Self> {
        let time = event.time.and_then(|time| SystemTime::try_from(time).ok());
        Some(Self {
            position: position(event.position?),
            time: time.unwrap_or(SystemTime::UNIX_EPOCH),
            username: event.username,
            what: match event.what {
                Some(proto::event::What::Said(said)) => EventKind::Said(said.content),
                Some(proto::event::What::Joined(_)) => EventKind::Joined,
                Some(proto::event::What::Left(left)) => EventKind::Left(left.cause().into()),
                Some(proto::event::What::Moderated(moderated)) => {
                    EventKind::Moderated(moderated.into())
                }
                None => EventKind::Unknown,
            },
        })
    }
}

impl From<proto::LeftCause> for LeftCause {
    fn from(cause: proto::LeftCause) -> Self {
        match cause {
            proto::LeftCause::Unspecified => Self::Unknown,
            proto::LeftCause::Asked => Self::Asked,
            proto::LeftCause::Disconnected => Self::Disconnected,
            proto::LeftCause::Ended => Self::Ended,
            proto::LeftCause::Shutdown => Self::Shutdown,
            proto::LeftCause::ReplicaLost => Self::ReplicaLost,
            proto::LeftCause::TimedOut => Self::TimedOut,
            proto::LeftCause::Kicked => Self::Kicked,
        }
    }
}

impl From<proto::Gap> for Gap {
    fn from(gap: proto::Gap) -> Self {
        match (gap.from, gap.to) {
            (Some(from), Some(to)) => Self::Range { from: position(from), to: position(to) },
            _ => Self::Everything,
        }
    }
}

/// A position as the domain has it.
pub(super) fn position(it: proto::Position) -> Position {
    Position::new(Epoch(it.epoch), it.seq)
}

/// A position as the protocol has it.
pub(super) fn wire(it: Position) -> proto::Position {
    proto::Position { epoch: it.epoch.0, seq: it.seq }
}
