//! One room as a pure state machine: no clock, no chance, no I/O. Time is an argument and never
//! goes back; each call is one atomic step.

mod moderating;
mod reaping;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    decisions::Decided,
    leases::{Incarnation, Leases, later},
    log::Log,
    roster::{Came, Roster, RosterEntry},
};
use crate::{
    backplane::{
        AppendError, Appended, Checked, Hold, Join, JoinError, Joined, LogBounds, Members,
        MembersPage, PageLimit, Publish, PublishError, RoomHead, RoomSummary, Seated, Verdict,
    },
    domain::{
        Epoch, Event, Head, Page, Position, RoomName, RoomRole, RoomSettings, SessionId, StreamId,
        Username,
    },
};

/// How many names may owe something before it is looked which ones do not any more.
const OWES: usize = 64;

/// What a room takes beside the events of its log, about.
const ROOM: usize = 1024;

/// What holds in every room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long a lease lasts.
    pub(super) lease: Duration,
    /// How much of the log is kept.
    pub(super) log: LogBounds,
    /// How many members it may have.
    pub(super) members: usize,
    /// When the clock of contacts began.
    pub(super) began: Instant,
}

/// Of how many leases a room with members is kept at least: its replicas ask for it every four.
const OCCUPIED: u32 = 6;

/// A room: its log and its members.
#[derive(Debug)]
pub(super) struct Room {
    name: RoomName,
    rules: Rules,
    log: Log,
    seats: Roster,
    /// Until when names owe what was said under them, and how many may be there before those that owe nothing
    /// any more are looked for.
    owes: HashMap<String, Instant>,
    most_owes: usize,
    owes_until: Instant,
    /// Streams that were superseded and not told of it yet, and how many ever were.
    moved: Vec<(SessionId, StreamId)>,
    takeovers: u64,
    /// No member's session lingers for longer; members that have gone may have.
    longest: Duration,
    /// Sessions that have left within the last lease, in that order: a former stream of theirs has not. Those that a
    /// moderator put out have a reason.
    left: VecDeque<(Instant, SessionId, Option<Arc<str>>)>,
    /// What holds for all but moderators.
    settings: RoomSettings,
    /// The log tells more than who came and went by themselves.
    said: bool,
    /// When all of it is forgotten, unless something happens.
    expires: Instant,
}

impl Room {
    /// A room in which nothing has happened.
    pub(super) fn new(name: RoomName, epoch: Epoch, rules: Rules, now: Instant) -> Self {
        let log = Log::new(epoch, rules.log);
        let mut room = Self {
            name,
            rules,
            log,
            seats: Roster::default(),
            owes: HashMap::new(),
            most_owes: OWES,
            owes_until: now,
            moved: Vec::new(),
            takeovers: 0,
            longest: Duration::ZERO,
            left: VecDeque::new(),
            settings: RoomSettings::default(),
            said: false,
            expires: now,
        };
        room.touch(now);
        room
    }

    /// When the room is to be forgotten: its log's age after the last member went, or some leases after it was last
    /// used or asked for.
    pub(super) fn expires(&self) -> Instant {
        self.expires
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        ROOM + self.log.bytes()
    }

    /// Drops the oldest events of its log until it takes no more bytes than that, as far as that goes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.log.shrink(bytes.saturating_sub(ROOM));
    }

    /// Whether nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.seats.len() == 0
    }

    /// The events that no listener was told of yet: their epoch, the first one's sequence
    /// number, and they themselves.
    pub(super) fn take_fresh(&mut self) -> Option<(Epoch, u64, Vec<Arc<Event>>)> {
        let (first, events) = self.log.take_fresh()?;
        Some((self.head().position.epoch, first, events))
    }

    /// The sessions that were taken over since the last call, and the streams that lost them.
    pub(super) fn take_moved(&mut self) -> Vec<(SessionId, StreamId)> {
        std::mem::take(&mut self.moved)
    }

    /// See [`crate::backplane::Backplane::join`].
    ///
    /// A session that is still in the roster is not told again: under its own token it gets the
    /// answer it got at first, under a new one it goes on, as by a renewal.
    pub(super) fn join(
        &mut self,
        now: Instant,
        leases: &mut Leases,
        own: Incarnation,
        join: &Join<'_>,
        decided: &Decided,
    ) -> Result<Joined, JoinError> {
        let Join { hold, takeover, evict, .. } = *join;
        self.settings = decided.settings;
        let skeleton = hold.name.skeleton();
        let seat = self.seats.get(skeleton);
        let own_seat = seat.filter(|seat| seat.member.session == hold.session);
        // Whose answer was only lost is in.
        if own_seat.is_none_or(|seat| seat.token != hold.token) {
            self.admits(now, hold, decided)?;
        }
        if let Some(seat) = seat.filter(|seat| seat.member.session == hold.session) {
            let same_stream = seat.token.stream() == hold.token.stream();
            if same_stream && seat.lingers && seat.token != hold.token {
                return Err(JoinError::Ended);
            }
            if !same_stream {
                match takeover {
                    Some(_) if hold.attempt < seat.attempt => {
                        return Err(JoinError::Overtaken { seen: seat.attempt });
                    }
                    Some(takeover) if takeover.from == seat.token.stream() => {}
                    None if hold.confirmed.is_none() => return Err(JoinError::Taken),
                    // An older stream came back first when this one's join was lost.
                    None if hold.attempt > seat.attempt => {}
                    Some(_) | None => return Err(JoinError::Moved),
                }
            }
            return Ok(self.join_again(now, leases, own, join, decided));
        }
        let has_left = hold.confirmed.is_some() && self.has_left(now, hold.session);
        let told = hold.confirmed.is_none_or(|position| self.head().includes(position));
        if takeover.is_some() || has_left || (told && join.silent) {
            return Err(JoinError::Ended);
        }
        let overdue = self.overdue_at(now, leases, own, skeleton);
        if seat.is_some()
            && !overdue.as_ref().is_some_and(|it| self.may_reap(now, it, join.contact))
        {
            return Err(JoinError::Taken);
        }
        let evicted = |session| evict.is_some_and(|it| it.overdue.member.session == session);
        let leaves = overdue.is_some();
        if let Some(overdue) = overdue
            && !evicted(overdue.member.session)
        {
            return Err(JoinError::Overdue(Box::new(overdue)));
        }
        let max = self.rules.members;
        if hold.confirmed.is_none() && self.seats.len() - usize::from(leaves) >= max {
            let late = |it: &str| self.overdue_at(now, leases, own, it).is_some();
            let overdue = self.seats.seats().any(|(skeleton, _)| late(skeleton));
            return Err(JoinError::Full { max, overdue });
        }

        if let Some(evict) = evict {
            self.evict(now, leases, join.contact, evict);
        }
        let position =
            if told { self.log.push(now, Arc::clone(&join.event)) } else { self.head().position };
        let came = Came { position, told };
        leases.hold(own, now);
        self.longest = self.longest.max(hold.linger);
        self.seats.insert(skeleton, RosterEntry::new(hold, own, came, join.appended, decided));
        Ok(self.joined(now, came, join.appended, decided.role, came.position.seq))
    }

    /// See [`crate::backplane::Backplane::append`].
    pub(super) fn append(
        &mut self,
        now: Instant,
        leases: &Leases,
        own: Incarnation,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError> {
        let seat = self
            .seats
            .get_mut(hold.name.skeleton())
            .filter(|it| it.member.session == hold.session && it.token == hold.token)
            .filter(|it| it.incarnation == own && leases.stands(own, now))
            .filter(|it| !(it.lingers && it.is_late(leases, now)))
            .ok_or(AppendError::Stale)?;
        if client_seq <= seat.client_seq {
            let (position, client_seq) = (seat.last, seat.client_seq);
            return Ok(Appended { position, client_seq, duplicate: true });
        }
        if client_seq > seat.client_seq + 1 {
            return Err(AppendError::Stale);
        }
        if let Some(silenced) = seat.silenced(now, self.settings) {
            return Err(AppendError::Silenced(silenced));
        }
        seat.spoke = (!self.settings.slow_mode.is_zero()).then_some(now);
        self.said = true;
        seat.client_seq = client_seq;
        seat.last = self.log.push(now, event);
        let position = seat.last;
        self.touch(now);
        Ok(Appended { position, client_seq, duplicate: false })
    }

    /// See [`crate::backplane::Backplane::publish`].
    pub(super) fn publish(
        &mut self,
        now: Instant,
        publish: &Publish,
    ) -> Result<Position, PublishError> {
        let name = publish.name.as_ref();
        if name.is_some_and(|name| self.seats.get(name.skeleton()).is_some()) {
            return Err(PublishError::NameTaken);
        }
        self.said = true;
        let position = self.log.push(now, Arc::clone(&publish.event));
        self.touch(now);
        Ok(position)
    }

    /// See [`crate::backplane::Backplane::leave`]. A name whose lease ended unnoticed is still
    /// there to be given back. Memory loses no log, so nobody's join is ever lost.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        hold: &Hold,
        event: Arc<Event>,
    ) -> Option<Position> {
        let skeleton = hold.name.skeleton();
        let stream = hold.token.stream();
        self.seats.get(skeleton).filter(|seat| seat.is_carried_by(hold.session, stream))?;
        self.seats.remove(skeleton);
        self.left.push_back((self.known_until(now), hold.session, None));
        let position = self.log.push(now, event);
        self.touch(now);
        Some(position)
    }

    /// See [`crate::backplane::Backplane::linger`].
    pub(super) fn linger(
        &mut self,
        now: Instant,
        own: Incarnation,
        hold: &Hold,
        time: Duration,
    ) -> bool {
        let skeleton = hold.name.skeleton();
        let (seat, stream) = (self.seats.get_mut(skeleton), hold.token.stream());
        let seat = seat.filter(|seat| seat.is_carried_by(hold.session, stream));
        let Some(seat) = seat else { return false };
        (seat.lingers, seat.token, seat.incarnation) = (true, hold.token, own);
        self.seats.keep(skeleton, Some(later(now, time)));
        self.longest = self.longest.max(time);
        self.touch(now);
        true
    }

    /// See [`crate::backplane::Backplane::owe`].
    pub(super) fn owe(&mut self, now: Instant, name: &Username, time: Duration) -> Duration {
        let known = self.owes.get(name.skeleton()).copied().unwrap_or(now);
        let until = known.max(later(now, time));
        if until > known {
            if self.owes.len() >= self.most_owes {
                self.owes.retain(|_, until| *until > now);
                self.most_owes = (2 * self.owes.len()).max(OWES);
            }
            self.owes.insert(name.skeleton().to_owned(), until);
            self.owes_until = self.owes_until.max(until);
            self.expires = self.expires.max(until);
        }
        until.saturating_duration_since(now)
    }

    /// See [`crate::backplane::Backplane::lookup`].
    pub(super) fn lookup(&self, name: &Username) -> Option<Seated> {
        self.seats.get(name.skeleton()).map(RosterEntry::seated)
    }

    /// See [`crate::backplane::Backplane::members`].
    pub(super) fn members(&self, page: MembersPage) -> Members {
        self.seats.members(page)
    }

    /// See [`crate::backplane::Backplane::check`].
    pub(super) fn check(
        &mut self,
        now: Instant,
        leases: &Leases,
        own: Incarnation,
        holds: &[Hold],
    ) -> Checked {
        let verdicts = holds.iter().map(|hold| self.judge(now, leases, own, hold)).collect();
        Checked { verdicts, head: self.stands(now) }
    }

    /// See [`crate::backplane::Backplane::heads`].
    pub(super) fn stands(&mut self, now: Instant) -> RoomHead {
        self.touch(now);
        RoomHead { log: self.head(), takeovers: self.takeovers }
    }

    /// See [`crate::backplane::Backplane::read`].
    pub(super) fn read(&mut self, now: Instant, after: u64, limit: PageLimit) -> Page {
        self.log.trim(now);
        Page { head: Some(self.head()), events: self.log.read(after, limit) }
    }

    /// See [`crate::backplane::Backplane::standings`].
    pub(super) fn summary(&self) -> RoomSummary {
        let last_activity = self.log.last().map(|event| event.at);
        RoomSummary { members: self.seats.len(), head: self.head(), last_activity }
    }

    /// It is forgotten from now on.
    pub(super) fn end(&mut self, now: Instant) {
        self.expires = now;
    }

    fn head(&self) -> Head {
        self.log.head()
    }

    /// Until when it is known who has left.
    fn known_until(&self, now: Instant) -> Instant {
        later(now, self.rules.lease)
    }

    /// Notes that the room is in use, and lets the log drop what is too old.
    fn touch(&mut self, now: Instant) {
        let Rules { lease, log, .. } = self.rules;
        if self.is_empty() {
            // Nobody is there, and nothing was said: it stays for whoever still reads how that came.
            self.expires = later(now, if self.said { log.age } else { lease });
            self.longest = Duration::ZERO;
        } else {
            let time = lease.saturating_add(log.age).max(lease.saturating_mul(OCCUPIED));
            self.expires = self.expires.max(later(now, time.saturating_add(self.longest)));
        }
        self.expires = self.expires.max(self.owes_until);
        self.log.trim(now);
        while self.left.front().is_some_and(|(until, ..)| *until <= now) {
            self.left.pop_front();
        }
    }

    fn joined(
        &mut self,
        now: Instant,
        came: Came,
        client_seq: u64,
        set_role: Option<RoomRole>,
        began: u64,
    ) -> Joined {
        self.touch(now);
        let position = came.position;
        Joined {
            position,
            written: position,
            told: came.told,
            client_seq,
            takeovers: self.takeovers,
            set_role,
            settings: self.settings,
            began,
        }
    }

    /// Goes on with a session that is in the roster already.
    fn join_again(
        &mut self,
        now: Instant,
        leases: &mut Leases,
        own: Incarnation,
        join: &Join<'_>,
        decided: &Decided,
    ) -> Joined {
        let hold = join.hold;
        let skeleton = hold.name.skeleton();
        let mut came = Came { position: self.head().position, told: false };
        let mut client_seq = join.appended;
        let mut lingers = false;
        let mut began = came.position.seq;
        if let Some(seat) = self.seats.get_mut(skeleton) {
            let repeated = seat.token == hold.token;
            // Unless the join that the seat tells of is the one before the hold was confirmed.
            let before = |confirmed: Position| seat.came.position.seq <= confirmed.seq;
            if repeated && !(seat.came.told && hold.confirmed.is_some_and(before)) {
                came = seat.came;
            }
            lingers = repeated && seat.lingers;
            if seat.token.stream() != hold.token.stream() && !seat.lingers {
                self.moved.push((hold.session, seat.token.stream()));
                self.takeovers += 1;
            }
            if !lingers {
                seat.carry_on(hold, own, decided);
            }
            seat.came = came;
            seat.client_seq = seat.client_seq.max(join.appended);
            client_seq = seat.client_seq;
            began = seat.began;
        }
        if !lingers {
            self.seats.keep(skeleton, None);
            self.longest = self.longest.max(hold.linger);
            leases.hold(own, now);
        }
        self.joined(now, came, client_seq, decided.role, began)
    }

    fn judge(&self, now: Instant, leases: &Leases, own: Incarnation, hold: &Hold) -> Verdict {
        let Some(seat) = self.seats.get(hold.name.skeleton()) else { return Verdict::Gone };
        let late = seat.is_late(leases, now);
        if seat.member.session != hold.session {
            return if late { Verdict::Gone } else { Verdict::Taken };
        }
        if seat.token.stream() != hold.token.stream() {
            // One that came back first when this one's join was lost gives way to it at its next join.
            let newer = hold.attempt <= seat.attempt;
            return if newer { Verdict::Moved } else { Verdict::Gone };
        }
        let held = if seat.lingers {
            !late
        } else {
            // Under another token of its stream, its own join is still to come.
            seat.token == hold.token && seat.incarnation == own && leases.is_known(own)
        };
        if held { Verdict::Held } else { Verdict::Gone }
    }
}
