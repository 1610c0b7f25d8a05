//! A client written by the protocol alone: it comes back, resumes, and sends again, and writes down
//! every frame as it came. What a better client would put right by itself is seen here.

mod once;
mod outbox;

use std::time::Duration;

use futures_util::stream;
use rand::RngExt;
use roomcast_proto::room::{
    ConnectRequest, ErrorReason, Join, Leave, Ping, Position, Say, Welcome,
    connect_request::Frame as Ask, connect_response::Frame as Tell, join::Since,
    room_service_client::RoomServiceClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

pub(super) use self::once::{knock, say_once};
use self::outbox::Outbox;
use super::{
    diary::position,
    part::Part,
    record::{Entry, Position as Place},
};

/// How long a welcome may take; behind a proxy that does not know yet that a replica has stopped it
/// never comes.
const WELCOME: Duration = Duration::from_secs(2);

/// What it keeps from stream to stream.
#[derive(Default)]
struct Session {
    number: u64,
    token: Vec<u8>,
    /// How often it tried to come in or back.
    attempts: u64,
    /// The last that it was told.
    after: Option<Position>,
    outbox: Outbox,
}

/// How a stream came to its end.
enum End {
    /// It left.
    Left,
    /// It broke, or was refused for now.
    Broken,
    /// The session is no more.
    Forgotten,
}

/// Lives until the test is over.
pub(super) async fn talk(mut part: Part) {
    let mut session = Session::default();
    let stop = part.cues.stop.clone();
    loop {
        let end = stop.run_until_cancelled(stream_once(&mut part, &mut session)).await;
        match end {
            None => return,
            Some(End::Left) => return part.diary.note(Entry::Away),
            Some(End::Broken) => {}
            Some(End::Forgotten) => {
                let Session { number, attempts, .. } = session;
                session = Session { number, attempts, ..Session::default() };
            }
        }
        part.diary.note(Entry::Away);
        // Not all at once.
        let pause = Duration::from_millis(rand::rng().random_range(20..300));
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// An open stream.
struct Line {
    outgoing: mpsc::Sender<ConnectRequest>,
    frames: Streaming<roomcast_proto::room::ConnectResponse>,
}

impl Line {
    fn send(&self, frame: Ask) -> bool {
        self.outgoing.try_send(ConnectRequest { frame: Some(frame) }).is_ok()
    }

    async fn next(&mut self) -> Result<Tell, Status> {
        loop {
            match self.frames.message().await? {
                Some(answer) => {
                    if let Some(frame) = answer.frame {
                        return Ok(frame);
                    }
                }
                None => return Err(Status::ok("")),
            }
        }
    }
}

async fn open(part: &Part, session: &Session) -> Result<(Line, Welcome), Status> {
    let channel = part.endpoint.try_channel().await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let (outgoing, mut queue) = mpsc::channel(64);
    let join = Join {
        room: part.diary.room.to_owned(),
        username: part.diary.name.to_string(),
        session_token: session.token.clone(),
        since: session.after.map(Since::After),
        attempt: session.attempts,
        ..Join::default()
    };
    let first = ConnectRequest { frame: Some(Ask::Join(join)) };
    outgoing.try_send(first).expect("room for the first frame");
    let requests = stream::poll_fn(move |context| queue.poll_recv(context));
    let frames = RoomServiceClient::new(channel).connect(requests).await?.into_inner();
    let mut line = Line { outgoing, frames };
    match line.next().await? {
        Tell::Welcome(welcome) => Ok((line, welcome)),
        other => {
            part.diary.note(Entry::Broken(format!("no welcome but {other:?}")));
            Err(Status::unavailable("no welcome"))
        }
    }
}

async fn stream_once(part: &mut Part, session: &mut Session) -> End {
    if session.token.is_empty() {
        part.diary.note(Entry::Tries);
    }
    session.attempts += 1;
    let opened = timeout(WELCOME, open(part, session)).await;
    let (mut line, welcome) = match opened {
        Err(_) => return End::Broken,
        Ok(Err(status)) => return refused(part, session, &status),
        Ok(Ok(opened)) => opened,
    };
    let Some(head) = welcome.head.map(position) else {
        part.diary.note(Entry::Broken("a welcome without a head".to_owned()));
        return End::Broken;
    };
    enter(part, session, &welcome, head);
    let interval = welcome.ping_interval.and_then(|it| Duration::try_from(it).ok());
    let interval = interval.unwrap_or(Duration::from_secs(5));
    let (mut heard, mut sent) = (Instant::now(), Instant::now());
    let mut part_at: Option<Instant> = None;
    let mut leaving = false;
    loop {
        while let Some((client_seq, content)) = session.outbox.to_send() {
            let say = Say { client_seq, content, ..Say::default() };
            if !line.send(Ask::Say(say)) {
                break;
            }
            session.outbox.sent();
            sent = Instant::now();
        }
        let held = session.outbox.held_until();
        tokio::select! {
            frame = line.next() => {
                heard = Instant::now();
                match frame {
                    Ok(Tell::Reconnect(it)) => {
                        let after = it.after.and_then(|it| Duration::try_from(it).ok());
                        part_at = Some(Instant::now() + after.unwrap_or_default());
                    }
                    Ok(frame) => take(part, session, frame),
                    // Also when it broke: it is not here to come back.
                    Err(_) if leaving => return End::Left,
                    Err(status) => return refused(part, session, &status),
                }
            }
            () = part.cues.leave.cancelled(), if !leaving => {
                part.diary.note(Entry::Leaves);
                leaving = line.send(Ask::Leave(Leave {}));
            }
            content = part.speech.next(&part.diary), if !leaving && session.outbox.has_room() => {
                session.outbox.push(content);
            }
            () = sleep_until(sent + interval) => {
                line.send(Ask::Ping(Ping { nonce: 1 }));
                sent = Instant::now();
            }
            () = sleep_until(heard + interval * 3 / 2) => {
                return if leaving { End::Left } else { End::Broken };
            }
            () = sleep_until(part_at.unwrap_or(heard)), if part_at.is_some() => {
                return End::Broken;
            }
            () = sleep_until(held.unwrap_or(heard)), if held.is_some() => session.outbox.go_on(),
        }
    }
}

/// Why the service says that it refused.
fn reason(status: &Status) -> ErrorReason {
    let details = status.get_error_details();
    let reason = details.error_info().and_then(|it| ErrorReason::from_str_name(&it.reason));
    reason.unwrap_or_default()
}

/// What the end of a stream means for its session.
fn refused(part: &Part, session: &Session, status: &Status) -> End {
    match status.code() {
        Code::NotFound if !session.token.is_empty() => End::Forgotten,
        // There is no newer stream than the one that it had last.
        _ if [ErrorReason::Superseded, ErrorReason::StaleAttempt].contains(&reason(status)) => {
            part.diary.note(Entry::Ousted(format!("{status:?}")));
            End::Broken
        }
        // Its old stream was not seen to end, or the server drains, or is cut off: all for a moment.
        Code::Aborted | Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => {
            End::Broken
        }
        // Of a welcome that was lost on its way.
        Code::AlreadyExists if session.token.is_empty() => End::Broken,
        _ => {
            part.diary.note(Entry::Broken(format!("{status:?}")));
            End::Broken
        }
    }
}

fn enter(part: &Part, session: &mut Session, welcome: &Welcome, head: Place) {
    let resumed = welcome.resumed;
    if resumed == session.token.is_empty() {
        part.diary.note(Entry::Broken(format!("resumed: {resumed}, which was not asked for")));
    }
    session.number += u64::from(!resumed);
    session.token.clone_from(&welcome.session_token);
    if !resumed {
        session.after = welcome.head;
    }
    let number = session.number;
    part.diary.note(if resumed {
        Entry::Resumed { session: number }
    } else {
        Entry::In { session: number, head }
    });
    for content in session.outbox.resume(welcome.last_client_seq) {
        part.diary.note(Entry::Acked { content, position: None });
    }
}

fn take(part: &Part, session: &mut Session, frame: Tell) {
    let diary = &part.diary;
    match frame {
        Tell::Event(event) => {
            let at = event.position;
            match diary.clock.event(event) {
                Some(event) => diary.note(Entry::Event(event)),
                None => diary.note(Entry::Broken(format!("an event without content at {at:?}"))),
            }
            session.after = at.or(session.after);
        }
        Tell::Gap(gap) => {
            let range = gap.from.zip(gap.to);
            diary.note(Entry::Gap(range.map(|(from, to)| (position(from), position(to)))));
            session.after = match range {
                // What it has is gone: it goes on from before that.
                Some((from, to)) if session.after.is_some_and(|last| from.seq <= last.seq) => {
                    Some(Position { seq: from.seq - 1, ..to })
                }
                Some((_, to)) => Some(to),
                None => session.after,
            };
        }
        Tell::Ack(ack) => match session.outbox.acked(ack.client_seq) {
            Some(content) => {
                diary.note(Entry::Acked { content, position: ack.position.map(position) });
            }
            None => diary.note(Entry::Broken(format!("not awaited: {ack:?}"))),
        },
        Tell::Nack(nack) => {
            let retry = nack.retry_after.and_then(|it| Duration::try_from(it).ok());
            if !session.outbox.nacked(nack.client_seq, retry) {
                diary.note(Entry::Broken(format!("not awaited: {nack:?}")));
            }
        }
        Tell::Welcome(_) => diary.note(Entry::Broken("a second welcome".to_owned())),
        Tell::Reconnect(_) | Tell::Pong(_) | Tell::TokenExpiring(_) => {}
    }
}
