//! One stream of the `v1` protocol, from the join to its end.

use std::{fmt, time::Duration};

use futures_util::stream;
use roomcast_proto::room::{
    ConnectRequest, ConnectResponse, Join, Welcome, connect_request, connect_response, join,
    room_service_client::RoomServiceClient,
};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Code, Request, Streaming, transport::Channel};

use super::{
    access_token::AccessToken,
    core::reader::StartFrom,
    details::Details,
    update::{Reason, wire},
};

/// How many frames wait for the connection.
const OUTGOING: usize = 16;

/// What proves that a session is ours. Does not show.
#[derive(Clone)]
pub(super) struct SessionToken(pub(super) Vec<u8>);

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// How to come in.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) room: String,
    pub(super) username: String,
    pub(super) session_token: Option<SessionToken>,
    pub(super) access_token: Option<AccessToken>,
    pub(super) since: StartFrom,
    pub(super) linger: Option<Duration>,
    pub(super) attempt: u64,
}

impl Entry {
    fn into_frame(self) -> ConnectRequest {
        let since = match self.since {
            StartFrom::Nothing => None,
            StartFrom::Latest(count) => Some(join::Since::Latest(count)),
            StartFrom::After(position) => Some(join::Since::After(wire(position))),
        };
        let join = Join {
            room: self.room,
            username: self.username,
            session_token: self.session_token.map(|token| token.0).unwrap_or_default(),
            since,
            linger: self.linger.and_then(|linger| linger.try_into().ok()),
            traceparent: String::new(),
            attempt: self.attempt,
        };
        ConnectRequest { frame: Some(connect_request::Frame::Join(join)) }
    }
}

/// A stream on which we are in the room.
pub(super) struct Stream {
    /// Where it leads, for people.
    pub(super) to: String,
    pub(super) channel: Channel,
    pub(super) frames: mpsc::Sender<ConnectRequest>,
    pub(super) inbound: Streaming<ConnectResponse>,
    /// When something last came, or could have.
    pub(super) heard: Instant,
    /// When we last sent something.
    pub(super) spoke: Instant,
}

impl Stream {
    /// Joins over this channel; resolves at the welcome.
    pub(super) async fn open(
        channel: Channel,
        to: String,
        entry: Entry,
    ) -> Result<(Self, Welcome), Reason> {
        let (frames, mut queue) = mpsc::channel(OUTGOING);
        // Before the call is made: some proxies hold it back until it has a body.
        let access_token = entry.access_token.clone();
        let _ = frames.try_send(entry.into_frame());
        let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
        let mut client = RoomServiceClient::new(channel.clone());
        let mut request = Request::new(queue);
        if let Some(token) = access_token {
            token.authorize(&mut request);
        }
        let response = client.connect(request).await;
        let mut inbound = response.map_err(|status| Reason::of(&status, &to))?.into_inner();
        let welcome = loop {
            let frame = inbound.message().await.map_err(|status| Reason::of(&status, &to))?;
            match frame.ok_or_else(ended)?.frame {
                Some(connect_response::Frame::Welcome(welcome)) => break welcome,
                Some(connect_response::Frame::Pong(_)) | None => {}
                Some(_) => {
                    let what = "its first answer is no welcome".to_owned();
                    return Err(Reason::Broken { what });
                }
            }
        };
        let now = Instant::now();
        Ok((Self { to, channel, frames, inbound, heard: now, spoke: now }, welcome))
    }
}

/// What an end without a status says.
pub(super) fn ended() -> Reason {
    let message = "the server ended the stream".to_owned();
    Reason::Ended { code: Code::Ok, message, details: Details::default() }
}
