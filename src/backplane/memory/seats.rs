//! Who is in a room: the roster and its leases.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    backplane::Overdue,
    domain::{HoldToken, Member, Position, SessionId},
};

/// One name's entry in the roster, from `joined` to `left`, with its lease.
#[derive(Debug)]
pub(super) struct Seat {
    /// Who sits there.
    pub(super) member: Member,
    /// The secret of the current hold.
    pub(super) token: HoldToken,
    /// What the join under this token was answered, for when it is repeated.
    pub(super) came: Came,
    /// The last client sequence that this session appended; 0 before the first.
    pub(super) client_seq: u64,
    /// Where the session's last event is.
    pub(super) last: Position,
    /// When the lease ends. Only [`Seats`] changes it, together with its index.
    deadline: Instant,
}

/// What a join came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// See [`crate::backplane::Joined::position`].
    pub(super) position: Position,
    /// See [`crate::backplane::Joined::told`].
    pub(super) told: bool,
}

impl Seat {
    /// A seat just taken.
    pub(super) fn new(
        member: Member,
        token: HoldToken,
        came: Came,
        client_seq: u64,
        deadline: Instant,
    ) -> Self {
        Self { member, token, came, client_seq, last: came.position, deadline }
    }

    /// Whether the lease has ended; the seat then waits for its revival or its eviction.
    pub(super) fn ended(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    /// Whether `session` sits here under `token`.
    pub(super) fn is_of(&self, session: SessionId, token: HoldToken) -> bool {
        self.member.session == session && self.token == token
    }
}

/// All seats of a room by the skeletons of their names, and their deadlines in order.
#[derive(Debug, Default)]
pub(super) struct Seats {
    by_skeleton: HashMap<Arc<str>, Seat>,
    deadlines: BTreeSet<(Instant, Arc<str>)>,
}

impl Seats {
    pub(super) fn is_empty(&self) -> bool {
        self.by_skeleton.is_empty()
    }

    pub(super) fn get(&self, skeleton: &str) -> Option<&Seat> {
        self.by_skeleton.get(skeleton)
    }

    pub(super) fn get_mut(&mut self, skeleton: &str) -> Option<&mut Seat> {
        self.by_skeleton.get_mut(skeleton)
    }

    /// Puts a seat where none was.
    pub(super) fn insert(&mut self, skeleton: &str, seat: Seat) {
        let skeleton: Arc<str> = Arc::from(skeleton);
        self.deadlines.insert((seat.deadline, Arc::clone(&skeleton)));
        self.by_skeleton.insert(skeleton, seat);
    }

    pub(super) fn remove(&mut self, skeleton: &str) {
        if let Some((skeleton, seat)) = self.by_skeleton.remove_entry(skeleton) {
            self.deadlines.remove(&(seat.deadline, skeleton));
        }
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&mut self, skeleton: &str, deadline: Instant) {
        let Some((skeleton, mut seat)) = self.by_skeleton.remove_entry(skeleton) else { return };
        self.deadlines.remove(&(seat.deadline, Arc::clone(&skeleton)));
        self.deadlines.insert((deadline, Arc::clone(&skeleton)));
        seat.deadline = deadline;
        self.by_skeleton.insert(skeleton, seat);
    }

    /// Time until the earliest lease ends, zero if one has; `None` when nobody is there.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| deadline.saturating_duration_since(now))
    }

    /// The members whose leases have ended, the longest overdue first.
    pub(super) fn overdue(&self, now: Instant) -> impl Iterator<Item = Overdue> {
        self.deadlines
            .iter()
            .take_while(move |(deadline, _)| *deadline <= now)
            .filter_map(move |(_, skeleton)| self.overdue_at(skeleton, now))
    }

    /// The member at `skeleton`, if its lease has ended.
    pub(super) fn overdue_at(&self, skeleton: &str, now: Instant) -> Option<Overdue> {
        let seat = self.get(skeleton).filter(|seat| seat.ended(now))?;
        Some(Overdue { skeleton: skeleton.to_owned(), member: seat.member.clone() })
    }
}
