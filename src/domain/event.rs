//! What happens in a room.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use super::{DisplayName, Moderation, SessionId};

/// One event of a room. Its position is not part of it: the log gives that.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// When the replica that took it in did so, by that replica's clock.
    pub at: Timestamp,
    /// The member it concerns.
    pub member: Member,
    /// What happened.
    pub what: EventKind,
    /// The trace it belongs to, if it is traced.
    pub trace: Option<TraceParent>,
}

impl Event {
    /// About how many bytes it has.
    pub fn size(&self) -> usize {
        const AROUND: usize = 128;
        AROUND
            + match &self.what {
                EventKind::Said { content } => content.len(),
                EventKind::Moderated(moderation) => moderation.reason.len(),
                EventKind::Joined | EventKind::Left { .. } | EventKind::Unknown => 0,
            }
    }
}

/// Who a member is: a name and the membership under which it is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The registered name, as spelled.
    pub name: DisplayName,
    /// The membership.
    pub session: SessionId,
}

/// The kinds of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// The member said something.
    Said {
        /// The text, as sent.
        content: Arc<str>,
    },
    /// The member came.
    Joined,
    /// The member went.
    Left {
        /// Why.
        cause: LeftCause,
    },
    /// A moderator did something to the member, or to the room: then nobody's name is given.
    Moderated(Arc<Moderation>),
    /// Something that this version cannot read. It has its place in the log and is shown to nobody.
    Unknown,
}

/// Why a member went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LeftCause {
    /// The client ended its stream.
    Asked,
    /// The client's connection broke or it cancelled.
    Disconnected,
    /// The server ended the stream: bad input, too slow, Redis away.
    Ended,
    /// Its replica was shut down.
    Shutdown,
    /// Its replica stopped renewing its leases.
    ReplicaLost,
    /// Its stream had dropped, and it was not resumed in time.
    TimedOut,
    /// A moderator put it out.
    Kicked,
}

impl LeftCause {
    /// Its name where programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Disconnected => "disconnected",
            Self::Ended => "ended",
            Self::Shutdown => "shutdown",
            Self::ReplicaLost => "replica_lost",
            Self::TimedOut => "timed_out",
            Self::Kicked => "kicked",
        }
    }
}

/// A W3C `traceparent`, of the form `00-<32 hex>-<16 hex>-<2 hex>`.
///
/// Source: <https://www.w3.org/TR/trace-context/#traceparent-header>.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceParent(Arc<str>);

impl TraceParent {
    /// Checks the form; anything else is treated as absent, as the standard asks.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let sizes_fit = [2, 32, 16, 2].into_iter().all(|size| {
            parts.next().is_some_and(|part| {
                part.len() == size
                    && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            })
        });
        if !sizes_fit || parts.next().is_some() {
            return None;
        }
        let parsed = Self(Arc::from(text));
        let means_nothing = |id: &str| id.bytes().all(|digit| digit == b'0');
        let valid = !text.starts_with("ff")
            && !means_nothing(parsed.trace_id())
            && !means_nothing(parsed.span_id());
        valid.then_some(parsed)
    }

    /// Whether whoever began the trace wants it recorded.
    pub fn is_sampled(&self) -> bool {
        let flags = u8::from_str_radix(&self.0[53..], 16).unwrap_or(0);
        flags & 1 == 1
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The id of the span that is the parent, 16 hexadecimal digits.
    pub fn span_id(&self) -> &str {
        &self.0[36..52]
    }

    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_is_strict() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = TraceParent::parse(good).unwrap();
        assert_eq!(parsed.as_str(), good);
        assert_eq!(parsed.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((parsed.span_id(), parsed.is_sampled()), ("b7ad6b7169203331", true));
        let unsampled = format!("{}02", &good[..53]);
        assert!(!TraceParent::parse(&unsampled).unwrap().is_sampled());
        let no_trace = format!("00-{:032}-b7ad6b7169203331-01", 0);
        let no_span = format!("00-0af7651916cd43dd8448eb211c80319c-{:016}-01", 0);
        let longer = format!("{good}-00");
        let no_version = format!("ff{}", &good[2..]);
        for bad in ["", "00-0af7", &good.to_uppercase(), &longer, &no_version, &no_trace, &no_span]
        {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
