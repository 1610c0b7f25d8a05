//! Hands to HTTP/2 what there is for a stream.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use super::egress::{EgressSource, Next};
use crate::{
    hub::{
        Held, Member,
        slow_readers::{FRAME_OVERHEAD, STEP, credit},
    },
    transport::Sender,
};

/// Sends what comes out of an egress. Dropped before trailers were sent, it resets the stream.
///
/// It is woken by the room and the session, many times as often as by HTTP/2, and what it then does not
/// ask of HTTP/2 is most of what a delivery would cost.
///
/// A stream has two futures: this one, and its session's. An event of the room wakes only this one, which takes it and
/// is done; the session would look at its timers, its appends and what its client has sent each time.
#[derive(Debug)]
pub(crate) struct StreamSender {
    stream: SendStream<Bytes>,
    egress: EgressSource,
    /// Who takes, once somebody does.
    member: Option<Arc<Member>>,
    /// What was handed over since the client was last seen to take everything.
    owed: usize,
    /// What that costs, and how much of it is counted.
    cost: usize,
    held: Held,
    /// Nothing comes behind it but this.
    last: Option<Box<HeaderMap>>,
    /// The client has to take something first.
    waiting: bool,
}

impl Sender for StreamSender {
    type Source = EgressSource;

    fn new(egress: EgressSource, stream: SendStream<Bytes>) -> Self {
        let held = egress.hold();
        Self { stream, egress, member: None, owed: 0, cost: 0, held, last: None, waiting: false }
    }

    fn touch(&self) -> u64 {
        u64::from(self.egress.touch()) ^ self.member.as_ref().map_or(0, |member| member.touch())
    }

    fn poll(&mut self) -> Poll<()> {
        let called = self.egress.was_called();
        if called {
            if self.egress.is_given_up() {
                // Clients read it as `RESOURCE_EXHAUSTED`. A status would wait behind what they do not take.
                self.stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                return Poll::Ready(());
            }
            // HTTP/2 calls once, for a reset or because the client has taken something.
            let waker = Waker::from(self.egress.clone());
            if self.stream.poll_reset(&mut Context::from_waker(&waker)).is_ready() {
                return Poll::Ready(());
            }
        } else if self.waiting {
            return Poll::Pending;
        }
        loop {
            if !self.has_credit() && !ready!(self.poll_taken()) {
                return Poll::Ready(());
            }
            if let Some(trailers) = self.last.take() {
                // Who has reset the stream does not hear it.
                let _ = self.stream.send_trailers(*trailers);
                return Poll::Ready(());
            }
            let (bytes, all) = match ready!(self.egress.poll_next()) {
                Next::Data(bytes) => (bytes, false),
                Next::All(bytes) => (bytes, true),
                Next::Last(trailers) => {
                    self.last = Some(Box::new(trailers));
                    continue;
                }
            };
            self.owed += bytes.len();
            self.cost += bytes.len() + FRAME_OVERHEAD;
            if self.cost >= self.held.bytes() + STEP {
                self.held.set(self.cost);
            }
            if self.stream.send_data(bytes, false).is_err() {
                return Poll::Ready(());
            }
            if all {
                if self.member.is_none() {
                    self.member = self.egress.member();
                }
                return Poll::Pending;
            }
        }
    }
}

impl StreamSender {
    /// Whether more may be handed over before the client has taken what was.
    fn has_credit(&self) -> bool {
        if self.last.is_some() {
            // Nobody would count what waits in HTTP/2 when this is gone.
            return self.owed == 0;
        }
        self.owed <= credit(true) || self.owed <= credit(false) && !self.egress.is_tight()
    }

    /// Waits until the client's window has room for what was handed over, and one byte more. False when
    /// it wants nothing more.
    fn poll_taken(&mut self) -> Poll<bool> {
        self.waiting = true;
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            let waker = Waker::from(self.egress.clone());
            match ready!(self.stream.poll_capacity(&mut Context::from_waker(&waker))) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        // Other streams of the connection may need that byte.
        self.stream.reserve_capacity(0);
        (self.owed, self.cost, self.waiting) = (0, 0, false);
        self.held.set(0);
        Poll::Ready(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
    };

    use h2::{client, server};
    use http::{Request, Response};
    use tokio::io::{DuplexStream, duplex};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        gateway::{egress::Egress, flush_cycle::FlushCycle, router::Router},
        hub::Unread,
        transport::{Cycle, Executor},
    };

    type Server = server::Connection<DuplexStream, Bytes>;
    type Client = client::Connection<DuplexStream, Bytes>;

    /// Both ends of a stream.
    struct Ends {
        server: Server,
        sending: StreamSender,
        egress: Arc<Egress>,
        client: Client,
        response: client::ResponseFuture,
        /// Without it the client's connection would end with its stream.
        _ask: client::SendRequest<Bytes>,
    }

    /// A stream whose client lets through 1,000 bytes until it reads.
    async fn stream() -> Ends {
        stream_among(&Unread::new(1 << 20)).await
    }

    /// The same where others have as much already.
    async fn stream_among(unread: &Arc<Unread>) -> Ends {
        let cycle = Arc::new(FlushCycle::new(CancellationToken::new(), unread.clone()));
        cycle.begin();
        let (near, far) = duplex(1 << 20);
        let mut builder = client::Builder::new();
        let client = builder.initial_window_size(1_000).handshake::<_, Bytes>(far);
        let (server, client) = tokio::join!(server::handshake::<_>(near), client);
        let (mut server, (mut ask, mut client)) = (server.unwrap(), client.unwrap());
        let (response, _) = ask.send_request(Request::new(()), true).unwrap();
        let asked = tokio::select! {
            asked = server.accept() => asked.unwrap().unwrap(),
            _ = &mut client => panic!("the connection ended"),
        };
        let (_, mut respond) = asked;
        let stream = respond.send_response(Response::new(()), false).unwrap();
        let egress = Egress::new(Executor::<Router>::new().spawner().current_waker(), cycle, false);
        let sending = StreamSender::new(EgressSource::new(egress.clone()), stream);
        Ends { server, sending, egress, client, response, _ask: ask }
    }

    #[tokio::test]
    async fn what_a_client_does_not_take_is_bounded_and_goes_on_when_it_does() {
        let Ends { mut server, mut sending, egress, client, response, _ask } = stream().await;
        let mut pushed = 0;
        for _ in 0..100 {
            egress.push(&[7; 1_000]);
            pushed += 1_000;
            assert!(sending.poll().is_pending());
        }
        assert!(sending.waiting && egress.has_more());
        assert!(
            sending.owed > credit(false) && sending.owed <= credit(false) + 1_000,
            "{}",
            sending.owed
        );

        let mut client = pin!(client);
        let mut response = pin!(response);
        let mut drive = |cx: &mut Context<'_>| {
            assert!(server.poll_closed(cx).is_pending());
            assert!(sending.poll().is_pending());
            assert!(client.as_mut().poll(cx).is_pending());
        };
        let mut body = poll_fn(|cx| {
            drive(cx);
            response.as_mut().poll(cx)
        })
        .await
        .unwrap()
        .into_body();
        let mut got = 0;
        while got < pushed {
            let data = poll_fn(|cx| {
                drive(cx);
                body.poll_data(cx)
            });
            let data = data.await.unwrap().unwrap();
            got += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(got, pushed);
        assert!(!egress.has_more());
    }

    #[tokio::test]
    async fn what_no_client_takes_is_counted_and_has_others_get_less_at_a_time() {
        let unread = Unread::new(15_000);
        let stall = async || {
            let mut ends = stream_among(&unread).await;
            for _ in 0..100 {
                ends.egress.push(&[7; 1_000]);
                assert!(ends.sending.poll().is_pending());
            }
            ends
        };
        let one = stall().await;
        assert!(one.sending.owed > credit(false) && unread.is_over());
        let other = stall().await;
        assert!(other.sending.owed <= credit(true) + 1_000, "{}", other.sending.owed);
        drop(one);
        assert!(!unread.is_over());
    }

    #[tokio::test]
    async fn the_end_waits_until_the_rest_is_taken() {
        let Ends { mut sending, egress, server: _server, client: _client, .. } = stream().await;
        egress.push(&[7; 3_000]);
        assert!(sending.poll().is_pending());
        egress.end(tonic::Status::ok(""), crate::gateway::egress::Rest::Nothing);
        assert!(sending.poll().is_pending(), "nobody would know of it any more");
        egress.give_up();
        assert!(sending.poll().is_ready());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_told_by_the_reset() {
        let Ends { mut server, mut sending, egress, mut client, mut response, _ask } =
            stream().await;
        let mut drive = |cx: &mut Context<'_>| {
            assert!(server.poll_closed(cx).is_pending());
            assert!(Pin::new(&mut client).poll(cx).is_pending());
        };
        let head = poll_fn(|cx| {
            drive(cx);
            Pin::new(&mut response).poll(cx)
        });
        let mut body = head.await.unwrap().into_body();
        while !sending.waiting {
            egress.push(&[7; 1_000]);
            assert!(sending.poll().is_pending());
        }
        egress.give_up();
        assert!(sending.poll().is_ready());
        drop(sending);
        egress.finished().await;
        let error = loop {
            let data = poll_fn(|cx| {
                drive(cx);
                body.poll_data(cx)
            });
            if let Err(error) = data.await.expect("it does not end well") {
                break error;
            }
        };
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    }

    #[tokio::test]
    async fn a_reset_ends_it_however_often_it_was_called_before() {
        let Ends { mut server, mut sending, egress, mut client, response, _ask } = stream().await;
        for _ in 0..3 {
            Waker::from(egress.clone()).wake();
            assert!(sending.poll().is_pending());
        }
        drop(response);
        poll_fn(|cx| {
            assert!(server.poll_closed(cx).is_pending());
            assert!(Pin::new(&mut client).poll(cx).is_pending());
            sending.poll()
        })
        .await;
        assert!(!egress.has_more());
        drop(sending);
        egress.finished().await;
    }
}
