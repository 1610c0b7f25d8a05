//! A connection below HTTP/2's rules, frame by frame, for what no HTTP/2 library does.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Dialect, Payload, SOON};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const CHAT: &str = "/chat.ChatService/ChatStream";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) body: Vec<u8>,
}

/// An HTTP/2 frame of this type with this body.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a small frame").to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), body].concat()
}

/// The head of a gRPC request, in literals that no table keeps.
pub(crate) fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "replica"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let literal = |(name, value): &(&str, &str)| {
        let length = |text: &str| u8::try_from(text.len()).expect("a short header");
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    usual.iter().chain(more).flat_map(literal).collect()
}

/// The head of a chat stream.
pub(crate) fn chat(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("POST", CHAT, more))
}

/// A chat message on a stream.
pub(crate) fn message(stream: u32, name: &str, content: &str) -> Vec<u8> {
    let payload = Payload::message(name, content, "").encode(Dialect::Typed);
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    frame(DATA, 0, stream, &[&[0], &length[..], &payload].concat())
}

/// A client cancels a stream.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

/// An open connection. It answers nothing by itself.
#[derive(Debug)]
pub(crate) struct RawConnection {
    socket: TcpStream,
    read: Vec<u8>,
}

impl RawConnection {
    /// Connects and says what every client says at first.
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).await.expect("the server listens");
        socket.set_nodelay(true).expect("no delay");
        let mut connection = Self { socket, read: Vec::new() };
        let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        assert!(connection.send(&greeting).await, "it takes a greeting");
        connection
    }

    /// Sends bytes as they are; whether the socket took them.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok()
    }

    /// The next frame. `None` when the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<RawFrame> {
        loop {
            if let Some((head, rest)) = self.read.split_first_chunk::<9>() {
                let [a, b, c, kind, flags, stream @ ..] = *head;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if rest.len() >= length {
                    let body = rest[..length].to_vec();
                    self.read.drain(..9 + length);
                    return Some(RawFrame {
                        kind,
                        flags,
                        stream: u32::from_be_bytes(stream),
                        body,
                    });
                }
            }
            let read = self.socket.read_buf(&mut self.read).await;
            if !read.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    /// The next frame that is this one, within a time.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        is_it: impl Fn(&RawFrame) -> bool,
    ) -> RawFrame {
        let found = async {
            loop {
                let next = self.next().await;
                let next = next.unwrap_or_else(|| panic!("closed before {what}"));
                assert!(next.kind != GOAWAY || is_it(&next), "{next:?} before {what}");
                if is_it(&next) {
                    return next;
                }
            }
        };
        timeout(SOON, found).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    /// Waits until a stream is told this text.
    pub(crate) async fn until_told(&mut self, stream: u32, text: &str) {
        self.until(text, |frame| {
            let told = frame.body.windows(text.len()).any(|it| it == text.as_bytes());
            (frame.kind, frame.stream) == (DATA, stream) && told
        })
        .await;
    }

    /// Waits until all that was sent was looked at.
    pub(crate) async fn until_read(&mut self, mark: u8) {
        assert!(self.send(&frame(PING, 0, 0, &[mark; 8])).await, "it takes a ping");
        self.until("the answer to a ping", |frame| frame.kind == PING && frame.body == [mark; 8])
            .await;
    }

    /// Waits until the connection is closed.
    pub(crate) async fn until_closed(&mut self, within: Duration) {
        let closed = async { while self.next().await.is_some() {} };
        timeout(within, closed).await.expect("the server closes the connection");
    }
}
