//! What all replicas are to do about a subject.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

/// For how long it is known that tokens were revoked: longer than a token should be good.
const REVOKED_FOR: Duration = Duration::from_secs(400 * 24 * 3600);

/// For how long streams are ended: until every replica has heard of it.
const DISCONNECTED_FOR: Duration = Duration::from_secs(600);

/// Something that holds for a subject everywhere, until another one of its kind takes its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Directive {
    /// Tokens that were issued before then are good for nothing any more.
    Revoke {
        /// Then.
        issued_before: Timestamp,
    },
    /// Streams that were open by then end.
    Disconnect {
        /// Then.
        at: Timestamp,
        /// Their clients may come back by themselves.
        may_return: bool,
        /// Why, for people.
        reason: Arc<str>,
    },
}

impl Directive {
    /// For how long it is kept.
    pub fn kept_for(&self) -> Duration {
        match self {
            Self::Revoke { .. } => REVOKED_FOR,
            Self::Disconnect { .. } => DISCONNECTED_FOR,
        }
    }
}
