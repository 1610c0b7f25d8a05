//! One holder per name: nobody speaks under a name that is not theirs at that moment.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Entry, Kind, Room};
use crate::chaos::record::{At, EventKind};

pub(super) fn check(room: &mut Room<'_>) {
    check_speakers(room);
    check_sessions(room);
}

/// In the log: who speaks is there, and said it.
fn check_speakers(room: &mut Room<'_>) {
    let mut asked: HashSet<(&str, &str)> = HashSet::new();
    for record in &room.records {
        for (_, entry) in &record.entries {
            if let Entry::Asks(content) = entry {
                asked.insert((&record.name, content));
            }
        }
    }
    let whole = room.is_whole();
    let in_doubt = room.names_in_doubt();
    let mut there: HashMap<&str, bool> = HashMap::new();
    for event in room.log {
        let name = event.username.as_str();
        let was = there.insert(name, !matches!(event.what, EventKind::Left(_)));
        let Some(content) = event.content() else { continue };
        if was.unwrap_or(!whole) {
            if !asked.contains(&(name, content)) {
                let detail = format!("the holder did not say {event:?}");
                room.report(Kind::SecondHolder, name, detail);
            }
        } else if !room.lost_data() && !in_doubt.contains(name) {
            // Else somebody may have come and gone meanwhile under the name of one who was there.
            room.report(
                Kind::SecondHolder,
                name,
                format!("said by nobody who is there: {event:?}"),
            );
        }
    }
}

/// A session of a name, and the last that shows that it held it.
#[derive(Debug)]
struct Hold {
    session: (usize, u64),
    begun: At,
    last: At,
    /// The same in places of the log.
    from: Option<usize>,
    till: Option<usize>,
}

impl Hold {
    fn new(session: (usize, u64), begun: At, from: Option<usize>) -> Self {
        Self { session, begun, last: begun, from, till: from }
    }
}

/// No two sessions had one name at the same time, by the clock or by the log.
fn check_sessions(room: &mut Room<'_>) {
    if room.lost_data() {
        // Redis forgot who had which name, and whoever asked first has it.
        return;
    }
    let mut names: BTreeMap<&str, Vec<Hold>> = BTreeMap::new();
    let places = room.places();
    for (number, record) in room.records.iter().enumerate() {
        let holds = names.entry(&record.name).or_default();
        for (at, entry) in &record.entries {
            let mut place = None;
            match entry {
                Entry::In { session, head } => {
                    place = places.get(head).copied();
                    holds.push(Hold::new((number, *session), *at, place));
                }
                Entry::Again { session } => {
                    // Where it came is not told.
                    holds.push(Hold::new((number, *session), *at, None));
                }
                Entry::Acked { position, .. } => {
                    place = position.and_then(|it| places.get(&it)).copied();
                }
                Entry::Event(_) | Entry::Resumed { .. } => {}
                Entry::Tries
                | Entry::Gap(_)
                | Entry::Asks(_)
                | Entry::Ousted(_)
                | Entry::Away
                | Entry::Leaves
                | Entry::Broken(_) => {
                    continue;
                }
            }
            if let Some(hold) = holds.last_mut().filter(|hold| hold.session.0 == number) {
                hold.last = *at;
                hold.till = hold.till.max(place);
            }
        }
    }
    for (name, mut holds) in names {
        holds.sort_by_key(|hold| hold.begun);
        for pair in holds.windows(2) {
            let by_log = pair[1].from.is_some() && pair[0].till >= pair[1].from;
            let by_clock = pair[0].last > pair[1].begun + room.terms.tolerance
                && pair[1].last > pair[0].begun + room.terms.tolerance;
            if by_log || by_clock {
                room.report(Kind::SecondHolder, name, format!("{:?} and {:?}", pair[0], pair[1]));
            }
        }
    }
}
