//! What happens in a room, and what a client is answered, in the words of `roomcast.v1`.

use jiff::Timestamp;
use prost_types::Duration as ProtoDuration;

use crate::{
    domain::{
        Epoch, Event, EventKind, LeftCause, Moderation, ModerationAction, Position, RoomSettings,
        TraceParent,
    },
    proto::room::{self as proto, connect_response::Frame, event::What as ProtoWhat},
    room::Lost,
    session::{Answer, ReconnectReason, Refused},
};

/// The largest sequence number that is looked for: Redis's scripts count in doubles.
const MAX_SEQ: u64 = (1 << 53) - 1;

/// When to try again what could not be stored.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// A position.
pub(in crate::gateway) fn position(position: Position) -> proto::Position {
    proto::Position { epoch: position.epoch.0, seq: position.seq }
}

/// A position that came from a client. Events have sequence numbers far below the largest that is
/// read; it stands for all beyond.
pub(in crate::gateway) fn read_position(position: proto::Position) -> Position {
    Position::new(Epoch(position.epoch), position.seq.min(MAX_SEQ))
}

/// An instant.
pub(in crate::gateway) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let mut stamp =
        prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() };
    stamp.normalize();
    stamp
}

/// A length of time.
pub(in crate::gateway) fn duration(time: std::time::Duration) -> ProtoDuration {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    // Below a thousand millions.
    let nanos = i32::try_from(time.subsec_nanos()).unwrap_or_default();
    ProtoDuration { seconds, nanos }
}

/// An event. One that this version cannot read has its place and nothing else.
pub(in crate::gateway) fn event(at: Position, event: &Event) -> proto::Event {
    let what = match &event.what {
        EventKind::Said { content } => {
            Some(ProtoWhat::Said(proto::Said { content: content.to_string() }))
        }
        EventKind::Joined => Some(ProtoWhat::Joined(proto::Joined {})),
        EventKind::Left { cause: why } => {
            Some(ProtoWhat::Left(proto::Left { cause: cause(*why).into() }))
        }
        EventKind::Moderated(moderation) => Some(ProtoWhat::Moderated(moderated(moderation))),
        EventKind::Unknown => None,
    };
    proto::Event {
        position: Some(position(at)),
        time: Some(timestamp(event.at)),
        username: event.member.name.to_string(),
        what,
        traceparent: event.trace.as_ref().map(TraceParent::to_string).unwrap_or_default(),
    }
}

fn moderated(moderation: &Moderation) -> proto::Moderated {
    use proto::ModerationAction as Told;
    let mut told = proto::Moderated {
        by: moderation.by.to_string(),
        reason: moderation.reason.to_string(),
        ..proto::Moderated::default()
    };
    let action = match moderation.action {
        ModerationAction::Kicked => Told::Kicked,
        ModerationAction::Banned(until) => {
            told.until = until.map(timestamp);
            Told::Banned
        }
        ModerationAction::Unbanned => Told::Unbanned,
        ModerationAction::Muted(until) => {
            told.until = until.map(timestamp);
            Told::Muted
        }
        ModerationAction::Unmuted => Told::Unmuted,
        ModerationAction::RoleSet(role) => {
            told.role = role.map_or_else(String::new, |role| role.name().to_owned());
            Told::RoleSet
        }
        ModerationAction::RoomSet(room) => {
            told.settings = Some(settings(room));
            Told::RoomSet
        }
    };
    told.set_action(action);
    told
}

/// What holds in a room.
pub(super) fn settings(settings: RoomSettings) -> proto::RoomSettings {
    let RoomSettings { slow_mode, read_only, history_hidden } = settings;
    let slow_mode = (!slow_mode.is_zero()).then(|| duration(slow_mode));
    proto::RoomSettings { slow_mode, read_only, history_hidden }
}

fn cause(cause: LeftCause) -> proto::LeftCause {
    match cause {
        LeftCause::Asked => proto::LeftCause::Asked,
        LeftCause::Disconnected => proto::LeftCause::Disconnected,
        LeftCause::Ended => proto::LeftCause::Ended,
        LeftCause::Shutdown => proto::LeftCause::Shutdown,
        LeftCause::ReplicaLost => proto::LeftCause::ReplicaLost,
        LeftCause::TimedOut => proto::LeftCause::TimedOut,
        LeftCause::Kicked => proto::LeftCause::Kicked,
    }
}

/// What is gone.
pub(in crate::gateway) fn gap(lost: &Lost) -> proto::Gap {
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
        Answer::Expiring(left) => {
            Frame::TokenExpiring(proto::TokenExpiring { r#in: Some(duration(*left)) })
        }
        Answer::Reconnect(after, why) => Frame::Reconnect(proto::Reconnect {
            after: Some(duration(*after)),
            reason: match why {
                ReconnectReason::ShuttingDown => proto::ReconnectReason::ShuttingDown,
                ReconnectReason::TooOld => proto::ReconnectReason::Rebalance,
            }
            .into(),
        }),
    }
}

fn nack(client_seq: u64, refused: Refused) -> proto::Nack {
    let (reason, retry_after) = match refused {
        Refused::Empty => (proto::NackReason::Empty, None),
        Refused::TooLarge { .. } => (proto::NackReason::TooLarge, None),
        Refused::TooFast(wait) | Refused::SlowMode(wait) => {
            (proto::NackReason::TooFast, Some(wait))
        }
        Refused::OutOfOrder { .. } => {
            (proto::NackReason::OutOfOrder, Some(std::time::Duration::ZERO))
        }
        Refused::Forbidden | Refused::Reader | Refused::ReadOnly => {
            (proto::NackReason::Forbidden, None)
        }
        Refused::Muted(until) => (proto::NackReason::Muted, until.map(left)),
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

/// How long it is until then.
fn left(until: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DisplayName, Epoch, Member, SessionId};

    const AT: Position = Position::new(Epoch(7), 9);

    fn told(what: EventKind) -> proto::Event {
        let name = DisplayName::from_log("Zoë");
        let member = Member { name, session: SessionId::from_bytes([1; 16]) };
        let trace = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let at = "2026-11-24T11:22:33.123456789Z".parse().unwrap();
        event(AT, &Event { at, member, what, trace })
    }

    #[test]
    fn an_event_is_told_whole() {
        let said = told(EventKind::Said { content: "hi".into() });
        assert_eq!(
            said,
            proto::Event {
                position: Some(proto::Position { epoch: 7, seq: 9 }),
                time: Some(prost_types::Timestamp { seconds: 1_795_519_353, nanos: 123_456_789 }),
                username: "Zoë".to_owned(),
                what: Some(ProtoWhat::Said(proto::Said { content: "hi".to_owned() })),
                traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            }
        );
        assert_eq!(told(EventKind::Joined).what, Some(ProtoWhat::Joined(proto::Joined {})));
        let unknown = told(EventKind::Unknown);
        assert_eq!(unknown, proto::Event { what: None, ..said }, "it has its place");
    }

    #[test]
    fn every_cause_has_its_name() {
        for (why, name) in [
            (LeftCause::Asked, "LEFT_CAUSE_ASKED"),
            (LeftCause::Disconnected, "LEFT_CAUSE_DISCONNECTED"),
            (LeftCause::Ended, "LEFT_CAUSE_ENDED"),
            (LeftCause::Shutdown, "LEFT_CAUSE_SHUTDOWN"),
            (LeftCause::ReplicaLost, "LEFT_CAUSE_REPLICA_LOST"),
            (LeftCause::TimedOut, "LEFT_CAUSE_TIMED_OUT"),
            (LeftCause::Kicked, "LEFT_CAUSE_KICKED"),
        ] {
            let Some(ProtoWhat::Left(left)) = told(EventKind::Left { cause: why }).what else {
                panic!("it is told as a leave");
            };
            assert_eq!(left.cause().as_str_name(), name);
        }
    }

    #[test]
    fn times_before_1970_are_times() {
        let stamp = timestamp("1969-12-31T23:59:58.25Z".parse().unwrap());
        assert_eq!((stamp.seconds, stamp.nanos), (-2, 250_000_000));
    }

    #[test]
    fn a_position_of_a_client_is_one_that_can_be_looked_for() {
        let read = |seq| read_position(proto::Position { epoch: u64::MAX, seq });
        assert_eq!(read(9), Position::new(Epoch(u64::MAX), 9));
        assert_eq!(read(u64::MAX), Position::new(Epoch(u64::MAX), MAX_SEQ));
    }
}
