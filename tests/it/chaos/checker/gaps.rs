//! What is said to be gone is gone.

use super::{At, Entry, Kind, Position, Room, gaps_of, within};

pub(super) fn check(room: &mut Room<'_>) {
    for record in room.records.clone() {
        for (told, range) in gaps_of(record) {
            let Some(range) = range else { continue };
            if is_of_lost_branch(room, record, told) {
                continue;
            }
            let gone = |position: Position| within(position, range);
            if let Some(there) = room.log.iter().find(|event| gone(event.position)) {
                let detail = format!("{range:?} is gone, but the log has {:?}", there.position);
                room.report(Kind::FalseGap, &record.name, detail);
            }
            let later = told + room.terms.tolerance;
            let other = room.records.iter().filter(|it| !std::ptr::eq(**it, record)).find(|it| {
                it.entries.iter().any(|(at, entry)| {
                    *at > later && matches!(entry, Entry::Event(it) if gone(it.position))
                })
            });
            if let Some(other) = other {
                let detail = format!("{range:?} is gone, but {} got of it later", other.name);
                room.report(Kind::FalseGap, &record.name, detail);
            }
        }
        check_whole(room, record);
    }
}

/// Whether what came after a gap was written by a server that was replaced by one that never had it: what that one
/// lacked may be there again.
fn is_of_lost_branch(room: &Room<'_>, record: &super::Record, told: At) -> bool {
    let after = record.entries.iter().find_map(|(at, entry)| match entry {
        Entry::Event(event) if *at >= told => Some(event.position.epoch),
        _ => None,
    });
    after.is_some_and(|epoch| room.log.iter().all(|event| event.position.epoch != epoch))
}

/// When the whole log is said to be gone, nothing of its epochs is there any more.
fn check_whole(room: &mut Room<'_>, record: &super::Record) {
    let mut epoch = None;
    for (_, entry) in &record.entries {
        match entry {
            Entry::In { head, .. } => epoch = Some(head.epoch),
            Entry::Event(event) => epoch = Some(event.position.epoch),
            Entry::Gap(None) => {
                if let Some(there) = room.log.iter().find(|it| Some(it.position.epoch) == epoch) {
                    let detail = format!("all is gone, but the log has {:?}", there.position);
                    room.report(Kind::FalseGap, &record.name, detail);
                }
            }
            _ => {}
        }
    }
}
