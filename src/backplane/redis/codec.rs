//! The bytes that replicas exchange: the internal envelope and roster entries.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use prost::Message;

use super::scripts::millis;
use crate::{
    backplane::{Hold, Overdue, Present, Seated},
    domain::{
        DisplayName, Event, EventKind, LeftCause, Member, ReplicaId, SecretHash, SessionId,
        StreamId, TraceParent,
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
    }
}

/// Nanoseconds since the Unix epoch; those a 64-bit number cannot hold are past the year 2262.
fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

/// What the roster keeps of a member beside its session and sequences.
pub(super) fn encode_member(hold: &Hold) -> Vec<u8> {
    internal::Member {
        username: hold.name.display().as_str().to_owned(),
        replica: hold.replica.to_string(),
        since_nanos: nanos(hold.since),
        secret_hash: hold.secret.map_or_else(Vec::new, |hash| hash.as_bytes().to_vec()).into(),
        stream: Some(hold.token.stream().to_string()),
        attempt: Some(attempt(hold.attempt)),
        linger_millis: Some(format!("{:010}", linger_millis(hold))),
        lingers: Some(false),
    }
    .encode_to_vec()
}

/// The longest time to linger that an entry of the roster has room for.
const MAX_LINGER: u64 = 9_999_999_999;

/// For how many milliseconds a hold's session may linger.
pub(super) fn linger_millis(hold: &Hold) -> u64 {
    millis(hold.linger).min(MAX_LINGER)
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
    rest: internal::Member,
}

/// Reads an entry of the roster, also one that an earlier version wrote.
pub(super) fn decode_entry(entry: &[u8]) -> Result<Entry, CodecError> {
    let mut parts = entry.splitn(5, |&byte| byte == b' ');
    let mut field = || parts.next().and_then(|digits| std::str::from_utf8(digits).ok());
    let session = field().and_then(|hex| uuid::Uuid::try_parse(hex).ok());
    let client_seq = field().and_then(|digits| digits.parse().ok());
    let rest = internal::Member::decode(parts.nth(2).ok_or(CodecError::Field("member"))?)?;
    let session = session.ok_or(CodecError::Field("session"))?.into_bytes();
    Ok(Entry {
        member: Member {
            name: DisplayName::from_log(&rest.username),
            session: SessionId::from_bytes(session),
        },
        client_seq: client_seq.ok_or(CodecError::Field("client sequence"))?,
        rest,
    })
}

impl Entry {
    /// A member whose lease has ended.
    pub(super) fn overdue(self, skeleton: &[u8]) -> Overdue {
        let skeleton = String::from_utf8_lossy(skeleton).into_owned();
        let (lingered, linger) = (self.rest.lingers(), self.linger());
        Overdue { skeleton, member: self.member, lingered, linger }
    }

    /// A member in a list.
    pub(super) fn present(self) -> Result<Present, CodecError> {
        let (since, lingers) = (self.since()?, self.rest.lingers());
        Ok(Present { member: self.member, since, lingers })
    }

    /// Who has a name. Where the entry does not say by which stream, it is the one that has the lease.
    pub(super) fn seated(self, leased: Option<StreamId>) -> Result<Seated, CodecError> {
        let replica = ReplicaId::parse(&self.rest.replica).ok_or(CodecError::Field("replica"))?;
        // One of another length is of a kind that this version does not know.
        let secret = <[u8; 32]>::try_from(self.rest.secret_hash.as_ref()).ok();
        let stream = self.rest.stream.as_ref().and_then(|digits| digits.parse().ok());
        let attempt = self.rest.attempt.as_ref().and_then(|digits| digits.parse().ok());
        Ok(Seated {
            secret: secret.map(SecretHash::from_bytes),
            replica,
            since: self.since()?,
            client_seq: self.client_seq,
            lingers: self.rest.lingers(),
            stream: stream.or(leased),
            attempt: attempt.unwrap_or(0),
            member: self.member,
        })
    }

    /// How long it may linger. One that does so already, in an entry that does not say, for as long as it
    /// likes.
    fn linger(&self) -> Duration {
        let millis = self.rest.linger_millis.as_ref().and_then(|digits| digits.parse().ok());
        let unknown = if self.rest.lingers() { Duration::MAX } else { Duration::ZERO };
        millis.map_or(unknown, Duration::from_millis)
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

    /// An entry of the roster with this member.
    fn entry(member: &[u8]) -> Vec<u8> {
        [format!("{:032x} 41 7 t6 ", 7).as_bytes(), member].concat()
    }

    #[test]
    fn an_entry_of_an_earlier_version_is_of_a_session_that_cannot_be_resumed() {
        // Fields 1 to 3: "Bob", a replica, a time.
        let replica = "0123456789abcdef0123456789abcdef";
        let mut member = [b"\x0a\x03Bob\x12\x20", replica.as_bytes()].concat();
        member.extend(b"\x18\x95\x9a\xef\x3a");
        let seated = decode_entry(&entry(&member)).unwrap().seated(None).unwrap();
        assert_eq!(seated.member.name.as_str(), "Bob");
        assert_eq!(seated.replica.to_string(), replica);
        assert_eq!(seated.since.as_nanosecond(), 123_456_789);
        assert_eq!((seated.secret, seated.lingers, seated.client_seq), (None, false, 41));
        // As a script marks it.
        member.extend(b"x\x01");
        assert!(decode_entry(&entry(&member)).unwrap().overdue(b"bob").lingered);
    }

    #[test]
    fn a_member_ends_with_what_scripts_know() {
        let mut member = internal::Member {
            username: "Bob".into(),
            secret_hash: vec![1; 32].into(),
            stream: Some("0123456789abcdef".into()),
            attempt: Some(attempt(u64::MAX)),
            linger_millis: Some("0000010000".into()),
            lingers: Some(false),
            ..Default::default()
        };
        let end = b"\x01b\x100123456789abcdefj\x1418446744073709551615r\x0a0000010000x\x00";
        assert!(member.encode_to_vec().ends_with(end));
        member.lingers = Some(true);
        assert!(member.encode_to_vec().ends_with(b"10000x\x01"));
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode_entry(&bytes).map(|entry| entry.seated(None).is_ok());
        }
    }
}
