//! gRPC calls with HTTP/2 in hand: windows, bodies and ends are the attacker's to choose.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{
    SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use prost::Message;
use roomcast_proto::{
    chat::ChatMessage,
    room::{ConnectRequest, Join, connect_request::Frame},
};
use tokio::{net::TcpStream, task::JoinSet};

use super::{raw::CHAT, target::Target};

pub(super) const CONNECT: &str = "/roomcast.v1.RoomService/Connect";

/// HTTP/2's own windows, which no attacker minds.
pub(super) const WIDE: u32 = 1 << 20;

/// A connection.
pub(super) struct Caller {
    requests: SendRequest<Bytes>,
    _driver: JoinSet<()>,
}

/// A call that is under way. Dropped, it is reset.
pub(super) struct Call {
    pub(super) answer: ResponseFuture,
    pub(super) body: Body,
}

/// What a call sends.
pub(super) struct Body(SendStream<Bytes>);

impl Caller {
    /// Connects. This is how much of each answer the server may send before it is read.
    pub(super) async fn connect(target: Target, window: u32) -> Option<Self> {
        let tcp = target.until_over(TcpStream::connect(target.addr)).await?.ok()?;
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 30);
        let handshake = target.until_over(builder.handshake(tcp)).await?;
        let (requests, connection) = handshake.ok()?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Some(Self { requests, _driver: driver })
    }

    /// Begins a call, once the server takes another one.
    pub(super) async fn call(&mut self, path: &str, fields: &[(&str, &str)]) -> Option<Call> {
        poll_fn(|cx| self.requests.poll_ready(cx)).await.ok()?;
        let mut request = http::Request::post(format!("http://roomcast{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let (answer, body) = self.requests.send_request(request, false).ok()?;
        Some(Call { answer, body: Body(body) })
    }

    /// Calls with one message, which is all.
    pub(super) async fn ask(&mut self, path: &str, message: &impl Message) -> Option<Call> {
        let mut call = self.call(path, &[]).await?;
        call.body.0.send_data(framed(&message.encode_to_vec()), true).ok()?;
        Some(call)
    }

    /// A stream of the chat protocol.
    pub(super) async fn chat(&mut self, room: &str, name: &str) -> Option<Call> {
        let mut call = self.call(CHAT, &[("chat-room", room)]).await?;
        call.body.0.send_data(said(name, ""), false).ok()?;
        Some(call)
    }

    /// A stream of `roomcast.v1`.
    pub(super) async fn join(&mut self, join: Join) -> Option<Call> {
        let mut call = self.call(CONNECT, &[]).await?;
        call.body.0.send_data(asked(Frame::Join(join)), false).ok()?;
        Some(call)
    }
}

impl Body {
    /// Sends all of it, as fast as the server takes it; whether it did.
    pub(super) async fn send(&mut self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            self.0.reserve_capacity(bytes.len());
            let Some(Ok(capacity)) = poll_fn(|cx| self.0.poll_capacity(cx)).await else {
                return false;
            };
            let part = bytes.split_to(capacity.min(bytes.len()));
            if self.0.send_data(part, false).is_err() {
                return false;
            }
        }
        true
    }

    /// Says that no more comes.
    pub(super) fn end(&mut self) {
        let _ = self.0.send_data(Bytes::new(), true);
    }
}

impl Call {
    /// Reads an answer to its end; how many bytes it had.
    pub(super) async fn read(answer: ResponseFuture) -> usize {
        let Ok(answer) = answer.await else { return 0 };
        let mut body = answer.into_body();
        let mut read = 0;
        while let Some(Ok(chunk)) = body.data().await {
            read += chunk.len();
            let _ = body.flow_control().release_capacity(chunk.len());
        }
        read
    }
}

/// A message in gRPC's frame.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message").to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// A message of the chat protocol.
pub(super) fn said(username: &str, content: &str) -> Bytes {
    let (username, content) = (username.to_owned(), content.to_owned());
    framed(&ChatMessage { username, content, timestamp: String::new() }.encode_to_vec())
}

/// A frame of `roomcast.v1`.
pub(super) fn asked(frame: Frame) -> Bytes {
    framed(&ConnectRequest { frame: Some(frame) }.encode_to_vec())
}
