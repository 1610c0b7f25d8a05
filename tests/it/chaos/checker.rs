//! Finds what cannot have been, in the records of everybody who was there.
//!
//! It is pure: nothing in it knows of the server, of a network or of a clock. Its tests plant every
//! kind of violation into records in which it finds none.

mod comings;
mod gaps;
mod holders;
mod reading;
mod sessions;
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use super::record::{At, Entry, Event, Evidence, Fault, Position, Record, Terms};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    /// Somebody was not told of an event, and not told that it is gone.
    Missing,
    /// Something happens twice.
    Doubled,
    /// Somebody was told of an event too early or too late.
    Disordered,
    /// Two were told different things of one position.
    Different,
    /// Somebody was told of an event that is not in the log.
    Unlogged,
    /// A message was acknowledged, and is not where it should be.
    Lost,
    /// Two had one name at the same time, or somebody spoke under a name that was not theirs.
    SecondHolder,
    /// Somebody came, the room was told, who did not come.
    FalseJoined,
    /// Somebody went, the room was told, who did not go.
    FalseLeft,
    /// Somebody came or went, and the room was not told.
    Untold,
    /// Somebody was told that something is gone, and it is not.
    FalseGap,
    /// A session was taken from its newest stream.
    Ousted,
    /// A session was ended before it had lingered.
    Forgotten,
    /// The protocol was broken in a way that a client noticed by itself.
    Broken,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    pub(super) room: String,
    /// Whose record, or whose name.
    pub(super) name: String,
    pub(super) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} in {}: {}", self.kind, self.name, self.room, self.detail)
    }
}

/// Everything that is wrong.
pub(super) fn check(evidence: &Evidence, terms: &Terms) -> Vec<Violation> {
    let empty = vec![];
    let mut rooms: Vec<_> = evidence.records.iter().map(|it| it.room.as_str()).collect();
    rooms.extend(evidence.logs.keys().map(String::as_str));
    rooms.sort_unstable();
    rooms.dedup();
    let mut found = vec![];
    for name in rooms {
        let log = evidence.logs.get(name).unwrap_or(&empty);
        let records = evidence.records.iter().filter(|it| it.room == name).collect();
        let mut room = Room { name, log, records, evidence, terms, found: vec![] };
        reading::check(&mut room);
        gaps::check(&mut room);
        holders::check(&mut room);
        comings::check(&mut room);
        sessions::check(&mut room);
        found.extend(room.found);
    }
    found
}

/// One room under examination.
struct Room<'a> {
    name: &'a str,
    log: &'a [Event],
    records: Vec<&'a Record>,
    evidence: &'a Evidence,
    terms: &'a Terms,
    found: Vec<Violation>,
}

impl<'a> Room<'a> {
    fn report(&mut self, kind: Kind, name: &str, detail: String) {
        self.found.push(Violation {
            kind,
            room: self.name.to_owned(),
            name: name.to_owned(),
            detail,
        });
    }

    /// Whether the log has dropped what was there, for its age or its length.
    fn trimmed(&self, position: Position) -> bool {
        self.log.first().is_none_or(|first| position.seq < first.position.seq)
    }

    /// Whether it has everything that ever happened.
    fn is_whole(&self) -> bool {
        self.log.first().is_some_and(|first| first.position.seq == 1) && !self.lost_data()
    }

    /// Whether Redis ever lost its data.
    fn lost_data(&self) -> bool {
        self.evidence.faults.iter().any(|(_, fault)| *fault == Fault::LoseRedis)
    }

    /// Whether a position was lost with Redis's data.
    fn was_lost(&self, position: Position) -> bool {
        self.lost_data() && self.log.iter().all(|event| event.position.epoch != position.epoch)
    }

    /// Whether a failover took this event back: it happened while one was under way, and the log, which is that of
    /// the promoted server, has another event of a later epoch in its place.
    fn was_rolled_back(&self, event: &Event) -> bool {
        let position = event.position;
        let replaced = self
            .log
            .iter()
            .any(|it| it.position.seq == position.seq && it.position.epoch != position.epoch);
        replaced
            && self.evidence.faults.iter().any(|(begun, fault)| {
                let until = *begun + self.terms.outage + self.terms.tolerance;
                fault.rolls_back()
                    && (begun.saturating_sub(self.terms.tolerance)..until).contains(&event.at)
            })
    }

    /// The names of those of whose coming or going a failover took back something: whether they are there now depends
    /// on who knew of it.
    fn names_in_doubt(&self) -> HashSet<&'a str> {
        let told = self.records.iter().flat_map(|record| &record.entries);
        told.filter_map(|(_, entry)| match entry {
            Entry::Event(event) if event.content().is_none() && self.was_rolled_back(event) => {
                Some(event.username.as_str())
            }
            _ => None,
        })
        .collect()
    }

    /// Where each position is in the log.
    fn places(&self) -> HashMap<Position, usize> {
        self.log.iter().enumerate().map(|(place, event)| (event.position, place)).collect()
    }

    /// The records of clients of this name.
    fn named(&self, name: &str) -> Vec<&'a Record> {
        self.records.iter().copied().filter(|it| it.name == name).collect()
    }
}

/// What a record was told is gone, with the moment.
fn gaps_of(record: &Record) -> impl Iterator<Item = (At, Option<(Position, Position)>)> + '_ {
    record.entries.iter().filter_map(|(at, entry)| match entry {
        Entry::Gap(range) => Some((*at, *range)),
        _ => None,
    })
}

/// Whether a position is one of those that are said to be gone.
fn within(position: Position, range: (Position, Position)) -> bool {
    let (from, to) = range;
    position.epoch == from.epoch && (from.seq..=to.seq).contains(&position.seq)
}
