//! Who is in a room: the roster and its leases.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    backplane::{
        Hold, MEMBERS_PAGE, Members, MembersCursor, MembersPage, Overdue, Present, Seated,
    },
    domain::{FencingToken, Member, Position, ReplicaId, SecretHash, SessionId, StreamId},
};

/// Stands for "never" where a configured duration is too long for the clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// One name's entry in the roster, from `joined` to `left`, with its lease.
#[derive(Debug)]
pub(super) struct RosterEntry {
    /// Who sits there.
    pub(super) member: Member,
    since: Timestamp,
    secret: Option<SecretHash>,
    replica: ReplicaId,
    /// The secret of the current hold, or of the last one.
    pub(super) token: FencingToken,
    /// See [`Hold::attempt`].
    pub(super) attempt: u64,
    /// See [`Hold::linger`].
    pub(super) linger: Duration,
    /// What the join under this token was answered, for when it is repeated.
    pub(super) came: Came,
    /// The last client sequence that this session appended; 0 before the first.
    pub(super) client_seq: u64,
    /// Where the session's last event is.
    pub(super) last: Position,
    /// The stream is gone, and the lease ends when it ends.
    pub(super) lingers: bool,
    /// When the lease ends.
    pub(super) lease_ends: Instant,
    /// Numbers those who came. Only [`Roster`] sets it.
    number: u64,
    /// Until when the name is kept: its session may linger after the lease's end. Only [`Roster`] changes
    /// it, together with its index.
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

impl RosterEntry {
    /// A seat just taken, with a lease until then.
    pub(super) fn new(hold: &Hold, came: Came, client_seq: u64, lease_ends: Instant) -> Self {
        Self {
            member: Member { name: hold.name.display().clone(), session: hold.session },
            since: hold.since,
            secret: hold.secret,
            replica: hold.replica,
            token: hold.token,
            attempt: hold.attempt,
            linger: hold.linger,
            came,
            client_seq,
            last: came.position,
            lingers: false,
            lease_ends,
            number: 0,
            deadline: later(lease_ends, hold.linger),
        }
    }

    /// The session goes on under this hold.
    pub(super) fn carry_on(&mut self, hold: &Hold) {
        self.since = hold.since;
        self.secret = hold.secret;
        self.replica = hold.replica;
        self.token = hold.token;
        self.attempt = hold.attempt;
        self.linger = hold.linger;
        self.lingers = false;
    }

    /// See [`crate::backplane::Backplane::lookup`].
    pub(super) fn seated(&self) -> Seated {
        Seated {
            member: self.member.clone(),
            secret: self.secret,
            replica: self.replica,
            since: self.since,
            client_seq: self.client_seq,
            lingers: self.lingers,
            stream: Some(self.token.stream()),
            attempt: self.attempt,
        }
    }

    /// Whether the lease has ended; the seat then waits for its revival or its eviction.
    pub(super) fn ended(&self, now: Instant) -> bool {
        self.lease_ends <= now
    }

    /// Whether the name is not kept any more.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    /// Whether this stream carries `session` here.
    pub(super) fn is_carried_by(&self, session: SessionId, stream: StreamId) -> bool {
        self.member.session == session && self.token.stream() == stream
    }
}

/// All seats of a room by the skeletons of their names, their deadlines in order, and who came when.
#[derive(Debug, Default)]
pub(super) struct Roster {
    by_skeleton: HashMap<Arc<str>, RosterEntry>,
    deadlines: BTreeSet<(Instant, Arc<str>)>,
    arrivals: BTreeMap<u64, Arc<str>>,
    last_number: u64,
}

impl Roster {
    pub(super) fn get(&self, skeleton: &str) -> Option<&RosterEntry> {
        self.by_skeleton.get(skeleton)
    }

    pub(super) fn get_mut(&mut self, skeleton: &str) -> Option<&mut RosterEntry> {
        self.by_skeleton.get_mut(skeleton)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_skeleton.len()
    }

    /// Puts a seat where none was.
    pub(super) fn insert(&mut self, skeleton: &str, mut seat: RosterEntry) {
        let skeleton: Arc<str> = Arc::from(skeleton);
        self.last_number += 1;
        seat.number = self.last_number;
        self.arrivals.insert(seat.number, Arc::clone(&skeleton));
        self.deadlines.insert((seat.deadline, Arc::clone(&skeleton)));
        self.by_skeleton.insert(skeleton, seat);
    }

    pub(super) fn remove(&mut self, skeleton: &str) {
        if let Some((skeleton, seat)) = self.by_skeleton.remove_entry(skeleton) {
            self.deadlines.remove(&(seat.deadline, skeleton));
            self.arrivals.remove(&seat.number);
        }
    }

    /// Moves the end of a lease. The session of one that lingers does not outlive it.
    pub(super) fn extend(&mut self, skeleton: &str, lease_ends: Instant) {
        let Some((skeleton, mut seat)) = self.by_skeleton.remove_entry(skeleton) else { return };
        self.deadlines.remove(&(seat.deadline, Arc::clone(&skeleton)));
        let linger = if seat.lingers { Duration::ZERO } else { seat.linger };
        (seat.lease_ends, seat.deadline) = (lease_ends, later(lease_ends, linger));
        self.deadlines.insert((seat.deadline, Arc::clone(&skeleton)));
        self.by_skeleton.insert(skeleton, seat);
    }

    /// Time until the earliest name is not kept any more, zero if one has; `None` when nobody is there.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| deadline.saturating_duration_since(now))
    }

    /// Until when the last name is kept.
    pub(super) fn last_deadline(&self) -> Option<Instant> {
        self.deadlines.last().map(|(deadline, _)| *deadline)
    }

    /// See [`crate::backplane::Backplane::members`]. Those who came first are told first.
    pub(super) fn members(&self, page: MembersPage) -> Members {
        let after = page.cursor.map_or(0, |MembersCursor(after)| after);
        let mut numbers = self.arrivals.range(after.saturating_add(1)..);
        let members: Vec<(u64, Present)> = numbers
            .by_ref()
            .take(page.limit.clamp(1, MEMBERS_PAGE))
            .filter_map(|(number, skeleton)| {
                let RosterEntry { member, since, lingers, .. } = self.get(skeleton)?;
                let (member, since, lingers) = (member.clone(), *since, *lingers);
                Some((*number, Present { member, since, lingers }))
            })
            .collect();
        let more = numbers.next().is_some();
        let next = members.last().filter(|_| more).map(|(number, _)| MembersCursor(*number));
        let members = members.into_iter().map(|(_, present)| present).collect();
        Members { members, next, total: self.len() }
    }

    /// The members whose names are not kept any more, the longest overdue first.
    pub(super) fn overdue(&self, now: Instant) -> impl Iterator<Item = Overdue> {
        self.deadlines
            .iter()
            .take_while(move |(deadline, _)| *deadline <= now)
            .filter_map(move |(_, skeleton)| self.overdue_at(skeleton, now))
    }

    /// The member at `skeleton`, if its name is not kept any more.
    pub(super) fn overdue_at(&self, skeleton: &str, now: Instant) -> Option<Overdue> {
        let seat = self.get(skeleton).filter(|seat| seat.is_late(now))?;
        Some(Overdue {
            skeleton: skeleton.to_owned(),
            member: seat.member.clone(),
            lingered: seat.lingers,
            linger: seat.linger,
        })
    }
}

/// `now + time`, or a far future where that is beyond the clock.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}
