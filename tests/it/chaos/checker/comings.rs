//! The room hears `joined` when somebody came and `left` when somebody went: then, and only then.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use roomcast_proto::room::LeftCause;

use super::{Entry, Event, Kind, Position, Record, Room, Terms};
use crate::chaos::record::{At, EventKind};

pub(super) fn check(room: &mut Room<'_>) {
    check_told(room);
    check_untold(room);
}

/// Every coming and going in the log has a reason.
fn check_told(room: &mut Room<'_>) {
    let whole = room.is_whole();
    let unknown = if whole { Presence::Out } else { Presence::In };
    let mut there: HashMap<&str, Presence> = HashMap::new();
    let mut reasons = Reasons::of(room);
    let in_doubt = room.names_in_doubt();
    for event in room.log.iter().filter(|event| !in_doubt.contains(event.username.as_str())) {
        let name = event.username.as_str();
        match event.what {
            // Whoever speaks knows that it is in.
            EventKind::Said(_) => drop(there.insert(name, Presence::In)),
            EventKind::Joined => {
                let was = there.get(name).copied().unwrap_or(Presence::Out);
                let (is, wrong) = match reasons.coming(room, event, was) {
                    Ok(is) => (is, None),
                    Err(why) => (Presence::In, Some(why)),
                };
                there.insert(name, is);
                if let Some(why) = wrong {
                    room.report(Kind::FalseJoined, name, format!("{why}: {event:?}"));
                } else if was != Presence::Out {
                    let detail = format!("came a second time, and did not leave: {event:?}");
                    room.report(Kind::Untold, name, detail);
                }
            }
            EventKind::Left(cause) => {
                let was = there.insert(name, Presence::Out).unwrap_or(unknown);
                if let Some(why) = reasons.false_left(room, event, cause, was) {
                    room.report(Kind::FalseLeft, name, format!("{why}: {event:?}"));
                }
            }
        }
    }
}

/// What the room knows of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    Out,
    In,
    /// It is in, and its client may not know: its welcome was lost with the stream.
    Unwelcomed,
}

/// What clients did that the room was not told of yet, by name.
struct Reasons {
    /// They asked to leave.
    leaves: BTreeMap<String, Vec<At>>,
    /// They asked to come, and got no answer.
    attempts: BTreeMap<String, Vec<At>>,
}

impl Reasons {
    fn of(room: &Room<'_>) -> Self {
        let mut reasons = Self { leaves: BTreeMap::new(), attempts: BTreeMap::new() };
        for record in &room.records {
            let leaves = reasons.leaves.entry(record.name.clone()).or_default();
            let attempts = reasons.attempts.entry(record.name.clone()).or_default();
            for (number, (at, entry)) in record.entries.iter().enumerate() {
                let next = record.entries.get(number + 1);
                match entry {
                    Entry::Leaves => leaves.push(*at),
                    Entry::Tries if !next.is_some_and(|it| matches!(it.1, Entry::In { .. })) => {
                        attempts.push(*at);
                    }
                    _ => {}
                }
            }
        }
        reasons
    }

    /// The first of these that can be the reason for an event.
    fn take(of: &mut BTreeMap<String, Vec<At>>, event: &Event, tolerance: Duration) -> bool {
        let reasons = of.entry(event.username.clone()).or_default();
        let first = reasons.iter().position(|at| *at <= event.at + tolerance);
        first.map(|number| reasons.remove(number)).is_some()
    }

    /// Whether a client came that knows of it; or why this `joined` should not have been told.
    fn coming(
        &mut self,
        room: &Room<'_>,
        event: &Event,
        was: Presence,
    ) -> Result<Presence, &'static str> {
        let records = room.named(&event.username);
        let fresh =
            |entry: &Entry| matches!(entry, Entry::In { head, .. } if *head == event.position);
        let mut welcomes = records.iter().flat_map(|record| &record.entries);
        if welcomes.any(|(_, entry)| fresh(entry)) {
            // That somebody else had the name is for those to find who look for a second holder.
            return Ok(Presence::In);
        }
        let tolerance = room.terms.tolerance;
        let again = records.iter().any(|record| came_again(record, event.at, tolerance));
        if was != Presence::Out {
            return Err("was there");
        }
        let kept = records.iter().any(|record| was_kept_away(room, record, event.at));
        if Self::take(&mut self.attempts, event, tolerance) || again || kept {
            return Ok(Presence::Unwelcomed);
        }
        Err("did not come")
    }

    /// Why this `left` should not have been told.
    fn false_left(
        &mut self,
        room: &Room<'_>,
        event: &Event,
        cause: LeftCause,
        was: Presence,
    ) -> Option<&'static str> {
        if was == Presence::Out {
            return Some("was not there");
        }
        let Terms { linger, lease, tolerance, outage } = *room.terms;
        match cause {
            LeftCause::Asked => {
                let asked = Self::take(&mut self.leaves, event, tolerance);
                (!asked).then_some("did not ask to")
            }
            LeftCause::TimedOut => was_away(room, event, linger),
            LeftCause::ReplicaLost => {
                // Renewed at a third of it.
                let silent = lease * 2 / 3;
                let since = event.at.saturating_sub(outage + lease + linger + tolerance);
                let lost =
                    room.evidence.faults.iter().any(|(at, fault)| {
                        (since..=event.at).contains(at) && fault.loses_replicas()
                    });
                if lost { was_away(room, event, silent) } else { Some("no replica was lost") }
            }
            // It has no token yet, so that it cannot come back.
            LeftCause::Disconnected if was == Presence::Unwelcomed => None,
            LeftCause::Unspecified
            | LeftCause::Disconnected
            | LeftCause::Ended
            | LeftCause::Shutdown
            | LeftCause::Kicked => Some("nothing of the kind happens to sessions here"),
        }
    }
}

/// Whether a client that was away came in again about then, by itself.
fn came_again(record: &Record, at: At, tolerance: Duration) -> bool {
    let mut away = None;
    record.entries.iter().any(|(now, entry)| match entry {
        Entry::Away => {
            away = Some(*now);
            false
        }
        Entry::Again { .. } => away.take().is_some_and(|away| away <= at && at <= *now + tolerance),
        _ => false,
    })
}

/// Whether a client had a stream, or was about to, whose replica may have been kept away until then from Redis: it
/// takes the name again if it does not know yet that its client has gone, and repeats a join whose answer was lost.
fn was_kept_away(room: &Room<'_>, record: &Record, at: At) -> bool {
    let Terms { linger, lease, tolerance, outage } = *room.terms;
    room.evidence.faults.iter().any(|(begun, fault)| {
        fault.keeps_one_replica_away()
            && *begun < at
            && at < *begun + outage + lease + linger + tolerance
            && (record.was_in(begun.saturating_sub(tolerance), at)
                || record.tried(begun.saturating_sub(tolerance), at))
    })
}

/// Why nobody could think that this member was away for so long before the event, though it may have
/// noticed late.
fn was_away(room: &Room<'_>, event: &Event, long: Duration) -> Option<&'static str> {
    let from = (event.at + room.terms.tolerance).saturating_sub(long);
    let records = room.named(&event.username);
    if records.is_empty() {
        return Some("nobody has that name");
    }
    records.iter().any(|record| record.was_in(from, event.at)).then_some("was there")
}

/// Everybody who came or went was told of.
fn check_untold(room: &mut Room<'_>) {
    let joined: HashSet<(&str, Position)> = room
        .log
        .iter()
        .filter(|event| event.what == EventKind::Joined)
        .map(|event| (event.username.as_str(), event.position))
        .collect();
    let mut left: HashMap<&str, Vec<At>> = HashMap::new();
    for event in room.log.iter().filter(|event| matches!(event.what, EventKind::Left(_))) {
        left.entry(&event.username).or_default().push(event.at);
    }
    let Terms { linger, lease, tolerance, outage } = *room.terms;
    let whole = room.is_whole();
    let end = room.log.last().map_or(Duration::ZERO, |event| event.at);
    let in_doubt = room.names_in_doubt();
    let records = room.records.clone();
    for record in records.into_iter().filter(|it| !in_doubt.contains(it.name.as_str())) {
        for (number, (at, entry)) in record.entries.iter().enumerate() {
            match entry {
                Entry::In { head, .. } => {
                    let told = joined.contains(&(&record.name, *head));
                    let mut gaps = super::gaps_of(record);
                    let gone = room.trimmed(*head)
                        || room.was_lost(*head)
                        || gaps.any(|(_, gap)| gap.is_none_or(|gap| super::within(*head, gap)));
                    if !told && !gone {
                        let detail = format!("came at {at:?} as {head:?}");
                        room.report(Kind::Untold, &record.name, detail);
                    }
                }
                // One that was lost on its way is told when the session has lingered; and whenever Redis
                // was away meanwhile, everybody has a lease's time to come back from then on.
                Entry::Leaves => {
                    let gone = record.entries[number..].iter().find(|it| it.1 == Entry::Away);
                    let latest = gone.map_or(*at, |(at, _)| *at);
                    let latest = room.evidence.faults.iter().fold(
                        latest + outage + linger + lease + tolerance,
                        |latest, (begun, fault)| {
                            let in_between = fault.keeps_redis_away() && *begun < latest;
                            let again = *begun + outage + lease + tolerance;
                            if in_between { latest.max(again) } else { latest }
                        },
                    );
                    let mut times = left.get(record.name.as_str()).into_iter().flatten();
                    let told =
                        times.any(|told| (at.saturating_sub(tolerance)..latest).contains(told));
                    if !told && latest < end && whole {
                        let detail = format!("left at {at:?}");
                        room.report(Kind::Untold, &record.name, detail);
                    }
                }
                _ => {}
            }
        }
    }
}
