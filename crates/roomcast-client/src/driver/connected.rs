//! Being in the room.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use roomcast_proto::room::{
    self as proto, ConnectRequest, ConnectResponse, connect_request, connect_response,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tonic::{Status, transport::Channel};

use super::{Driver, PING_INTERVAL, Stop, resolve, tokens::outcome, until};
use crate::{
    CONNECT_TIMEOUT,
    access_token::AccessToken,
    core::{Violation, outbox::Refusal, reader::Verdict},
    requests::{Command, Leave, Told},
    stream::{self, Stream},
    update::{Event, EventKind, Gap, Reason, Update, position},
};

/// A server that is silent for so many of its ping intervals is gone.
const SILENCE: f64 = 1.5;

/// Why we are on a stream no more.
pub(super) enum End {
    Lost(Reason),
    Stop(Stop),
}

/// The server asked us to go on elsewhere: the old stream is used until the new one is there.
enum Move {
    Due(Instant),
    Dialing { to: String, channel: BoxFuture<'static, Result<Channel, Reason>> },
}

/// What happened next.
enum Step {
    Frame(Result<Option<ConnectResponse>, Status>),
    /// There is room for an update.
    Place(mpsc::OwnedPermit<Told>),
    /// Nobody wants updates.
    Deaf,
    /// There is room for a frame.
    Slot(mpsc::OwnedPermit<ConnectRequest>),
    /// The stream takes no frames.
    Unsendable,
    Command(Command),
    Leave(Leave),
    Dialed(Result<Channel, Reason>),
    /// A call for a newer token has ended.
    Token(Result<AccessToken, String>),
    Tick,
}

impl Driver {
    /// Is in the room on this stream, and on those that follow it without a break.
    pub(super) async fn converse(&mut self, mut stream: Stream) -> End {
        let mut moving = None;
        loop {
            let now = Instant::now();
            if let Some(end) = self.overdue(&stream, now) {
                return end;
            }
            self.ping(&mut stream, now);
            self.begin_to_move(&mut moving, now);
            self.renew_token(now);
            let step = self.step(&mut stream, &mut moving, now).await;
            let broken = match step {
                Step::Frame(Ok(Some(frame))) => {
                    stream.heard = Instant::now();
                    self.frame(frame, &mut moving)
                }
                Step::Frame(Ok(None)) if self.has_left() => return End::Stop(Stop::Left),
                Step::Frame(Ok(None)) => return End::Lost(stream::ended()),
                Step::Frame(Err(status)) => {
                    return End::Lost(Reason::of(&status, &stream.to));
                }
                Step::Place(place) => {
                    // While nobody read, nothing could be heard.
                    stream.heard = Instant::now();
                    match self.notices.next(true) {
                        Some(update) => drop(place.send(Ok(update))),
                        None => self.place = Some(place),
                    }
                    Ok(())
                }
                Step::Slot(slot) => {
                    stream.spoke = Instant::now();
                    self.speak(slot);
                    Ok(())
                }
                Step::Dialed(channel) => self.moved(&mut stream, &mut moving, channel).await,
                Step::Token(outcome) => {
                    // Without one the stream goes on for as long as the token in use lets it.
                    let _ = self.gotten(outcome);
                    Ok(())
                }
                Step::Command(command) => {
                    self.take(command);
                    Ok(())
                }
                Step::Leave(leave) => {
                    stream.heard = Instant::now();
                    self.begin_to_leave(leave);
                    Ok(())
                }
                Step::Deaf => {
                    stream.heard = Instant::now();
                    self.deaf = true;
                    Ok(())
                }
                // Its status tells more, and comes at once.
                Step::Unsendable | Step::Tick => Ok(()),
            };
            if let Err(Violation(what)) = broken {
                return End::Lost(Reason::Broken { what });
            }
        }
    }

    /// Waits for what happens next. Loses nothing of what does not.
    async fn step(&mut self, stream: &mut Stream, moving: &mut Option<Move>, now: Instant) -> Step {
        let reads = self.reads();
        let wants_place = self.place.is_none() && !self.deaf && self.leaving.is_none();
        let wants_slot = self.outbox.is_ready(now) || self.may_say_goodbye();
        let wants_slot = wants_slot || self.tokens.is_unshown();
        let wants_slot = wants_slot && !stream.frames.is_closed();
        let has_room = self.outbox.has_room();
        let wakes = self.wakes_at(stream, moving.as_ref(), now);
        let updates = &self.ends.updates;
        tokio::select! {
            frame = stream.inbound.message(), if reads => Step::Frame(frame),
            place = updates.clone().reserve_owned(), if wants_place => {
                place.map_or(Step::Deaf, Step::Place)
            }
            slot = stream.frames.clone().reserve_owned(), if wants_slot => {
                slot.map_or(Step::Unsendable, Step::Slot)
            }
            Some(command) = self.ends.says.recv(), if has_room => Step::Command(command),
            Some(leave) = self.ends.leaves.recv() => Step::Leave(leave),
            channel = dialed(moving) => Step::Dialed(channel),
            outcome = outcome(self.requests.as_mut()) => Step::Token(outcome),
            () = until(Some(wakes)) => Step::Tick,
        }
    }

    /// Whether frames are read: each one may bring something to tell, so there has to be room for it.
    fn reads(&self) -> bool {
        let has_place = self.deaf || (self.place.is_some() && self.notices.is_empty(true));
        has_place || self.leaving.is_some()
    }

    /// When something is due that does not come by itself.
    fn wakes_at(&self, stream: &Stream, moving: Option<&Move>, now: Instant) -> Instant {
        let interval = self.ping_interval();
        let silence = self.reads().then(|| stream.heard + interval.mul_f64(SILENCE));
        let moves = match moving {
            Some(Move::Due(at)) => Some(*at),
            Some(Move::Dialing { .. }) | None => None,
        };
        let sends = self.outbox.wakes_at().filter(|at| *at > now);
        let leaves = self.leaving.as_ref().map(|leaving| leaving.deadline);
        let others = [silence, moves, sends, leaves, self.token_due()].into_iter().flatten();
        others.fold(stream.spoke + interval, Instant::min)
    }

    fn ping_interval(&self) -> Duration {
        self.session.as_ref().map_or(PING_INTERVAL, |session| session.ping_interval)
    }

    /// Whether the time of something has passed that ends the stream.
    fn overdue(&self, stream: &Stream, now: Instant) -> Option<End> {
        if self.leaving.as_ref().is_some_and(|leaving| now >= leaving.deadline) {
            return Some(End::Stop(Stop::Left));
        }
        let silent = now >= stream.heard + self.ping_interval().mul_f64(SILENCE);
        (silent && self.reads()).then(|| End::Lost(Reason::Silent { to: stream.to.clone() }))
    }

    /// Shows that we live, if we said nothing for a while.
    fn ping(&self, stream: &mut Stream, now: Instant) {
        if now >= stream.spoke + self.ping_interval() {
            let ping = connect_request::Frame::Ping(proto::Ping { nonce: 1 });
            // Where there is no room for it, something else is about to be sent.
            let _ = stream.frames.try_send(ConnectRequest { frame: Some(ping) });
            stream.spoke = now;
        }
    }

    fn may_say_goodbye(&self) -> bool {
        self.has_said_all() && self.leaving.as_ref().is_some_and(|leaving| !leaving.sent)
    }

    fn has_left(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.sent)
    }

    /// Sends a newer token, the next message, or the last frame.
    fn speak(&mut self, slot: mpsc::OwnedPermit<ConnectRequest>) {
        let goodbye = self.may_say_goodbye();
        let now = Instant::now();
        if let Some(token) = self.tokens.show(now) {
            let token = token.expose().to_owned();
            let frame = connect_request::Frame::Authenticate(proto::Authenticate { token });
            slot.send(ConnectRequest { frame: Some(frame) });
            return;
        }
        let frame = match self.outbox.send_next(now) {
            Some((client_seq, content)) => connect_request::Frame::Say(proto::Say {
                client_seq,
                content: content.to_owned(),
                traceparent: String::new(),
            }),
            None if goodbye => {
                if let Some(leaving) = &mut self.leaving {
                    leaving.sent = true;
                }
                connect_request::Frame::Leave(proto::Leave {})
            }
            None => return,
        };
        slot.send(ConnectRequest { frame: Some(frame) });
    }

    /// Takes in what the server sent.
    fn frame(
        &mut self,
        frame: ConnectResponse,
        moving: &mut Option<Move>,
    ) -> Result<(), Violation> {
        use connect_response::Frame;
        match frame.frame {
            Some(Frame::Event(event)) => self.event(event)?,
            Some(Frame::Gap(gap)) => self.gap(gap.into()),
            Some(Frame::Ack(ack)) => {
                let at = ack.position.map(position);
                resolve(self.outbox.ack(ack.client_seq, at, ack.duplicate)?);
                self.tracker.acked(ack.client_seq, at);
            }
            Some(Frame::Nack(nack)) => {
                let refusal = Refusal {
                    number: nack.client_seq,
                    reason: nack.reason(),
                    retry_after: nack.retry_after.and_then(|it| it.try_into().ok()),
                    detail: nack.detail,
                };
                resolve(self.outbox.nack(refusal, Instant::now())?);
            }
            Some(Frame::Reconnect(reconnect)) => {
                let after = reconnect.after.and_then(|it| Duration::try_from(it).ok());
                moving.get_or_insert(Move::Due(Instant::now() + after.unwrap_or_default()));
            }
            Some(Frame::Welcome(_)) => {
                return Err(Violation("a second welcome on one stream".to_owned()));
            }
            Some(Frame::TokenExpiring(expiring)) => {
                let left = expiring.r#in.and_then(|it| Duration::try_from(it).ok());
                let left = left.unwrap_or_default();
                self.tokens.expires_in(left, Instant::now(), rand::random());
            }
            Some(Frame::Pong(_)) | None => {}
        }
        Ok(())
    }

    fn event(&mut self, event: proto::Event) -> Result<(), Violation> {
        let event = Event::from_wire(event)
            .ok_or_else(|| Violation("an event without a position".to_owned()))?;
        if self.reader.event(event.position)? == Verdict::Drop {
            return Ok(());
        }
        let own_name = self.session.as_ref().map_or("", |session| session.username.as_str());
        let number = self.tracker.event(&event, own_name);
        if let (Some(number), EventKind::Said(content)) = (number, &event.what)
            && !self.outbox.seen(number, event.position, content)
        {
            self.tracker.lose_count();
        }
        self.tell(Update::Event(event));
        self.settle(false);
        Ok(())
    }

    fn gap(&mut self, gap: Gap) {
        if self.reader.gap(gap) == Verdict::Tell {
            self.tracker.gap();
            self.tell(Update::Gap(gap));
        }
        self.settle(gap == Gap::Everything);
    }

    /// Tells the application. Whoever has asked to leave need not listen.
    fn tell(&mut self, update: Update) {
        match self.place.take() {
            Some(place) => drop(place.send(Ok(update))),
            None => drop(self.ends.updates.try_send(Ok(update))),
        }
    }

    /// Makes the connection for the next stream when it is time.
    fn begin_to_move(&mut self, moving: &mut Option<Move>, now: Instant) {
        if matches!(moving, Some(Move::Due(at)) if now >= *at) {
            let way = self.connector.next_way();
            let to = way.name();
            let channel = way.channel().boxed();
            *moving = Some(Move::Dialing { to, channel });
        }
    }

    /// Opens the next stream. The old one is not read meanwhile, so that the new one goes on exactly
    /// where it ended; it stays in use if there will be no new one yet.
    async fn moved(
        &mut self,
        stream: &mut Stream,
        moving: &mut Option<Move>,
        channel: Result<Channel, Reason>,
    ) -> Result<(), Violation> {
        let (Some(Move::Dialing { to, .. }), Ok(channel)) = (moving.take(), channel) else {
            *moving = Some(self.later());
            return Ok(());
        };
        let open = Stream::open(channel, to, self.entry());
        let Ok(Ok((next, welcome))) = timeout(CONNECT_TIMEOUT, open).await else {
            *moving = Some(self.later());
            stream.heard = Instant::now();
            return Ok(());
        };
        if !welcome.resumed {
            self.notices.back(false);
        }
        self.welcomed(welcome, &next.channel)?;
        *stream = next;
        Ok(())
    }

    fn later(&mut self) -> Move {
        Move::Due(Instant::now() + self.policy.wait(rand::random()))
    }
}

/// Waits for the connection that the next stream will use.
async fn dialed(moving: &mut Option<Move>) -> Result<Channel, Reason> {
    match moving {
        Some(Move::Dialing { to, channel }) => match timeout(CONNECT_TIMEOUT, channel).await {
            Ok(channel) => channel,
            Err(_) => Err(Reason::Silent { to: to.clone() }),
        },
        Some(Move::Due(_)) | None => std::future::pending().await,
    }
}
