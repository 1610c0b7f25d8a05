//! Random histories of one room, against a model that is too simple to be wrong.

mod acts;
mod model;
mod ops;

use std::{collections::HashMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use self::{
    model::{Own, Replicas, Sitter},
    ops::{Op, op},
};
use super::{
    decisions::Decided,
    leases::Leases,
    outlet_id::OutletId,
    outlets::Outlets,
    room::{Room, Rules},
};
use crate::{
    backplane::{
        Hold, Join, JoinError, Joined, LogBounds, Overdue, PageLimit, Takeover,
        conformance::props::{EVER, event, evictions},
    },
    domain::{
        Epoch, Event, EventKind, FencingToken, Position, ReplicaId, RoomName, RoomRole, SessionId,
        StreamId, Username, UsernameLimits,
    },
};

const EPOCH: Epoch = Epoch(7);
const LEASE: Duration = Duration::from_secs(15);
const NAMES: [&str; 4] = ["bob", "BOB", "carol", "dave"];
const REPLICAS: usize = 3;

/// A history in the making: the room, the model, and all that was told.
struct History {
    now: Instant,
    room: Room,
    leases: Leases,
    /// As the memory knows each replica, and as the model does.
    outlets: Vec<OutletId>,
    replicas: Replicas,
    /// How many members it may have.
    members: usize,
    sitters: HashMap<String, Sitter>,
    told: Vec<Arc<Event>>,
    /// Who has left, and until when that is known.
    left: HashMap<SessionId, Instant>,
    /// Holds, and the replica of each.
    holds: Vec<(Hold, usize)>,
    /// Makes sessions and tokens that differ.
    drawn: u8,
    noted: Vec<Overdue>,
}

impl History {
    fn new(members: usize) -> Self {
        // Contacts that allow everything began a lease ago.
        let began = Instant::now();
        let now = began + LEASE;
        let log = LogBounds { length: 8, bytes: usize::MAX, age: Duration::from_secs(60) };
        Self {
            now,
            members,
            room: Room::new(
                RoomName::lobby(),
                EPOCH,
                Rules { lease: LEASE, log, members, began },
                now,
            ),
            leases: Leases::new(LEASE),
            outlets: {
                let mut outlets = Outlets::default();
                (0..REPLICAS).map(|_| outlets.attach(1).0).collect()
            },
            replicas: Replicas::new(REPLICAS),
            sitters: HashMap::new(),
            told: Vec::new(),
            left: HashMap::new(),
            holds: Vec::new(),
            drawn: 0,
            noted: Vec::new(),
        }
    }

    fn draw(&mut self) -> [u8; 16] {
        self.drawn += 1;
        [self.drawn; 16]
    }

    fn head(&self) -> u64 {
        self.told.len() as u64
    }

    fn chosen(&self, index: prop::sample::Index) -> Option<(Hold, usize)> {
        (!self.holds.is_empty()).then(|| index.get(&self.holds).clone())
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Join { replica, name, linger, may_reap, evict } => {
                let hold = Hold {
                    room: RoomName::lobby(),
                    name: Username::parse(NAMES[name], UsernameLimits { max_chars: 64 }).unwrap(),
                    session: SessionId::from_bytes(self.draw()),
                    since: jiff::Timestamp::UNIX_EPOCH,
                    secret: None,
                    linger: Duration::from_secs(linger),
                    attempt: 0,
                    token: FencingToken::from_bytes(self.draw()),
                    replica: ReplicaId::from_bytes([0; 16]),
                    identity: None,
                    role: RoomRole::Member,
                    confirmed: None,
                };
                self.holds.push((hold.clone(), replica));
                let overdue = self.join(replica, &hold, None, may_reap, None);
                if let Some(overdue) = overdue.filter(|_| evict) {
                    let in_the_way = self.join(replica, &hold, None, true, Some(&overdue));
                    assert_eq!(in_the_way, None, "it was evicted");
                }
            }
            Op::Repeat { hold } => {
                if let Some((hold, replica)) = self.chosen(hold) {
                    self.join(replica, &hold, None, true, None);
                }
            }
            Op::Again { hold, log_lost } => {
                if let Some((mut hold, replica)) = self.chosen(hold) {
                    hold.token = hold.token.again([self.draw()[0]; 8]);
                    let epoch = if log_lost { Epoch(8) } else { EPOCH };
                    hold.confirmed = Some(Position::new(epoch, self.head()));
                    self.holds.push((hold.clone(), replica));
                    self.join(replica, &hold, None, true, None);
                }
            }
            Op::Takeover { replica, hold, looked } => {
                if let Some((mut hold, _)) = self.chosen(hold) {
                    hold.token = FencingToken::from_bytes(self.draw());
                    hold.confirmed = None;
                    let from = self.look_up(&hold).filter(|_| looked);
                    if let Some((_, attempt)) = from {
                        hold.attempt = attempt + 1;
                    }
                    let nobody = FencingToken::from_bytes([0; 16]).stream();
                    let from = from.map_or(nobody, |(stream, _)| stream);
                    self.holds.push((hold.clone(), replica));
                    self.join(replica, &hold, Some(Takeover { from }), true, None);
                }
            }
            Op::Linger { hold, seconds } => {
                if let Some((hold, replica)) = self.chosen(hold) {
                    self.linger(replica, &hold, Duration::from_secs(seconds));
                }
            }
            Op::Say { hold, client_seq } => {
                if let Some((hold, replica)) = self.chosen(hold) {
                    self.say(replica, &hold, client_seq);
                }
            }
            Op::Leave { hold } => {
                if let Some((hold, _)) = self.chosen(hold) {
                    self.leave(&hold);
                }
            }
            Op::Check { hold } => {
                if let Some((hold, replica)) = self.chosen(hold) {
                    self.check(replica, &hold);
                }
            }
            Op::Renew { replica } => self.renew(replica),
            Op::Renounce { replica } => {
                self.own(replica);
                self.leases.renounce(self.outlets[replica]);
                self.replicas.renounce(replica);
            }
            Op::Look { replica } => self.look(replica),
            Op::Reap => self.reap(),
            Op::Pass { seconds } => self.now += Duration::from_secs(seconds),
        }
        self.listen();
    }

    /// As whom a replica acts now, in memory and in the model.
    fn own(&mut self, replica: usize) -> (super::leases::Incarnation, Own) {
        (self.leases.own(self.outlets[replica]), self.replicas.own(replica))
    }

    /// Until when a name is kept, says the model.
    fn kept(&self, sitter: &Sitter) -> Instant {
        if sitter.lingers { sitter.ends } else { self.replicas.ends(sitter.by) + sitter.linger }
    }

    /// Looks a name up, checks the answer, and returns the stream that has it, and its attempt.
    fn look_up(&self, hold: &Hold) -> Option<(StreamId, u64)> {
        let seated = self.room.lookup(&hold.name);
        let sitter = self.sitters.get(hold.name.skeleton());
        assert_eq!(seated.is_some(), sitter.is_some());
        let (seated, sitter) = (seated?, sitter?);
        assert_eq!(seated.member.session, sitter.session);
        assert_eq!((seated.client_seq, seated.lingers), (sitter.client_seq, sitter.lingers));
        assert_eq!(seated.stream, sitter.token.stream());
        assert_eq!(seated.attempt, sitter.attempt);
        Some((seated.stream, seated.attempt))
    }

    /// Joins, checks the answer, and returns who is in the way.
    fn join(
        &mut self,
        replica: usize,
        hold: &Hold,
        takeover: Option<Takeover>,
        may_reap: bool,
        evict: Option<&Overdue>,
    ) -> Option<Overdue> {
        let (incarnation, by) = self.own(replica);
        let name = hold.name.skeleton().to_owned();
        let seat = self.sitters.get(&name).cloned();
        let same = seat.as_ref().filter(|it| it.session == hold.session);
        let overtaken = same.is_some_and(|it| hold.attempt < it.attempt);
        let own = same.filter(|it| {
            let stream = it.token.stream();
            stream == hold.token.stream()
                || match takeover {
                    Some(takeover) => takeover.from == stream && !overtaken,
                    None => hold.confirmed.is_some() && hold.attempt > it.attempt,
                }
        });
        let late = seat
            .as_ref()
            .is_some_and(|it| self.kept(it) <= self.now && (it.lingers || it.by != by));
        let in_the_way = late && may_reap && evict.is_none();
        let stay = self.sitters.len() - usize::from(late);
        let full = hold.confirmed.is_none() && stay >= self.members;

        let event = event(hold, EventKind::Joined);
        let contact = may_reap.then_some(EVER);
        let eviction = evict.map(|it| evictions(std::slice::from_ref(it)).remove(0));
        let join = Join { takeover, contact, evict: eviction.as_ref(), ..Join::new(hold, event) };
        let outcome =
            self.room.join(self.now, &mut self.leases, incarnation, &join, &Decided::default());
        let moved = self.room.take_moved();
        if let Some(own) = own {
            self.check_carried_on(by, hold, own, outcome);
            let superseded = own.token.stream() != hold.token.stream() && !own.lingers;
            let from = superseded.then(|| (own.session, own.token.stream()));
            assert_eq!(moved, Vec::from_iter(from), "who was superseded, and nobody else, is told");
            return None;
        }
        assert!(moved.is_empty(), "nobody was superseded");
        if takeover.is_some() && overtaken {
            assert!(matches!(outcome, Err(JoinError::Overtaken { .. })), "too late: {outcome:?}");
            return None;
        }
        if same.is_some() && (takeover.is_some() || hold.confirmed.is_some()) {
            assert!(matches!(outcome, Err(JoinError::Moved)), "another stream: {outcome:?}");
            return None;
        }
        let has_left = self.left.get(&hold.session).is_some_and(|until| *until > self.now);
        let has_left = has_left && same.is_none() && hold.confirmed.is_some();
        if takeover.is_some() || has_left {
            assert!(matches!(outcome, Err(JoinError::Ended)), "it is over: {outcome:?}");
            return None;
        }
        if same.is_some() || (seat.is_some() && !(late && may_reap)) {
            assert!(matches!(outcome, Err(JoinError::Taken)), "somebody sits there: {outcome:?}");
            return None;
        }
        match outcome {
            Err(JoinError::Overdue(overdue)) => {
                assert!(in_the_way, "nobody is in the way");
                return Some(*overdue);
            }
            Err(JoinError::Full { max, .. }) => {
                assert!(!in_the_way, "somebody is in the way");
                assert_eq!(max, self.members);
                assert!(full, "there is a place");
            }
            Err(other) => panic!("the name is free, yet: {other}"),
            Ok(joined) => {
                assert!(!in_the_way, "somebody is in the way");
                assert!(!full, "there is no place");
                if evict.is_some() && seat.is_some() {
                    self.evict(&name);
                }
                self.replicas.hold(by, self.now);
                let told = hold.confirmed.is_none_or(|it| it.epoch == EPOCH);
                assert_eq!(joined.told, told);
                self.listen();
                assert_eq!(joined.position.seq, self.head());
                let came = (self.head(), told);
                let Hold { session, token, linger, attempt, .. } = *hold;
                let sitter = Sitter {
                    by,
                    session,
                    token,
                    ends: self.now,
                    linger,
                    attempt,
                    lingers: false,
                    client_seq: 0,
                    last: self.head(),
                    came,
                };
                self.sitters.insert(name, sitter);
            }
        }
        None
    }

    /// A session that is in the roster has joined again.
    fn check_carried_on(
        &mut self,
        by: Own,
        hold: &Hold,
        own: &Sitter,
        outcome: Result<Joined, JoinError>,
    ) {
        let repeated = own.token == hold.token;
        if own.lingers && !repeated && own.token.stream() == hold.token.stream() {
            assert!(matches!(outcome, Err(JoinError::Ended)), "its stream is gone: {outcome:?}");
            return;
        }
        let stale = own.came.1 && hold.confirmed.is_some_and(|it| own.came.0 <= it.seq);
        let came = if repeated && !stale { own.came } else { (self.head(), false) };
        let joined = outcome.expect("a session still in the roster joins again");
        assert_eq!((joined.position.seq, joined.told), came);
        assert_eq!(joined.client_seq, own.client_seq);
        let mut sitter = Sitter { token: hold.token, came, ..own.clone() };
        if !(repeated && own.lingers) {
            (sitter.lingers, sitter.by) = (false, by);
            (sitter.attempt, sitter.linger) = (hold.attempt, hold.linger);
            self.replicas.hold(by, self.now);
        }
        self.sitters.insert(hold.name.skeleton().to_owned(), sitter);
    }

    /// Takes in what listeners are told, and checks it against what was told before.
    fn listen(&mut self) {
        if let Some((epoch, first, events)) = self.room.take_fresh() {
            assert_eq!((epoch, first), (EPOCH, self.head() + 1), "positions are dense");
            self.told.extend(events);
        }
        let page = self.room.read(self.now, 0, PageLimit { events: usize::MAX, bytes: usize::MAX });
        assert_eq!(page.head.map(|head| head.position.seq), Some(self.head()));
        for (i, (seq, event)) in page.events.iter().rev().enumerate() {
            assert_eq!(*seq, self.head() - i as u64, "the log has the newest, dense");
            let index = usize::try_from(*seq).unwrap() - 1;
            assert_eq!(*event, self.told[index], "the log has what listeners were told");
        }
    }

    /// Nobody comes twice without having gone, and nobody goes who had not come; except that
    /// who came back to a lost log may go, or be followed, untold.
    fn check_story(&self, log_was_lost: bool) {
        let mut present: HashMap<String, SessionId> = HashMap::new();
        for event in &self.told {
            let name = event.member.name.as_str().to_lowercase();
            let session = event.member.session;
            match event.what {
                EventKind::Joined => {
                    assert_eq!(present.insert(name, session), None, "two under one name");
                }
                EventKind::Left { .. } => {
                    let left = present.remove(&name);
                    assert!(left == Some(session) || log_was_lost, "left without having come");
                }
                EventKind::Moderated(_) | EventKind::Unknown => panic!("nobody appended that"),
                EventKind::Said { .. } => {
                    let speaker = present.get(&name);
                    assert!(speaker == Some(&session) || log_was_lost, "a stranger speaks");
                }
            }
        }
    }
}

proptest! {
    // A failure prints the smallest history that fails.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_room_keeps_its_rules(
        members in 1..=NAMES.len(),
        ops in prop::collection::vec(op(), 1..100),
    ) {
        let log_was_lost = ops.iter().any(|op| matches!(op, Op::Again { log_lost: true, .. }));
        let mut history = History::new(members);
        for op in ops {
            history.step(op);
        }
        history.check_story(log_was_lost);
    }
}
