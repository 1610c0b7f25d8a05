//! The body of a request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame};

use super::frames::{FrameError, Source};

/// What a client sends on a stream.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: RecvStream,
    /// Only trailers may come.
    data_is_over: bool,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, data_is_over: false }
    }
}

/// As a stream's messages are read.
impl Source for Incoming {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FrameError>>> {
        let data = ready!(self.stream.poll_data(cx));
        // A client that says so has sent all it wanted to.
        let data =
            data.filter(|it| !matches!(it, Err(error) if error.reason() == Some(Reason::NO_ERROR)));
        Poll::Ready(data.map(|data| data.map_err(|_| FrameError::Reset)))
    }

    fn release(&mut self, bytes: usize) {
        // It fails when the stream is over, and then it does not matter.
        let _ = self.stream.flow_control().release_capacity(bytes);
    }
}

/// As everything else is read: its window opens again as this is read.
impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let next = if this.data_is_over {
            ready!(this.stream.poll_trailers(cx)).map(|it| it.map(Frame::trailers)).transpose()
        } else {
            match ready!(this.stream.poll_data(cx)) {
                None => {
                    this.data_is_over = true;
                    return Pin::new(this).poll_frame(cx);
                }
                Some(Ok(data)) => {
                    // It fails when the stream is over, and then it does not matter.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    Some(Ok(Frame::data(data)))
                }
                Some(Err(error)) => Some(Err(error)),
            }
        };
        // A client that says so has sent all it wanted to.
        Poll::Ready(
            next.filter(|it| !matches!(it, Err(error) if error.reason() == Some(Reason::NO_ERROR))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
