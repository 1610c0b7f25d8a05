//! What can be wrong, each at a random place.

mod names;
mod news;

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

pub(super) use self::{names::*, news::*};
use crate::chaos::record::{Entry, Event, EventKind, Evidence, Position};

const ROOM: &str = "lobby";

/// All places of all records whose entries are of interest, as numbers of record and entry.
fn places(evidence: &Evidence, of_interest: impl Fn(&Entry) -> bool) -> Vec<(usize, usize)> {
    let mut places = vec![];
    for (number, record) in evidence.records.iter().enumerate() {
        let entries = record.entries.iter().enumerate();
        let chosen = entries.filter(|(_, (_, entry))| of_interest(entry));
        places.extend(chosen.map(|(entry, _)| (number, entry)));
    }
    places
}

/// One of them.
fn place(
    evidence: &Evidence,
    random: &mut StdRng,
    of_interest: impl Fn(&Entry) -> bool,
) -> Option<(usize, usize)> {
    places(evidence, of_interest).choose(random).copied()
}

fn log(evidence: &mut Evidence) -> &mut Vec<Event> {
    evidence.logs.get_mut(ROOM).expect("the room has a log")
}

/// A place in the log whose event is a message.
fn message(evidence: &mut Evidence, random: &mut StdRng) -> Option<Event> {
    let said = log(evidence).iter().filter(|event| event.content().is_some());
    said.cloned().collect::<Vec<_>>().choose(random).cloned()
}

/// Puts another event in the place of a message, in the log and in everybody's record; nobody knows
/// of the message any more.
fn replace(evidence: &mut Evidence, old: &Event, username: &str, what: EventKind) {
    let new = Event { username: username.to_owned(), what, ..old.clone() };
    for event in log(evidence).iter_mut().filter(|event| *event == old) {
        *event = new.clone();
    }
    let content = old.content().expect("a message");
    for record in &mut evidence.records {
        let mine = record.name == old.username;
        record.entries.retain(|(_, entry)| match entry {
            Entry::Asks(asked) | Entry::Acked { content: asked, .. } => !(mine && asked == content),
            _ => true,
        });
        for (_, entry) in &mut record.entries {
            if let Entry::Event(event) = entry
                && event == old
            {
                *event = new.clone();
            }
        }
    }
}

/// Takes an event out of the log and everybody's record; what was behind it moves up.
fn remove(evidence: &mut Evidence, gone: &Event) {
    let seq = gone.position.seq;
    let up = |position: &mut Position| position.seq -= u64::from(position.seq > seq);
    let log = log(evidence);
    log.retain(|event| event != gone);
    for event in log.iter_mut() {
        up(&mut event.position);
    }
    for record in &mut evidence.records {
        record.entries.retain(|(_, entry)| *entry != Entry::Event(gone.clone()));
        for (_, entry) in &mut record.entries {
            match entry {
                Entry::Event(event) => up(&mut event.position),
                Entry::In { head, .. } => head.seq -= u64::from(head.seq >= seq),
                Entry::Acked { position: Some(position), .. } => up(position),
                Entry::Gap(Some((from, to))) => {
                    up(from);
                    up(to);
                }
                _ => {}
            }
        }
    }
}

/// Whether a name is there after this place of the log.
fn is_there(log: &[Event], place: usize, name: &str) -> bool {
    let before = log[..=place].iter().rev().find(|event| event.username == name);
    before.is_some_and(|event| !matches!(event.what, EventKind::Left(_)))
}

/// A message, and somebody who is there at that time and of whom the test says more.
fn message_and_member(
    evidence: &mut Evidence,
    random: &mut StdRng,
    suits: impl Fn(&Evidence, usize, &Event) -> bool,
) -> Option<(Event, String)> {
    for _ in 0..1000 {
        let event = message(evidence, random)?;
        let number = random.random_range(0..evidence.records.len());
        let name = evidence.records[number].name.clone();
        if name != event.username && suits(evidence, number, &event) {
            return Some((event, name));
        }
    }
    None
}
