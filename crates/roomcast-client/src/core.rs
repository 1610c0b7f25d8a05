//! What the client decides: what to send, what to tell, when to try again and when to give up.
//!
//! No I/O here: time and chance are arguments, so that each decision can be tested.

pub(super) mod access_tokens;
pub(super) mod notices;
pub(super) mod outbox;
pub(super) mod reader;
pub(super) mod retry_policy;
pub(super) mod sent_tracker;

/// The server did what the protocol does not allow: the stream is given up and opened anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Violation(pub(super) String);
