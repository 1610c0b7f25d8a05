//! The body of a request that has one small message, as every call has that is no chat stream.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::{
    intake::Intake,
    status::{Outcome, status},
};
use crate::session::{Ending, Unstored as _};

/// The most bytes, packed or unpacked. A name of a room and a position, of a service, or of a type have a
/// few hundred.
pub(super) const BYTES: usize = 16 * 1024;

/// How long all of it may take.
const TIME: Duration = Duration::from_secs(30);

/// Fails, with the status for the client, where there is more of a body or it takes longer, or where too much is
/// received and not stored already. It counts there as long as this lives.
#[derive(Debug)]
pub(super) struct Small<B> {
    body: B,
    max: usize,
    left: usize,
    time: Pin<Box<Sleep>>,
    intake: Arc<Intake>,
}

impl<B> Small<B> {
    #[cfg(test)]
    pub(super) fn new(body: B, intake: Arc<Intake>) -> Self {
        Self::of(BYTES, body, intake)
    }

    /// A body of at most `max` bytes.
    pub(super) fn of(max: usize, body: B, intake: Arc<Intake>) -> Self {
        Self { body, max, left: max, time: Box::pin(sleep(TIME)), intake }
    }
}

impl<B> Drop for Small<B> {
    fn drop(&mut self) {
        self.intake.sub(self.max - self.left);
    }
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin> Body for Small<B> {
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
            return Poll::Ready(Some(Err(status(&Outcome::RequestTooLarge { max: this.max }))));
        };
        this.left = left;
        if bytes > 0 {
            this.intake.add(bytes);
            if this.intake.is_over() {
                return Poll::Ready(Some(Err(status(&Outcome::Ended(Ending::Crowded)))));
            }
        }
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
    use crate::gateway::intake::{IntakeLimits, OfAddress, Total};

    fn intake() -> Arc<Intake> {
        let limits = IntakeLimits { replica: 1 << 20, peer: 1 << 20, connection: 3 * BYTES };
        Intake::new(OfAddress::new(&Total::new(limits)))
    }

    /// A body of these parts, which does not end.
    fn body(
        parts: &[usize],
        intake: &Arc<Intake>,
    ) -> Small<impl Body<Data = Bytes, Error = h2::Error> + Unpin> {
        let parts = parts.iter().map(|size| Ok(Frame::data(Bytes::from(vec![7; *size]))));
        let endless = stream::iter(parts.collect::<Vec<_>>()).chain(stream::once(pending()));
        Small::new(Box::pin(StreamBody::new(endless)), intake.clone())
    }

    /// What is read of it.
    async fn read(parts: &[usize]) -> (usize, Status) {
        let intake = intake();
        let mut body = body(parts, &intake);
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

    #[tokio::test(start_paused = true)]
    async fn what_is_read_is_counted_with_what_streams_have_sent() {
        let intake = intake();
        let mut bodies: Vec<_> = (0..4).map(|_| body(&[BYTES], &intake)).collect();
        for body in &mut bodies[..3] {
            assert!(body.frame().await.expect("no end").is_ok());
        }
        assert_eq!(intake.bytes(), 3 * BYTES);
        let refused = bodies[3].frame().await.expect("no end").unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("limits.input_bytes"), "{refused}");
        drop(bodies);
        assert_eq!(intake.bytes(), 0);
    }
}
