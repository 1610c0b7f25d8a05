//! Those who come for one answer or one message.

use std::time::Duration;

use roomcast_proto::room::{
    Leave, Say, connect_request::Frame as Ask, connect_response::Frame as Tell,
};
use tokio::time::timeout;
use tonic::Code;

use super::{Line, Part, Session, WELCOME, open};
use crate::chaos::{diary::position, record::Entry};

/// How long an answer may take, with Redis away.
const ANSWER: Duration = Duration::from_secs(8);

/// Asks once for a name that somebody else has; answers how it was refused, or nothing if nobody
/// answered. Let in, it leaves.
pub(in crate::chaos) async fn knock(part: &Part) -> Option<Code> {
    part.diary.note(Entry::Tries);
    let opened = timeout(WELCOME, open(part, &Session::default())).await;
    match opened.ok()? {
        Err(status) => Some(status.code()),
        Ok((mut line, welcome)) => {
            let head = position(welcome.head.unwrap_or_default());
            part.diary.note(Entry::In { session: 1, head });
            leave(part, &mut line).await;
            Some(Code::Ok)
        }
    }
}

/// Comes, says one thing and is gone, whether it leaves or only says that no more comes.
pub(in crate::chaos) async fn say_once(part: &Part, leaves: bool) {
    let content = format!("{} says this", part.diary.name);
    part.diary.note(Entry::Asks(content.clone()));
    part.diary.note(Entry::Tries);
    let Ok(Ok((mut line, welcome))) = timeout(WELCOME, open(part, &Session::default())).await
    else {
        return;
    };
    let head = position(welcome.head.unwrap_or_default());
    part.diary.note(Entry::In { session: 1, head });
    line.send(Ask::Say(Say { client_seq: 1, content: content.clone(), ..Say::default() }));
    if leaves {
        return leave(part, &mut line).await;
    }
    let (closed, _) = tokio::sync::mpsc::channel(1);
    line.outgoing = closed;
    // Its session lingers from the moment at which the server hears of that, whatever the client hears yet.
    part.diary.note(Entry::Away);
    read(part, &mut line).await;
}

async fn leave(part: &Part, line: &mut Line) {
    part.diary.note(Entry::Leaves);
    line.send(Ask::Leave(Leave {}));
    read(part, line).await;
    part.diary.note(Entry::Away);
}

/// Reads to the end of the stream, or for as long as an answer may take.
async fn read(part: &Part, line: &mut Line) {
    let reading = async {
        while let Ok(frame) = line.next().await {
            match frame {
                Tell::Ack(ack) => {
                    let content = format!("{} says this", part.diary.name);
                    let position = ack.position.map(position);
                    part.diary.note(Entry::Acked { content, position });
                }
                Tell::Event(event) => {
                    if let Some(event) = part.diary.clock.event(event) {
                        part.diary.note(Entry::Event(event));
                    }
                }
                Tell::Gap(gap) => {
                    let range = gap.from.zip(gap.to);
                    let range = range.map(|(from, to)| (position(from), position(to)));
                    part.diary.note(Entry::Gap(range));
                }
                _ => {}
            }
        }
    };
    let _ = timeout(ANSWER, reading).await;
}
