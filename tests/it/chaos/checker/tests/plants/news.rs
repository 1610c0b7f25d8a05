//! What clients are told of events, gaps and their own messages.

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{Entry, EventKind, Evidence, Position, log, message, place, places, replace};

fn an_event(entry: &Entry) -> bool {
    matches!(entry, Entry::Event(_))
}

pub(crate) fn a_dropped_event(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = place(evidence, random, an_event) else { return false };
    let entries = &mut evidence.records[record].entries;
    entries.remove(entry);
    // Whoever left may have left before it, and what is told to be gone may be missing.
    let is_news =
        |entry: &Entry| matches!(entry, Entry::Event(_) | Entry::Gap(_) | Entry::In { .. });
    let next = entries[entry..].iter().find(|(_, entry)| is_news(entry));
    next.is_some_and(|(_, entry)| an_event(entry))
}

fn staying(evidence: &Evidence, random: &mut StdRng) -> Option<usize> {
    let records = 0..evidence.records.len();
    let staying: Vec<_> = records.filter(|it| evidence.records[*it].stayed()).collect();
    staying.choose(random).copied()
}

pub(crate) fn the_last_event_dropped(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some(record) = staying(evidence, random) else { return false };
    let last = log(evidence).last().expect("something happened").clone();
    let entries = &mut evidence.records[record].entries;
    let before = entries.len();
    entries.retain(|(_, entry)| *entry != Entry::Event(last.clone()));
    entries.len() < before
}

pub(crate) fn an_event_dropped_from_the_log(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let log = log(evidence);
    let number = random.random_range(1..log.len() - 1);
    log.remove(number);
    true
}

pub(crate) fn a_doubled_event(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = place(evidence, random, an_event) else { return false };
    let entries = &mut evidence.records[record].entries;
    entries.insert(entry, entries[entry].clone());
    true
}

pub(crate) fn a_message_that_is_there_twice(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some(once) = message(evidence, random) else { return false };
    let said: Vec<_> = log(evidence).iter().filter(|it| it.content().is_some()).cloned().collect();
    let mut others = said.iter().filter(|it| it.username == once.username && **it != once);
    let Some(other) = others.next() else { return false };
    replace(evidence, other, &once.username, once.what.clone());
    true
}

pub(crate) fn two_swapped_events(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let pairs: Vec<_> = places(evidence, an_event)
        .into_iter()
        .filter(|(record, entry)| {
            let next = evidence.records[*record].entries.get(entry + 1);
            next.is_some_and(|(_, entry)| an_event(entry))
        })
        .collect();
    let Some((record, entry)) = pairs.choose(random).copied() else { return false };
    evidence.records[record].entries.swap(entry, entry + 1);
    true
}

/// Everybody agrees on the order, but it is not that in which they were said.
pub(crate) fn a_sender_whose_messages_are_swapped(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let asks = |entry: &Entry| matches!(entry, Entry::Asks(_));
    let Some((record, first)) = place(evidence, random, asks) else { return false };
    let name = evidence.records[record].name.clone();
    let log = log(evidence).clone();
    let logged = |entry: &Entry| match entry {
        Entry::Asks(asked) => {
            log.iter().any(|it| it.username == name && it.content() == Some(asked))
        }
        _ => false,
    };
    let entries = &mut evidence.records[record].entries;
    let later = (first + 1..entries.len()).find(|it| logged(&entries[*it].1));
    match later {
        Some(later) if logged(&entries[first].1) => {
            entries.swap(first, later);
            true
        }
        _ => false,
    }
}

/// An event that is told some events too early, its predecessors never.
pub(crate) fn an_early_event(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = place(evidence, random, an_event) else { return false };
    let entries = &mut evidence.records[record].entries;
    let last = (entry + 1..entries.len().min(entry + 6)).rev().find(|it| an_event(&entries[*it].1));
    let Some(last) = last else { return false };
    let between: Vec<_> = entries.drain(entry..last).collect();
    // What it did itself stays.
    let kept: Vec<_> = between.into_iter().filter(|(_, entry)| !an_event(entry)).collect();
    entries.splice(entry..entry, kept);
    true
}

pub(crate) fn two_events_at_one_position(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let said = |entry: &Entry| matches!(entry, Entry::Event(it) if it.content().is_some());
    let Some((record, entry)) = place(evidence, random, said) else { return false };
    let Entry::Event(event) = &mut evidence.records[record].entries[entry].1 else { return false };
    event.what = EventKind::Said("something else".to_owned());
    true
}

/// A client is told of an event behind the log's end.
pub(crate) fn an_event_that_is_not_in_the_log(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let mut event = log(evidence).last().expect("something happened").clone();
    event.position.seq += 1;
    // It may have been there, before a failover.
    let there = |entry: &Entry| matches!(entry, Entry::Event(it) if it.position == event.position);
    if !places(evidence, there).is_empty() {
        return false;
    }
    let Some(record) = staying(evidence, random) else { return false };
    let entries = &mut evidence.records[record].entries;
    let at = entries.last().expect("it was in").0;
    entries.push((at, Entry::Event(event)));
    true
}

pub(crate) fn an_acknowledged_message_that_is_nowhere(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let there = log(evidence).clone();
    // One that a failover took may be anywhere.
    let acked = |entry: &Entry| match entry {
        Entry::Acked { position: Some(at), .. } => there.iter().any(|it| it.position == *at),
        Entry::Acked { position: None, .. } => true,
        _ => false,
    };
    let Some((record, entry)) = place(evidence, random, acked) else { return false };
    let Entry::Acked { content, .. } = &mut evidence.records[record].entries[entry].1 else {
        return false;
    };
    content.push_str(", never heard");
    true
}

pub(crate) fn an_acknowledged_message_that_is_elsewhere(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let acked = |entry: &Entry| matches!(entry, Entry::Acked { position: Some(_), .. });
    let Some((record, entry)) = place(evidence, random, acked) else { return false };
    let last = log(evidence).last().expect("something happened").position;
    let Entry::Acked { position, .. } = &mut evidence.records[record].entries[entry].1 else {
        return false;
    };
    let moved = *position != Some(last);
    *position = Some(last);
    moved
}

pub(crate) fn a_gap_where_nothing_is_missing(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = kept(evidence, random) else { return false };
    let (at, Entry::Event(event)) = evidence.records[record].entries[entry].clone() else {
        return false;
    };
    let last = event.position;
    let next = Position { seq: last.seq + 1, ..last };
    let mut gone = *[last, next].choose(random).expect("two");
    if !log(evidence).iter().any(|it| it.position == gone) {
        gone = last;
    }
    evidence.records[record].entries.insert(entry + 1, (at, Entry::Gap(Some((gone, gone)))));
    true
}

/// Some event that a client was told and that is still in the log.
fn kept(evidence: &mut Evidence, random: &mut StdRng) -> Option<(usize, usize)> {
    let there = log(evidence).clone();
    place(evidence, random, |entry| matches!(entry, Entry::Event(it) if there.contains(it)))
}

pub(crate) fn a_gap_instead_of_what_is_there(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = kept(evidence, random) else { return false };
    let (at, Entry::Event(event)) = evidence.records[record].entries[entry].clone() else {
        return false;
    };
    let gap = Entry::Gap(Some((event.position, event.position)));
    evidence.records[record].entries[entry] = (at, gap);
    true
}

pub(crate) fn a_gap_that_claims_everything(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = kept(evidence, random) else { return false };
    let at = evidence.records[record].entries[entry].0;
    evidence.records[record].entries.insert(entry + 1, (at, Entry::Gap(None)));
    true
}

pub(crate) fn a_broken_protocol(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = place(evidence, random, an_event) else { return false };
    let at = evidence.records[record].entries[entry].0;
    evidence.records[record].entries[entry] = (at, Entry::Broken("two welcomes".to_owned()));
    true
}

pub(crate) fn a_newest_stream_that_is_ousted(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((record, entry)) = place(evidence, random, an_event) else { return false };
    let at = evidence.records[record].entries[entry].0;
    evidence.records[record].entries[entry] = (at, Entry::Ousted("superseded".to_owned()));
    true
}
