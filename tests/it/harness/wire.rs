//! The two dialects of the `chat` protocol, and whatever else a test puts on its wire.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use roomcast_proto::chat::ChatMessage;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// How payloads are encoded on one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// `chat.ChatMessage`.
    Typed,
    /// `google.protobuf.Struct`.
    Struct,
}

impl Dialect {
    /// The dialect of a stream that begins with this payload.
    pub(crate) fn of(first: &[u8]) -> Self {
        let known = |key: &String| ["username", "content", "timestamp"].contains(&key.as_str());
        match Struct::decode(first) {
            Ok(read) if !read.fields.is_empty() && read.fields.keys().all(known) => Self::Struct,
            _ => Self::Typed,
        }
    }
}

/// One message from a client.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// A well-formed message of the stream's dialect.
    Message(ChatMessage),
    /// A `Struct` with these fields, whatever the stream's dialect.
    Fields(Vec<(String, Kind)>),
    /// These bytes as they are.
    Raw(Bytes),
}

impl Payload {
    /// A message as clients send it.
    pub(crate) fn message(username: &str, content: &str, timestamp: &str) -> Self {
        Self::Message(ChatMessage {
            username: username.to_owned(),
            content: content.to_owned(),
            timestamp: timestamp.to_owned(),
        })
    }

    /// What registers a name.
    pub(crate) fn registration(username: &str) -> Self {
        Self::message(username, "", "")
    }

    /// A `Struct` with these fields.
    pub(crate) fn fields(fields: &[(&str, Kind)]) -> Self {
        Self::Fields(fields.iter().map(|(key, kind)| ((*key).to_owned(), kind.clone())).collect())
    }

    /// Bytes that no dialect can read: a field number with nothing behind it.
    pub(crate) fn unreadable() -> Self {
        Self::Raw(Bytes::from_static(&[0x0a, 0xff, 0xff]))
    }

    /// The bytes of it.
    pub(crate) fn encode(&self, dialect: Dialect) -> Bytes {
        match (self, dialect) {
            (Self::Message(message), Dialect::Typed) => message.encode_to_vec().into(),
            (Self::Message(message), Dialect::Struct) => {
                let text = |text: &str| Kind::StringValue(text.to_owned());
                let fields = [
                    ("username", text(&message.username)),
                    ("content", text(&message.content)),
                    ("timestamp", text(&message.timestamp)),
                ];
                Self::fields(&fields).encode(dialect)
            }
            (Self::Fields(fields), _) => {
                let value = |kind: &Kind| Value { kind: Some(kind.clone()) };
                let fields: BTreeMap<_, _> =
                    fields.iter().map(|(key, kind)| (key.clone(), value(kind))).collect();
                Struct { fields }.encode_to_vec().into()
            }
            (Self::Raw(bytes), _) => bytes.clone(),
        }
    }
}

/// Encodes what a test asks for, and reads answers strictly: an answer in the other dialect is an
/// error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawCodec(pub(crate) Dialect);

impl Codec for RawCodec {
    type Encode = Payload;
    type Decode = ChatMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Payload;
    type Error = Status;

    fn encode(&mut self, payload: Payload, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(payload.encode(self.0));
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = ChatMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<ChatMessage>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let message = match self.0 {
            Dialect::Typed => ChatMessage::decode(bytes.clone()).ok(),
            Dialect::Struct => read_struct(bytes.clone()),
        };
        let wrong = || Status::data_loss(format!("no answer in {:?}: {bytes:?}", self.0));
        message.filter(|message| !message.username.starts_with('\n')).ok_or_else(wrong).map(Some)
    }
}

fn read_struct(bytes: Bytes) -> Option<ChatMessage> {
    let mut fields = Struct::decode(bytes).ok()?.fields;
    let mut take = |key| match fields.remove(key)?.kind? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    };
    let message = ChatMessage {
        username: take("username")?,
        content: take("content")?,
        timestamp: take("timestamp")?,
    };
    fields.is_empty().then_some(message)
}
