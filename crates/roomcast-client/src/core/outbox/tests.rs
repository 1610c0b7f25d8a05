//! The sender against a server that follows the protocol and is as unhelpful as that allows.

use std::collections::HashMap;

use proptest::prelude::*;
use roomcast_common::Epoch;

use super::*;

/// One step of the world.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The application says something; every seventh message is too large.
    Say,
    /// A frame goes out, if one may.
    Send,
    /// The server takes a frame in.
    Serve,
    /// The same, but its store is away; the message may have been stored all the same.
    Fail { stored: bool },
    /// An answer comes in.
    Hear,
    /// The stream breaks; so many frames still reach the server.
    Break { served: usize },
    /// The same, and the session is lost.
    Lose { served: usize },
}

enum Answer {
    Ack(u64, usize, bool),
    Nack(u64, NackReason),
}

/// A message as it is in the log: session, number, content.
type Logged = (u32, u64, String);

struct World {
    outbox: Outbox<u32>,
    now: Instant,
    said: u32,
    wire: VecDeque<(u64, String)>,
    answers: VecDeque<Answer>,
    log: Vec<Logged>,
    session: u32,
    last: u64,
    /// The number that the server refused and waits for.
    refused: Option<u64>,
    outcomes: HashMap<u32, Outcome>,
}

impl World {
    fn new() -> Self {
        let mut outbox = Outbox::new();
        outbox.welcomed(false, 0, 4).unwrap();
        Self {
            outbox,
            now: Instant::now(),
            said: 0,
            wire: VecDeque::new(),
            answers: VecDeque::new(),
            log: Vec::new(),
            session: 0,
            last: 0,
            refused: None,
            outcomes: HashMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
        self.now += Duration::from_millis(50);
        match step {
            Step::Say if self.outbox.has_room() => {
                self.said += 1;
                self.outbox.push(self.said.to_string(), self.said);
            }
            Step::Say => {}
            Step::Send => {
                let next = self.outbox.send_next(self.now);
                let next = next.map(|(number, content)| (number, content.to_owned()));
                self.wire.extend(next);
            }
            Step::Serve => self.serve(None),
            Step::Fail { stored } => self.serve(Some(stored)),
            Step::Hear => self.hear(),
            Step::Break { served } => {
                self.cut(served);
                self.outbox.welcomed(true, self.last, 4).unwrap();
            }
            Step::Lose { served } => {
                self.cut(served);
                self.session += 1;
                self.last = 0;
                let in_doubt = self.outbox.in_doubt();
                self.outbox.welcomed(false, 0, 4).unwrap();
                if in_doubt {
                    self.replay();
                }
            }
        }
    }

    fn serve(&mut self, fails: Option<bool>) {
        let Some((number, content)) = self.wire.pop_front() else { return };
        let id: u32 = content.parse().unwrap();
        let answer = if self.refused.is_some_and(|refused| number > refused) {
            Answer::Nack(number, NackReason::OutOfOrder)
        } else if number <= self.last {
            let is_it = |it: &Logged| (it.0, it.1) == (self.session, number);
            let place = self.log.iter().position(is_it).unwrap();
            assert_eq!(self.log[place].2, content, "two messages under one number");
            self.refused = None;
            Answer::Ack(number, place, true)
        } else if number > self.last + 1 {
            Answer::Nack(number, NackReason::OutOfOrder)
        } else if id.is_multiple_of(7) {
            self.refused = Some(number);
            Answer::Nack(number, NackReason::TooLarge)
        } else {
            if fails != Some(false) {
                self.log.push((self.session, number, content));
                self.last = number;
            }
            self.refused = fails.map(|_| number);
            match fails {
                Some(_) => Answer::Nack(number, NackReason::Unavailable),
                None => Answer::Ack(number, self.log.len() - 1, false),
            }
        };
        self.answers.push_back(answer);
    }

    fn hear(&mut self) {
        let resolved = match self.answers.pop_front() {
            Some(Answer::Ack(number, place, duplicate)) => {
                let at = Position::new(Epoch(1), place as u64);
                self.outbox.ack(number, Some(at), duplicate).unwrap()
            }
            Some(Answer::Nack(number, reason)) => {
                let retry_after = match reason {
                    NackReason::Unavailable => Some(Duration::from_millis(100)),
                    _ => None,
                };
                let refusal = Refusal { number, reason, retry_after, detail: String::new() };
                self.outbox.nack(refusal, self.now).unwrap()
            }
            None => return,
        };
        self.resolve(resolved);
    }

    fn resolve(&mut self, resolved: Resolved<u32>) {
        for (id, outcome) in resolved {
            match &outcome {
                Outcome::InLog { position: Some(at), .. } => {
                    assert_eq!(self.log[usize::try_from(at.seq).unwrap()].2, id.to_string());
                }
                Outcome::InLog { position: None, .. } => {
                    assert!(self.log.iter().any(|it| it.2 == id.to_string()));
                }
                Outcome::Refused { .. } => assert!(id.is_multiple_of(7)),
            }
            assert_eq!(self.outcomes.insert(id, outcome), None, "{id} was resolved twice");
        }
    }

    fn cut(&mut self, served: usize) {
        for _ in 0..served {
            self.serve(None);
        }
        self.wire.clear();
        self.answers.clear();
        self.refused = None;
        self.outbox.lost();
    }

    /// What the session before left in the log is heard again.
    fn replay(&mut self) {
        let before = self.session - 1;
        for (place, (session, number, content)) in self.log.iter().enumerate() {
            if *session == before {
                let at = Position::new(Epoch(1), place as u64);
                assert!(self.outbox.seen(*number, at, content));
            }
        }
        let resolved = self.outbox.settle();
        self.resolve(resolved);
    }

    /// All goes well from here on; nothing may be left over.
    fn finish(&mut self) {
        for _ in 0..200 {
            for step in [Step::Send, Step::Serve, Step::Hear] {
                self.step(step);
            }
        }
        assert!(self.outbox.is_empty());
        assert_eq!(self.outcomes.len(), self.said as usize, "each one is resolved");
        let ids: Vec<u32> = self.log.iter().map(|it| it.2.parse().unwrap()).collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "once each, in order: {ids:?}");
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Say),
        6 => Just(Step::Send),
        5 => Just(Step::Serve),
        1 => any::<bool>().prop_map(|stored| Step::Fail { stored }),
        5 => Just(Step::Hear),
        1 => (0..4_usize).prop_map(|served| Step::Break { served }),
        1 => (0..4_usize).prop_map(|served| Step::Lose { served }),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_in_the_log_once_or_refused_once(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}

/// An outbox with so many messages sent.
fn sent(count: u32) -> (Outbox<u32>, Instant) {
    let (mut outbox, now) = (Outbox::new(), Instant::now());
    outbox.welcomed(false, 0, 10).unwrap();
    for id in 1..=count {
        outbox.push(id.to_string(), id);
        assert_eq!(outbox.send_next(now), Some((u64::from(id), id.to_string().as_str())));
    }
    (outbox, now)
}

fn refusal(number: u64, reason: NackReason) -> Refusal {
    let retry_after = (reason == NackReason::TooFast).then_some(Duration::from_secs(3));
    Refusal { number, reason, retry_after, detail: "so it is".to_owned() }
}

#[test]
fn a_refused_message_is_sent_again_when_the_server_says() {
    let (mut outbox, now) = sent(2);
    assert_eq!(outbox.nack(refusal(1, NackReason::TooFast), now), Ok(vec![]));
    let then = now + Duration::from_secs(3);
    assert!(!outbox.is_ready(then), "an answer is still to come");
    assert_eq!(outbox.wakes_at(), None);
    assert_eq!(outbox.nack(refusal(2, NackReason::OutOfOrder), now), Ok(vec![]));
    assert_eq!(outbox.wakes_at(), Some(then));
    assert!(!outbox.is_ready(then - Duration::from_millis(1)));
    assert_eq!(outbox.send_next(then), Some((1, "1")));
    assert_eq!(outbox.send_next(then), Some((2, "2")));
}

#[test]
fn a_message_that_is_given_up_leaves_its_number_to_the_next() {
    let (mut outbox, now) = sent(2);
    let detail = "so it is".to_owned();
    let refused = Outcome::Refused { reason: NackReason::Empty, detail };
    assert_eq!(outbox.nack(refusal(1, NackReason::Empty), now), Ok(vec![(1, refused)]));
    assert!(!outbox.is_ready(now));
    assert_eq!(outbox.nack(refusal(2, NackReason::OutOfOrder), now), Ok(vec![]));
    assert_eq!(outbox.send_next(now), Some((1, "2")));
}

#[test]
fn answers_that_the_protocol_does_not_allow_are_seen() {
    let now = Instant::now();
    for number in [0, 3, u64::MAX] {
        assert!(sent(2).0.ack(number, None, false).is_err(), "{number}");
    }
    assert!(sent(2).0.nack(refusal(2, NackReason::Empty), now).is_err());
    assert!(sent(2).0.nack(refusal(1, NackReason::OutOfOrder), now).is_err());
    assert!(sent(0).0.nack(refusal(1, NackReason::Empty), now).is_err());
    assert!(sent(2).0.welcomed(true, 3, 10).is_err());
    // An ack for a later one stands for those before it.
    let resolved = sent(2).0.ack(2, None, false).unwrap();
    let outcomes: Vec<_> = resolved.into_iter().map(|(id, _)| id).collect();
    assert_eq!(outcomes, [1, 2]);
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let (mut outbox, now) = sent(0);
    outbox.welcomed(false, 0, 2).unwrap();
    for id in 1..=2 {
        assert!(outbox.has_room());
        outbox.push(id.to_string(), id);
        assert!(outbox.send_next(now).is_some());
    }
    assert!(!outbox.has_room());
    outbox.ack(1, None, false).unwrap();
    assert!(outbox.has_room() && !outbox.is_ready(now));
}

#[test]
fn a_log_that_was_rolled_back_is_followed() {
    let (mut outbox, now) = sent(3);
    outbox.ack(2, None, false).unwrap();
    outbox.lost();
    // It acknowledged 2 and has 1 now.
    outbox.welcomed(true, 1, 10).unwrap();
    assert_eq!(outbox.send_next(now), Some((2, "3")));
}

#[test]
fn the_end_says_what_is_in_doubt() {
    let (mut outbox, _) = sent(1);
    outbox.push("2".to_owned(), 2);
    assert_eq!(outbox.abandon(), [(1, true), (2, false)]);
    assert!(outbox.is_empty());
}
