//! The bytes that replicas exchange: the internal envelope and roster entries.

pub(super) mod moderation;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use prost::Message;

use super::scripts::millis;
use crate::{
    backplane::{Hold, Overdue, Present, Seated},
    domain::{
        DisplayName, Event, EventKind, Identity, LeftCause, Member, ReplicaId, RoomName, RoomRole,
        SecretHash, SessionId, StreamId, TraceParent,
    },
    proto::internal,
};

/// Bytes from the backplane that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    /// Not the envelope's encoding.
    #[error("not an envelope")]
    Envelope(#[from] prost::DecodeError),
    /// An envelope with impossible content.
    #[error("the envelope has no usable {0}")]
    Field(&'static str),
}

/// Encodes one event, so that a concatenation of encoded events decodes as one batch.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    let what = match &event.what {
        EventKind::Said { content } => {
            internal::event::What::Said(internal::Said { content: content.to_string() })
        }
        EventKind::Joined => internal::event::What::Joined(internal::Joined {}),
        EventKind::Left { cause } => {
            internal::event::What::Left(internal::Left { cause: encode_cause(*cause).into() })
        }
        EventKind::Moderated(moderation) => {
            internal::event::What::Moderated(moderation::encode(moderation))
        }
        // Never made here, only read.
        EventKind::Unknown => return Vec::new(),
    };
    let event = internal::Event {
        at_nanos: nanos(event.at),
        username: event.member.name.as_str().to_owned(),
        session: event.member.session.as_bytes().to_vec().into(),
        traceparent: event.trace.as_ref().map_or_else(String::new, ToString::to_string),
        what: Some(what),
    };
    internal::Batch { events: vec![event] }.encode_to_vec()
}

/// Decodes consecutive events.
pub(super) fn decode(payload: &[u8]) -> Result<Vec<Arc<Event>>, CodecError> {
    let batch = internal::Batch::decode(payload)?;
    let readable = |event| decode_event(event).unwrap_or_else(|_| unknown());
    Ok(batch.events.into_iter().map(readable).map(Arc::new).collect())
}

/// What stands in the place of an event that cannot be read, so that those around it can.
pub(super) fn unknown() -> Event {
    Event {
        at: Timestamp::UNIX_EPOCH,
        member: Member { name: DisplayName::from_log(""), session: SessionId::from_bytes([0; 16]) },
        what: EventKind::Unknown,
        trace: None,
    }
}

fn decode_event(event: internal::Event) -> Result<Event, CodecError> {
    let session = <[u8; 16]>::try_from(event.session.as_ref());
    let what = match event.what {
        Some(internal::event::What::Said(said)) => {
            EventKind::Said { content: Arc::from(said.content) }
        }
        Some(internal::event::What::Joined(_)) => EventKind::Joined,
        Some(internal::event::What::Left(left)) => {
            EventKind::Left { cause: decode_cause(left.cause()) }
        }
        Some(internal::event::What::Moderated(moderated)) => {
            moderation::decode(moderated).map_or(EventKind::Unknown, EventKind::Moderated)
        }
        // A kind that a later version invents.
        None => EventKind::Unknown,
    };
    Ok(Event {
        at: Timestamp::from_nanosecond(event.at_nanos.into())
            .map_err(|_| CodecError::Field("time"))?,
        member: Member {
            name: DisplayName::from_log(&event.username),
            session: session
                .map(SessionId::from_bytes)
                .map_err(|_| CodecError::Field("session"))?,
        },
        trace: TraceParent::parse(&event.traceparent),
        what,
    })
}

fn encode_cause(cause: LeftCause) -> internal::left::Cause {
    match cause {
        LeftCause::Asked => internal::left::Cause::Asked,
        LeftCause::Disconnected => internal::left::Cause::Disconnected,
        LeftCause::Ended => internal::left::Cause::Ended,
        LeftCause::Shutdown => internal::left::Cause::Shutdown,
        LeftCause::ReplicaLost => internal::left::Cause::ReplicaLost,
        LeftCause::TimedOut => internal::left::Cause::TimedOut,
        LeftCause::Kicked => internal::left::Cause::Kicked,
    }
}

fn decode_cause(cause: internal::left::Cause) -> LeftCause {
    match cause {
        internal::left::Cause::Asked => LeftCause::Asked,
        internal::left::Cause::Disconnected => LeftCause::Disconnected,
        // A cause that a later version invents is still a departure.
        internal::left::Cause::Ended | internal::left::Cause::Unspecified => LeftCause::Ended,
        internal::left::Cause::Shutdown => LeftCause::Shutdown,
        internal::left::Cause::ReplicaLost => LeftCause::ReplicaLost,
        internal::left::Cause::TimedOut => LeftCause::TimedOut,
        internal::left::Cause::Kicked => LeftCause::Kicked,
    }
}

/// Nanoseconds since the Unix epoch; those a 64-bit number cannot hold are past the year 2262.
pub(super) fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

/// What the roster keeps of a member that scripts need not know.
pub(super) fn encode_member(hold: &Hold) -> Vec<u8> {
    internal::Member {
        username: hold.name.display().as_str().to_owned(),
        replica: hold.replica.to_string(),
        since_nanos: nanos(hold.since),
        secret_hash: hold.secret.map_or_else(Vec::new, |hash| hash.as_bytes().to_vec()).into(),
        subject: hold
            .identity
            .as_ref()
            .and_then(Identity::subject)
            .map_or_else(String::new, ToString::to_string),
    }
    .encode_to_vec()
}

/// The longest time to linger that an entry of the roster has room for.
const MAX_LINGER: u64 = 9_999_999_999;

/// For how many milliseconds a hold's session may linger, in as many digits as an entry has room for.
pub(super) fn linger_millis(hold: &Hold) -> String {
    format!("{:010}", millis(hold.linger).min(MAX_LINGER))
}

/// The number of an attempt as scripts compare it: in as many digits as the largest.
pub(super) fn attempt(number: u64) -> String {
    format!("{number:020}")
}

/// An entry of the roster; its form is told in `log.lua`.
#[derive(Debug)]
pub(super) struct Entry {
    member: Member,
    client_seq: u64,
    stream: StreamId,
    attempt: u64,
    linger: Duration,
    lingers: bool,
    role: RoomRole,
    rest: internal::Member,
}

/// Reads an entry of the roster.
pub(super) fn decode_entry(entry: &[u8]) -> Result<Entry, CodecError> {
    let field = |name, range| {
        let digits = entry.get(range).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.ok_or(CodecError::Field(name))
    };
    let number = |name, range| field(name, range)?.parse().map_err(|_| CodecError::Field(name));
    let client_seq = entry.first_chunk().copied().map_or(-1.0, f64::from_be_bytes);
    let session = uuid::Uuid::try_parse(field("session", 16..48)?);
    let session = session.map_err(|_| CodecError::Field("session"))?.into_bytes();
    let stream = field("token", 48..64)?.parse().map_err(|_| CodecError::Field("token"))?;
    let rest = internal::Member::decode(entry.get(177..).ok_or(CodecError::Field("member"))?)?;
    Ok(Entry {
        member: Member {
            name: DisplayName::from_log(&rest.username),
            session: SessionId::from_bytes(session),
        },
        client_seq: whole(client_seq).ok_or(CodecError::Field("client sequence"))?,
        stream,
        attempt: number("attempt", 122..142)?,
        linger: Duration::from_millis(number("time to linger", 112..122)?),
        lingers: entry[96] == b'l',
        role: set_role(entry[152]).or_else(|| set_role(entry[151])).unwrap_or(RoomRole::None),
        rest,
    })
}

/// The role that a letter stands for, or `-` for none.
pub(super) fn set_role(letter: u8) -> Option<RoomRole> {
    RoomRole::from_letter(char::from(letter))
}

/// A number as scripts pack it.
fn whole(number: f64) -> Option<u64> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    (0.0..=MOST).contains(&number).then_some(number as u64)
}

impl Entry {
    /// A member whose time has passed.
    pub(super) fn overdue(self, room: RoomName, skeleton: &[u8]) -> Overdue {
        let skeleton = String::from_utf8_lossy(skeleton).into_owned();
        let Self { member, lingers, linger, .. } = self;
        Overdue { room, skeleton, member, lingered: lingers, linger }
    }

    /// A member in a list.
    pub(super) fn present(self) -> Result<Present, CodecError> {
        Ok(Present {
            since: self.since()?,
            subject: self.subject(),
            role: self.role,
            lingers: self.lingers,
            member: self.member,
        })
    }

    /// Who has a name.
    pub(super) fn seated(self) -> Result<Seated, CodecError> {
        let replica = ReplicaId::parse(&self.rest.replica).ok_or(CodecError::Field("replica"))?;
        // One of another length is of a kind that this version does not know.
        let secret = <[u8; 32]>::try_from(self.rest.secret_hash.as_ref()).ok();
        Ok(Seated {
            secret: secret.map(SecretHash::from_bytes),
            replica,
            since: self.since()?,
            client_seq: self.client_seq,
            lingers: self.lingers,
            stream: self.stream,
            attempt: self.attempt,
            subject: self.subject(),
            role: self.role,
            member: self.member,
        })
    }

    fn subject(&self) -> Option<Arc<str>> {
        let subject = &*self.rest.subject;
        (!subject.is_empty()).then(|| Arc::from(subject))
    }

    fn since(&self) -> Result<Timestamp, CodecError> {
        Timestamp::from_nanosecond(self.rest.since_nanos.into())
            .map_err(|_| CodecError::Field("time"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(what: EventKind) -> Event {
        Event {
            at: Timestamp::from_nanosecond(1_234_567_890_123_456_789).unwrap(),
            member: Member {
                name: DisplayName::from_log("Bob"),
                session: SessionId::from_bytes([7; 16]),
            },
            what,
            trace: TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        }
    }

    #[test]
    fn a_concatenation_of_events_is_a_batch() {
        let causes = [
            LeftCause::Asked,
            LeftCause::Disconnected,
            LeftCause::Ended,
            LeftCause::Shutdown,
            LeftCause::ReplicaLost,
            LeftCause::TimedOut,
            LeftCause::Kicked,
        ];
        let mut events = vec![
            event(EventKind::Said { content: Arc::from("hello\0") }),
            event(EventKind::Joined),
        ];
        events.extend(causes.map(|cause| event(EventKind::Left { cause })));
        let bytes: Vec<u8> = events.iter().flat_map(encode).collect();
        let decoded: Vec<Event> = decode(&bytes).unwrap().iter().map(|e| (**e).clone()).collect();
        assert_eq!(decoded, events);
    }

    /// An entry as `log.lua` tells its form.
    fn entry(lingers: u8, member: &internal::Member) -> Vec<u8> {
        let mut entry = [41.0_f64, 7.0].map(f64::to_be_bytes).concat();
        entry.extend(format!("{:032x}{}{:016x}", 7, "0123456789abcdef".repeat(2), 9).as_bytes());
        entry.push(lingers);
        entry.extend(format!("{:015}{:010}{:020}t", 1_764_000_000_000_u64, 10_000, 3).as_bytes());
        entry.extend(6.0_f64.to_be_bytes());
        entry.extend(b"md");
        entry.extend([0.0_f64; 3].map(f64::to_be_bytes).concat());
        entry.extend(member.encode_to_vec());
        entry
    }

    #[test]
    fn an_entry_is_read_as_scripts_write_it() {
        let replica = "0123456789abcdef0123456789abcdef";
        let member = internal::Member {
            username: "Bob".into(),
            replica: replica.into(),
            since_nanos: 123_456_789,
            secret_hash: vec![1; 32].into(),
            subject: "u1".into(),
        };
        let seated = decode_entry(&entry(b'h', &member)).unwrap().seated().unwrap();
        assert_eq!(seated.member.name.as_str(), "Bob");
        assert_eq!(seated.replica.to_string(), replica);
        assert_eq!((seated.subject.as_deref(), seated.role), (Some("u1"), RoomRole::Moderator));
        assert_eq!(seated.since.as_nanosecond(), 123_456_789);
        assert_eq!((seated.attempt, seated.lingers, seated.client_seq), (3, false, 41));
        assert_eq!(seated.stream.to_string(), "0123456789abcdef");
        let room = RoomName::lobby();
        let overdue = decode_entry(&entry(b'l', &member)).unwrap().overdue(room, b"bob");
        assert!(overdue.lingered && overdue.linger == Duration::from_secs(10));
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode_entry(&bytes).map(|entry| entry.seated().is_ok());
        }
    }
}
