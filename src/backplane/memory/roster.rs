//! Who is in a room.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    decisions::{Decided, Ends},
    leases::{Incarnation, Leases, later},
};
use crate::{
    backplane::{
        Hold, MEMBERS_PAGE, Members, MembersCursor, MembersPage, Present, Seated, Silenced,
    },
    domain::{
        FencingToken, Identity, Member, Position, ReplicaId, RoomRole, RoomSettings, SecretHash,
        SessionId, StreamId,
    },
};

/// One name's entry in the roster, from `joined` to `left`.
#[derive(Debug)]
pub(super) struct RosterEntry {
    /// Who sits there.
    pub(super) member: Member,
    since: Timestamp,
    secret: Option<SecretHash>,
    replica: ReplicaId,
    /// By whose lease the name is held.
    pub(super) incarnation: Incarnation,
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
    /// The stream is gone.
    pub(super) lingers: bool,
    /// The subject of its identity, if it has one.
    subject: Option<Arc<str>>,
    /// Its role by its token, and the one that was set for it.
    role: RoomRole,
    pub(super) set_role: Option<RoomRole>,
    /// Until when it may not speak.
    pub(super) muted: Option<Ends>,
    /// When it last spoke in slow mode.
    pub(super) spoke: Option<Instant>,
    /// See [`crate::backplane::Joined::began`].
    pub(super) began: u64,
    /// Numbers those who came. Only [`Roster`] sets it.
    number: u64,
    /// Until when the name is kept although its stream, or its replica, is gone. Only [`Roster`] changes it, together
    /// with its index.
    kept: Option<Instant>,
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
    /// A seat just taken.
    pub(super) fn new(
        hold: &Hold,
        own: Incarnation,
        came: Came,
        client_seq: u64,
        decided: &Decided,
    ) -> Self {
        Self {
            subject: hold.identity.as_ref().and_then(Identity::subject).cloned(),
            role: hold.role,
            set_role: decided.role,
            muted: decided.muted,
            spoke: None,
            began: came.position.seq,
            member: Member { name: hold.name.display().clone(), session: hold.session },
            since: hold.since,
            secret: hold.secret,
            replica: hold.replica,
            incarnation: own,
            token: hold.token,
            attempt: hold.attempt,
            linger: hold.linger,
            came,
            client_seq,
            last: came.position,
            lingers: false,
            number: 0,
            kept: None,
        }
    }

    /// The session goes on under this hold.
    pub(super) fn carry_on(&mut self, hold: &Hold, own: Incarnation, decided: &Decided) {
        self.role = hold.role;
        self.set_role = decided.role;
        self.muted = decided.muted;
        self.incarnation = own;
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
            stream: self.token.stream(),
            attempt: self.attempt,
            subject: self.subject.clone(),
            role: self.role(),
        }
    }

    /// Its role in the room.
    fn role(&self) -> RoomRole {
        self.set_role.unwrap_or(self.role)
    }

    /// Why it may not speak, if so.
    pub(super) fn silenced(&self, now: Instant, settings: RoomSettings) -> Option<Silenced> {
        if let Some(until) = self.muted.and_then(|ends| ends.holds(now)) {
            return Some(Silenced::Muted(until));
        }
        if self.set_role == Some(RoomRole::Reader) {
            return Some(Silenced::Reader);
        }
        if self.role() >= RoomRole::Moderator {
            return None;
        }
        if settings.read_only {
            return Some(Silenced::ReadOnly);
        }
        let next = self.spoke.map(|spoke| later(spoke, settings.slow_mode));
        let wait = next.map(|next| next.saturating_duration_since(now));
        wait.filter(|wait| !wait.is_zero()).map(Silenced::SlowMode)
    }

    /// Until when the name is kept. `None`: it is not any more.
    pub(super) fn kept(&self, leases: &Leases) -> Option<Instant> {
        let lease = leases.end(self.incarnation).filter(|_| !self.lingers);
        lease.map(|ends| later(ends, self.linger)).or(self.kept)
    }

    /// Whether it is known until when the name is kept although its stream, or its replica, is gone.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether the name is not kept any more; the seat then waits for its revival or its eviction.
    pub(super) fn is_late(&self, leases: &Leases, now: Instant) -> bool {
        self.kept(leases).is_none_or(|kept| kept <= now)
    }

    /// Whether this stream carries `session` here.
    pub(super) fn is_carried_by(&self, session: SessionId, stream: StreamId) -> bool {
        self.member.session == session && self.token.stream() == stream
    }
}

/// All seats of a room by the skeletons of their names, those that linger in the order in which they end, and who came
/// when.
#[derive(Debug, Default)]
pub(super) struct Roster {
    by_skeleton: HashMap<Arc<str>, RosterEntry>,
    lingering: BTreeSet<(Instant, Arc<str>)>,
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
        self.by_skeleton.insert(skeleton, seat);
    }

    pub(super) fn remove(&mut self, skeleton: &str) {
        if let Some((skeleton, seat)) = self.by_skeleton.remove_entry(skeleton) {
            self.arrivals.remove(&seat.number);
            if let Some(kept) = seat.kept {
                self.lingering.remove(&(kept, skeleton));
            }
        }
    }

    /// Keeps a name until then although its stream, or its replica, is gone; or, for nobody, no longer than by its lease.
    pub(super) fn keep(&mut self, skeleton: &str, kept: Option<Instant>) {
        let Some((skeleton, mut seat)) = self.by_skeleton.remove_entry(skeleton) else { return };
        if let Some(before) = seat.kept {
            self.lingering.remove(&(before, Arc::clone(&skeleton)));
        }
        seat.kept = kept;
        self.lingering.extend(kept.map(|kept| (kept, Arc::clone(&skeleton))));
        self.by_skeleton.insert(skeleton, seat);
    }

    /// When the first one ends of those whose streams, or replicas, are gone.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.lingering.first().map(|(ends, _)| *ends)
    }

    /// All seats.
    pub(super) fn seats(&self) -> impl Iterator<Item = (&Arc<str>, &RosterEntry)> {
        self.by_skeleton.iter()
    }

    /// See [`crate::backplane::Backplane::members`]. Those who came first are told first.
    pub(super) fn members(&self, page: MembersPage) -> Members {
        let after = page.cursor.map_or(0, |MembersCursor(after)| after);
        let mut numbers = self.arrivals.range(after.saturating_add(1)..);
        let members: Vec<(u64, Present)> = numbers
            .by_ref()
            .take(page.limit.clamp(1, MEMBERS_PAGE))
            .filter_map(|(number, skeleton)| {
                let entry = self.get(skeleton)?;
                let RosterEntry { member, since, lingers, subject, .. } = entry;
                let (member, subject, role) = (member.clone(), subject.clone(), entry.role());
                let (since, lingers) = (*since, *lingers);
                Some((*number, Present { member, since, lingers, subject, role }))
            })
            .collect();
        let more = numbers.next().is_some();
        let next = members.last().filter(|_| more).map(|(number, _)| MembersCursor(*number));
        let members = members.into_iter().map(|(_, present)| present).collect();
        Members { members, next, total: self.len() }
    }
}
