//! What a reader takes that misses nothing.

use std::sync::Arc;

use super::reading::{Gate, Reading};
use crate::{
    domain::Event,
    hub::{
        Encoder, Member,
        catch_up_reader::{AWAY, CatchUpReader, Judged},
        chunk::{Sharing, Taken},
        member::LastEvent,
        slot::{Slot, add, encode},
    },
    room::{Item, LogCursor, RingBuffer},
};

impl Reading {
    /// Takes what comes next for a reader that misses nothing, from the window, whose sequence has come to
    /// `room`, or from what was read for it; about `max_bytes` at the most, and at least one event. When
    /// there is nothing, either nothing is new or a page of the log is asked for.
    pub(super) fn follow(
        &mut self,
        window: &RingBuffer<Slot>,
        room: LogCursor,
        encoder: &dyn Encoder,
        max_bytes: usize,
        taken: &mut Taken,
        sharing: &mut Sharing,
    ) {
        let Self { member, gate } = self;
        let asked = member.with_follower(|follower| {
            loop {
                if let Some(items) = follower.read_items() {
                    sharing.spoil();
                    while let Some(item) = items.front() {
                        if is_end(member, item, gate) {
                            return false;
                        }
                        // It is told later than it happened, and nobody is to blame.
                        if !taken.add_frame(&encode(item, encoder), max_bytes) {
                            return false;
                        }
                        items.pop_front();
                    }
                    let Some(found) = follower.put_at_window(window, room) else { break };
                    member.set_cursor(found);
                }
                let mut out =
                    Out { encoder, max_bytes, taken: &mut *taken, sharing: &mut *sharing };
                if take_at_window(member, gate, window, follower, &mut out) {
                    return false;
                }
                follower.leave_window();
                member.set_cursor(AWAY);
            }
            follower.ask()
        });
        if asked == Some(true) {
            member.wake_log_reader();
        }
    }
}

/// Where to put what is taken.
struct Out<'a> {
    encoder: &'a dyn Encoder,
    max_bytes: usize,
    taken: &'a mut Taken,
    sharing: &'a mut Sharing,
}

/// Whether nothing more is for the reader, as far as is known: its member's own end comes next.
fn is_end(member: &Member, item: &Item<Arc<Event>>, gate: &mut Gate) -> bool {
    let Item::Event(position, event) = item else { return false };
    let last = member.last_event(*position, event);
    if last == Some(LastEvent::Here) {
        *gate = Gate::Closed;
    }
    last.is_some()
}

/// False when the log has to tell how it goes on.
fn take_at_window(
    member: &Member,
    gate: &mut Gate,
    window: &RingBuffer<Slot>,
    follower: &mut CatchUpReader,
    Out { encoder, max_bytes, taken, sharing }: &mut Out<'_>,
) -> bool {
    let mut cursor = member.cursor();
    if cursor == AWAY {
        return false;
    }
    let Ok(slots) = window.since(cursor) else { return false };
    for slot in slots {
        match follower.judge(slot.item()) {
            Judged::Skip => {
                sharing.spoil();
                slot.pass(false);
            }
            Judged::Ask => return false,
            Judged::Take => {
                if is_end(member, slot.item(), gate) {
                    // For others there is more.
                    sharing.spoil();
                    break;
                }
                if !add(taken, slot.item(), slot.encoded(*encoder), *max_bytes) {
                    break;
                }
                match slot.item() {
                    Item::Event(position, _) if !slot.is_followed() => sharing.add(*position),
                    Item::Event(..) | Item::Lost(_) => sharing.spoil(),
                }
                follower.took(slot.item());
                slot.pass(true);
            }
        }
        cursor += 1;
    }
    member.set_cursor(cursor);
    true
}
