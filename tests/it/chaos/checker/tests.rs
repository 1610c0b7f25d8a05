//! The checker itself: it finds nothing where nothing is wrong, and every kind of planted violation
//! wherever it is planted.

mod plants;
mod world;

use rand::{SeedableRng, rngs::StdRng};

use self::world::{TERMS, clean};
use super::{Entry, Evidence, Fault, Kind, check};

/// How many worlds each violation is planted into, at a random place of each.
const WORLDS: u64 = 60;

/// Changes evidence so that something is wrong with it; `false` if there is no place for it.
type Plant = fn(&mut Evidence, &mut StdRng) -> bool;

fn shown(found: &[super::Violation]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for seed in 0..4 * WORLDS {
        let found = check(&clean(seed), &TERMS);
        assert!(found.is_empty(), "world {seed}:\n{}", shown(&found));
    }
}

/// Plants into many worlds, and expects to find it in each.
fn find(kinds: &[Kind], plant: Plant) {
    let mut planted = 0;
    for seed in 0..WORLDS {
        let mut evidence = clean(seed);
        let found = check(&evidence, &TERMS);
        assert!(found.is_empty(), "world {seed}, nothing planted:\n{}", shown(&found));
        if !plant(&mut evidence, &mut StdRng::seed_from_u64(seed)) {
            continue;
        }
        planted += 1;
        let found = check(&evidence, &TERMS);
        let is_found = found.iter().any(|violation| kinds.contains(&violation.kind));
        assert!(is_found, "world {seed}: no {kinds:?} but\n{}", shown(&found));
    }
    assert!(planted > WORLDS / 3, "there was a place for it in {planted} worlds only");
}

macro_rules! finds {
    ($($plant:ident => $($kind:ident)|+),* $(,)?) => {
        $(#[test] fn $plant() { find(&[$(Kind::$kind),+], plants::$plant); })*
    };
}

finds!(
    a_dropped_event => Missing,
    the_last_event_dropped => Missing,
    an_event_dropped_from_the_log => Missing,
    a_doubled_event => Doubled,
    a_message_that_is_there_twice => Doubled,
    two_swapped_events => Disordered,
    a_sender_whose_messages_are_swapped => Disordered,
    an_early_event => Missing,
    two_events_at_one_position => Different,
    an_event_that_is_not_in_the_log => Unlogged,
    an_acknowledged_message_that_is_nowhere => Lost,
    an_acknowledged_message_that_is_elsewhere => Lost,
    a_second_holder => SecondHolder,
    a_second_holder_that_nobody_heard_come => SecondHolder,
    a_message_of_somebody_else => SecondHolder,
    a_message_of_the_absent => SecondHolder,
    a_false_left => FalseLeft,
    a_false_left_of_one_who_is_away_for_a_moment => FalseLeft,
    a_false_loss_of_a_replica => FalseLeft,
    a_left_for_no_good_cause => FalseLeft,
    a_disconnection_of_one_who_was_welcomed => FalseLeft,
    a_second_left => FalseLeft,
    a_left_that_was_not_asked_for => FalseLeft,
    a_false_joined => FalseJoined,
    a_false_joined_of_one_who_is_back => FalseJoined,
    a_false_joined_of_one_who_is_gone => FalseJoined,
    a_false_joined_of_a_stranger => FalseJoined,
    a_join_that_is_not_told => Untold,
    // What comes next looks as if it were wrong.
    a_leave_that_is_not_told => Untold | FalseJoined,
    a_gap_where_nothing_is_missing => FalseGap,
    a_gap_instead_of_what_is_there => FalseGap,
    a_gap_that_claims_everything => FalseGap,
    a_newest_stream_that_is_ousted => Ousted,
    a_session_that_does_not_linger => Forgotten,
    a_broken_protocol => Broken,
);

/// The last events of a room never reached the server that is promoted; who was told of them has gone since.
fn roll_back(evidence: &mut Evidence) -> bool {
    let Some(log) = evidence.logs.values_mut().next() else { return false };
    let Some(last) = log.last_mut().filter(|last| last.content().is_some()) else { return false };
    let (position, at) = (last.position, last.at);
    last.position.epoch += 1;
    let mut told = last.clone();
    told.position = position;
    let record = &mut evidence.records[0];
    let there = |(_, entry): &(_, Entry)| matches!(entry, Entry::In { .. });
    let Some(begun) = record.entries.iter().position(there) else { return false };
    record.entries.truncate(begun + 1);
    let Entry::In { head, .. } = &mut record.entries[begun].1 else { return false };
    *head = super::Position { seq: position.seq - 1, ..position };
    record.entries.push((at, Entry::Event(told)));
    record.entries.push((at, Entry::Away));
    evidence.records.truncate(1);
    evidence.faults.push((at, Fault::KillMaster));
    true
}

#[test]
fn what_a_failover_takes_back_need_not_be_told_to_who_has_gone_by_then() {
    let unlogged = |evidence: &Evidence| {
        check(evidence, &TERMS).iter().filter(|it| it.kind == Kind::Unlogged).count()
    };
    let mut tried = 0;
    for seed in 0..4 * WORLDS {
        let mut evidence = clean(seed);
        if !roll_back(&mut evidence) {
            continue;
        }
        tried += 1;
        assert_eq!(unlogged(&evidence), 0, "world {seed}");
        evidence.faults.pop();
        assert_eq!(unlogged(&evidence), 1, "world {seed}: without a failover");
    }
    assert!(tried > 0, "there was a place for it in no world");
}
