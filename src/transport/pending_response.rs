//! From a request's answer to what its client is sent.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderValue, Response, header::DATE};
use http_body::Body;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use tokio::time::{Instant, timeout_at};

use super::service::{Answer, Sender, Service};

/// How long a client may take for a message of an answer, and how much longer for each of these portions of it.
const TAKEN: Duration = Duration::from_secs(10);
const PORTION: usize = 64 * 1024;
const TAKEN_PORTION: Duration = Duration::from_secs(1);

type Answering<S> = Pin<Box<dyn Future<Output = Response<Answer<S>>> + Send>>;

/// Answers one request. Dropped before all of the response was sent, it resets the stream.
pub(super) enum PendingResponse<S: Service> {
    /// The answer is awaited.
    Answering(Answering<S>, SendResponse<Bytes>),
    /// It is sent.
    Sending(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl<S: Service> PendingResponse<S> {
    pub(super) fn new(
        answer: impl Future<Output = Response<Answer<S>>> + Send + 'static,
        respond: SendResponse<Bytes>,
    ) -> Self {
        Self::Answering(Box::pin(answer), respond)
    }

    /// Sends the head of a response.
    fn begin(response: Response<Answer<S>>, respond: &mut SendResponse<Bytes>) -> Begun<S> {
        let (mut head, answer) = response.into_parts();
        head.headers.entry(DATE).or_insert_with(now);
        // What the call takes up, such as its place among all calls.
        let until_sent = std::mem::take(&mut head.extensions);
        let ends = matches!(&answer, Answer::Other(body) if body.is_end_stream());
        let Ok(stream) = respond.send_response(Response::from_parts(head, ()), ends) else {
            // The client has reset it, or there is something in it that HTTP/2 does not allow.
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Begun::Over;
        };
        match answer {
            Answer::Other(_) if ends => Begun::Over,
            Answer::Other(body) => Begun::Other(Box::pin(async move {
                send(body, stream).await;
                drop(until_sent);
            })),
            Answer::Stream(source) => Begun::Stream(S::Sender::new(source, stream)),
        }
    }

    /// Answers. `Ready` with what goes on in its place, if anything does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<S::Sender>> {
        loop {
            match self {
                Self::Sending(sent) => return sent.as_mut().poll(cx).map(|()| None),
                Self::Answering(answer, respond) => match answer.as_mut().poll(cx) {
                    Poll::Ready(response) => match Self::begin(response, respond) {
                        Begun::Over => return Poll::Ready(None),
                        Begun::Other(sent) => *self = Self::Sending(sent),
                        Begun::Stream(sending) => return Poll::Ready(Some(sending)),
                    },
                    // A client that resets the stream does not want to know any more.
                    Poll::Pending => return respond.poll_reset(cx).map(|_| None),
                },
            }
        }
    }
}

/// What comes after the head of a response.
enum Begun<S: Service> {
    Over,
    Other(Pin<Box<dyn Future<Output = ()> + Send>>),
    Stream(S::Sender),
}

fn now() -> HeaderValue {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    let date = date.ok().and_then(|date| HeaderValue::try_from(date).ok());
    // Only years that do not have four digits cannot be written so.
    date.unwrap_or_else(|| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// How long a client may take for so many bytes of an answer.
pub(super) fn time_to_take(bytes: usize) -> Duration {
    let portions = u32::try_from(bytes / PORTION).unwrap_or(u32::MAX);
    TAKEN + TAKEN_PORTION.saturating_mul(portions)
}

/// Sends a body as the client takes it, as far as it wants it, and as long as it takes it.
async fn send(body: impl Body<Data = Bytes>, mut stream: SendStream<Bytes>) {
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => body.as_mut().poll_frame(cx).map(Some),
        });
        let Some(frame) = frame.await else { return };
        let sent = match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            Some(Ok(Ok(data))) => send_data(data, &mut stream).await,
            Some(Ok(Err(frame))) => {
                let Ok(trailers) = frame.into_trailers() else { continue };
                let _ = stream.send_trailers(trailers);
                return;
            }
            Some(Err(_)) => return stream.send_reset(Reason::INTERNAL_ERROR),
            None => {
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Hands over as much at a time as the client has room for. One that takes it too slowly has its stream reset.
async fn send_data(mut data: Bytes, stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    let until = Instant::now() + time_to_take(data.len());
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match timeout_at(until, poll_fn(|cx| stream.poll_capacity(cx))).await {
                Ok(Some(granted)) => granted?,
                Ok(None) => return Err(Reason::CANCEL.into()),
                Err(_) => {
                    stream.send_reset(Reason::CANCEL);
                    return Err(Reason::CANCEL.into());
                }
            };
        }
        stream.send_data(data.split_to(stream.capacity().min(data.len())), false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use h2::{client, server};
    use http::Request;
    use http_body_util::Full;
    use tokio::{io::duplex, task::JoinSet, time::sleep};

    use super::*;
    use crate::transport::service::tests::Silent;

    /// A client that takes a byte now and then does not keep what its answer takes up.
    #[tokio::test(start_paused = true)]
    async fn an_answer_is_taken_in_time_or_not_at_all() {
        const SIZE: usize = 10 * PORTION;
        let (near, far) = duplex(1 << 20);
        let mut builder = client::Builder::new();
        let client = builder.initial_window_size(1).handshake::<_, Bytes>(far);
        let (server, client) = tokio::join!(server::handshake::<_>(near), client);
        let (mut server, (mut ask, client)) = (server.unwrap(), client.unwrap());
        let mut beside = JoinSet::new();
        beside.spawn(async move { drop(client.await) });
        let (response, _) = ask.send_request(Request::new(()), true).unwrap();
        let (_, respond) = server.accept().await.unwrap().unwrap();
        let body = Answer::Other(Full::new(Bytes::from(vec![7; SIZE])));
        let answer = std::future::ready(Response::new(body));
        let mut responding = PendingResponse::<Silent>::new(answer, respond);
        let began = Instant::now();
        beside.spawn(async move {
            let mut body = response.await.unwrap().into_body();
            while let Some(Ok(data)) = body.data().await {
                sleep(Duration::from_secs(1)).await;
                let _ = body.flow_control().release_capacity(data.len());
            }
        });
        poll_fn(|cx| {
            assert!(server.poll_closed(cx).is_pending());
            responding.poll(cx)
        })
        .await;
        assert_eq!(began.elapsed().as_secs(), 20);
    }
}
