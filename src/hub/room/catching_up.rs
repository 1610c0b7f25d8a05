//! What a reader takes that misses nothing.

use std::sync::Arc;

use super::reading::{Gate, Reading};
use crate::{
    domain::Event,
    hub::{
        Member,
        catch_up_reader::{AWAY, CatchUpReader, Judged},
        chunk::ChunkBuilder,
        member::LastEvent,
        slot::{Slot, encode},
    },
    room::{Item, LogCursor, RingBuffer},
};

impl Reading {
    /// Takes what comes next for a reader that misses nothing, from the window, whose sequence has come to
    /// `room`, or from what was read for it, as far as it fits. When
    /// there is nothing, either nothing is new or a page of the log is asked for.
    pub(super) fn take_catching_up(
        &mut self,
        window: &RingBuffer<Slot>,
        room: LogCursor,
        chunk: &mut ChunkBuilder<'_>,
    ) {
        let Self { member, gate } = self;
        let asked = member.with_catch_up_reader(|reader| {
            loop {
                if let Some(items) = reader.read_items() {
                    chunk.is_for_nobody_else();
                    while let Some(item) = items.front() {
                        if is_end(member, item, gate) {
                            return false;
                        }
                        // It is told later than it happened, and nobody is to blame.
                        if !chunk.add_frame(&encode(item, chunk.encoder)) {
                            return false;
                        }
                        items.pop_front();
                    }
                    let Some(found) = reader.put_at_window(window, room) else { break };
                    member.set_cursor(found);
                }
                if take_at_window(member, gate, window, reader, chunk) {
                    return false;
                }
                reader.leave_window();
                member.set_cursor(AWAY);
            }
            reader.ask()
        });
        if asked == Some(true) {
            member.wake_log_reader();
        }
    }
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
    reader: &mut CatchUpReader,
    chunk: &mut ChunkBuilder<'_>,
) -> bool {
    let mut cursor = member.cursor();
    if cursor == AWAY {
        return false;
    }
    let Ok(slots) = window.since(cursor) else { return false };
    for slot in slots {
        match reader.judge(slot.item()) {
            Judged::Skip => {
                chunk.is_for_nobody_else();
                slot.pass(false);
            }
            Judged::Ask => return false,
            Judged::Take => {
                if is_end(member, slot.item(), gate) {
                    // For others there is more.
                    chunk.is_for_nobody_else();
                    break;
                }
                let frame = slot.encoded(chunk.encoder);
                let fits = match slot.item() {
                    Item::Event(_, event) => chunk.add(event, frame),
                    Item::Lost(_) => chunk.add_frame(frame),
                };
                if !fits {
                    break;
                }
                match slot.item() {
                    Item::Event(position, _) if !slot.is_followed() => chunk.is_for_all(*position),
                    Item::Event(..) | Item::Lost(_) => chunk.is_for_nobody_else(),
                }
                reader.took(slot.item());
                slot.pass(true);
            }
        }
        cursor += 1;
    }
    member.set_cursor(cursor);
    true
}
