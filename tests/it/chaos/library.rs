//! A client written with `roomcast_client`, which comes back, resumes and sends again by itself.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use roomcast_client::{
    Address, Client, Connector, Error, EventKind as Happened, Events, Gap, LeftCause, Options,
    Reason, Said, SayError, Update,
};
use roomcast_proto::room as proto;
use tokio::time::sleep;
use tonic::Code;

use super::{
    part::Part,
    record::{Entry, Event, EventKind, Position},
};

/// How many of its messages wait for their answers.
const INFLIGHT: usize = 16;

/// How soon it comes again when somebody else has its name, which nobody keeps for long.
const AGAIN: Duration = Duration::from_millis(300);

/// Lives until the test is over.
pub(super) async fn talk(mut part: Part) {
    let mut session = 0;
    let stop = part.cues.stop.clone();
    while stop.run_until_cancelled(live(&mut part, &mut session)).await.is_some() {
        // Its session had ended, and somebody else had taken the name.
        part.diary.note(Entry::Away);
        sleep(AGAIN).await;
    }
}

/// Comes in and talks, until its name is somebody else's.
async fn live(part: &mut Part, session: &mut u64) {
    let addr = Address::parse(&part.endpoint.addr().to_string()).expect("an address");
    let mut options = Options::new(part.diary.room, &*part.diary.name);
    // With its own coming, from whose position on it is told everything.
    options.history = 1;
    part.diary.note(Entry::Tries);
    let (client, mut events) = match Client::join(Connector::new(addr), options).await {
        Ok(joined) => joined,
        Err(error) if *session > 0 && is_taken(&error) => return,
        Err(error) => panic!("cannot come in: {error:?}"),
    };
    *session += 1;
    enter(part, *session, &mut events).await;
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            update = events.next() => match update {
                Some(Ok(update)) => note(part, session, update),
                Some(Err(error)) if is_taken(&error) => return,
                other => {
                    part.diary.note(Entry::Broken(format!("no news but {other:?}")));
                    return std::future::pending().await;
                }
            },
            content = part.speech.next(&part.diary), if answers.len() < INFLIGHT => {
                answers.push(say(client.clone(), content));
            }
            Some((content, answer)) = answers.next(), if !answers.is_empty() => {
                let entry = match answer {
                    Ok(said) => {
                        let position = said.position.map(place);
                        Entry::Acked { content, position }
                    }
                    // How the client ended is told by its events.
                    Err(SayError::NotSent | SayError::Unknown) => continue,
                    Err(error) => Entry::Broken(format!("{content:?} was not said: {error:?}")),
                };
                part.diary.note(entry);
            }
        }
    }
}

/// Whether somebody else has the name.
fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Refused { code: Code::AlreadyExists, .. })
}

async fn say(client: Client, content: String) -> (String, Result<Said, SayError>) {
    let said = client.say(content.as_str()).await;
    (content, said)
}

/// Waits for its own coming; what was before is of no interest.
async fn enter(part: &Part, session: u64, events: &mut Events) {
    loop {
        match events.next().await {
            Some(Ok(Update::Event(event))) => {
                if event.what == Happened::Joined && event.username == *part.diary.name {
                    let head = place(event.position);
                    return part.diary.note(Entry::In { session, head });
                }
            }
            other => panic!("{} was to hear that it came, not {other:?}", part.diary.name),
        }
    }
}

fn place(position: roomcast_client::Position) -> Position {
    Position { epoch: position.epoch.0, seq: position.seq }
}

fn note(part: &Part, session: &mut u64, update: Update) {
    let entry = match update {
        Update::Event(event) => {
            let what = match event.what {
                Happened::Said(content) => EventKind::Said(content),
                Happened::Joined => EventKind::Joined,
                Happened::Left(cause) => EventKind::Left(left(cause)),
                other => return part.diary.note(Entry::Broken(format!("an event {other:?}"))),
            };
            let (position, at) = (place(event.position), part.diary.clock.since(event.time));
            Entry::Event(Event { position, at, username: event.username, what })
        }
        Update::Gap(Gap::Range { from, to }) => Entry::Gap(Some((place(from), place(to)))),
        Update::Gap(Gap::Everything) => Entry::Gap(None),
        Update::Disconnected { reason } => {
            if let Reason::Broken { what } = reason {
                part.diary.note(Entry::Broken(what));
            }
            Entry::Away
        }
        Update::Reconnected { resumed } => {
            *session += u64::from(!resumed);
            if resumed {
                Entry::Resumed { session: *session }
            } else {
                Entry::Again { session: *session }
            }
        }
    };
    part.diary.note(entry);
}

fn left(cause: LeftCause) -> proto::LeftCause {
    match cause {
        LeftCause::Asked => proto::LeftCause::Asked,
        LeftCause::Disconnected => proto::LeftCause::Disconnected,
        LeftCause::Ended => proto::LeftCause::Ended,
        LeftCause::Shutdown => proto::LeftCause::Shutdown,
        LeftCause::ReplicaLost => proto::LeftCause::ReplicaLost,
        LeftCause::TimedOut => proto::LeftCause::TimedOut,
        LeftCause::Kicked => proto::LeftCause::Kicked,
        _ => proto::LeftCause::Unspecified,
    }
}
