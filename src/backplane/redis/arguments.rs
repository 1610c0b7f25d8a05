//! How arguments of scripts are written.

use super::{codec, keys::Keys, scripts::millis};
use crate::{
    backplane::{Eviction, Hold, Takeover},
    domain::{Contact, RoomName},
};

/// An argument as Redis takes it.
pub(super) fn text(value: impl ToString + Copy) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The lease of each hold.
pub(super) fn leases(keys: &Keys, room: &RoomName, holds: &[Hold]) -> Vec<String> {
    holds.iter().map(|hold| keys.lease(room, hold.name.skeleton())).collect()
}

/// A hold's lease, and what says that its session has left.
pub(super) fn departure_keys(keys: &Keys, hold: &Hold) -> Vec<String> {
    let lease = keys.lease(&hold.room, hold.name.skeleton());
    vec![lease, keys.ended(&hold.room, hold.session)]
}

/// Epoch and seq at which a hold was last confirmed; an empty epoch when it never was.
pub(super) fn confirmed(hold: &Hold) -> [Vec<u8>; 2] {
    match hold.confirmed {
        Some(at) => [text(at.epoch), text(at.seq)],
        None => [Vec::new(), text(0)],
    }
}

/// How long a hold's session may linger, and its skeleton.
pub(super) fn kept_name(hold: &Hold) -> [String; 2] {
    [codec::linger_millis(hold).to_string(), hold.name.skeleton().to_owned()]
}

/// Since when and until when contact counts, in milliseconds; zero when there is none.
pub(super) fn contact(contact: Option<Contact>) -> [Vec<u8>; 2] {
    let contact = contact.map_or([0; 2], |it| [it.since, it.until].map(millis));
    contact.map(text)
}

/// The stream that is taken over from, a dash for none; nothing when nothing is taken over.
pub(super) fn takeover(takeover: Option<Takeover>) -> Vec<u8> {
    match takeover {
        Some(Takeover { from: Some(stream) }) => stream.to_string().into_bytes(),
        Some(Takeover { from: None }) => b"-".to_vec(),
        None => Vec::new(),
    }
}

/// Skeleton, token and session: who a hold belongs to.
pub(super) fn identity(hold: &Hold) -> [Vec<u8>; 3] {
    [hold.name.skeleton().to_owned(), hold.token.to_hex(), hold.session.to_string()]
        .map(String::into_bytes)
}

pub(super) fn add_evictions(
    names: &Keys,
    room: &RoomName,
    evict: &[Eviction],
    keys: &mut Vec<String>,
    args: &mut Vec<Vec<u8>>,
) {
    for Eviction { overdue, event } in evict {
        keys.push(names.lease(room, &overdue.skeleton));
        args.push(overdue.skeleton.clone().into_bytes());
        args.push(overdue.member.session.to_string().into_bytes());
        args.push(codec::encode(event));
    }
}
