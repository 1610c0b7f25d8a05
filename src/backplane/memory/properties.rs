//! Random histories of one room, against a model that is too simple to be wrong.

mod acts;
mod ops;

use std::{collections::HashMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use self::ops::{Op, op};
use super::room::{Room, Rules};
use crate::{
    backplane::{
        Hold, Join, JoinError, Joined, LogBounds, Overdue, PageLimit, Takeover,
        conformance::props::{EVER, event, evictions},
    },
    domain::{
        Epoch, Event, EventKind, FencingToken, Position, ReplicaId, RoomName, SessionId, StreamId,
        Username, UsernameLimits,
    },
};

const EPOCH: Epoch = Epoch(7);
const LEASE: Duration = Duration::from_secs(15);
const NAMES: [&str; 4] = ["bob", "BOB", "carol", "dave"];

/// A member as the model sees it.
#[derive(Clone, Debug)]
struct Sitter {
    session: SessionId,
    token: FencingToken,
    /// When the lease ends, and until when the name is kept.
    ends: Instant,
    kept: Instant,
    linger: Duration,
    attempt: u64,
    lingers: bool,
    client_seq: u64,
    /// Sequence number of its last event.
    last: u64,
    /// What its join was answered.
    came: (u64, bool),
}

/// A history in the making: the room, the model, and all that was told.
struct History {
    now: Instant,
    room: Room,
    /// How many members it may have.
    members: usize,
    sitters: HashMap<String, Sitter>,
    told: Vec<Arc<Event>>,
    /// Who has left, and until when that is known.
    left: HashMap<SessionId, Instant>,
    holds: Vec<Hold>,
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
            room: Room::new(EPOCH, Rules { lease: LEASE, log, members, began }, now),
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

    fn chosen(&self, index: prop::sample::Index) -> Option<Hold> {
        (!self.holds.is_empty()).then(|| index.get(&self.holds).clone())
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Join { name, linger, may_reap, reap_first, evict } => {
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
                    confirmed: None,
                };
                self.holds.push(hold.clone());
                let overdue = self.join(&hold, None, may_reap, reap_first, &[]);
                if evict && !overdue.is_empty() {
                    let in_the_way = self.join(&hold, None, true, reap_first, &overdue);
                    assert!(in_the_way.is_empty(), "all were evicted");
                }
            }
            Op::Repeat { hold } => {
                if let Some(hold) = self.chosen(hold) {
                    self.join(&hold, None, true, false, &[]);
                }
            }
            Op::Again { hold, log_lost } => {
                if let Some(mut hold) = self.chosen(hold) {
                    hold.token = hold.token.again([self.draw()[0]; 8]);
                    let epoch = if log_lost { Epoch(8) } else { EPOCH };
                    hold.confirmed = Some(Position::new(epoch, self.head()));
                    self.holds.push(hold.clone());
                    self.join(&hold, None, true, false, &[]);
                }
            }
            Op::Takeover { hold, looked } => {
                if let Some(mut hold) = self.chosen(hold) {
                    hold.token = FencingToken::from_bytes(self.draw());
                    hold.confirmed = None;
                    let from = self.look_up(&hold).filter(|_| looked);
                    if let Some((_, attempt)) = from {
                        hold.attempt = attempt + 1;
                    }
                    let from = from.map(|(stream, _)| stream);
                    self.holds.push(hold.clone());
                    self.join(&hold, Some(Takeover { from }), true, false, &[]);
                }
            }
            Op::Linger { hold, seconds } => {
                if let Some(hold) = self.chosen(hold) {
                    self.linger(&hold, Duration::from_secs(seconds));
                }
            }
            Op::Say { hold, client_seq } => {
                if let Some(hold) = self.chosen(hold) {
                    self.say(&hold, client_seq);
                }
            }
            Op::Leave { hold } => {
                if let Some(hold) = self.chosen(hold) {
                    self.leave(&hold);
                }
            }
            Op::Renew { hold } => {
                if let Some(hold) = self.chosen(hold) {
                    self.renew(&hold);
                }
            }
            Op::Look => {
                self.noted = self.room.overdue(self.now);
                for it in &self.noted {
                    assert_eq!(it.lingered, self.sitters[&it.skeleton].lingers);
                }
            }
            Op::Reap => self.reap(),
            Op::Pass { seconds } => self.now += Duration::from_secs(seconds),
        }
        self.listen();
    }

    /// Who is overdue, says the model.
    fn ended(&self) -> Vec<&String> {
        self.sitters.iter().filter(|(_, it)| it.kept <= self.now).map(|(name, _)| name).collect()
    }

    /// Looks a name up, checks the answer, and returns the stream that has it, and its attempt.
    fn look_up(&self, hold: &Hold) -> Option<(StreamId, u64)> {
        let seated = self.room.lookup(&hold.name);
        let sitter = self.sitters.get(hold.name.skeleton());
        assert_eq!(seated.is_some(), sitter.is_some());
        let (seated, sitter) = (seated?, sitter?);
        assert_eq!(seated.member.session, sitter.session);
        assert_eq!((seated.client_seq, seated.lingers), (sitter.client_seq, sitter.lingers));
        assert_eq!(seated.stream, Some(sitter.token.stream()));
        assert_eq!(seated.attempt, sitter.attempt);
        seated.stream.map(|stream| (stream, seated.attempt))
    }

    /// Joins, checks the answer, and returns who is in the way.
    fn join(
        &mut self,
        hold: &Hold,
        takeover: Option<Takeover>,
        may_reap: bool,
        reap_first: bool,
        evict: &[Overdue],
    ) -> Vec<Overdue> {
        let name = hold.name.skeleton().to_owned();
        let seat = self.sitters.get(&name).cloned();
        let same = seat.as_ref().filter(|it| it.session == hold.session);
        let overtaken = same.is_some_and(|it| hold.attempt < it.attempt);
        let own = same.filter(|it| {
            let stream = it.token.stream();
            stream == hold.token.stream()
                || match takeover {
                    Some(takeover) => takeover.from == Some(stream) && !overtaken,
                    None => hold.confirmed.is_some() && hold.attempt > it.attempt,
                }
        });
        let evicted = |it: &String| evict.iter().any(|overdue| overdue.skeleton == *it);
        let wanted = |it: &String| may_reap && !evicted(it) && (reap_first || *it == name);
        let in_the_way = self.ended().into_iter().any(wanted);
        let stay = self.sitters.keys().filter(|it| !evicted(it)).count();
        let full = hold.confirmed.is_none() && stay >= self.members;

        let event = event(hold, EventKind::Joined);
        let contact = may_reap.then_some(EVER);
        let evictions = evictions(evict);
        let join =
            Join { takeover, reap_first, contact, evict: &evictions, ..Join::new(hold, event) };
        let outcome = self.room.join(self.now, &join);
        let moved = self.room.take_moved();
        if let Some(own) = own {
            self.check_carried_on(hold, own, outcome);
            let superseded = own.token.stream() != hold.token.stream() && !own.lingers;
            let from = superseded.then(|| (own.session, own.token.stream()));
            assert_eq!(moved, Vec::from_iter(from), "who was superseded, and nobody else, is told");
            return Vec::new();
        }
        assert!(moved.is_empty(), "nobody was superseded");
        if takeover.is_some() && overtaken {
            assert!(matches!(outcome, Err(JoinError::Overtaken { .. })), "too late: {outcome:?}");
            return Vec::new();
        }
        if same.is_some() && (takeover.is_some() || hold.confirmed.is_some()) {
            assert!(matches!(outcome, Err(JoinError::Moved)), "another stream: {outcome:?}");
            return Vec::new();
        }
        let has_left = self.left.get(&hold.session).is_some_and(|until| *until > self.now);
        let has_left = has_left && same.is_none() && hold.confirmed.is_some();
        if takeover.is_some() || has_left {
            assert!(matches!(outcome, Err(JoinError::Ended)), "it is over: {outcome:?}");
            return Vec::new();
        }
        if same.is_some() || seat.as_ref().is_some_and(|it| it.kept > self.now || !may_reap) {
            assert!(matches!(outcome, Err(JoinError::Taken)), "somebody sits there: {outcome:?}");
            return Vec::new();
        }
        match outcome {
            Err(JoinError::Overdue(overdue)) => {
                assert!(in_the_way, "nobody is in the way");
                return overdue;
            }
            Err(JoinError::Full { max }) => {
                assert!(!in_the_way, "somebody is in the way");
                assert_eq!(max, self.members);
                assert!(full, "there is a place");
            }
            Err(other) => panic!("the name is free, yet: {other}"),
            Ok(joined) => {
                assert!(!in_the_way, "somebody is in the way");
                assert!(!full, "there is no place");
                for Overdue { skeleton, .. } in evict {
                    self.evict(skeleton);
                }
                let told = hold.confirmed.is_none_or(|it| it.epoch == EPOCH);
                assert_eq!(joined.told, told);
                self.listen();
                assert_eq!(joined.position.seq, self.head());
                let came = (self.head(), told);
                let Hold { session, token, linger, attempt, .. } = *hold;
                let sitter = Sitter {
                    session,
                    token,
                    ends: self.now + LEASE,
                    kept: self.now + LEASE + linger,
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
        Vec::new()
    }

    /// A session that is in the roster has joined again.
    fn check_carried_on(&mut self, hold: &Hold, own: &Sitter, outcome: Result<Joined, JoinError>) {
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
            (sitter.lingers, sitter.ends) = (false, self.now + LEASE);
            (sitter.attempt, sitter.linger) = (hold.attempt, hold.linger);
            sitter.kept = sitter.ends + hold.linger;
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
                EventKind::Unknown => panic!("nobody appended that"),
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
