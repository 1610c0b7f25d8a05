//! The two payload dialects of the plain door.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Buf, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{WireType, decode_key, decode_varint},
};
use prost_types::{Struct, Value, value::Kind};

use super::frames;
use crate::{
    domain::{Event, Position, What},
    hub::Encoder,
    proto::chat::ChatMessage,
    room::Lost,
};

/// The fields of a message, in either dialect.
const FIELDS: [&str; 3] = ["username", "content", "timestamp"];

/// How one stream writes its messages; decided by its first one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// `chat.ChatMessage`.
    Typed,
    /// `google.protobuf.Struct` with the string fields of a `ChatMessage`.
    Struct,
}

impl Dialect {
    /// The dialect of a first payload: *struct* when all of it decodes as a `Struct` with
    /// at least one field and no key outside the three, else *typed*.
    pub(super) fn of(payload: &Bytes) -> Self {
        let known = |fields: &BTreeMap<String, Value>| {
            !fields.is_empty() && fields.keys().all(|key| FIELDS.contains(&key.as_str()))
        };
        match Struct::decode(payload.clone()) {
            Ok(decoded) if known(&decoded.fields) && is_only_entries(payload) => Self::Struct,
            Ok(_) | Err(_) => Self::Typed,
        }
    }

    /// Reads a payload. What the client put into `timestamp` does not matter.
    pub(super) fn decode(self, payload: Bytes) -> Result<ChatMessage, DecodeError> {
        match self {
            Self::Typed => ChatMessage::decode(payload),
            Self::Struct => Struct::decode(payload).map(|mut decoded| {
                let mut text = |field| match decoded.fields.remove(field) {
                    Some(Value { kind: Some(Kind::StringValue(text)) }) => text,
                    // A field of another kind counts as empty.
                    Some(_) | None => String::new(),
                };
                let [username, content, timestamp] = FIELDS.map(&mut text);
                ChatMessage { username, content, timestamp }
            }),
        }
    }

    /// What writes events in it.
    pub(super) fn encoder(self) -> &'static dyn Encoder {
        match self {
            Self::Typed => &Self::Typed,
            Self::Struct => &Self::Struct,
        }
    }

    fn encode_message(self, message: ChatMessage) -> Bytes {
        match self {
            Self::Typed => frames::encode(&message),
            Self::Struct => {
                let ChatMessage { username, content, timestamp } = message;
                let field = |(key, text): (&str, String)| {
                    (key.to_owned(), Value { kind: Some(Kind::StringValue(text)) })
                };
                let fields = FIELDS.into_iter().zip([username, content, timestamp]).map(field);
                frames::encode(&Struct { fields: fields.collect() })
            }
        }
    }
}

impl Encoder for Dialect {
    fn index(&self) -> usize {
        *self as usize
    }

    fn encode(&self, _: Position, event: &Event) -> Bytes {
        let name = event.member.name.as_str();
        let (username, content) = match &event.what {
            What::Said { content } => (name.to_owned(), Arc::clone(content).to_string()),
            What::Joined => ("System".to_owned(), format!("{name} joined")),
            What::Left { .. } => ("System".to_owned(), format!("{name} left")),
            What::Unknown => return Bytes::new(),
        };
        // RFC 3339, in UTC, ending in Z, with as many decimals as it takes.
        self.encode_message(ChatMessage { username, content, timestamp: event.at.to_string() })
    }

    /// This door has no words for it.
    fn encode_lost(&self, _: &Lost) -> Bytes {
        Bytes::new()
    }
}

/// Whether all of a payload is entries of a `Struct`: prost skips fields that it does not know.
fn is_only_entries(payload: &Bytes) -> bool {
    let mut rest = payload.clone();
    while rest.has_remaining() {
        let Ok((1, WireType::LengthDelimited)) = decode_key(&mut rest) else { return false };
        match decode_varint(&mut rest).map(usize::try_from) {
            Ok(Ok(size)) if size <= rest.remaining() => rest.advance(size),
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{DisplayName, Epoch, Member, SessionId};

    fn message(username: &str, content: &str, timestamp: &str) -> ChatMessage {
        ChatMessage {
            username: username.into(),
            content: content.into(),
            timestamp: timestamp.into(),
        }
    }

    fn a_struct(fields: &[(&str, Kind)]) -> Bytes {
        let fields = fields
            .iter()
            .map(|(key, kind)| ((*key).to_owned(), Value { kind: Some(kind.clone()) }));
        Struct { fields: fields.collect() }.encode_to_vec().into()
    }

    fn text(text: &str) -> Kind {
        Kind::StringValue(text.into())
    }

    #[test]
    fn a_struct_is_one_with_known_keys_only() {
        let good = a_struct(&[("username", text("bob"))]);
        assert_eq!(Dialect::of(&good), Dialect::Struct);
        for (payload, why) in [
            (Bytes::new(), "no field"),
            (a_struct(&[("username", text("bob")), ("room", text("x"))]), "a foreign key"),
            (message("bob", "", "").encode_to_vec().into(), "a message"),
            ([&good[..], &[0x12, 1, b'x']].concat().into(), "something else behind it"),
            (Bytes::from_static(&[0xff, 0xff]), "garbage"),
        ] {
            assert_eq!(Dialect::of(&payload), Dialect::Typed, "{why}");
        }
    }

    #[test]
    fn a_struct_read_as_typed_has_a_name_that_is_refused() {
        let payload = a_struct(&[("username", text("bob")), ("extra", text("x"))]);
        let read = Dialect::Typed.decode(payload).unwrap();
        assert!(read.username.starts_with('\n'));
    }

    #[test]
    fn a_field_of_another_kind_counts_as_empty() {
        let payload = a_struct(&[("username", text("bob")), ("content", Kind::NumberValue(1.0))]);
        assert_eq!(Dialect::of(&payload), Dialect::Struct);
        assert_eq!(Dialect::Struct.decode(payload).unwrap(), message("bob", "", ""));
    }

    #[test]
    fn both_dialects_say_the_same() {
        let at = Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
        let member =
            Member { name: DisplayName::from_log("Bob"), session: SessionId::from_bytes([0; 16]) };
        let event = Event { at, member, what: What::Joined, trace: None };
        let expected = message("System", "Bob joined", "2023-11-14T22:13:20.123456789Z");
        for dialect in [Dialect::Typed, Dialect::Struct] {
            let payload = dialect.encode(Position::new(Epoch(1), 1), &event).slice(5..);
            assert_eq!(Dialect::of(&payload), dialect);
            assert_eq!(dialect.decode(payload).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_dialect_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let payload = Bytes::from(bytes);
            let _ = Dialect::of(&payload).decode(payload);
        }

        #[test]
        fn what_is_typed_is_never_taken_for_a_struct(name in "[a-z]{1,20}", content in ".{0,40}") {
            let payload: Bytes = message(&name, &content, "").encode_to_vec().into();
            prop_assert_eq!(Dialect::of(&payload), Dialect::Typed);
        }
    }
}
