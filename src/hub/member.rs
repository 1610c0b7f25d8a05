//! One member of one room, as its room and its session see it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::{
    chunk::Chunk,
    room::{Encoder, Room},
};
use crate::{
    backplane::Hold,
    domain::{Event, HoldToken, Position, SessionId},
    room::Fallen,
};

/// A member whose stream is on this replica: the hold of its name and the cursor of its reader.
#[derive(Debug)]
pub struct Member {
    session: SessionId,
    room: Arc<Room>,
    state: Mutex<State>,
    admitted: AtomicBool,
    over: AtomicBool,
    /// The index in the room's window of what the reader takes next. Written under
    /// the room's lock.
    cursor: AtomicU64,
    /// Wakes the reader; the door owns it too.
    reader: Arc<AtomicWaker>,
    /// Bits of [`Notice`].
    notices: AtomicU8,
    /// Wakes the session.
    session_waker: AtomicWaker,
}

#[derive(Debug)]
struct State {
    hold: Hold,
    /// What comes up to here was before this member's time.
    floor: Option<Position>,
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
}

impl Member {
    pub(super) fn new(hold: Hold, room: Arc<Room>, reader: Arc<AtomicWaker>) -> Self {
        Self {
            session: hold.session,
            room,
            state: Mutex::new(State { hold, floor: None }),
            admitted: AtomicBool::new(false),
            over: AtomicBool::new(false),
            cursor: AtomicU64::new(0),
            reader,
            notices: AtomicU8::new(0),
            session_waker: AtomicWaker::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stay that it belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The hold as it stands.
    pub fn hold(&self) -> Hold {
        self.lock().hold.clone()
    }

    /// Whether this is the token under which the name is held.
    pub(super) fn holds(&self, token: HoldToken) -> bool {
        self.lock().hold.token == token
    }

    pub(super) fn replace_hold(&self, hold: Hold) {
        self.lock().hold = hold;
    }

    /// The hold with this token was good when the room's head was there.
    pub(super) fn confirm(&self, token: HoldToken, head: Position) {
        let mut state = self.lock();
        if state.hold.token == token {
            state.hold.confirmed = Some(head);
        }
    }

    /// The member is in: what comes after `position` is for it.
    pub(super) fn admit(&self, position: Position) {
        let mut state = self.lock();
        state.floor = Some(position);
        state.hold.confirmed = Some(position);
        drop(state);
        self.admitted.store(true, Ordering::Release);
        self.wake_reader();
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Whether its name is to be kept.
    pub(super) fn is_held(&self) -> bool {
        self.is_admitted() && !self.is_over()
    }

    /// Whether its stay is over. Its reader may still take what there was.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed)
    }

    pub(super) fn set_cursor(&self, cursor: u64) {
        self.cursor.store(cursor, Ordering::Relaxed);
    }

    /// Whether an event is for this member: not its own, and not from before its time.
    pub(super) fn wants(&self, position: Position, event: &Event) -> bool {
        if event.member.session == self.session {
            return false;
        }
        let floor = self.lock().floor;
        !floor.is_some_and(|floor| floor.epoch == position.epoch && position.seq <= floor.seq)
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
        for notice in [Notice::Moved, Notice::TooSlow, Notice::Taken, Notice::Gone] {
            if notices & notice as u8 != 0 {
                self.notices.fetch_and(!(notice as u8), Ordering::AcqRel);
                return Poll::Ready(notice);
            }
        }
        Poll::Pending
    }

    /// The index in the room's sequence up to which it has come.
    pub fn head(&self) -> u64 {
        self.room.head()
    }

    /// Takes what there is for this member from its cursor on, up to the index `until`; about
    /// `max_bytes`, at least one event. An empty chunk when there is nothing.
    pub fn take(
        &self,
        encoder: &dyn Encoder,
        until: u64,
        max_bytes: usize,
    ) -> Result<Chunk, Fallen> {
        if !self.is_admitted() {
            return Ok(Chunk::default());
        }
        self.room.take(self, encoder, until, max_bytes)
    }
}
