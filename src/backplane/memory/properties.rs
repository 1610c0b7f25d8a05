//! Random histories of one room, against a model that is too simple to be wrong.

use std::{collections::HashMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::room::{Room, Rules};
use crate::{
    backplane::{
        AppendError, Hold, Join, JoinError, LogBounds, Overdue, PageLimit, Verdict,
        conformance::props::{event, evictions, said},
    },
    domain::{
        Epoch, Event, HoldToken, LeftCause, Position, ReplicaId, RoomName, SessionId, Username,
        UsernameLimits, What,
    },
};

const EPOCH: Epoch = Epoch(7);
const LEASE: Duration = Duration::from_secs(15);
const NAMES: [&str; 4] = ["bob", "BOB", "carol", "dave"];

/// One step of a history. Holds are chosen among those asked for so far.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A new stay asks for a name; `evict` when it was told who is overdue.
    Join {
        name: usize,
        reap_first: bool,
        evict: bool,
    },
    /// A join is repeated.
    Repeat {
        hold: prop::sample::Index,
    },
    /// A stay asks for its name again, with a new token and a confirmed position.
    Again {
        hold: prop::sample::Index,
        log_lost: bool,
    },
    Say {
        hold: prop::sample::Index,
        client_seq: u64,
    },
    Leave {
        hold: prop::sample::Index,
    },
    Renew {
        hold: prop::sample::Index,
    },
    /// Somebody notes who is overdue...
    Look,
    /// ...and acts on the latest note, perhaps much later.
    Reap,
    Pass {
        seconds: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let hold = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..NAMES.len(), any::<bool>(), any::<bool>())
            .prop_map(|(name, reap_first, evict)| Op::Join { name, reap_first, evict }),
        1 => hold().prop_map(|hold| Op::Repeat { hold }),
        2 => (hold(), any::<bool>()).prop_map(|(hold, log_lost)| Op::Again { hold, log_lost }),
        6 => (hold(), 0..6_u64).prop_map(|(hold, client_seq)| Op::Say { hold, client_seq }),
        2 => hold().prop_map(|hold| Op::Leave { hold }),
        4 => hold().prop_map(|hold| Op::Renew { hold }),
        2 => Just(Op::Look),
        2 => Just(Op::Reap),
        4 => (1..12_u64).prop_map(|seconds| Op::Pass { seconds }),
    ]
}

/// A member as the model sees it.
#[derive(Clone, Debug)]
struct Sitter {
    session: SessionId,
    token: HoldToken,
    ends: Instant,
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
    sitters: HashMap<String, Sitter>,
    told: Vec<Arc<Event>>,
    holds: Vec<Hold>,
    /// Makes sessions and tokens that differ.
    drawn: u8,
    noted: Vec<Overdue>,
}

impl History {
    fn new() -> Self {
        let now = Instant::now();
        let log = LogBounds { length: 8, age: Duration::from_secs(60) };
        Self {
            now,
            room: Room::new(EPOCH, Rules { lease: LEASE, log }, now),
            sitters: HashMap::new(),
            told: Vec::new(),
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
            Op::Join { name, reap_first, evict } => {
                let hold = Hold {
                    room: RoomName::lobby(),
                    name: Username::parse(NAMES[name], UsernameLimits { max_chars: 64 }).unwrap(),
                    session: SessionId::from_bytes(self.draw()),
                    token: HoldToken::from_bytes(self.draw()),
                    replica: ReplicaId::from_bytes([0; 16]),
                    confirmed: None,
                };
                self.holds.push(hold.clone());
                let overdue = self.join(&hold, reap_first, &[]);
                if evict && !overdue.is_empty() {
                    assert!(self.join(&hold, reap_first, &overdue).is_empty(), "all were evicted");
                }
            }
            Op::Repeat { hold } => {
                if let Some(hold) = self.chosen(hold) {
                    self.join(&hold, false, &[]);
                }
            }
            Op::Again { hold, log_lost } => {
                if let Some(mut hold) = self.chosen(hold) {
                    hold.token = HoldToken::from_bytes(self.draw());
                    let epoch = if log_lost { Epoch(8) } else { EPOCH };
                    hold.confirmed = Some(Position::new(epoch, self.head()));
                    self.holds.push(hold.clone());
                    self.join(&hold, false, &[]);
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
            Op::Look => self.noted = self.room.overdue(self.now),
            Op::Reap => self.reap(),
            Op::Pass { seconds } => self.now += Duration::from_secs(seconds),
        }
        self.listen();
    }

    /// Who is overdue, says the model.
    fn ended(&self) -> Vec<&String> {
        self.sitters.iter().filter(|(_, it)| it.ends <= self.now).map(|(name, _)| name).collect()
    }

    /// Joins, checks the answer, and returns who is in the way.
    fn join(&mut self, hold: &Hold, reap_first: bool, evict: &[Overdue]) -> Vec<Overdue> {
        let name = hold.name.skeleton().to_owned();
        let seat = self.sitters.get(&name).cloned();
        let own = seat.as_ref().filter(|it| {
            it.session == hold.session
                && (it.token == hold.token || it.ends <= self.now || hold.confirmed.is_some())
        });
        let evicted = |it: &String| evict.iter().any(|overdue| overdue.skeleton == *it);
        let in_the_way =
            self.ended().into_iter().any(|it| !evicted(it) && (reap_first || *it == name));

        let event = event(hold, What::Joined);
        let evictions = evictions(evict);
        let outcome = self
            .room
            .join(self.now, &Join { hold, event, appended: 0, reap_first, evict: &evictions });
        if let Some(own) = own {
            let came = if own.token == hold.token { own.came } else { (self.head(), false) };
            let joined = outcome.expect("a session still in the roster joins again");
            assert_eq!((joined.position.seq, joined.told), came);
            let ends = self.now + LEASE;
            let token = hold.token;
            self.sitters.insert(name, Sitter { token, ends, came, ..own.clone() });
            return Vec::new();
        }
        if seat.is_some_and(|it| it.ends > self.now) {
            assert!(matches!(outcome, Err(JoinError::Taken)), "somebody sits there: {outcome:?}");
            return Vec::new();
        }
        match outcome {
            Err(JoinError::Overdue(overdue)) => {
                assert!(in_the_way, "nobody is in the way");
                return overdue;
            }
            Err(other) => panic!("the name is free, yet: {other}"),
            Ok(joined) => {
                assert!(!in_the_way, "somebody is in the way");
                self.sitters.retain(|name, _| !evicted(name));
                let told = hold.confirmed.is_none_or(|it| it.epoch == EPOCH);
                assert_eq!(joined.told, told);
                self.listen();
                assert_eq!(joined.position.seq, self.head());
                let came = (self.head(), told);
                let Hold { session, token, .. } = *hold;
                let ends = self.now + LEASE;
                let last = self.head();
                let sitter = Sitter { session, token, ends, client_seq: 0, last, came };
                self.sitters.insert(name, sitter);
            }
        }
        Vec::new()
    }

    fn say(&mut self, hold: &Hold, client_seq: u64) {
        let outcome = self.room.append(self.now, hold, client_seq, said(hold, "hi"));
        let head = self.head();
        let holder = self
            .sitters
            .get_mut(hold.name.skeleton())
            .filter(|it| it.token == hold.token && it.ends > self.now);
        let Some(sitter) = holder else {
            assert_eq!(outcome, Err(AppendError::Stale), "who is no holder does not speak");
            return;
        };
        if client_seq > sitter.client_seq + 1 {
            assert_eq!(outcome, Err(AppendError::Stale), "who leaves a hole is refused");
            return;
        }
        let appended = outcome.expect("a holder speaks");
        assert_eq!(appended.duplicate, client_seq <= sitter.client_seq);
        if !appended.duplicate {
            sitter.client_seq = client_seq;
            sitter.last = head + 1;
        }
        assert_eq!(appended.position.seq, sitter.last);
    }

    fn leave(&mut self, hold: &Hold) {
        let left = event(hold, What::Left { cause: LeftCause::Asked });
        let outcome = self.room.leave(self.now, hold, left);
        let name = hold.name.skeleton();
        let given_back = self.sitters.get(name).is_some_and(|it| it.token == hold.token);
        assert_eq!(outcome.map(|it| it.seq), given_back.then_some(self.head() + 1));
        if given_back {
            self.sitters.remove(name);
        }
    }

    fn renew(&mut self, hold: &Hold) {
        let renewal = self.room.renew(self.now, std::slice::from_ref(hold));
        let verdict = match self.sitters.get_mut(hold.name.skeleton()) {
            None => Verdict::Gone,
            Some(it) => {
                let ended = it.ends <= self.now;
                if it.session == hold.session && (it.token == hold.token || ended) {
                    it.token = hold.token;
                    it.ends = self.now + LEASE;
                    Verdict::Held
                } else if ended {
                    Verdict::Gone
                } else {
                    Verdict::Taken
                }
            }
        };
        assert_eq!(renewal.verdicts, [verdict]);
        assert_eq!(renewal.head.position.seq, self.head());
        let earliest = self.sitters.values().map(|it| it.ends).min();
        let until = earliest.map(|ends| ends.saturating_duration_since(self.now));
        assert_eq!(renewal.next_deadline, until);
    }

    fn reap(&mut self) {
        let noted = std::mem::take(&mut self.noted);
        let reaped = self.room.reap(self.now, &evictions(&noted));
        let before = self.sitters.len();
        for Overdue { skeleton, member } in noted {
            if self
                .sitters
                .get(&skeleton)
                .is_some_and(|it| it.session == member.session && it.ends <= self.now)
            {
                self.sitters.remove(&skeleton);
            }
        }
        assert_eq!(reaped.count, before - self.sitters.len());
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
                What::Joined => {
                    assert_eq!(present.insert(name, session), None, "two under one name");
                }
                What::Left { .. } => {
                    let left = present.remove(&name);
                    assert!(left == Some(session) || log_was_lost, "left without having come");
                }
                What::Unknown => panic!("nobody appended that"),
                What::Said { .. } => {
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
    fn a_room_keeps_its_rules(ops in prop::collection::vec(op(), 1..100)) {
        let log_was_lost = ops.iter().any(|op| matches!(op, Op::Again { log_lost: true, .. }));
        let mut history = History::new();
        for op in ops {
            history.step(op);
        }
        history.check_story(log_was_lost);
    }
}
