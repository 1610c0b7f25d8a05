//! The task behind a client: keeps it in its room.

mod connected;
mod disconnected;
mod tokens;

use std::time::Duration;

use roomcast_common::{Epoch, Position};
use roomcast_proto::room::{NackReason, Welcome};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tonic::{Code, transport::Channel};

use self::connected::End;
use super::{
    Connector,
    core::{
        Violation,
        access_tokens::{AccessTokens, TokenVerdict},
        notices::Notices,
        outbox::{Outbox, Outcome, Resolved},
        reader::Reader,
        retry_policy::{Next, RetryPolicy, Stage},
        sent_tracker::SentTracker,
    },
    error::{Error, LeaveError, SayError},
    options::Options,
    requests::{
        Answer, Command, Connected, Ends, Entered, Joined, LEAVE_PATIENCE, Leave, Said, Told,
    },
    stream::{Entry, SessionToken},
    token_request::TokenRequests,
    token_source::TokenSource,
    update::{Reason, position},
};

/// What to take for the server's ping interval when it does not say.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// What is the least that is taken for it.
const SHORTEST_PING_INTERVAL: Duration = Duration::from_millis(100);
/// What the server means by refusing our session by a newer token.
const OTHER_SUBJECT: &str = "the session belongs to another subject than the newer token";
/// What the server gave us.
#[derive(Debug)]
struct Session {
    token: SessionToken,
    username: String,
    ping_interval: Duration,
    content_bytes: usize,
}

/// Somebody asked to leave: updates that find no room are let go.
struct Leaving {
    answer: Leave,
    deadline: Instant,
    /// The frame is on its way.
    sent: bool,
}

pub(super) struct Driver {
    connector: Connector,
    options: Options,
    ends: Ends,
    /// Nobody reads the updates any more.
    deaf: bool,
    /// Room for the next update.
    place: Option<mpsc::OwnedPermit<Told>>,
    reader: Reader,
    tracker: SentTracker,
    outbox: Outbox<Answer>,
    notices: Notices,
    policy: RetryPolicy,
    tokens: AccessTokens,
    /// What gets tokens; none where none are shown.
    requests: Option<TokenRequests>,
    session: Option<Session>,
    /// How often we tried to come in or back.
    attempts: u64,
    /// We have been in the room.
    was_in: bool,
    leaving: Option<Leaving>,
    /// Nothing more will be said.
    said_all: bool,
}

/// Why the driver stops.
enum Stop {
    /// It was asked to.
    Left,
    /// It has to.
    Failed(Error),
}

impl Driver {
    pub(super) fn new(connector: Connector, options: Options, ends: Ends) -> Self {
        let source = connector.tokens();
        Self {
            tokens: AccessTokens::new(source.is_some_and(TokenSource::is_renewable)),
            requests: source.cloned().map(TokenRequests::new),
            connector,
            reader: Reader::new(options.history),
            options,
            ends,
            deaf: false,
            place: None,
            tracker: SentTracker::new(),
            outbox: Outbox::new(),
            notices: Notices::default(),
            policy: RetryPolicy::default(),
            session: None,
            attempts: 0,
            was_in: false,
            leaving: None,
            said_all: false,
        }
    }

    /// Stays in the room until it is asked to leave or has to; `joined` is told how coming in went.
    pub(super) async fn run(mut self, joined: oneshot::Sender<Joined>) {
        let mut joined = Some(joined);
        let stop = self.stay(&mut joined).await;
        self.close(&stop);
        if let Stop::Failed(error) = stop {
            match joined {
                Some(joined) => drop(joined.send(Err(error))),
                None => {
                    self.place = None;
                    let _ = self.ends.updates.send(Err(error)).await;
                }
            }
        }
    }

    async fn stay(&mut self, joined: &mut Option<oneshot::Sender<Joined>>) -> Stop {
        let nowhere = Reason::Broken { what: "nothing was tried".to_owned() };
        let mut why = nowhere;
        loop {
            let stream = match self.arrive(why).await {
                Ok(stream) => stream,
                Err(stop) => return stop,
            };
            if let Some(joined) = joined.take() {
                let _ = joined.send(Ok(self.entered()));
            }
            why = match self.converse(stream).await {
                End::Stop(stop) => return stop,
                End::Lost(reason) => reason,
            };
            self.outbox.lost();
            self.ends.here.send_replace(None);
            match self.judge(Stage::Within, &why) {
                Ok(Next::Anew) => self.session = None,
                Ok(_) => {}
                Err(error) => return Stop::Failed(error),
            }
            self.notices.away(why.clone());
        }
    }

    /// How we first came in.
    fn entered(&self) -> Entered {
        let username = self.session.as_ref().map_or("", |session| session.username.as_str());
        let nowhere = Position::new(Epoch(0), 0);
        Entered { username: username.into(), at: self.reader.start().unwrap_or(nowhere) }
    }

    /// What to say on coming in or back: each time a new attempt.
    fn entry(&mut self) -> Entry {
        self.attempts += 1;
        Entry {
            attempt: self.attempts,
            room: self.options.room.clone(),
            username: self.options.username.clone(),
            session_token: self.session.as_ref().map(|session| session.token.clone()),
            access_token: self.tokens.for_attempt(),
            since: self.reader.since(),
            linger: self.options.linger,
        }
    }

    /// What to do after a stream or an attempt has ended so; an error, if nothing.
    fn judge(&mut self, stage: Stage, reason: &Reason) -> Result<Next, Error> {
        let now = Instant::now();
        let next = self.policy.judge(stage, reason, now);
        let message = || match reason {
            Reason::Ended { message, .. } => message.clone(),
            other => other.to_string(),
        };
        match self.tokens.judge(stage, reason, now) {
            TokenVerdict::Unrelated => {}
            TokenVerdict::Again => return Ok(Next::Again),
            TokenVerdict::Invalid => return Err(Error::InvalidToken { message: message() }),
            TokenVerdict::Expired => return Err(Error::TokenExpired),
            TokenVerdict::Forbidden => return Err(Error::Forbidden { message: message() }),
            TokenVerdict::OtherSubject => {
                return Err(Error::Forbidden { message: OTHER_SUBJECT.to_owned() });
            }
        }
        match (next, reason) {
            (Next::Again | Next::Anew, _) => Ok(next),
            (Next::Superseded, _) => Err(Error::Superseded),
            (Next::Refused, Reason::Ended { code, .. }) => {
                Err(Error::Refused { code: *code, message: message() })
            }
            (Next::Refused, _) => Err(Error::Refused { code: Code::Unknown, message: message() }),
        }
    }

    fn stage(&self) -> Stage {
        match (&self.session, self.was_in) {
            (Some(_), _) => Stage::Resuming,
            (None, true) => Stage::Returning,
            (None, false) => Stage::Coming,
        }
    }

    /// We are in.
    fn welcomed(&mut self, welcome: Welcome, channel: &Channel) -> Result<(), Violation> {
        let limits = welcome.limits.unwrap_or_default();
        let head = welcome.head.map(position);
        let head = head.ok_or_else(|| Violation("a welcome without the room's head".to_owned()))?;
        let in_doubt = self.outbox.in_doubt();
        let session = Session {
            token: SessionToken(welcome.session_token),
            username: welcome.username,
            ping_interval: welcome
                .ping_interval
                .and_then(|it| Duration::try_from(it).ok())
                .filter(|it| !it.is_zero())
                .map_or(PING_INTERVAL, |it| it.max(SHORTEST_PING_INTERVAL)),
            content_bytes: match limits.content_bytes {
                0 => usize::MAX,
                bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
            },
        };
        let counted =
            self.outbox.welcomed(welcome.resumed, welcome.last_client_seq, limits.inflight);
        if counted.is_err() {
            // The session is of no use to us: not even a message's number can be told.
            self.session = None;
            return counted;
        }
        self.session = Some(session);
        if !welcome.resumed {
            self.tracker.began(head, in_doubt);
        }
        self.reader.welcomed(head, welcome.resumed, limits.latest);
        self.was_in = true;
        self.policy.welcomed(Instant::now());
        self.tokens.welcomed();
        if let Some(leaving) = &mut self.leaving {
            leaving.sent = false;
        }
        self.settle(false);
        self.ends.here.send_replace(Some(Connected {
            channel: channel.clone(),
            room: welcome.room,
            access_token: self.tokens.current().cloned(),
        }));
        Ok(())
    }

    /// Finds out what became of a lost session's messages, once that can be known.
    fn settle(&mut self, gone: bool) {
        if self.tracker.settles(self.reader.last(), gone) {
            let resolved = self.outbox.settle();
            resolve(resolved);
        }
    }

    /// Takes in a message, unless it could never be sent.
    fn take(&mut self, command: Command) {
        let (content, answer) = match command {
            Command::Say { content, answer } => (content, answer),
            Command::End => {
                self.ends.says.close();
                self.said_all = true;
                return;
            }
        };
        let bytes = content.len();
        match &self.session {
            Some(session) if bytes > session.content_bytes => {
                let sizes = format!("{bytes} bytes, allowed are {}", session.content_bytes);
                let _ = answer.send(Err(SayError::TooLarge(sizes)));
            }
            _ => self.outbox.push(content, answer),
        }
    }

    /// Somebody wants to leave. Whatever was said before goes first.
    fn begin_to_leave(&mut self, answer: Leave) {
        let deadline = Instant::now() + LEAVE_PATIENCE;
        if self.leaving.is_none() {
            self.leaving = Some(Leaving { answer, deadline, sent: false });
        }
    }

    /// Tells everybody who waits that it is over.
    fn close(&mut self, stop: &Stop) {
        self.ends.here.send_replace(None);
        for (answer, maybe) in self.outbox.abandon() {
            let error = if maybe { SayError::Unknown } else { SayError::NotSent };
            let _ = answer.send(Err(error));
        }
        self.ends.says.close();
        while let Ok(command) = self.ends.says.try_recv() {
            if let Command::Say { answer, .. } = command {
                let _ = answer.send(Err(SayError::NotSent));
            }
        }
        if let Some(leaving) = self.leaving.take() {
            let overdue = Instant::now() >= leaving.deadline;
            let confirmed = matches!(stop, Stop::Left) && !overdue;
            let error = LeaveError { waited: LEAVE_PATIENCE };
            let _ = leaving.answer.send(if confirmed { Ok(()) } else { Err(error) });
        }
    }
}

/// Tells those who said something what became of it.
fn resolve(resolved: Resolved<Answer>) {
    for (answer, outcome) in resolved {
        let outcome = match outcome {
            Outcome::InLog { position, duplicate } => Ok(Said { position, duplicate }),
            Outcome::Refused { reason: NackReason::Empty, .. } => Err(SayError::Empty),
            Outcome::Refused { reason: NackReason::TooLarge, detail } => {
                Err(SayError::TooLarge(detail))
            }
            Outcome::Refused { reason: NackReason::Forbidden, detail } => {
                Err(SayError::Forbidden(detail))
            }
            Outcome::Refused { detail, .. } => Err(SayError::Refused(detail)),
        };
        let _ = answer.send(outcome);
    }
}

/// Sleeps until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}
