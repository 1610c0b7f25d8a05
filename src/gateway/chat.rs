//! The `chat` protocol: `/chat.ChatService/ChatStream`, in both dialects.

mod dialect;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;

use self::dialect::Dialect;
use super::{
    egress::Rest,
    encoding::UnpackError,
    frames::{FrameError, Frames},
    status::Outcome,
    stream::{FIRST_MESSAGE, Protocol, ProtocolStream, StreamAcceptor, gone, in_time, traceparent},
    users::UserStream,
};
use crate::{
    domain::{RoomName, TraceParent, Username, UsernameLimits},
    hub::{Claim, Membership, SessionClaim, StartFrom},
    session::{self, Allowed, Ending, Input, Say, SessionLimits},
    transport::Incoming,
};

/// The metadata key that names a room.
const ROOM: &str = "chat-room";

/// What the `chat` protocol needs to know.
#[derive(Clone, Copy, Debug)]
pub struct ChatConfig {
    /// What a name may be.
    pub names: UsernameLimits,
    /// What a session may do.
    pub session: SessionLimits,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Chat {
    acceptor: Arc<StreamAcceptor>,
    config: Arc<ChatConfig>,
}

impl Chat {
    pub(super) fn new(acceptor: Arc<StreamAcceptor>, config: ChatConfig) -> Self {
        Self { acceptor, config: Arc::new(config) }
    }

    /// Has who asks in its first message come in.
    async fn enter(
        &self,
        stream: &mut ProtocolStream,
        (room, trace): (Result<RoomName, Outcome>, Option<TraceParent>),
        frames: &mut Frames<Incoming>,
    ) -> Result<(Membership, Dialect, Option<TraceParent>), Outcome> {
        let room = room?;
        let first = tokio::select! {
            biased;
            () = self.acceptor.hub.draining().cancelled() => {
                return Err(Outcome::Ended(Ending::ShuttingDown));
            }
            first = in_time(frames.next()) => first,
        };
        let Some(first) = first else {
            let time = FIRST_MESSAGE.as_secs();
            return Err(Outcome::NoRegistration(format!("no first message within {time} s")));
        };
        let (dialect, asked) = registration(first)?;
        stream.caller.asks(&room, &asked);
        let name = Username::parse(&asked, self.config.names).map_err(Outcome::Name)?;
        stream.principal.may_be_called(&name)?;
        stream.may_come(&room)?;
        stream.take_place(&room)?;
        let (session, since, linger) = (SessionClaim::Plain, StartFrom::Now, Duration::ZERO);
        let (attempt, told) = (0, Arc::default());
        let (identity, role) = (stream.principal.identity(&name), stream.principal.role(&room));
        let claim = Claim { room, name, identity, role, session, since, linger, attempt, told };
        let arrived = stream.enter::<Self>(claim, asked, trace.as_ref()).await?;
        Ok((arrived.membership, dialect, trace))
    }
}

impl Protocol for Chat {
    const METHOD: &'static str = "chat.ChatService/ChatStream";

    /// Boxed: a stream carries it to its end.
    type Asked = Box<(Result<RoomName, Outcome>, Option<TraceParent>)>;

    fn read(headers: &HeaderMap) -> Self::Asked {
        Box::new((room(headers), traceparent(headers)))
    }

    async fn serve(
        &self,
        stream: &mut ProtocolStream,
        asked: Self::Asked,
        frames: &mut Frames<Incoming>,
    ) -> Outcome {
        let hub = self.acceptor.hub.clone();
        // Boxed, as is the session: a stream would have to carry it to its end.
        let entered = Box::pin(self.enter(stream, *asked, frames)).await;
        let (membership, dialect, trace) = match entered {
            Ok(entered) => entered,
            Err(outcome) => return outcome,
        };
        stream.egress.open(membership.reader().clone(), dialect.encoder());
        let limits = &self.config.session;
        let rights = stream.principal.rights(&membership.member().hold().room);
        let user_rate = stream.user.as_ref().map(UserStream::rate);
        let allowed = Allowed { limits, rights, user_rate };
        let gone = gone(&stream.egress, frames.given_up(), stream.user.as_ref());
        let (unstored, max) = (&*stream.party.intake, limits.content_bytes);
        let said = frames.map(move |frame| said(frame, dialect, max, trace.clone()));
        Outcome::Ended(
            Box::pin(session::run(&hub, membership, said, gone, allowed, unstored, None)).await,
        )
    }

    /// Whoever is too slow has no use for more.
    fn rest(outcome: &Outcome) -> Rest {
        match outcome {
            Outcome::Ended(Ending::TooSlow) => Rest::Nothing,
            _ => Rest::UntilLeftOrNow,
        }
    }
}

fn room(headers: &HeaderMap) -> Result<RoomName, Outcome> {
    let Some(room) = headers.get(ROOM) else { return Ok(RoomName::lobby()) };
    let room = room.to_str().map_err(|_| Outcome::RoomNotText)?;
    RoomName::parse(room).map_err(Outcome::Room)
}

/// The dialect of a stream and the name that is asked for.
fn registration(first: Option<Result<Bytes, FrameError>>) -> Result<(Dialect, String), Outcome> {
    let refuse = |why: &dyn ToString| Outcome::NoRegistration(why.to_string());
    let payload = match first {
        Some(Ok(payload)) => payload,
        Some(Err(FrameError::Crowded)) => return Err(Outcome::Ended(Ending::Crowded)),
        Some(Err(error)) => return Err(refuse(&error)),
        None => return Err(refuse(&"the stream ended before a first message")),
    };
    let dialect = Dialect::of(&payload);
    let username = dialect.username(&payload).map_err(|error| refuse(&error))?;
    Ok((dialect, username))
}

/// What a later message says.
fn said(
    frame: Result<Bytes, FrameError>,
    dialect: Dialect,
    content_bytes: usize,
    stream_trace: Option<TraceParent>,
) -> Result<Input, Ending> {
    let payload = match frame {
        Ok(payload) => payload,
        Err(FrameError::Reset) => return Err(Ending::Disconnected),
        Err(FrameError::Crowded) => return Err(Ending::Crowded),
        Err(error) => return Err(unreadable(&error, dialect, content_bytes)),
    };
    let content = dialect.content(&payload);
    let content = content.map_err(|error| Ending::Unreadable(error.to_string()))?;
    Ok(Input::Say(Say { content, stream_trace, ..Say::default() }))
}

/// What a message that cannot be taken comes to: of one that was not unpacked to its end, the sizes are known
/// all the same.
fn unreadable(error: &FrameError, dialect: Dialect, max: usize) -> Ending {
    if let FrameError::Packed(UnpackError::TooLong { beginning, .. }) = error
        && let Some(got) = dialect.content_size(beginning)
        && got > max
    {
        return Ending::ContentTooLong { got, max };
    }
    Ending::Unreadable(error.to_string())
}
