//! Where a session's messages are in the log.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Mutex as AsyncMutex;

use super::Repeats;
use crate::{
    backplane::{Backplane, PageLimit},
    domain::{EventKind, Position, RoomName, SessionId},
};

/// How much of the log is read at a time, and how much in all.
const PAGE: PageLimit = PageLimit { events: 512, bytes: 256 * 1024 };
const MOST: u64 = 32 * 1024;

/// For how long a log that could not be read is not tried again: others wait behind the one who asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// Positions by client sequence, the latest ones. Others are looked up in the log, from a message
/// whose number is known back: a session's messages are numbered densely.
pub(super) struct Positions<'a> {
    repeats: &'a dyn Repeats,
    /// The last client sequence that was in the log when the stream began, and the room's head then.
    began: (u64, Position),
    known: Mutex<Known>,
    looking: AsyncMutex<()>,
    max: usize,
}

#[derive(Debug, Default)]
struct Known {
    /// Of the latest messages.
    positions: BTreeMap<u64, Position>,
    /// Of those before that were looked up, until the client says something new.
    earlier: BTreeMap<u64, Position>,
    /// Up to here there is nothing to be found.
    gone: u64,
    /// When the log could not be read.
    failed: Option<Instant>,
}

impl<'a> Positions<'a> {
    /// Keeps at most `max`.
    pub(super) fn new(repeats: &'a dyn Repeats, began: (u64, Position), max: usize) -> Self {
        Self { repeats, began, known: Mutex::default(), looking: AsyncMutex::new(()), max }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message was appended.
    pub(super) fn learn(&self, client_seq: u64, position: Position) {
        let mut known = self.lock();
        known.earlier = BTreeMap::new();
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
            let failing = known.failed.is_some_and(|failed| failed.elapsed() < PATIENCE);
            if failing || client_seq <= known.gone {
                return None;
            }
            if let Some(position) = known.earlier.get(&client_seq) {
                return Some(*position);
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
            let Some(own) = self.said_between(backplane, room, session, begin, end).await else {
                self.lock().failed = Some(Instant::now());
                return None;
            };
            for position in own.into_iter().rev() {
                self.lock().earlier.insert(number, position);
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

    /// The last client sequence that the log has of the session, given that it has `known`. `None` when
    /// that cannot be told.
    pub(super) async fn find_after(
        &self,
        backplane: &dyn Backplane,
        room: &RoomName,
        session: SessionId,
        known: u64,
    ) -> Option<u64> {
        let at = self.lock().positions.get(&known).copied();
        let at = at.or_else(|| (known == self.began.0).then_some(self.began.1))?;
        let nothing = PageLimit { events: 0, bytes: 0 };
        let head = backplane.read(room, at.seq, nothing).await.ok()?.head?;
        let end = head.position;
        if !head.includes(at) || end.seq.saturating_sub(at.seq) > MOST {
            return None;
        }
        let own = self.said_between(backplane, room, session, at.seq, end).await?;
        let mut last = known;
        for position in own {
            last += 1;
            self.learn(last, position);
        }
        Some(last)
    }

    /// Where a session has said something, after `begin` and up to `end`, in order. `None` when the log is
    /// another one by now, or does not answer.
    async fn said_between(
        &self,
        backplane: &dyn Backplane,
        room: &RoomName,
        session: SessionId,
        begin: u64,
        end: Position,
    ) -> Option<Vec<Position>> {
        let (mut after, mut found) = (begin, Vec::new());
        while after < end.seq {
            let page = self.repeats.read(backplane.read(room, after, PAGE)).await.ok()?;
            let head = page.head.filter(|head| head.includes(end))?;
            let Some((last, _)) = page.events.last() else { break };
            after = *last;
            let own = page.events.into_iter().filter(|(seq, event)| {
                *seq <= end.seq
                    && event.member.session == session
                    && matches!(event.what, EventKind::Said { .. })
            });
            found.extend(own.map(|(seq, _)| head.written_at(seq)));
        }
        Some(found)
    }
}
