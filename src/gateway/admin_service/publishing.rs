//! `Publish` and `PublishMany`.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::join_all};
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::room;
use crate::{
    backplane::{IdempotencyKey, Publish, PublishError},
    domain::{
        DisplayName, Event, EventKind, Member, SessionId, TraceParent, Username, UsernameLimits,
    },
    gateway::{
        status::{AdminRefusal, Outcome, failure},
        v1::translate,
    },
    hub::Hub,
    proto::room::{
        PublishFailure, PublishManyRequest, PublishManyResponse, PublishRequest, PublishResponse,
        PublishResult, publish_result,
    },
    session::Ending,
    trace,
};

/// The most messages of one call.
const MESSAGES: usize = 1000;

/// The most bytes of an idempotency key.
const KEY_BYTES: usize = 128;

/// What a message may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishLimits {
    pub(super) names: UsernameLimits,
    pub(super) content_bytes: usize,
}

/// Publishes for one call.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) hub: Arc<Hub>,
    pub(super) limits: PublishLimits,
    /// The trace that the call belongs to.
    pub(super) trace: Option<TraceParent>,
}

impl Publisher {
    /// `Publish`.
    pub(super) fn publish(
        &self,
        request: PublishRequest,
    ) -> impl Future<Output = Result<PublishResponse, Outcome>> + use<> {
        let (hub, trace) = (self.hub.clone(), self.trace.clone());
        let message = Message::read(request, &self.limits);
        async move { message?.publish(&hub, trace.as_ref()).await }
    }

    /// `PublishMany`.
    pub(super) fn publish_many(
        &self,
        request: PublishManyRequest,
    ) -> impl Future<Output = Result<PublishManyResponse, Outcome>> + use<> {
        let (hub, limits, trace) = (self.hub.clone(), self.limits, self.trace.clone());
        async move {
            let count = request.messages.len();
            if !(1..=MESSAGES).contains(&count) {
                let why = format!("messages: {count} of them; allowed are 1 to {MESSAGES}");
                return Err(Outcome::Admin(AdminRefusal::Invalid(why)));
            }
            let published =
                request.messages.into_iter().map(|message| match Message::read(message, &limits) {
                    Ok(message) => message.publish(&hub, trace.as_ref()).boxed(),
                    Err(outcome) => std::future::ready(Err(outcome)).boxed(),
                });
            // Polled in this order.
            let results = join_all(published.collect::<Vec<_>>()).await;
            Ok(PublishManyResponse { results: results.into_iter().map(result).collect() })
        }
    }
}

/// A message that may be published.
struct Message {
    publish: Publish,
    bytes: usize,
}

impl Message {
    fn read(request: PublishRequest, limits: &PublishLimits) -> Result<Self, Outcome> {
        let PublishRequest { room: room_name, content, username, idempotency_key } = request;
        let room = room(&room_name)?;
        let (got, max) = (content.len(), limits.content_bytes);
        if got == 0 {
            return Err(Outcome::Admin(AdminRefusal::Invalid(
                "content cannot be empty".to_owned(),
            )));
        }
        if got > max {
            return Err(Outcome::Ended(Ending::ContentTooLong { got, max }));
        }
        let key = match idempotency_key.len() {
            0 => None,
            1..=KEY_BYTES => {
                Some(IdempotencyKey::new(&idempotency_key, digest(&username, &content)))
            }
            got => {
                let why =
                    format!("idempotency_key has {got} bytes; at most {KEY_BYTES} are allowed");
                return Err(Outcome::Admin(AdminRefusal::Invalid(why)));
            }
        };
        let name = match username.as_str() {
            "" => None,
            name => Some(Username::parse(name, limits.names).map_err(Outcome::Name)?),
        };
        let shown = name.as_ref().map(|name| name.display().clone());
        let shown = shown.unwrap_or_else(|| DisplayName::from_log(Username::SYSTEM));
        let event = Event {
            at: jiff::Timestamp::now(),
            member: Member { name: shown, session: SessionId::SERVICE },
            what: EventKind::Said { content: Arc::from(content) },
            trace: None,
        };
        Ok(Self { publish: Publish { room, name, event: Arc::new(event), key }, bytes: got })
    }

    async fn publish(
        self,
        hub: &Hub,
        trace: Option<&TraceParent>,
    ) -> Result<PublishResponse, Outcome> {
        let Self { mut publish, bytes } = self;
        let span = hub.sampler().say(trace, None, &publish.room, bytes);
        if let (Some(trace), Some(event)) =
            (trace::traceparent(&span), Arc::get_mut(&mut publish.event))
        {
            event.trace = Some(trace);
        }
        let backplane = hub.backplane();
        let append = trace::append(&span, backplane.name(), &publish.room);
        let name = publish.name.clone();
        match backplane.publish(publish).instrument(append).await {
            Ok(published) => {
                if !published.duplicate {
                    hub.metrics().events_in.inc();
                    hub.metrics().published.inc();
                }
                trace::appended(&span, published.position);
                let position = Some(translate::position(published.position));
                Ok(PublishResponse { position, duplicate: published.duplicate })
            }
            Err(error) => {
                let (outcome, why) = match error {
                    PublishError::NameTaken => {
                        let name = name.map(|name| name.to_string()).unwrap_or_default();
                        (Outcome::Admin(AdminRefusal::NameOfMember(name)), "name taken")
                    }
                    PublishError::KeyReused => {
                        (Outcome::Admin(AdminRefusal::KeyReused), "idempotency key reused")
                    }
                    PublishError::Unavailable(_) => (Outcome::Unreachable, "unavailable"),
                };
                trace::failed(&span, why);
                Err(outcome)
            }
        }
    }
}

/// What tells a message from others under its key.
fn digest(username: &str, content: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    // No name has one.
    for part in [username, "\0", content] {
        hash.update(part);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

fn result(published: Result<PublishResponse, Outcome>) -> PublishResult {
    let result = match published {
        Ok(published) => publish_result::Result::Published(published),
        Err(outcome) => {
            let (code, message, reason, retryable) = failure(&outcome);
            publish_result::Result::Failure(PublishFailure {
                code: code.into(),
                message,
                reason: reason.into(),
                retryable,
            })
        }
    };
    PublishResult { result: Some(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PublishLimits =
        PublishLimits { names: UsernameLimits { max_chars: 64 }, content_bytes: 10 };

    fn request(content: &str, username: &str, key: &str) -> PublishRequest {
        PublishRequest {
            room: String::new(),
            content: content.to_owned(),
            username: username.to_owned(),
            idempotency_key: key.to_owned(),
        }
    }

    #[test]
    fn what_may_not_be_published_is_refused() {
        let refused = |request| Message::read(request, &LIMITS).err().expect("refused");
        let empty = refused(request("", "", ""));
        assert_eq!(
            empty,
            Outcome::Admin(AdminRefusal::Invalid("content cannot be empty".to_owned()))
        );
        let long = refused(request("12345678901", "", ""));
        assert_eq!(long, Outcome::Ended(Ending::ContentTooLong { got: 11, max: 10 }));
        for name in ["System", "sYstem", " ", "a\u{202e}b"] {
            assert!(matches!(refused(request("hi", name, "")), Outcome::Name(_)), "{name:?}");
        }
        let key = refused(request("hi", "", &"k".repeat(129)));
        assert!(matches!(key, Outcome::Admin(AdminRefusal::Invalid(_))), "{key:?}");
        let room = PublishRequest { room: "a b".to_owned(), ..request("hi", "", "") };
        assert!(matches!(refused(room), Outcome::JoinRoom(_)));
    }

    #[test]
    fn a_message_comes_under_the_name_that_was_given_or_the_servers() {
        let read = |username| Message::read(request("hi", username, "k"), &LIMITS).expect("good");
        let shown = |message: &Message| message.publish.event.member.name.as_str().to_owned();
        let (own, given) = (read(""), read("Robot"));
        assert_eq!((shown(&own), shown(&given)), ("System".to_owned(), "Robot".to_owned()));
        assert!(own.publish.name.is_none() && given.publish.name.is_some());
        assert_eq!(own.publish.room, crate::domain::RoomName::lobby());
        let digest = |message: &Message| *message.publish.key.as_ref().expect("a key").digest();
        assert_ne!(digest(&own), digest(&given));
        assert_eq!(digest(&own), digest(&read("")));
        assert_ne!(super::digest("a", "bc"), super::digest("ab", "c"));
    }
}
