//! The room hears `joined` when somebody came and `left` when somebody went: then, and only then.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use roomcast::proto::room::LeftCause;

use super::{Entry, Event, Kind, Position, Room, Terms};
use crate::chaos::record::{At, Fault, What};

pub(super) fn check(room: &mut Room<'_>) {
    check_told(room);
    check_untold(room);
}

/// Every coming and going in the log has a reason.
fn check_told(room: &mut Room<'_>) {
    let whole = room.log.first().is_some_and(|first| first.position.seq == 1);
    let mut there: HashMap<&str, bool> = HashMap::new();
    let mut leaving = Leavings::of(room);
    for event in room.log {
        let name = event.username.as_str();
        match event.what {
            What::Said(_) => {}
            What::Joined => {
                let was = there.insert(name, true).unwrap_or(false);
                if let Some(why) = false_joined(room, event, was) {
                    room.report(Kind::FalseJoined, name, format!("{why}: {event:?}"));
                } else if was {
                    let detail = format!("came a second time, and did not leave: {event:?}");
                    room.report(Kind::Untold, name, detail);
                }
            }
            What::Left(cause) => {
                let was = there.insert(name, false).unwrap_or(!whole);
                let why = if was { leaving.false_left(room, event, cause) } else { Some("again") };
                if let Some(why) = why {
                    room.report(Kind::FalseLeft, name, format!("{why}: {event:?}"));
                }
            }
        }
    }
}

/// Why this `joined` should not have been told.
fn false_joined(room: &Room<'_>, event: &Event, was_there: bool) -> Option<&'static str> {
    let records = room.named(&event.username);
    let fresh = |entry: &Entry| matches!(entry, Entry::In { head, .. } if *head == event.position);
    let mut welcomes = records.iter().flat_map(|record| &record.entries);
    if welcomes.any(|(_, entry)| fresh(entry)) {
        // That somebody else had the name is for those to find who look for a second holder.
        return None;
    }
    if was_there {
        return Some("was there");
    }
    let tolerance = room.terms.tolerance;
    let again = |(at, entry): &(At, Entry)| {
        matches!(entry, Entry::Again { .. }) && at.abs_diff(event.at) < tolerance
    };
    if records.iter().flat_map(|record| &record.entries).any(again) {
        return None;
    }
    // Its welcome may have been lost with the stream.
    let (from, to) = (event.at.saturating_sub(tolerance), event.at);
    let trying = records.iter().any(|record| !record.lives().is_empty());
    let busy = records.iter().any(|record| record.was_in(from, to));
    (!trying || busy).then_some("did not come")
}

/// Who asked to leave, and was not heard of yet.
struct Leavings(BTreeMap<String, Vec<At>>);

impl Leavings {
    fn of(room: &Room<'_>) -> Self {
        let mut asked: BTreeMap<String, Vec<At>> = BTreeMap::new();
        for record in &room.records {
            let left = record.entries.iter().filter(|(_, entry)| *entry == Entry::Leaves);
            asked.entry(record.name.clone()).or_default().extend(left.map(|(at, _)| *at));
        }
        Self(asked)
    }

    /// Why this `left` should not have been told.
    fn false_left(
        &mut self,
        room: &Room<'_>,
        event: &Event,
        cause: LeftCause,
    ) -> Option<&'static str> {
        let Terms { linger, lease, tolerance } = *room.terms;
        match cause {
            LeftCause::Asked => {
                let asked = self.0.entry(event.username.clone()).or_default();
                let before = asked.iter().position(|at| *at <= event.at + tolerance);
                before.map(|number| asked.remove(number)).is_none().then_some("did not ask to")
            }
            LeftCause::TimedOut => was_away(room, event, linger.saturating_sub(tolerance)),
            LeftCause::ReplicaLost => {
                // Renewed at a third of it.
                let silent = (lease * 2 / 3).saturating_sub(tolerance);
                let since = event.at.saturating_sub(lease + linger + tolerance);
                let lost = room.evidence.faults.iter().any(|(at, fault)| {
                    (since..=event.at).contains(at)
                        && matches!(fault, Fault::Kill | Fault::Pause | Fault::CutRedis)
                });
                if lost { was_away(room, event, silent) } else { Some("no replica was lost") }
            }
            LeftCause::Unspecified
            | LeftCause::Disconnected
            | LeftCause::Ended
            | LeftCause::Shutdown
            | LeftCause::Kicked => Some("nothing of the kind happens to sessions here"),
        }
    }
}

/// Why nobody could think that this member was away for so long before the event.
fn was_away(room: &Room<'_>, event: &Event, long: Duration) -> Option<&'static str> {
    let from = event.at.saturating_sub(long);
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
        .filter(|event| event.what == What::Joined)
        .map(|event| (event.username.as_str(), event.position))
        .collect();
    let mut left: HashMap<&str, Vec<At>> = HashMap::new();
    for event in room.log.iter().filter(|event| matches!(event.what, What::Left(_))) {
        left.entry(&event.username).or_default().push(event.at);
    }
    let Terms { linger, lease, tolerance } = *room.terms;
    let whole = room.log.first().is_some_and(|first| first.position.seq == 1);
    let end = room.log.last().map_or(Duration::ZERO, |event| event.at);
    for record in room.records.clone() {
        for (number, (at, entry)) in record.entries.iter().enumerate() {
            match entry {
                Entry::In { head, .. } => {
                    let told = joined.contains(&(&record.name, *head));
                    let mut gaps = super::gaps_of(record);
                    let gone = room.trimmed(*head)
                        || gaps.any(|(_, gap)| gap.is_none_or(|gap| super::within(*head, gap)));
                    if !told && !gone {
                        let detail = format!("came at {at:?} as {head:?}");
                        room.report(Kind::Untold, &record.name, detail);
                    }
                }
                // One that was lost on its way is told when the session has lingered; and when Redis
                // was away meanwhile, everybody has a lease's time to come back.
                Entry::Leaves => {
                    let gone = record.entries[number..].iter().find(|it| it.1 == Entry::Away);
                    let latest = gone.map_or(*at, |(at, _)| *at) + linger + lease + tolerance;
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
