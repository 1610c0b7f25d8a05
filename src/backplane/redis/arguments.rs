//! How arguments of scripts are written.

use super::{codec, keys::Keys};
use crate::{
    backplane::{Eviction, Hold},
    domain::Contact,
};

use super::scripts::millis;

/// An argument as Redis takes it.
pub(super) fn text(value: impl ToString + Copy) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Epoch and seq at which a hold was last confirmed; an empty epoch when it never was.
pub(super) fn confirmed(hold: &Hold) -> [Vec<u8>; 2] {
    match hold.confirmed {
        Some(at) => [text(at.epoch), text(at.seq)],
        None => [Vec::new(), text(0)],
    }
}

/// Since when and until when contact counts, in milliseconds; zero when there is none.
pub(super) fn contact(contact: Option<Contact>) -> [Vec<u8>; 2] {
    let contact = contact.map_or([0; 2], |it| [it.since, it.until].map(millis));
    contact.map(text)
}

/// Skeleton, token and session: who a hold belongs to.
pub(super) fn identity(hold: &Hold) -> [Vec<u8>; 3] {
    [hold.name.skeleton().to_owned(), hold.token.to_hex(), hold.session.to_string()]
        .map(String::into_bytes)
}

/// Session and `left` of the member to evict; nothing for nobody.
pub(super) fn eviction(evict: Option<&Eviction>) -> [Vec<u8>; 2] {
    evict.map_or_else(Default::default, |Eviction { overdue, event }| {
        [text(overdue.member.session), codec::encode(event)]
    })
}

/// The keys and arguments of `reap.lua` for each room.
pub(super) fn evictions(names: &Keys, evict: &[Eviction]) -> (Vec<String>, Vec<Vec<u8>>) {
    let (mut keys, mut args) = (Vec::new(), Vec::new());
    let mut evict: Vec<&Eviction> = evict.iter().collect();
    evict.sort_by(|a, b| a.overdue.room.cmp(&b.overdue.room));
    for of_room in evict.chunk_by(|a, b| a.overdue.room == b.overdue.room) {
        let room = &of_room[0].overdue.room;
        keys.extend([names.room(room), names.log(room)]);
        args.extend([names.channel(room).into_bytes(), text(of_room.len())]);
        for it in of_room {
            args.push(it.overdue.skeleton.clone().into_bytes());
            args.extend(eviction(Some(it)));
        }
    }
    (keys, args)
}
