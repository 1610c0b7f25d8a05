//! What happens in a room, and what a client is answered, in the words of `roomcast.v1`.

use jiff::Timestamp;
use prost_types::Duration as ProtoDuration;

use crate::{
    domain::{Event, LeftCause, Position, TraceParent, What},
    proto::room::{self as proto, connect_response::Frame, event::What as ProtoWhat},
    room::Lost,
    session::{Answer, Refused},
};

/// When to try again what could not be stored.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// A position.
pub(super) fn position(position: Position) -> proto::Position {
    proto::Position { epoch: position.epoch.0, seq: position.seq }
}

/// An instant.
pub(super) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let mut stamp =
        prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() };
    stamp.normalize();
    stamp
}

/// A length of time.
pub(super) fn duration(time: std::time::Duration) -> ProtoDuration {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    // Below a thousand millions.
    let nanos = i32::try_from(time.subsec_nanos()).unwrap_or_default();
    ProtoDuration { seconds, nanos }
}

/// An event. One that this version cannot read has its place and nothing else.
pub(super) fn event(at: Position, event: &Event) -> proto::Event {
    let what = match &event.what {
        What::Said { content } => {
            Some(ProtoWhat::Said(proto::Said { content: content.to_string() }))
        }
        What::Joined => Some(ProtoWhat::Joined(proto::Joined {})),
        What::Left { cause: why } => {
            Some(ProtoWhat::Left(proto::Left { cause: cause(*why).into() }))
        }
        What::Unknown => None,
    };
    proto::Event {
        position: Some(position(at)),
        time: Some(timestamp(event.at)),
        username: event.member.name.to_string(),
        what,
        traceparent: event.trace.as_ref().map(TraceParent::to_string).unwrap_or_default(),
    }
}

fn cause(cause: LeftCause) -> proto::LeftCause {
    match cause {
        LeftCause::Asked => proto::LeftCause::Asked,
        LeftCause::Disconnected => proto::LeftCause::Disconnected,
        LeftCause::Ended => proto::LeftCause::Ended,
        LeftCause::Shutdown => proto::LeftCause::Shutdown,
        LeftCause::ReplicaLost => proto::LeftCause::ReplicaLost,
        LeftCause::TimedOut => proto::LeftCause::TimedOut,
    }
}

/// What is gone.
pub(super) fn gap(lost: &Lost) -> proto::Gap {
    match lost {
        Lost::Range { from, to } => {
            proto::Gap { from: Some(position(*from)), to: Some(position(*to)) }
        }
        Lost::Log { .. } => proto::Gap::default(),
    }
}

/// An answer.
pub(super) fn answer(answer: &Answer) -> Frame {
    match answer {
        Answer::Ack { client_seq, position: at, duplicate } => Frame::Ack(proto::Ack {
            client_seq: *client_seq,
            position: at.map(position),
            duplicate: *duplicate,
        }),
        Answer::Nack { client_seq, refused } => Frame::Nack(nack(*client_seq, *refused)),
        Answer::Pong(nonce) => Frame::Pong(proto::Pong { nonce: *nonce }),
        Answer::Reconnect(after) => Frame::Reconnect(proto::Reconnect {
            after: Some(duration(*after)),
            reason: proto::ReconnectReason::ShuttingDown.into(),
        }),
    }
}

fn nack(client_seq: u64, refused: Refused) -> proto::Nack {
    let (reason, retry_after) = match refused {
        Refused::Empty => (proto::NackReason::Empty, None),
        Refused::TooLarge { .. } => (proto::NackReason::TooLarge, None),
        Refused::TooFast(wait) => (proto::NackReason::TooFast, Some(wait)),
        Refused::OutOfOrder { .. } => {
            (proto::NackReason::OutOfOrder, Some(std::time::Duration::ZERO))
        }
        Refused::Unavailable => (proto::NackReason::Unavailable, Some(RETRY)),
        Refused::HeldAnew => (proto::NackReason::Unavailable, Some(std::time::Duration::ZERO)),
    };
    proto::Nack {
        client_seq,
        reason: reason.into(),
        retry_after: retry_after.map(duration),
        detail: refused.to_string(),
    }
}
