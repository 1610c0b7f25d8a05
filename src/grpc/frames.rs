//! gRPC's framing: a byte that says whether it is compressed, four of length, the message.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::{
    future::Future,
    io::{self, Read},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue};
use http_body::Body;
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_util::sync::PollSemaphore;

/// What stands in front of a message.
const PREFIX: usize = 5;

/// The largest message that is read: gRPC's own default.
pub(super) const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The client cancelled, or the connection broke.
    #[error("the stream was reset")]
    Reset,
    /// The stream ended within a message.
    #[error("the stream ended within a message")]
    Truncated,
    /// A flag that says "compressed" where nothing has said how, or says something else.
    #[error("the message has the flag {0}, which the stream's grpc-encoding does not explain")]
    Compressed(u8),
    /// What is compressed is not what it is said to be.
    #[error("the message is not gzip: {0}")]
    NotGzip(io::Error),
    /// A message that is unpacked no further, and its beginning.
    #[error("the message has more than {max} bytes unpacked")]
    Unpacked {
        /// How far it was.
        max: usize,
        /// So far.
        beginning: Bytes,
    },
    /// A large message that does not arrive.
    #[error("the message did not arrive within {} s", LARGE_MESSAGE_TIME.as_secs())]
    TooSlow,
    /// A message beyond the limit.
    #[error("the message has {0} bytes; gRPC's limit is {MAX_MESSAGE}")]
    TooLong(usize),
}

/// A message, framed.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let size = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + size);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(size).unwrap_or(u32::MAX));
    message.encode(&mut framed).expect("a growing buffer takes any message");
    framed.freeze()
}

/// How the messages of a stream are packed, where their flag says that they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Identity,
    /// With the most bytes to which one is unpacked.
    Gzip(usize),
}

/// What a message may have beside its content when it is unpacked.
const BESIDE_CONTENT: usize = 64 * 1024;

impl Encoding {
    /// What a request's headers say; an error if it is an encoding that is not known.
    pub(super) fn of(headers: &HeaderMap, content_bytes: usize) -> Result<Self, String> {
        match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip(MAX_MESSAGE.min(content_bytes + BESIDE_CONTENT))),
            Some(other) => Err(String::from_utf8_lossy(other).chars().take(32).collect()),
        }
    }

    /// The message as it was before it was packed.
    fn unpack(self, flag: u8, message: Bytes) -> Result<Bytes, FrameError> {
        match (flag, self) {
            (0, _) => Ok(message),
            (1, Self::Gzip(max)) => {
                let mut unpacked = Vec::new();
                let reader = GzDecoder::new(&message[..]).take(max as u64 + 1);
                { reader }.read_to_end(&mut unpacked).map_err(FrameError::NotGzip)?;
                let fits = unpacked.len() <= max;
                let unpacked = Bytes::from(unpacked);
                if fits {
                    Ok(unpacked)
                } else {
                    Err(FrameError::Unpacked { max, beginning: unpacked })
                }
            }
            (flag, _) => Err(FrameError::Compressed(flag)),
        }
    }
}

/// A message up to this size is buffered without further ado.
const SMALL: usize = 64 * 1024;

/// How many large messages are buffered at a time, on all streams together. Those that get no place
/// wait unread, in their streams' windows.
const LARGE_MESSAGES: usize = 32;

/// How long a large message may hold its place.
const LARGE_MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Places for large messages.
#[derive(Clone, Debug)]
pub(super) struct Places(PollSemaphore);

impl Places {
    pub(super) fn new() -> Self {
        Self(PollSemaphore::new(Arc::new(Semaphore::new(LARGE_MESSAGES))))
    }
}

/// The messages of a request's body. Buffers one message, and what came along with it.
#[derive(Debug)]
pub(super) struct Frames<B> {
    body: Option<B>,
    encoding: Encoding,
    buffer: BytesMut,
    places: Option<Places>,
    /// The large message that is being read.
    large: Option<Large>,
}

/// A message that needs a place.
#[derive(Debug)]
struct Large {
    permit: Option<OwnedSemaphorePermit>,
    /// Until when it may take, waiting included.
    time: Pin<Box<Sleep>>,
}

impl<B> Frames<B> {
    pub(super) fn new(body: B, encoding: Encoding, places: Places) -> Self {
        let (buffer, places) = (BytesMut::new(), Some(places));
        Self { body: Some(body), encoding, buffer, places, large: None }
    }

    /// Reads no more, and keeps nothing.
    pub(super) fn stop(&mut self) {
        self.buffer = BytesMut::new();
        self.large = None;
        self.places = None;
        self.body = None;
    }

    /// Waits for a place, once a message has come in so far that it needs one. Until then an end of the
    /// stream is noticed at once.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FrameError>> {
        if self.buffer.len() <= SMALL {
            return Poll::Ready(Ok(()));
        }
        let Some(places) = &mut self.places else { return Poll::Ready(Ok(())) };
        let large = self.large.get_or_insert_with(|| Large {
            permit: None,
            time: Box::pin(sleep(LARGE_MESSAGE_TIME)),
        });
        if large.time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(FrameError::TooSlow));
        }
        if large.permit.is_none() {
            // The semaphore is never closed.
            large.permit = ready!(places.0.poll_acquire(cx));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a whole message from the buffer.
    fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((&flag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let Some(size) = rest.first_chunk::<4>() else { return Ok(None) };
        let size = u32::from_be_bytes(*size) as usize;
        if flag != 0 && (flag != 1 || self.encoding == Encoding::Identity) {
            return Err(FrameError::Compressed(flag));
        }
        if size > MAX_MESSAGE {
            return Err(FrameError::TooLong(size));
        }
        if self.buffer.len() < PREFIX + size {
            // No room is made beforehand: a size is easily claimed.
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let message = self.buffer.split_to(size).freeze();
        if self.buffer.is_empty() {
            // An idle stream keeps no buffer.
            self.buffer = BytesMut::new();
        }
        self.encoding.unpack(flag, message).map(Some)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Stream for Frames<B> {
    type Item = Result<Bytes, FrameError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let outcome = loop {
            match this.take() {
                Ok(Some(message)) => {
                    this.large = None;
                    return Poll::Ready(Some(Ok(message)));
                }
                Err(error) => break error,
                Ok(None) => {}
            }
            if let Err(error) = ready!(this.poll_place(cx)) {
                break error;
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => break FrameError::Reset,
                None if this.buffer.is_empty() => return Poll::Ready(None),
                None => break FrameError::Truncated,
            }
        };
        this.stop();
        Poll::Ready(Some(Err(outcome)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    async fn read(parts: Vec<Vec<u8>>) -> Vec<Result<Bytes, String>> {
        let frames = parts
            .into_iter()
            .map(|part| Ok::<_, String>(http_body::Frame::data(Bytes::from(part))));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Frames::new(body, Encoding::Identity, Places::new())
            .map(|frame| frame.map_err(|error| error.to_string()))
            .collect()
            .await
    }

    #[tokio::test]
    async fn messages_are_found_however_they_are_cut() {
        let bytes =
            [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1], b"z"].concat();
        let expected = [&b"abc"[..], b"", b"z"].map(|it| Ok(Bytes::from(it)));
        for size in 1..=bytes.len() {
            let parts = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(read(parts).await, expected);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_message_is_refused_once() {
        let too_long = [&[0][..], &u32::MAX.to_be_bytes()].concat();
        for (bytes, said) in [
            (vec![1, 0, 0, 0, 0], "flag 1"),
            (too_long, "4294967295 bytes"),
            (vec![0, 0, 0, 0, 9, 1], "within a message"),
            (vec![0, 0], "within a message"),
        ] {
            let got = read(vec![bytes]).await;
            assert_eq!(got.len(), 1);
            assert!(got[0].as_ref().unwrap_err().contains(said), "{got:?}");
        }
    }

    #[tokio::test]
    async fn a_framed_message_reads_back() {
        let message = crate::proto::chat::ChatMessage {
            username: "bob".into(),
            content: "x".repeat(300),
            timestamp: String::new(),
        };
        let framed = encode(&message);
        let body = Full::new(framed).map_err(|never| match never {});
        let mut frames = Frames::new(body, Encoding::Identity, Places::new());
        let got = frames.next().await.unwrap().unwrap();
        assert_eq!(crate::proto::chat::ChatMessage::decode(got).unwrap(), message);
    }
}
