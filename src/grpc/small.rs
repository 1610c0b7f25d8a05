//! The body of a request that has one small message, as every call has that is no chat stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::status::{Outcome, status};

/// The most bytes, packed or unpacked. A name of a room and a position, of a service, or of a type have a
/// few hundred.
pub(super) const BYTES: usize = 16 * 1024;

/// How long all of it may take.
const TIME: Duration = Duration::from_secs(30);

/// Fails, with the status for the client, where there is more of a body or it takes longer.
#[derive(Debug)]
pub(super) struct Small<B> {
    body: B,
    left: usize,
    time: Pin<Box<Sleep>>,
}

impl<B> Small<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, left: BYTES, time: Box::pin(sleep(TIME)) }
    }
}

impl<B: Body<Data = Bytes, Error = h2::Error> + Unpin> Body for Small<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            ready!(this.time.as_mut().poll(cx));
            return Poll::Ready(Some(Err(status(&Outcome::RequestLate(TIME)))));
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        let Some(left) = this.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(status(&Outcome::RequestTooLarge { max: BYTES }))));
        };
        this.left = left;
        Poll::Ready(frame.map(|frame| frame.map_err(|error| Status::from_error(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;

    use super::*;

    /// What is read of a body of these parts, which does not end.
    async fn read(parts: &[usize]) -> (usize, Status) {
        let parts = parts.iter().map(|size| Ok(Frame::data(Bytes::from(vec![7; *size]))));
        let endless = stream::iter(parts.collect::<Vec<_>>()).chain(stream::once(pending()));
        let mut body = Small::new(Box::pin(StreamBody::new(endless)));
        let mut got = 0;
        loop {
            match body.frame().await.expect("no end") {
                Ok(frame) => got += frame.into_data().unwrap().len(),
                Err(status) => return (got, status),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_what_is_read_and_to_how_long_it_takes() {
        let (got, status) = read(&[BYTES - 1, 1, 1]).await;
        assert_eq!((got, status.code()), (BYTES, Code::ResourceExhausted));
        let began = tokio::time::Instant::now();
        let (got, status) = read(&[BYTES]).await;
        assert_eq!((got, status.code()), (BYTES, Code::DeadlineExceeded));
        assert_eq!(began.elapsed().as_secs(), TIME.as_secs());
    }
}
