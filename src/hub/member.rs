//! One member of one room, as its room and its session see it.

use std::{
    future::{pending, poll_fn},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use super::{catch_up_reader::CatchUpReader, chunk::SharedChunk, unread::Held};
use crate::{
    backplane::Hold,
    domain::{
        Event, EventKind, FencingToken, Page, Position, ReplicaId, RoomName, RoomRole, SessionId,
        Username,
    },
    room::LogCursor,
    wakers::ReaderWaker,
};

/// A member whose stream is on this replica: the hold of its name, and what its reader is to know.
#[derive(Debug)]
pub struct Member {
    hot: Hot,
    hold: Mutex<Hold>,
    admitted: AtomicBool,
    /// Where its own `left` is in the log, once that is known.
    left: OnceLock<Position>,
    reader: ReaderWaker,
    /// Why a moderator has put it out.
    kicked: OnceLock<Arc<str>>,
    /// The letter of the role that was set for it in the room; zero for none.
    set_role: AtomicU8,
    /// Bits of [`Notice`].
    notices: AtomicU8,
    /// Wakes the session.
    session_waker: AtomicWaker,
    /// Until when its name owes what was said, where that is limited.
    owes: Mutex<Option<Instant>>,
    /// Of a reader that misses nothing; others are ended when the window does not reach.
    catch_up: Option<Box<CatchUp>>,
}

/// What is looked at for every event that its reader takes: one line of a core's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Hot {
    /// The index in the room's window of what the reader takes next. Only its own task moves it forth.
    cursor: AtomicU64,
    /// The room's number.
    room: u64,
    session: SessionId,
    /// Its reader gets whatever its room gets that it has not done itself.
    open: AtomicBool,
    /// Its reader misses nothing.
    misses_nothing: bool,
    /// Its membership is over.
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct CatchUp {
    /// Once it is in.
    reader: Mutex<Option<CatchUpReader>>,
    /// Wakes whoever reads the log for it.
    log_reader: AtomicWaker,
}

/// What the event that tells of its member's end is to a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LastEvent {
    /// Nothing after it is for the reader.
    Here,
    /// It looks like that one: wait until it is known where that is.
    Perhaps,
}

/// Something that a session has to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Notice {
    /// The reader fell off the room's window.
    TooSlow = 1,
    /// Somebody else holds the name.
    Taken = 2,
    /// The name is not held any more, by nobody.
    Gone = 4,
    /// Another stream carries the session.
    Moved = 8,
    /// A moderator has put it out.
    Kicked = 16,
}

impl CatchUp {
    fn lock(&self) -> MutexGuard<'_, Option<CatchUpReader>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    pub(super) fn new(
        hold: Hold,
        room_number: u64,
        reader: ReaderWaker,
        misses_nothing: bool,
    ) -> Self {
        Self {
            hot: Hot {
                cursor: AtomicU64::new(0),
                room: room_number,
                session: hold.session,
                open: AtomicBool::new(false),
                misses_nothing,
                over: AtomicBool::new(false),
            },
            hold: Mutex::new(hold),
            admitted: AtomicBool::new(false),
            left: OnceLock::new(),
            kicked: OnceLock::new(),
            set_role: AtomicU8::new(0),
            reader,
            notices: AtomicU8::new(0),
            session_waker: AtomicWaker::new(),
            owes: Mutex::new(None),
            catch_up: misses_nothing.then(Box::default),
        }
    }

    /// A reader of a room that misses nothing and is no membership: the name in its hold is never held.
    pub(super) fn watcher(
        room: &RoomName,
        room_number: u64,
        replica: ReplicaId,
        reader: ReaderWaker,
    ) -> Self {
        let hold = Hold {
            room: room.clone(),
            name: Username::system(),
            session: SessionId::from_bytes(rand::random()),
            since: jiff::Timestamp::now(),
            secret: None,
            linger: Duration::ZERO,
            attempt: 0,
            token: FencingToken::from_bytes(rand::random()),
            replica,
            identity: None,
            role: RoomRole::Reader,
            confirmed: None,
        };
        Self::new(hold, room_number, reader, true)
    }

    fn lock(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The membership that it belongs to.
    pub fn session(&self) -> SessionId {
        self.hot.session
    }

    /// The hold as it stands.
    pub fn hold(&self) -> Hold {
        self.lock().clone()
    }

    /// Whether this is the token under which the name is held.
    pub(super) fn holds(&self, token: FencingToken) -> bool {
        self.lock().token == token
    }

    pub(super) fn replace_hold(&self, hold: Hold) {
        *self.lock() = hold;
    }

    /// The hold with this token was good when the room's head was there.
    pub(super) fn confirm(&self, token: FencingToken, head: Position) {
        let mut hold = self.lock();
        if hold.token == token {
            hold.confirmed = Some(head);
        }
    }

    /// The member is in, with the room's head at `position`. A reader that misses nothing gets what comes
    /// after `place`.
    pub(super) fn admit(&self, position: Position, place: LogCursor) {
        self.lock().confirmed = Some(position);
        if let Some(catch_up) = &self.catch_up {
            *catch_up.lock() = Some(CatchUpReader::new(place));
        }
        self.admitted.store(true, Ordering::Release);
    }

    /// The number of its room.
    pub(super) fn room_number(&self) -> u64 {
        self.hot.room
    }

    /// Looks at what taking an event looks at, so that it is at hand then.
    pub fn touch(&self) -> u64 {
        self.cursor()
    }

    pub(super) fn cursor(&self) -> u64 {
        self.hot.cursor.load(Ordering::Relaxed)
    }

    pub(super) fn set_cursor(&self, cursor: u64) {
        self.hot.cursor.store(cursor, Ordering::Relaxed);
    }

    /// Its reader gets whatever its room gets from now on.
    pub(super) fn open(&self) {
        self.hot.open.store(true, Ordering::Relaxed);
    }

    /// Its reader takes what another one at its cursor has taken. False when something else may come next
    /// for it.
    pub(super) fn take_shared(&self, shared: &SharedChunk) -> bool {
        let takes = if self.is_over() {
            // Not all of it may be for this one.
            false
        } else if self.misses_nothing() {
            self.with_catch_up_reader(|reader| reader.take_shared(shared.last)) == Some(true)
        } else {
            self.hot.open.load(Ordering::Relaxed)
        };
        if takes {
            self.set_cursor(shared.indices.end);
        }
        takes
    }

    /// Whether its reader misses nothing.
    pub(super) fn misses_nothing(&self) -> bool {
        self.hot.misses_nothing
    }

    /// Does something with how far its reader has come, if it is in and misses nothing.
    pub(super) fn with_catch_up_reader<T>(
        &self,
        act: impl FnOnce(&mut CatchUpReader) -> T,
    ) -> Option<T> {
        self.catch_up.as_ref()?.lock().as_mut().map(act)
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Whether its name is to be kept.
    pub(super) fn is_held(&self) -> bool {
        self.is_admitted() && !self.is_over()
    }

    /// Whether its membership is over. Its reader may still take what there was.
    pub(super) fn is_over(&self) -> bool {
        self.hot.over.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.hot.over.store(true, Ordering::Release);
    }

    /// The room was told that it left, by the event there.
    pub(super) fn note_left(&self, position: Position) {
        let _ = self.left.set(position);
        self.wake_reader();
    }

    /// A moderator has put it out, as its `left` there tells.
    pub(super) fn kick(&self, left: Position, reason: Arc<str>) {
        let _ = self.kicked.set(reason);
        self.note_left(left);
        self.notify(Notice::Kicked);
    }

    /// Why a moderator has put it out.
    pub fn kicked(&self) -> Option<Arc<str>> {
        self.kicked.get().cloned()
    }

    /// It has this role in the room, whatever its token says; or that one.
    pub(super) fn set_role(&self, role: Option<RoomRole>) {
        let letter = role.and_then(|role| u8::try_from(role.letter()).ok());
        self.set_role.store(letter.unwrap_or(0), Ordering::Relaxed);
    }

    /// The role that was set for it in the room.
    pub fn role_set(&self) -> Option<RoomRole> {
        RoomRole::from_letter(char::from(self.set_role.load(Ordering::Relaxed)))
    }

    /// Where its own `left` is, if that is known.
    pub(super) fn left(&self) -> Option<Position> {
        self.left.get().copied()
    }

    /// Whether an event tells of its end, after which nothing is for its reader. A member that was reaped
    /// and came back has an earlier one.
    pub(super) fn last_event(&self, position: Position, event: &Event) -> Option<LastEvent> {
        let own = event.member.session == self.session() && self.is_over();
        if !own || !matches!(event.what, EventKind::Left { .. }) {
            return None;
        }
        match self.left() {
            None => Some(LastEvent::Perhaps),
            // A failover may have given the log another epoch.
            Some(left) => (left.seq == position.seq).then_some(LastEvent::Here),
        }
    }

    /// Waits until a page of the log is to be read for the reader; for ever, if it is of a kind for
    /// which that is not done.
    pub(super) async fn log_wanted(&self) {
        let Some(catch_up) = &self.catch_up else { return pending().await };
        poll_fn(|cx| {
            catch_up.log_reader.register(cx.waker());
            let asking = catch_up.lock().as_ref().is_some_and(CatchUpReader::is_asking);
            if asking { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Reads the log for the reader from after this sequence number, unless it has found its way.
    pub(super) fn begin_reading(&self) -> Option<u64> {
        self.catch_up.as_ref()?.lock().as_mut()?.begin_reading()
    }

    /// What was read, or `None` when that could not be done. False when there was nothing new.
    pub(super) fn end_reading(&self, page: Option<Page>, held: Held) -> bool {
        let Some(catch_up) = &self.catch_up else { return false };
        let new = catch_up.lock().as_mut().is_some_and(|it| it.end_reading(page, held));
        self.wake_reader();
        new
    }

    pub(super) fn wake_log_reader(&self) {
        if let Some(catch_up) = &self.catch_up {
            catch_up.log_reader.wake();
        }
    }

    /// Its name owes what was said until then, also if another session has it.
    pub fn owe_until(&self, until: Instant) {
        *self.owes.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    pub(super) fn owes(&self) -> Option<Instant> {
        *self.owes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What wakes its reader.
    pub(super) fn reader_waker(&self) -> &ReaderWaker {
        &self.reader
    }

    pub(super) fn wake_reader(&self) {
        self.reader.wake();
    }

    pub(super) fn notify(&self, notice: Notice) {
        self.notices.fetch_or(notice as u8, Ordering::AcqRel);
        self.session_waker.wake();
    }

    /// The most urgent notice that was not taken yet.
    pub fn poll_notice(&self, cx: &mut Context<'_>) -> Poll<Notice> {
        self.session_waker.register(cx.waker());
        let notices = self.notices.load(Ordering::Acquire);
        for notice in [Notice::Kicked, Notice::Moved, Notice::TooSlow, Notice::Taken, Notice::Gone]
        {
            if notices & notice as u8 != 0 {
                self.notices.fetch_and(!(notice as u8), Ordering::AcqRel);
                return Poll::Ready(notice);
            }
        }
        Poll::Pending
    }
}
