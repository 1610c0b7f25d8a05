//! The two payload dialects of the `chat` protocol.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use prost_types::{Struct, Value, value::Kind};

use crate::gateway::{
    frames,
    scan::{ScanError, Value as Scanned, fields},
};
use crate::{
    domain::{Event, EventKind, Position},
    hub::Encoder,
    proto::chat::ChatMessage,
    room::Lost,
};

/// The fields of a message, in either dialect: of a typed one by number, from 1 on.
const FIELDS: [&str; 3] = ["username", "content", "timestamp"];

/// The two of them that count.
const USERNAME: usize = 0;
const CONTENT: usize = 1;

/// The fields of `google.protobuf.Struct` and of what is in it.
const ENTRY: u32 = 1;
const KEY: u32 = 1;
const VALUE: u32 = 2;
const STRING_VALUE: u32 = 3;

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
    /// at least one field and no key outside the three, else *typed*. What would be much work to decode is
    /// no registration.
    pub(super) fn of(payload: &[u8]) -> Self {
        const SHORT: usize = 64 * 1024;
        let known = |field| match field {
            Ok((ENTRY, Scanned::Bytes(bytes))) => entry(bytes).is_ok_and(|(key, value)| {
                let is_text = || value.is_none_or(|value| matches!(string(value), Ok(Some(_))));
                FIELDS.iter().any(|it| it.as_bytes() == key)
                    && (payload.len() <= SHORT || is_text())
            }),
            Ok(_) | Err(_) => false,
        };
        let is_known = !payload.is_empty() && fields(payload).all(known);
        if is_known && Struct::decode(payload).is_ok() { Self::Struct } else { Self::Typed }
    }

    /// The name in a payload.
    pub(super) fn username(self, payload: &[u8]) -> Result<String, ScanError<'_>> {
        self.text(payload, USERNAME)
    }

    /// The content of a payload. What the client put into the other fields does not matter.
    pub(super) fn content(self, payload: &[u8]) -> Result<String, ScanError<'_>> {
        self.text(payload, CONTENT)
    }

    /// How long the content is by its own account, in a payload that is cut off within it.
    pub(super) fn content_size(self, beginning: &[u8]) -> Option<usize> {
        let (number, size, rest) = cut_off(beginning)?;
        let size = match self {
            Self::Typed => (number as usize == CONTENT + 1).then_some(size),
            Self::Struct => {
                let key = fields(rest).next()?.ok()?;
                let (VALUE, _, value) = cut_off(rest)? else { return None };
                let (STRING_VALUE, size, _) = cut_off(value)? else { return None };
                (key == (KEY, Scanned::Bytes(FIELDS[CONTENT].as_bytes()))).then_some(size)
            }
        };
        size.and_then(|size| usize::try_from(size).ok())
    }

    /// A field's text; as in all of protobuf, the last one counts.
    fn text(self, payload: &[u8], field: usize) -> Result<String, ScanError<'_>> {
        let mut text: &[u8] = &[];
        for found in fields(payload) {
            match (self, found?) {
                (Self::Typed, (number, value)) if number as usize == field + 1 => {
                    let Scanned::Bytes(bytes) = value else { return Err(ScanError::Malformed) };
                    text = bytes;
                }
                (Self::Struct, (ENTRY, Scanned::Bytes(bytes))) => {
                    let (key, value) = entry(bytes)?;
                    if key == FIELDS[field].as_bytes() {
                        // A field of another kind counts as empty.
                        text = value.map_or(Ok(None), string)?.unwrap_or_default();
                    }
                }
                (Self::Struct, (ENTRY, Scanned::Number)) => return Err(ScanError::Malformed),
                _ => {}
            }
        }
        str::from_utf8(text).map(str::to_owned).map_err(|_| ScanError::NotText)
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
            EventKind::Said { content } => (name.to_owned(), Arc::clone(content).to_string()),
            EventKind::Joined => ("System".to_owned(), format!("{name} joined")),
            EventKind::Left { .. } => ("System".to_owned(), format!("{name} left")),
            // Its clients know nothing of moderators: they see who is gone.
            EventKind::Moderated(_) | EventKind::Unknown => return Bytes::new(),
        };
        // RFC 3339, in UTC, ending in Z, with as many decimals as it takes.
        self.encode_message(ChatMessage { username, content, timestamp: event.at.to_string() })
    }

    /// This protocol has no words for it.
    fn encode_lost(&self, _: &Lost) -> Bytes {
        Bytes::new()
    }
}

/// The last field of a message that ends within it: its number, its length, and what is there of it.
fn cut_off(message: &[u8]) -> Option<(u32, u64, &[u8])> {
    match fields(message).last()? {
        Err(ScanError::Truncated { number, size, rest }) => Some((number, size, rest)),
        _ => None,
    }
}

/// The key of a `Struct`'s entry, and its value if there is one.
fn entry(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), ScanError<'_>> {
    let (mut key, mut value): (&[u8], _) = (&[], None);
    for field in fields(bytes) {
        match field? {
            (KEY, Scanned::Bytes(bytes)) => key = bytes,
            (VALUE, Scanned::Bytes(bytes)) => value = Some(bytes),
            (KEY | VALUE, Scanned::Number) => return Err(ScanError::Malformed),
            _ => {}
        }
    }
    Ok((key, value))
}

/// The text of a `Value`, if that is what it is.
fn string(value: &[u8]) -> Result<Option<&[u8]>, ScanError<'_>> {
    let mut text = None;
    for field in fields(value) {
        text = match field? {
            (STRING_VALUE, Scanned::Bytes(bytes)) => Some(bytes),
            (STRING_VALUE, Scanned::Number) => return Err(ScanError::Malformed),
            (1..=6, _) => None,
            _ => text,
        };
    }
    Ok(text)
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

    fn a_struct_of(message: &ChatMessage) -> Bytes {
        let ChatMessage { username, content, timestamp } = message;
        let fields = [("username", username), ("content", content), ("timestamp", timestamp)];
        a_struct(&fields.map(|(key, said)| (key, text(said))))
    }

    /// What a payload says: its name and its content.
    fn read(dialect: Dialect, payload: &Bytes) -> (String, String) {
        (dialect.username(payload).unwrap(), dialect.content(payload).unwrap())
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
        assert!(Dialect::Typed.username(&payload).unwrap().starts_with('\n'));
    }

    #[test]
    fn a_field_of_another_kind_counts_as_empty() {
        let payload = a_struct(&[("username", text("bob")), ("content", Kind::NumberValue(1.0))]);
        assert_eq!(Dialect::of(&payload), Dialect::Struct);
        assert_eq!(read(Dialect::Struct, &payload), ("bob".into(), String::new()));
    }

    #[test]
    fn both_dialects_say_the_same() {
        let at = Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
        let member =
            Member { name: DisplayName::from_log("Bob"), session: SessionId::from_bytes([0; 16]) };
        let event = Event { at, member, what: EventKind::Joined, trace: None };
        let expected = message("System", "Bob joined", "2023-11-14T22:13:20.123456789Z");
        let strings = Struct::decode(a_struct_of(&expected)).unwrap();
        for dialect in [Dialect::Typed, Dialect::Struct] {
            let payload = dialect.encode(Position::new(Epoch(1), 1), &event).slice(5..);
            assert_eq!(Dialect::of(&payload), dialect);
            assert_eq!(read(dialect, &payload), ("System".into(), "Bob joined".into()));
            match dialect {
                Dialect::Typed => assert_eq!(ChatMessage::decode(payload).unwrap(), expected),
                Dialect::Struct => assert_eq!(Struct::decode(payload).unwrap(), strings),
            }
        }
    }

    #[test]
    fn what_is_ignored_may_be_anything() {
        let typed = [&[0x12, 2][..], b"hi", &[0x1a, 1, 0xff, 0x0a, 1, 0xff]].concat();
        assert_eq!(Dialect::Typed.content(&typed).unwrap(), "hi");
        assert_eq!(Dialect::Typed.username(&typed), Err(ScanError::NotText));
        let mut structure = a_struct(&[("content", text("hi"))]).to_vec();
        structure.extend([0x0a, 16, 0x0a, 9]);
        structure.extend(b"timestamp");
        structure.extend([0x12, 3, 0x1a, 1, 0xff]);
        assert_eq!(Dialect::Struct.content(&structure).unwrap(), "hi");
        assert_eq!(Dialect::of(&structure), Dialect::Typed, "not all of it decodes");
    }

    /// Two million values of nothing.
    #[test]
    fn a_message_of_very_many_values_is_refused_before_it_is_decoded() {
        let bomb = Bytes::from([0x0a, 0].repeat(2 << 20));
        assert_eq!(Dialect::of(&bomb), Dialect::Typed);
        let known = [&[0x0a, 10, 0x0a, 8][..], b"username"].concat().repeat(1 << 18);
        assert_eq!(Dialect::of(&known), Dialect::Typed);
        for dialect in [Dialect::Typed, Dialect::Struct] {
            for bomb in [&bomb[..], &known] {
                assert_eq!(dialect.content(bomb), Err(ScanError::TooManyFields));
            }
        }
    }

    #[test]
    fn the_size_of_a_content_that_is_cut_off_is_known() {
        let long = message("bob", &"x".repeat(100_000), "now");
        for (dialect, whole) in [
            (Dialect::Typed, Bytes::from(long.encode_to_vec())),
            (Dialect::Struct, a_struct(&[("content", text(&long.content))])),
        ] {
            for cut in [200, 5_000, 99_000] {
                assert_eq!(dialect.content_size(&whole[..cut]), Some(100_000), "{dialect:?}");
            }
            assert_eq!(dialect.content_size(&whole), None);
            assert_eq!(dialect.content_size(&whole[..3]), None);
        }
        let other = a_struct(&[("timestamp", text(&long.content))]);
        assert_eq!(Dialect::Struct.content_size(&other[..5_000]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_dialect_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let dialect = Dialect::of(&bytes);
            let _ = (dialect.username(&bytes), dialect.content(&bytes), dialect.content_size(&bytes));
        }

        #[test]
        fn any_message_reads_as_protobuf_reads_it(
            fields in prop::collection::vec((0usize..4, 0u8..3, "[a-zé]{0,8}"), 0..8),
        ) {
            let keys = ["username", "content", "timestamp", "room"];
            let mut payload = Vec::new();
            for (key, kind, said) in fields {
                let kind = match kind { 0 => Kind::BoolValue(true), _ => text(&said) };
                payload.extend(a_struct(&[(keys[key], kind)]));
            }
            let mut whole = Struct::decode(&payload[..]).unwrap();
            let mut expect = |key| match whole.fields.remove(key).and_then(|it| it.kind) {
                Some(Kind::StringValue(text)) => text,
                _ => String::new(),
            };
            let expected = (expect("username"), expect("content"));
            let known = !payload.is_empty() && !whole.fields.contains_key("room");
            let payload = Bytes::from(payload);
            prop_assert_eq!(read(Dialect::Struct, &payload), expected);
            prop_assert_eq!(Dialect::of(&payload) == Dialect::Struct, known);
        }

        #[test]
        fn what_is_typed_is_never_taken_for_a_struct(name in "[a-z]{1,20}", content in ".{0,40}") {
            let payload: Bytes = message(&name, &content, "").encode_to_vec().into();
            prop_assert_eq!(Dialect::of(&payload), Dialect::Typed);
        }
    }
}
