//! A session belongs to its newest stream, and outlives it for as long as was promised.

use super::{Entry, Kind, Record, Room};

pub(super) fn check(room: &mut Room<'_>) {
    for record in room.records.clone() {
        for (at, entry) in &record.entries {
            if let Entry::Ousted(why) = entry {
                room.report(Kind::Ousted, &record.name, format!("at {at:?}: {why}"));
            }
        }
        check_lingering(room, record);
    }
}

/// Whoever was back in time was back in the session that it had, unless Redis lost that.
fn check_lingering(room: &mut Room<'_>, record: &Record) {
    if room.lost_data() {
        return;
    }
    let (mut away, mut left) = (None, false);
    for (at, entry) in &record.entries {
        match entry {
            Entry::Away if !left => away = away.or(Some(*at)),
            Entry::Resumed { .. } => away = None,
            Entry::Leaves => left = true,
            Entry::In { .. } | Entry::Again { .. } => {
                left = false;
                let Some(since) = away.take() else { continue };
                if *at + room.terms.tolerance < since + room.terms.linger {
                    let detail = format!("away at {since:?}, and no session at {at:?}");
                    room.report(Kind::Forgotten, &record.name, detail);
                }
            }
            _ => {}
        }
    }
}
