//! Where a session's messages are in the log.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Mutex as AsyncMutex;

use crate::{
    backplane::{Backplane, PageLimit},
    domain::{Position, RoomName, SessionId, What},
};

/// How much of the log is read at a time, and how much in all.
const PAGE: PageLimit = PageLimit { events: 512, bytes: 256 * 1024 };
const MOST: u64 = 32 * 1024;

/// Positions by client sequence, the latest ones. Others are looked up in the log, from a message
/// whose number is known back: a session's messages are numbered densely.
#[derive(Debug)]
pub(super) struct Positions {
    /// The last client sequence that was in the log when the stream began, and the room's head then.
    began: (u64, Position),
    known: Mutex<Known>,
    looking: AsyncMutex<()>,
    max: usize,
}

#[derive(Debug, Default)]
struct Known {
    positions: BTreeMap<u64, Position>,
    /// Up to here there is nothing to be found.
    gone: u64,
}

impl Positions {
    /// Keeps at most `max`.
    pub(super) fn new(began: (u64, Position), max: usize) -> Self {
        Self { began, known: Mutex::default(), looking: AsyncMutex::new(()), max }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message was appended.
    pub(super) fn learn(&self, client_seq: u64, position: Position) {
        let mut known = self.lock();
        known.positions.insert(client_seq, position);
        while known.positions.len() > self.max {
            known.positions.pop_first();
        }
    }

    /// Where a message is. `None` when the log no longer has it, or does not answer.
    pub(super) async fn find(
        &self,
        backplane: &dyn Backplane,
        room: &RoomName,
        session: SessionId,
        client_seq: u64,
    ) -> Option<Position> {
        // One at a time: what one finds, the next ones know.
        let _looking = self.looking.lock().await;
        let (mut number, mut end) = {
            let known = self.lock();
            if client_seq <= known.gone {
                return None;
            }
            match known.positions.range(client_seq..).next() {
                Some((number, position)) if *number == client_seq => return Some(*position),
                Some((number, position)) => (*number, *position),
                None if client_seq <= self.began.0 => self.began,
                None => return None,
            }
        };
        let oldest = end.seq.saturating_sub(MOST);
        while end.seq > oldest {
            let begin = end.seq.saturating_sub(PAGE.events as u64);
            let own = said_between(backplane, room, session, begin, end).await?;
            for position in own.into_iter().rev() {
                self.learn_older(number, position);
                if number == client_seq {
                    return Some(position);
                }
                number -= 1;
            }
            end.seq = begin;
        }
        let mut known = self.lock();
        known.gone = known.gone.max(client_seq);
        None
    }

    /// The same as [`Positions::learn`], but rather forgets this one than one that is newer.
    fn learn_older(&self, client_seq: u64, position: Position) {
        let mut known = self.lock();
        if known.positions.len() < self.max {
            known.positions.insert(client_seq, position);
        }
    }
}

/// Where a session has said something, after `begin` and up to `end`, in order. `None` when the log is
/// another one by now, or does not answer.
async fn said_between(
    backplane: &dyn Backplane,
    room: &RoomName,
    session: SessionId,
    begin: u64,
    end: Position,
) -> Option<Vec<Position>> {
    let (mut after, mut found) = (begin, Vec::new());
    while after < end.seq {
        let page = backplane.read(room, after, PAGE).await.ok()?;
        let head = page.head.filter(|head| head.includes(end))?;
        let Some((last, _)) = page.events.last() else { break };
        after = *last;
        let own = page.events.into_iter().filter(|(seq, event)| {
            *seq <= end.seq
                && event.member.session == session
                && matches!(event.what, What::Said { .. })
        });
        found.extend(own.map(|(seq, _)| Position::new(head.position.epoch, seq)));
    }
    Some(found)
}
