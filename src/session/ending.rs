//! How a stream ends, and what the room hears of it.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{LeftCause, Until},
    hub::PutOut,
};

/// Why a session ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client is done.
    HalfClosed,
    /// The client ended its session.
    Left,
    /// The client ended its session, and the room may not have heard of it yet.
    LeaveNotStored,
    /// The client cancelled, or its connection broke.
    Disconnected,
    /// The client sent something that cannot be read; says what.
    Unreadable(String),
    /// The client said too much at once.
    ContentTooLong {
        /// Its bytes.
        got: usize,
        /// The bytes allowed.
        max: usize,
    },
    /// The backplane did not take a message in time.
    Unavailable,
    /// Too much was received and not stored, and this stream had the most to wait for.
    Crowded,
    /// The client does not read fast enough.
    TooSlow,
    /// The client has taken nothing for so long.
    Stalled(Duration),
    /// The client has sent nothing for so long.
    Silent(Duration),
    /// Somebody else holds the name by now.
    NameLost,
    /// A newer stream carries the session.
    Superseded,
    /// The replica shuts down.
    ShuttingDown,
    /// The stream has been open for as long as streams may be.
    TooOld,
    /// The client's token has expired, and it has shown no newer one.
    TokenExpired,
    /// The newer token that the client has shown is not good; says why.
    Unauthenticated(String),
    /// The client has no right to what it does; says which.
    Denied(String),
    /// A moderator has put it out, and told the room.
    PutOut(PutOut),
    /// A backend has ended all streams of the client's subject.
    Dismissed {
        /// Its client may come back by itself, to its session.
        may_return: bool,
        /// Why, for people.
        reason: Arc<str>,
    },
    /// A moderator has silenced the client, which cannot be told in another way.
    Muted(Until),
}

impl Ending {
    /// What the room is told, where the session ends with its stream. `None` when it is told nothing.
    pub(super) fn cause(&self) -> Option<LeftCause> {
        match self {
            Self::HalfClosed | Self::Left | Self::LeaveNotStored => Some(LeftCause::Asked),
            Self::Disconnected => Some(LeftCause::Disconnected),
            Self::ShuttingDown => Some(LeftCause::Shutdown),
            Self::Unreadable(_)
            | Self::ContentTooLong { .. }
            | Self::Unavailable
            | Self::Crowded
            | Self::TooSlow
            | Self::Stalled(_)
            | Self::Silent(_)
            | Self::TooOld
            | Self::TokenExpired
            | Self::Unauthenticated(_)
            | Self::Denied(_)
            | Self::Dismissed { .. }
            | Self::Muted(_) => Some(LeftCause::Ended),
            Self::NameLost | Self::Superseded | Self::PutOut(_) => None,
        }
    }

    /// Whether the client still takes what it was told, so that it knows its session even if this comes
    /// right after its welcome.
    pub(super) fn is_told(&self) -> bool {
        match self {
            Self::HalfClosed
            | Self::Left
            | Self::LeaveNotStored
            | Self::Unreadable(_)
            | Self::ContentTooLong { .. }
            | Self::Unavailable
            | Self::Crowded
            | Self::TooSlow
            | Self::Silent(_)
            | Self::NameLost
            | Self::Superseded
            | Self::ShuttingDown
            | Self::TooOld
            | Self::TokenExpired
            | Self::Unauthenticated(_)
            | Self::Denied(_)
            | Self::PutOut(_)
            | Self::Dismissed { .. }
            | Self::Muted(_) => true,
            Self::Disconnected | Self::Stalled(_) => false,
        }
    }
}
