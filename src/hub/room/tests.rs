//! Readers of a room over random histories: each of those that miss nothing gets every event once and in order, or is
//! told what is gone; the others get what they get in order, until they fall off.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    backplane::conformance::props,
    domain::{Epoch, Head, Page},
    hub::{
        testing::{Given, Plain, config, nobody},
        unread::{Held, Unread},
    },
    room::LogCursor,
};

/// The room's log, as the backplane has it.
#[derive(Debug)]
struct Log {
    head: Head,
    events: BTreeMap<u64, Arc<Event>>,
    /// Up to there it has been trimmed.
    trimmed: u64,
    /// Where each event was ever said.
    said: Vec<Position>,
    /// Where epochs were ever said to end.
    ends: Vec<Position>,
}

impl Log {
    fn say(&mut self, hold: &Hold) -> (Epoch, u64, Arc<Event>) {
        self.head.position.seq += 1;
        let Position { epoch, seq } = self.head.position;
        let event = props::said(hold, &self.said.len().to_string());
        self.said.push(self.head.position);
        self.events.insert(seq, event.clone());
        (epoch, seq, event)
    }

    fn trim(&mut self, count: usize) {
        for _ in 0..count {
            let Some((seq, _)) = self.events.pop_first() else { return };
            self.trimmed = seq;
        }
    }

    /// Another Redis takes over, which lacks so many of the last events.
    fn fail_over(&mut self, lacks: u64) {
        let Position { epoch, seq } = self.head.position;
        let kept = Position::new(epoch, seq.saturating_sub(lacks).max(self.trimmed));
        self.events.split_off(&(kept.seq + 1));
        for end in &mut self.head.past {
            end.seq = end.seq.min(kept.seq);
        }
        self.head.past.push(kept);
        self.ends.extend(&self.head.past);
        self.head.position = Position::new(Epoch(epoch.0 + 1), kept.seq);
    }

    fn page(&self, after: u64, limit: usize) -> Page {
        let events = self.events.range(after + 1..).take(limit);
        let events = events.map(|(seq, event)| (*seq, event.clone())).collect();
        Page { head: Some(self.head.clone()), events }
    }
}

/// A member, and what it was given.
struct Reader {
    member: Arc<Member>,
    key: usize,
    misses_nothing: bool,
    last: Position,
    /// By sequence number what it has, as far as it was not taken back.
    has: BTreeMap<u64, String>,
    has_fallen: bool,
}

impl Reader {
    fn take(&mut self, room: &Room, log: &Log, max_bytes: usize) -> bool {
        let Ok(chunk) = room.take(self.key, &Plain, u64::MAX, max_bytes, None) else {
            assert!(!self.misses_nothing, "a reader that misses nothing has fallen off");
            self.has_fallen = true;
            return false;
        };
        let given = Plain::read(&chunk.bytes);
        assert_eq!(given.len(), chunk.events);
        for it in &given {
            self.check(it, log);
        }
        !given.is_empty()
    }

    fn check(&mut self, given: &Given, log: &Log) {
        let last = self.last;
        if let Given::Event(at, content) = given {
            let said = log.said[content.parse::<usize>().expect("a number")];
            assert_eq!(*at, said, "an event is told where it was written");
        }
        self.last = match *given {
            Given::Event(at, ref content) if self.misses_nothing => {
                assert_eq!(at.seq, last.seq + 1, "{at} follows {last}");
                self.has.insert(at.seq, content.clone());
                at
            }
            Given::Event(at, _) => {
                assert!(at.seq > last.seq || at.epoch != last.epoch, "{at} follows {last}");
                at
            }
            // Fallen out of the log.
            Given::Lost(from, to) if from.seq == last.seq + 1 => {
                assert!(to.seq <= log.trimmed, "{from} to {to} is not gone: {log:?}");
                to
            }
            // Rolled back by a failover.
            Given::Lost(from, to) => {
                // Under the name that it had last: the reader may have gone over to later epochs since.
                assert_eq!(to.seq, last.seq, "what was given is what is taken back");
                let cut = Position::new(from.epoch, from.seq - 1);
                assert!(log.ends.contains(&cut), "{cut} is no end of an epoch: {log:?}");
                self.has.split_off(&from.seq);
                cut
            }
        };
    }

    /// Reads the log for it, if it asks for that. False when it does not.
    fn read_log(&self, room: &Room, log: &Log, limit: usize, works: bool) -> bool {
        let Some(after) = self.member.begin_reading() else { return false };
        let page = works.then(|| log.page(after, limit));
        let is_new = self.member.end_reading(page, held());
        if works && !is_new {
            room.sequencer(|sequencer| sequencer.head(&log.head));
        }
        true
    }
}

fn held() -> Held {
    Unread::new(usize::MAX).hold(0)
}

#[derive(Clone, Debug)]
enum Act {
    /// So many events, of which this replica hears, or does not.
    Say {
        events: u64,
        heard: bool,
    },
    Trim(usize),
    FailOver {
        lacks: u64,
    },
    /// The room learns where the log ends.
    Renew,
    /// The read that the room asked for, if it did.
    Read {
        limit: usize,
        works: bool,
    },
    Take {
        reader: usize,
        events: usize,
    },
    ReadFor {
        reader: usize,
        limit: usize,
        works: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..6u64, prop::bool::weighted(0.8)).prop_map(|(events, heard)| Act::Say { events, heard }),
        1 => (1..8usize).prop_map(Act::Trim),
        1 => (0..4u64).prop_map(|lacks| Act::FailOver { lacks }),
        2 => Just(Act::Renew),
        4 => (1..8usize, any::<bool>()).prop_map(|(limit, works)| Act::Read { limit, works }),
        8 => (0..READERS, 1..6usize).prop_map(|(reader, events)| Act::Take { reader, events }),
        6 => (0..READERS, 1..8usize, any::<bool>())
            .prop_map(|(reader, limit, works)| Act::ReadFor { reader, limit, works }),
    ]
}

const READERS: usize = 4;
/// About what an event has in bytes.
const BYTES: usize = 40;
/// Small, so that readers fall off all the time.
const WINDOW: usize = 8;

struct World {
    room: Room,
    log: Log,
    readers: Vec<Reader>,
    speaker: Hold,
    /// The room asked for what comes after this.
    asked: Option<u64>,
}

impl World {
    /// A room with so many events, three readers that miss nothing after some of them, and one that gets what comes.
    fn new(events: u64, begin: [u64; READERS - 1]) -> Self {
        let config = HubConfig { window_events: WINDOW, ..config() };
        let name = props::some_room();
        let speaker = props::some_hold(&name, "speaker");
        let head = Head { position: Position::new(Epoch(1), 0), past: vec![] };
        let mut log =
            Log { head, events: BTreeMap::new(), trimmed: 0, said: Vec::new(), ends: vec![] };
        for _ in 0..events {
            log.say(&speaker);
        }
        let room = Room::new(name.clone(), &config, Metrics::new(), Arc::new(Sampler::off()));
        room.sequencer(|sequencer| sequencer.start(Some(log.head.clone())));
        let end = log.head.position;
        let places = begin.map(|seq| Some(Position::new(end.epoch, seq.min(events))));
        let reader = |place: Option<Position>| {
            let misses_nothing = place.is_some();
            let hold = props::some_hold(&name, "reader");
            let member = Arc::new(Member::new(hold, room.number(), nobody(), misses_nothing));
            let key = room.add_member(&member);
            let last = place.unwrap_or(end);
            member.admit(end, LogCursor::after(last));
            room.admit(key, end);
            Reader { member, key, misses_nothing, last, has: BTreeMap::new(), has_fallen: false }
        };
        let readers = places.into_iter().chain([None]).map(reader).collect();
        Self { room, log, readers, speaker, asked: None }
    }

    fn happen(&mut self, happen: impl FnOnce(&mut Sequencer<Arc<Event>>) -> Moves<Arc<Event>>) {
        let fed = self.room.sequencer(happen);
        self.asked = fed.read.or(self.asked);
        self.room.announce();
    }

    fn read(&mut self, limit: usize, works: bool) -> bool {
        let Some(after) = self.asked.take() else { return false };
        if works {
            let page = self.log.page(after, limit);
            self.happen(|sequencer| sequencer.page(page));
        } else {
            self.asked = self.room.read_failed();
        }
        true
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Say { events, heard } => {
                for _ in 0..events {
                    let (epoch, seq, event) = self.log.say(&self.speaker);
                    if heard {
                        self.happen(|sequencer| sequencer.live(epoch, seq, vec![event]));
                    }
                }
            }
            Act::Trim(count) => self.log.trim(count),
            // More of them than a log remembers would be another history.
            Act::FailOver { lacks } if self.log.head.past.len() < 4 => self.log.fail_over(lacks),
            Act::FailOver { .. } => {}
            Act::Renew => {
                let head = self.log.head.clone();
                self.happen(|sequencer| sequencer.head(&head));
            }
            Act::Read { limit, works } => drop(self.read(limit, works)),
            Act::Take { reader, events } => {
                self.readers[reader].take(&self.room, &self.log, events * BYTES);
            }
            Act::ReadFor { reader, limit, works } => {
                self.readers[reader].read_log(&self.room, &self.log, limit, works);
            }
        }
    }

    /// Everything works, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.act(&Act::Renew);
            let mut busy = self.read(100, true);
            for reader in &mut self.readers {
                busy |= reader.take(&self.room, &self.log, 1 << 20);
                busy |= reader.read_log(&self.room, &self.log, 100, true);
            }
            if !busy {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

proptest! {
    #[test]
    fn who_misses_nothing_gets_all_once_and_in_order(
        events in 0..12u64,
        begin in [0..12u64, 0..12, 0..12],
        acts in prop::collection::vec(act(), 0..80),
    ) {
        let mut world = World::new(events, begin);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        let end = world.log.head.position;
        for reader in world.readers.iter().filter(|it| it.misses_nothing) {
            prop_assert_eq!(reader.last.seq, end.seq, "it has come to the end: {:?}", world.log);
            for (seq, content) in &reader.has {
                let there = world.log.events.get(seq).map(|it| props::line(0, it));
                let same = there.is_none_or(|it| it == format!("0 speaker: {content}"));
                prop_assert!(same, "{seq}: {:?}", world.log);
            }
        }
    }
}

/// The same history, where nobody reads the log for one of them: it waits, and nobody else does.
#[test]
fn who_is_not_served_from_the_log_holds_up_nobody() {
    let mut world = World::new(20, [0, 20, 20]);
    for _ in 0..10 {
        world.act(&Act::Say { events: 3, heard: true });
        for reader in [1, 3] {
            world.act(&Act::Take { reader, events: 8 });
        }
        world.act(&Act::Take { reader: 0, events: 8 });
    }
    let ends: Vec<_> = world.readers.iter().map(|it| it.last.seq).collect();
    assert_eq!(ends, [0, 50, 20, 50]);
    assert!(!world.readers[3].has_fallen);
    world.settle();
    assert!(world.readers.iter().all(|it| it.last.seq == 50));
}
