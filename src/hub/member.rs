//! One member of one room, as its room and its session see it.

use std::{
    future::{pending, poll_fn},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use super::{
    chunk::Chunk,
    follower::{AWAY, Follower},
    room::Room,
    slot::Encoder,
};
use crate::{
    backplane::{Hold, Page},
    domain::{Event, HoldToken, Position, SessionId},
    room::{Fallen, Place},
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
    /// Of a reader that misses nothing; others are ended when the window does not reach.
    following: Option<Box<Following>>,
}

#[derive(Debug, Default)]
struct Following {
    /// Once it is in.
    follower: Mutex<Option<Follower>>,
    /// Wakes whoever reads the log for it.
    log_reader: AtomicWaker,
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

impl Following {
    fn lock(&self) -> MutexGuard<'_, Option<Follower>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    pub(super) fn new(
        hold: Hold,
        room: Arc<Room>,
        reader: Arc<AtomicWaker>,
        misses_nothing: bool,
    ) -> Self {
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
            following: misses_nothing.then(Box::default),
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

    /// The member is in, with the room's head at `position`. What comes after it is for the member, or,
    /// for a reader that misses nothing, what comes after `place`.
    pub(super) fn admit(&self, position: Position, place: Place) {
        let mut state = self.lock();
        state.floor = Some(position);
        state.hold.confirmed = Some(position);
        drop(state);
        if let Some(following) = &self.following {
            *following.lock() = Some(Follower::new(place));
        }
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

    /// The window no longer has what the reader takes next.
    pub(super) fn fall_behind(&self) {
        if self.following.is_some() {
            self.set_cursor(AWAY);
        } else {
            self.notify(Notice::TooSlow);
        }
    }

    /// Waits until a page of the log is to be read for the reader; for ever, if it is of a kind for
    /// which that is not done.
    pub(super) async fn log_wanted(&self) {
        let Some(following) = &self.following else { return pending().await };
        poll_fn(|cx| {
            following.log_reader.register(cx.waker());
            let asking = following.lock().as_ref().is_some_and(Follower::is_asking);
            if asking { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Reads the log for the reader from after this sequence number, unless it has found its way.
    pub(super) fn begin_reading(&self) -> Option<u64> {
        self.following.as_ref()?.lock().as_mut()?.begin_reading()
    }

    /// What was read, or `None` when that could not be done. False when there was nothing new.
    pub(super) fn end_reading(&self, page: Option<Page>) -> bool {
        let Some(following) = &self.following else { return false };
        let new = following.lock().as_mut().is_some_and(|it| it.end_reading(page));
        self.wake_reader();
        new
    }

    pub(super) fn wake_log_reader(&self) {
        if let Some(following) = &self.following {
            following.log_reader.wake();
        }
    }

    /// Counts a message against what may be said in the room on this replica. An error tells when there
    /// is room for it.
    pub fn may_say(&self, now: Instant) -> Result<(), Duration> {
        self.room.may_say(now)
    }

    /// Whether there is something that the reader has not taken.
    pub fn has_more(&self) -> bool {
        let cursor = self.cursor();
        let at_window = || cursor == AWAY || cursor < self.room.head();
        let log = self.following.as_ref().and_then(|it| it.lock().as_ref()?.log_has_more());
        self.is_admitted() && log.unwrap_or_else(at_window)
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
        if let Some(following) = &self.following
            && let Some(follower) = following.lock().as_mut()
        {
            return Ok(self.room.follow(self, follower, encoder, max_bytes));
        }
        self.room.take(self, encoder, until, max_bytes)
    }
}
