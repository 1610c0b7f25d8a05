//! Everybody was told of everything, once, in one order; and what was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Entry, Event, Kind, Position, Record, Room, gaps_of, within};
use crate::chaos::record::EventKind;

pub(super) fn check(room: &mut Room<'_>) {
    check_log(room);
    let mut known: HashMap<Position, &Event> =
        room.log.iter().map(|event| (event.position, event)).collect();
    let logged: BTreeSet<Position> = known.keys().copied().collect();
    for record in room.records.clone() {
        for (kept, event) in read(room, record) {
            let first = *known.entry(event.position).or_insert(event);
            if first != event {
                let detail = format!("was told {event:?}, others {first:?}");
                room.report(Kind::Different, &record.name, detail);
            } else if kept
                && !logged.contains(&event.position)
                && !room.trimmed(event.position)
                && !room.was_lost(event.position)
                // Whoever is there in the end was told that it is gone.
                && (record.stayed() || !room.was_rolled_back(event))
            {
                room.report(Kind::Unlogged, &record.name, format!("{event:?}"));
            }
        }
    }
    for record in room.records.clone() {
        check_acks(room, record, &known);
    }
}

/// The log is dense, and nobody's message is in it twice.
fn check_log(room: &mut Room<'_>) {
    for pair in room.log.windows(2) {
        if pair[0].position.seq + 1 != pair[1].position.seq {
            let detail = format!("{:?} follows {:?}", pair[1].position, pair[0].position);
            room.report(Kind::Missing, "the log", detail);
        }
    }
    let mut said: HashMap<(&str, &str), Position> = HashMap::new();
    for event in room.log {
        let Some(content) = event.content() else { continue };
        if let Some(before) = said.insert((&event.username, content), event.position) {
            let detail = format!("{content:?} is at {before:?} and at {:?}", event.position);
            room.report(Kind::Doubled, &event.username, detail);
        }
    }
}

/// What was acknowledged is in the log at the position that was told, in the order in which it was
/// said, unless clients were told that it is gone.
fn check_acks(room: &mut Room<'_>, record: &Record, known: &HashMap<Position, &Event>) {
    let mine = |event: &&Event| event.username == record.name;
    let said: HashMap<&str, Position> = room
        .log
        .iter()
        .filter(mine)
        .filter_map(|event| Some((event.content()?, event.position)))
        .collect();
    let mut last: Option<(&str, Position)> = None;
    for (_, entry) in &record.entries {
        match entry {
            Entry::Acked { content, position } => {
                let there = said.get(content.as_str()).copied();
                let elsewhere = there.is_none() || position.is_some() && there != *position;
                if elsewhere && !excused(room, record, content, *position, known) {
                    let detail = format!("{content:?}, acked at {position:?}, is at {there:?}");
                    room.report(Kind::Lost, &record.name, detail);
                }
            }
            Entry::Asks(content) => {
                let Some(at) = said.get(content.as_str()).copied() else { continue };
                if let Some((before, _)) = last.filter(|(_, before)| before.seq >= at.seq) {
                    let detail = format!("{content:?} is before {before:?}, said first");
                    room.report(Kind::Disordered, &record.name, detail);
                }
                last = Some((content, at));
            }
            _ => {}
        }
    }
}

/// Whether a message may be missing in the log: it was trimmed, or clients were told that it is gone.
fn excused(
    room: &Room<'_>,
    record: &Record,
    content: &str,
    acked: Option<Position>,
    known: &HashMap<Position, &Event>,
) -> bool {
    if room.lost_data() && acked.is_none_or(|at| room.was_lost(at)) {
        return true;
    }
    let is_it = |event: &&&Event| event.username == record.name && event.content() == Some(content);
    let Some(at) = acked.or_else(|| Some(known.values().find(is_it)?.position)) else {
        return false;
    };
    let mut gaps = room.records.iter().flat_map(|it| gaps_of(it));
    gaps.any(|(_, gap)| gap.is_none_or(|gap| within(at, gap)))
        || room.trimmed(at) && known.get(&at).is_none_or(|event| is_it(&event))
}

/// What a client may be told next.
struct Cursor {
    epoch: u64,
    next: u64,
    /// The log was cut there: the next event is of a new epoch.
    cut: bool,
    /// Or it is this one of a new epoch.
    or: Option<u64>,
}

impl Cursor {
    fn takes(&self, position: Position) -> bool {
        let new = position.epoch != self.epoch;
        (position.seq == self.next && (new || !self.cut)) || (new && self.or == Some(position.seq))
    }

    fn pass(&mut self, position: Position) {
        *self = Self { epoch: position.epoch, next: position.seq + 1, cut: false, or: None };
    }
}

/// One stay of a client, as far as it was read.
struct Stay<'a> {
    cursor: Cursor,
    /// What it was told that was not said to be gone later.
    told: BTreeMap<u64, &'a Event>,
    /// What it was told and later that it is gone.
    retracted: Vec<&'a Event>,
    missing: BTreeSet<Position>,
    /// It came in again meanwhile, and need not be told of that.
    again: bool,
    epochs: BTreeSet<u64>,
}

impl<'a> Stay<'a> {
    fn from(head: Position) -> Self {
        Self {
            cursor: Cursor { epoch: head.epoch, next: head.seq + 1, cut: false, or: None },
            told: BTreeMap::new(),
            retracted: vec![],
            missing: BTreeSet::new(),
            again: false,
            epochs: BTreeSet::from([head.epoch]),
        }
    }

    /// Takes the next event; answers what is wrong with it.
    fn hear(&mut self, event: &'a Event) -> Option<Kind> {
        let position = event.position;
        let returned = position.epoch != self.cursor.epoch && self.epochs.contains(&position.epoch);
        let mut wrong = returned.then_some(Kind::Disordered);
        if self.cursor.takes(position) {
            self.cursor.pass(position);
        } else if self.told.get(&position.seq).is_some_and(|it| it.position == position) {
            return Some(Kind::Doubled);
        } else if self.missing.remove(&position) {
            wrong = Some(Kind::Disordered);
        } else if position.seq > self.cursor.next {
            let hole = self.cursor.next..position.seq;
            self.missing.extend(hole.map(|seq| Position { seq, ..position }));
            self.cursor.pass(position);
        } else {
            wrong = Some(Kind::Disordered);
        }
        self.epochs.insert(position.epoch);
        self.told.insert(position.seq, event);
        wrong
    }

    /// Takes a gap; whether its bounds are what they can be.
    fn lose(&mut self, range: Option<(Position, Position)>) -> bool {
        let Some((from, to)) = range else {
            let any = self.cursor.next > 1;
            self.retracted.extend(std::mem::take(&mut self.told).into_values());
            self.cursor.next = 1;
            self.cursor.cut = true;
            self.cursor.or = None;
            return any;
        };
        let (next, last) = (self.cursor.next, self.cursor.next.saturating_sub(1));
        let latest = self.told.values().next_back().map(|event| event.position.epoch);
        let sane = from.epoch == to.epoch && from.seq <= to.seq;
        if !sane || (from.epoch != self.cursor.epoch && Some(from.epoch) != latest) {
            return false;
        }
        if from.seq == next {
            self.cursor.next = to.seq + 1;
            self.cursor.or = Some(from.seq);
        } else if from.seq < next && to.seq >= last {
            self.retracted.extend(self.told.split_off(&from.seq).into_values());
            self.cursor.next = from.seq;
            self.cursor.cut = true;
        } else {
            return false;
        }
        true
    }
}

/// Reads a record from its beginning to its end; answers what it was told, and whether that is
/// still so at its end.
fn read<'a>(room: &mut Room<'_>, record: &'a Record) -> Vec<(bool, &'a Event)> {
    let mut stay: Option<Stay<'a>> = None;
    let mut told = vec![];
    for (at, entry) in &record.entries {
        if let Entry::In { head, .. } = entry {
            close(room, record, stay.take(), &mut told);
            stay = Some(Stay::from(*head));
        }
        match (entry, &mut stay) {
            (Entry::Event(event), Some(stay)) => {
                if let Some(kind) = stay.hear(event) {
                    room.report(kind, &record.name, format!("at {at:?}: {event:?}"));
                }
            }
            (Entry::Again { .. }, Some(stay)) => stay.again = true,
            (Entry::Gap(range), Some(stay)) => {
                let next = stay.cursor.next;
                if !stay.lose(*range) {
                    let detail = format!("at {at:?}: {range:?}, {next} is next");
                    room.report(Kind::FalseGap, &record.name, detail);
                }
            }
            (Entry::Broken(what), _) => {
                room.report(Kind::Broken, &record.name, format!("at {at:?}: {what}"));
            }
            (Entry::Event(_) | Entry::Gap(_), None) => {
                room.report(Kind::Disordered, &record.name, format!("at {at:?} before it was in"));
            }
            _ => {}
        }
    }
    // Whoever is there in the end has heard the last of everything.
    let head = room.log.last().map(|event| event.position.seq);
    if let (true, Some(stay), Some(head)) = (record.stayed(), &stay, head)
        && stay.cursor.next <= head
        && !(stay.again && own_joined(room, record).contains(&head))
    {
        let detail = format!("the end: {}..={head}", stay.cursor.next);
        room.report(Kind::Missing, &record.name, detail);
    }
    close(room, record, stay, &mut told);
    told
}

/// Where the log says that this client came.
fn own_joined(room: &Room<'_>, record: &Record) -> BTreeSet<u64> {
    let own = |it: &&Event| it.username == record.name && it.what == EventKind::Joined;
    room.log.iter().filter(own).map(|event| event.position.seq).collect()
}

/// Ends a stay: what is missing now will not come any more.
fn close<'a>(
    room: &mut Room<'_>,
    record: &Record,
    stay: Option<Stay<'a>>,
    told: &mut Vec<(bool, &'a Event)>,
) {
    let Some(mut stay) = stay else { return };
    if stay.again {
        let own = own_joined(room, record);
        stay.missing.retain(|it| !own.contains(&it.seq));
    }
    if let (Some(first), Some(last)) = (stay.missing.first(), stay.missing.last()) {
        let detail = format!("{} events between {first:?} and {last:?}", stay.missing.len());
        room.report(Kind::Missing, &record.name, detail);
    }
    told.extend(stay.retracted.into_iter().map(|event| (false, event)));
    told.extend(stay.told.into_values().map(|event| (true, event)));
}
