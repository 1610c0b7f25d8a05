//! A service that keeps its promises, and what its clients would have recorded.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use roomcast_proto::room::LeftCause;

use crate::chaos::record::{At, Entry, Event, EventKind, Evidence, Fault, Position, Record, Terms};

/// What the world promises.
pub(super) const TERMS: Terms = Terms {
    linger: Duration::from_secs(10),
    lease: Duration::from_secs(15),
    tolerance: Duration::from_secs(2),
    outage: Duration::from_secs(6),
};

const ROOM: &str = "lobby";

/// Where a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It has a stream.
    In,
    /// Its session lingers since then.
    Away(At),
    /// It has no session.
    Out,
}

struct Client {
    record: Record,
    place: Place,
    session: u64,
    /// What of the log it was told.
    told: Position,
    said: usize,
    /// The log was cut while it had no session, and nobody told it.
    cut_off: bool,
}

/// One room and its clients.
struct World<'a> {
    random: &'a mut StdRng,
    now: At,
    epoch: u64,
    log: Vec<Event>,
    clients: Vec<Client>,
}

/// Evidence in which nothing is wrong, all sorts of things having happened.
pub(super) fn clean(seed: u64) -> Evidence {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World {
        epoch: random.random(),
        random: &mut random,
        now: At::ZERO,
        log: vec![],
        clients: vec![],
    };
    for number in 0..6 {
        let record =
            Record { room: ROOM.to_owned(), name: format!("client {number}"), entries: vec![] };
        let told = Position { epoch: 0, seq: 0 };
        let client =
            Client { record, place: Place::Out, session: 0, told, said: 0, cut_off: false };
        world.clients.push(client);
        // The last ones come later.
        if number < 4 {
            world.enter(number);
        }
    }
    for _ in 0..400 {
        world.step();
    }
    world.end()
}

impl World<'_> {
    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.random_range(20..400));
        self.time_out();
        let number = self.random.random_range(0..self.clients.len());
        match (self.clients[number].place, self.random.random_range(0..100)) {
            (Place::In, 0..75) => self.say(number),
            (Place::In, 75..92) => self.tell(number),
            (Place::In, 92..98) => self.cut(number),
            (Place::In, 98) => self.leave(number),
            (Place::In, _) => self.fail_over(),
            (Place::Away(_), 0..15) => self.resume(number),
            (Place::Out, 0..10) => self.enter(number),
            (Place::Away(_) | Place::Out, _) => {}
        }
    }

    fn note(&mut self, number: usize, entry: Entry) {
        self.clients[number].record.entries.push((self.now, entry));
    }

    fn head(&self) -> Position {
        self.log.last().map_or(Position { epoch: self.epoch, seq: 0 }, |event| event.position)
    }

    fn append(&mut self, number: usize, what: EventKind) -> Position {
        let position = Position { epoch: self.epoch, seq: self.head().seq + 1 };
        let username = self.clients[number].record.name.clone();
        self.log.push(Event { position, at: self.now, username, what });
        position
    }

    fn enter(&mut self, number: usize) {
        if self.random.random_ratio(1, 4) {
            // Its stream breaks before it is welcomed.
            self.note(number, Entry::Tries);
            self.append(number, EventKind::Joined);
            self.append(number, EventKind::Left(LeftCause::Disconnected));
        }
        let head = self.append(number, EventKind::Joined);
        let client = &mut self.clients[number];
        client.session += 1;
        client.place = Place::In;
        let session = client.session;
        if session > 1 && !self.clients[number].cut_off && self.random.random() {
            self.note(number, Entry::Again { session });
            self.tell(number);
        } else {
            self.note(number, Entry::Tries);
            (self.clients[number].told, self.clients[number].cut_off) = (head, false);
            self.note(number, Entry::In { session, head });
        }
    }

    /// Tells a client all that it was not told yet.
    fn tell(&mut self, number: usize) {
        let told = self.clients[number].told;
        let news: Vec<_> =
            self.log.iter().filter(|it| it.position.seq > told.seq).cloned().collect();
        for event in news {
            self.clients[number].told = event.position;
            let own = event.username == self.clients[number].record.name;
            if own && event.what == EventKind::Joined {
                continue;
            }
            self.note(number, Entry::Event(event));
        }
    }

    fn say(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.said += 1;
        let content = format!("message {}", client.said);
        self.note(number, Entry::Asks(content.clone()));
        let position = self.append(number, EventKind::Said(content.clone()));
        let position = match self.random.random_range(0..20) {
            // Its answer is lost, or does not know where it is.
            0 => return,
            1 => None,
            _ => Some(position),
        };
        self.note(number, Entry::Acked { content, position });
    }

    fn cut(&mut self, number: usize) {
        self.clients[number].place = Place::Away(self.now);
        self.note(number, Entry::Away);
    }

    fn resume(&mut self, number: usize) {
        let session = self.clients[number].session;
        self.clients[number].place = Place::In;
        self.note(number, Entry::Resumed { session });
        self.tell(number);
    }

    fn leave(&mut self, number: usize) {
        self.note(number, Entry::Leaves);
        self.append(number, EventKind::Left(LeftCause::Asked));
        self.clients[number].place = Place::Out;
        self.note(number, Entry::Away);
    }

    /// Those who were away too long have left.
    fn time_out(&mut self) {
        for number in 0..self.clients.len() {
            let Place::Away(since) = self.clients[number].place else { continue };
            if self.now > since + TERMS.linger {
                self.append(number, EventKind::Left(LeftCause::TimedOut));
                self.clients[number].place = Place::Out;
            }
        }
    }

    /// The log goes on under another epoch; now and then without its last messages, which those are
    /// told who had them.
    fn fail_over(&mut self) {
        for number in 0..self.clients.len() {
            if self.clients[number].place == Place::In {
                self.tell(number);
            }
        }
        let epoch = self.epoch;
        let last = |it: &&Event| it.content().is_some() && it.position.epoch == epoch;
        let lost = self.log.iter().rev().take_while(last).count();
        let lost = self.random.random_range(0..=lost.min(4));
        let kept = self.log.len() - lost;
        let gone = self.log.split_off(kept);
        self.epoch = self.random.next_u64();
        let Some(to) = gone.last().map(|event| event.position) else { return };
        for number in 0..self.clients.len() {
            let told = self.clients[number].told;
            let from = gone[0].position;
            if self.clients[number].place == Place::Out {
                self.clients[number].cut_off = true;
            }
            if self.clients[number].place == Place::Out || told.seq < from.seq {
                continue;
            }
            // One that is away is told when it is back, which it is at once here.
            if let Place::Away(_) = self.clients[number].place {
                let session = self.clients[number].session;
                self.clients[number].place = Place::In;
                self.note(number, Entry::Resumed { session });
            }
            assert_eq!(told.epoch, to.epoch, "only the last epoch is cut");
            self.note(number, Entry::Gap(Some((from, told))));
            self.clients[number].told = Position { seq: from.seq - 1, ..told };
        }
    }

    /// Everybody who has a session is back, and has heard everything.
    fn end(mut self) -> Evidence {
        for number in 0..self.clients.len() {
            if let Place::Away(_) = self.clients[number].place {
                self.resume(number);
            }
        }
        for number in 0..self.clients.len() {
            if self.clients[number].place == Place::In {
                self.tell(number);
            }
        }
        let records = self.clients.into_iter().map(|client| client.record).collect();
        let logs = BTreeMap::from([(ROOM.to_owned(), self.log)]);
        Evidence { records, logs, faults: vec![(At::ZERO, Fault::Kill)] }
    }
}
