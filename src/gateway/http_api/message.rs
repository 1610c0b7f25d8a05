//! Messages as JSON and as protobuf.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::task::spawn_blocking;
use tonic::Status;

use super::content::Codec;
use crate::{
    gateway::status::{Outcome, status},
    session::Ending,
};

/// A message larger than this is translated by a thread that holds up nobody else: it takes milliseconds.
const LARGE: usize = 64 * 1024;

/// What a client has sent, as protobuf. A field that is not known is an error, which names it.
pub(super) async fn to_protobuf(
    codec: Codec,
    message: &MessageDescriptor,
    sent: Bytes,
) -> Result<Bytes, Status> {
    match codec {
        Codec::Proto => Ok(sent),
        Codec::Json => translate(message, sent, from_json).await,
    }
}

/// What a client is sent.
pub(super) async fn from_protobuf(
    codec: Codec,
    message: &MessageDescriptor,
    answer: Bytes,
) -> Result<Bytes, Status> {
    match codec {
        Codec::Proto => Ok(answer),
        Codec::Json => translate(message, answer, to_json).await,
    }
}

async fn translate(
    message: &MessageDescriptor,
    from: Bytes,
    translate: fn(&MessageDescriptor, &[u8]) -> Result<Bytes, Status>,
) -> Result<Bytes, Status> {
    if from.len() <= LARGE {
        return translate(message, &from);
    }
    let message = message.clone();
    let translated = spawn_blocking(move || translate(&message, &from)).await;
    translated.unwrap_or_else(|_| Err(Status::internal("the message cannot be translated")))
}

fn from_json(message: &MessageDescriptor, sent: &[u8]) -> Result<Bytes, Status> {
    if sent.is_empty() {
        return Err(unreadable("the body is empty; a message without fields is {}".to_owned()));
    }
    let refuse = |error: serde_json::Error| unreadable(format!("{}: {error}", message.name()));
    let mut json = serde_json::Deserializer::from_slice(sent);
    let read = DynamicMessage::deserialize(message.clone(), &mut json).map_err(refuse)?;
    json.end().map_err(refuse)?;
    Ok(read.encode_to_vec().into())
}

fn unreadable(why: String) -> Status {
    status(&Outcome::Ended(Ending::Unreadable(why)))
}

fn to_json(message: &MessageDescriptor, answer: &[u8]) -> Result<Bytes, Status> {
    let broken = || Status::internal("the answer cannot be read");
    let read = DynamicMessage::decode(message.clone(), answer).map_err(|_| broken())?;
    Ok(serde_json::to_vec(&read).map_err(|_| broken())?.into())
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::proto::{
        PUBLIC_DESCRIPTORS,
        room::{
            BanRequest, Event, ListEventsResponse, ListMembersRequest, Position, SetRoomRequest,
            ban_request::Who,
        },
    };

    fn descriptor(name: &str) -> MessageDescriptor {
        let pool = DescriptorPool::decode(PUBLIC_DESCRIPTORS).unwrap();
        pool.get_message_by_name(&format!("roomcast.v1.{name}")).unwrap()
    }

    fn read<M: Message + Default>(name: &str, json: &str) -> Result<M, String> {
        let read = from_json(&descriptor(name), json.as_bytes());
        read.map(|it| M::decode(it).unwrap()).map_err(|status| {
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            status.message().to_owned()
        })
    }

    #[test]
    fn json_is_read_as_proto3_has_it() {
        let ban = r#"{"room":"lobby","sub":"bob","duration":"60.5s","reason":null}"#;
        let ban: BanRequest = read("BanRequest", ban).unwrap();
        assert_eq!((&*ban.room, &*ban.reason), ("lobby", ""));
        assert_eq!(ban.who, Some(Who::Sub("bob".to_owned())));
        assert_eq!(ban.duration, Some(prost_types::Duration { seconds: 60, nanos: 500_000_000 }));
        for json in [r#"{"pageSize":7,"pageToken":"a"}"#, r#"{"page_size":"7","page_token":"a"}"#] {
            let list: ListMembersRequest = read("ListMembersRequest", json).unwrap();
            assert_eq!((list.page_size, &*list.page_token), (7, "a"));
        }
        let room: SetRoomRequest = read("SetRoomRequest", r#"{"readOnly":false}"#).unwrap();
        assert_eq!((room.read_only, room.slow_mode), (Some(false), None));
        assert_eq!(read("ListMembersRequest", " {} "), Ok(ListMembersRequest::default()));
    }

    #[test]
    fn what_is_no_such_message_is_refused_and_said_why() {
        for (json, said) in [
            ("", "empty"),
            ("{", "EOF"),
            ("[]", "ListMembersRequest"),
            ("{} {}", "trailing"),
            (r#"{"rome":"lobby"}"#, "rome"),
            (r#"{"room":7}"#, "invalid type"),
            (r#"{"pageSize":-1}"#, "range"),
        ] {
            let error = read::<ListMembersRequest>("ListMembersRequest", json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
        let both = r#"{"room":"a","sub":"b","username":"c"}"#;
        assert!(read::<BanRequest>("BanRequest", both).is_err(), "one or the other");
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(read::<ListMembersRequest>("ListMembersRequest", &deep).is_err());
    }

    #[tokio::test]
    async fn answers_are_written_as_proto3_has_it() {
        let position = Position { epoch: 3, seq: 1 << 60 };
        let event = Event { position: Some(position), ..Event::default() };
        let page = ListEventsResponse { events: vec![event], ..ListEventsResponse::default() };
        let answer = page.encode_to_vec().into();
        let json = from_protobuf(Codec::Json, &descriptor("ListEventsResponse"), answer).await;
        let json: serde_json::Value = serde_json::from_slice(&json.unwrap()).unwrap();
        assert_eq!(json["events"][0]["position"]["seq"], "1152921504606846976", "{json}");
        assert!(json["events"][0].get("username").is_none(), "{json}");
    }

    #[tokio::test]
    async fn large_messages_are_translated_as_well() {
        let list = format!(r#"{{"room":"{}"}}"#, "x".repeat(2 * LARGE)).into();
        let list = to_protobuf(Codec::Json, &descriptor("ListMembersRequest"), list).await;
        assert!(list.unwrap().len() > 2 * LARGE);
        let event = Event { username: "x".repeat(2 * LARGE), ..Event::default() };
        let page = ListEventsResponse { events: vec![event], ..ListEventsResponse::default() };
        let answer = page.encode_to_vec().into();
        let json = from_protobuf(Codec::Json, &descriptor("ListEventsResponse"), answer).await;
        assert!(json.unwrap().len() > 2 * LARGE);
    }
}
