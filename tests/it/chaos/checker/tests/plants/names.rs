//! Who holds a name, who comes and who goes.

use std::time::Duration;

use rand::rngs::StdRng;
use roomcast_proto::room::LeftCause;

use super::{
    super::world::TERMS, Entry, Event, EventKind, Evidence, is_there, log, message,
    message_and_member, place, remove, replace,
};
use crate::chaos::record::{At, Record};

fn place_of(evidence: &Evidence, event: &Event) -> usize {
    let log = &evidence.logs[super::ROOM];
    log.iter().position(|it| it == event).expect("it is in the log")
}

/// Whether a client has the name, by the log, when this happens.
fn has_name(evidence: &Evidence, number: usize, event: &Event) -> bool {
    let name = &evidence.records[number].name;
    is_there(&evidence.logs[super::ROOM], place_of(evidence, event), name)
}

/// Whether the client is acknowledged something later, and has the name until then.
fn holds_on(evidence: &Evidence, number: usize, event: &Event) -> bool {
    let record = &evidence.records[number];
    let later = &evidence.logs[super::ROOM][place_of(evidence, event)..];
    let next = later.iter().find(|it| it.username == record.name);
    let acked = next.is_some_and(|next| {
        record.entries.iter().any(|(_, entry)| {
            matches!(entry, Entry::Acked { position: Some(it), .. } if *it == next.position)
        })
    });
    has_name(evidence, number, event) && acked
}

/// Somebody else comes in under a name that is held, and is told everything from there on.
fn intrude(evidence: &mut Evidence, random: &mut StdRng, told: bool) -> bool {
    let Some((event, name)) = message_and_member(evidence, random, holds_on) else { return false };
    if told {
        replace(evidence, &event, &name, EventKind::Joined);
    }
    let head = event.position;
    let mut entries = vec![(event.at, Entry::In { session: 9, head })];
    let rest = log(evidence).iter().filter(|it| it.position.seq > head.seq);
    entries.extend(rest.map(|event| (event.at, Entry::Event(event.clone()))));
    evidence.records.push(Record { room: super::ROOM.to_owned(), name, entries });
    true
}

pub(crate) fn a_second_holder(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    intrude(evidence, random, true)
}

pub(crate) fn a_second_holder_that_nobody_heard_come(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    intrude(evidence, random, false)
}

pub(crate) fn a_message_of_somebody_else(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((event, name)) = message_and_member(evidence, random, has_name) else { return false };
    replace(evidence, &event, &name, EventKind::Said("not mine".to_owned()));
    true
}

pub(crate) fn a_message_of_the_absent(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let absent =
        |evidence: &Evidence, number: usize, event: &Event| !has_name(evidence, number, event);
    let Some((event, name)) = message_and_member(evidence, random, absent) else { return false };
    replace(evidence, &event, &name, EventKind::Said("I am not here".to_owned()));
    true
}

/// How long the client had no stream before a moment; `None` when it has one.
fn away_for(record: &Record, now: At) -> Option<Duration> {
    let lives = record.lives();
    let last = lives.iter().rev().find(|(begun, _)| *begun <= now)?;
    last.1.and_then(|end| now.checked_sub(end))
}

fn leave_falsely(
    evidence: &mut Evidence,
    random: &mut StdRng,
    suits: impl Fn(&Record, At) -> bool,
    cause: LeftCause,
) -> bool {
    let suits = |evidence: &Evidence, number: usize, event: &Event| {
        has_name(evidence, number, event) && suits(&evidence.records[number], event.at)
    };
    let Some((event, name)) = message_and_member(evidence, random, suits) else { return false };
    replace(evidence, &event, &name, EventKind::Left(cause));
    true
}

pub(crate) fn a_false_left(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let there = |record: &Record, at: At| away_for(record, at).is_none();
    leave_falsely(evidence, random, there, LeftCause::TimedOut)
}

pub(crate) fn a_false_left_of_one_who_is_away_for_a_moment(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let patience = TERMS.linger.saturating_sub(TERMS.tolerance);
    let away = |record: &Record, at: At| away_for(record, at).is_some_and(|it| it < patience);
    leave_falsely(evidence, random, away, LeftCause::TimedOut)
}

pub(crate) fn a_false_loss_of_a_replica(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    evidence.faults.clear();
    leave_falsely(evidence, random, |_, _| true, LeftCause::ReplicaLost)
}

pub(crate) fn a_left_for_no_good_cause(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    leave_falsely(evidence, random, |_, _| true, LeftCause::Ended)
}

pub(crate) fn a_disconnection_of_one_who_was_welcomed(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let spoke = |evidence: &Evidence, number: usize, event: &Event| {
        let name = &evidence.records[number].name;
        let before = &evidence.logs[super::ROOM][..place_of(evidence, event)];
        let last = before.iter().rev().find(|it| it.username == *name);
        last.is_some_and(|it| it.content().is_some())
    };
    let Some((event, name)) = message_and_member(evidence, random, spoke) else { return false };
    replace(evidence, &event, &name, EventKind::Left(LeftCause::Disconnected));
    true
}

pub(crate) fn a_left_that_was_not_asked_for(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let stays = |record: &Record, _: At| !record.entries.iter().any(|it| it.1 == Entry::Leaves);
    leave_falsely(evidence, random, stays, LeftCause::Asked)
}

/// Whether a client was there, and has left when this happens.
fn is_gone(evidence: &Evidence, number: usize, event: &Event) -> bool {
    let name = &evidence.records[number].name;
    let before = &evidence.logs[super::ROOM][..place_of(evidence, event)];
    let last = before.iter().rev().find(|it| it.username == *name);
    last.is_some_and(|it| matches!(it.what, EventKind::Left(_)))
}

pub(crate) fn a_second_left(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((event, name)) = message_and_member(evidence, random, is_gone) else { return false };
    replace(evidence, &event, &name, EventKind::Left(LeftCause::TimedOut));
    true
}

pub(crate) fn a_false_joined(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some((event, name)) = message_and_member(evidence, random, has_name) else { return false };
    replace(evidence, &event, &name, EventKind::Joined);
    true
}

/// Just after it was away, as if its return were news.
pub(crate) fn a_false_joined_of_one_who_is_back(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let back = |evidence: &Evidence, number: usize, event: &Event| {
        let resumed = evidence.records[number].entries.iter().any(|(at, entry)| {
            matches!(entry, Entry::Resumed { .. })
                && (*at..*at + Duration::from_secs(3)).contains(&event.at)
        });
        resumed && has_name(evidence, number, event)
    };
    let Some((event, name)) = message_and_member(evidence, random, back) else { return false };
    replace(evidence, &event, &name, EventKind::Joined);
    true
}

pub(crate) fn a_false_joined_of_one_who_is_gone(
    evidence: &mut Evidence,
    random: &mut StdRng,
) -> bool {
    let Some((event, name)) = message_and_member(evidence, random, is_gone) else { return false };
    replace(evidence, &event, &name, EventKind::Joined);
    true
}

/// Of somebody of whom nobody knows.
pub(crate) fn a_false_joined_of_a_stranger(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let Some(event) = message(evidence, random) else { return false };
    replace(evidence, &event, "nobody", EventKind::Joined);
    true
}

pub(crate) fn a_join_that_is_not_told(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let fresh = |entry: &Entry| matches!(entry, Entry::In { .. });
    let Some((record, entry)) = place(evidence, random, fresh) else { return false };
    let Entry::In { head, .. } = evidence.records[record].entries[entry].1 else { return false };
    let told = log(evidence).iter().find(|it| it.position == head).cloned();
    let Some(told) = told.filter(|it| it.position.seq > 1) else { return false };
    remove(evidence, &told);
    true
}

pub(crate) fn a_leave_that_is_not_told(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let end = log(evidence).last().expect("something happened").at;
    let leaves = |entry: &Entry| *entry == Entry::Leaves;
    let Some((record, entry)) = place(evidence, random, leaves) else { return false };
    let (at, _) = evidence.records[record].entries[entry];
    let name = evidence.records[record].name.clone();
    let told = log(evidence)
        .iter()
        .find(|it| it.username == name && it.at >= at && matches!(it.what, EventKind::Left(_)))
        .cloned();
    let late = at + TERMS.linger + TERMS.lease + TERMS.tolerance < end;
    let Some(told) = told.filter(|_| late) else { return false };
    // Who tries to come back in vain leaves again.
    let next = log(evidence).iter().filter(|it| it.username == name && it.at > told.at).nth(1);
    if next.is_some_and(|it| matches!(it.what, EventKind::Left(_))) {
        return false;
    }
    remove(evidence, &told);
    true
}

/// Somebody who was away for a moment only finds its session gone.
pub(crate) fn a_session_that_does_not_linger(evidence: &mut Evidence, random: &mut StdRng) -> bool {
    let resumed = |entry: &Entry| matches!(entry, Entry::Resumed { .. });
    for _ in 0..1000 {
        let Some((record, entry)) = place(evidence, random, resumed) else { return false };
        let entries = &mut evidence.records[record].entries;
        let away = entries[..entry].iter().rev().find(|it| it.1 == Entry::Away);
        let away = away.expect("who resumes was away").0;
        let (at, Entry::Resumed { session }) = entries[entry] else { return false };
        if at + TERMS.tolerance < away + TERMS.linger {
            entries[entry] = (at, Entry::Again { session: session + 1 });
            return true;
        }
    }
    false
}
