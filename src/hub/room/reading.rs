//! One member of a room as a reader of its window.

use std::sync::Arc;

use crate::{
    domain::{Event, Position},
    hub::{
        Member, Notice, catch_up_reader::AWAY, chunk::ChunkBuilder, member::LastEvent, slot::Slot,
    },
    room::{Fallen, Item, RingBuffer},
};

/// A member as a reader.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) member: Arc<Member>,
    pub(super) gate: Gate,
}

/// What of the window is for a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    /// Nothing yet: its member is not in.
    Shut,
    /// What comes after this position.
    After(Position),
    /// Everything, but for what its member did itself.
    Open,
    /// What its catch-up reader makes of it.
    CatchUp,
    /// Nothing any more: its member has left.
    Closed,
}

impl Gate {
    /// Whether what is there is for the reader: in the log as it was, and as it was written.
    fn pass(&mut self, place: Position, written: Position) -> bool {
        match self {
            Self::Shut | Self::Closed => false,
            Self::After(floor) => {
                let mut here = [place, written].into_iter().filter(|it| it.epoch == floor.epoch);
                // Of another epoch may be what came before a failover, and the member after it.
                let Some(at) = here.next() else { return true };
                let passes = at.seq > floor.seq;
                if passes {
                    *self = Self::Open;
                }
                passes
            }
            Self::Open | Self::CatchUp => true,
        }
    }
}

impl Reading {
    /// Whether there is something that it has not taken.
    pub(super) fn has_more(&self, window: &RingBuffer<Slot>) -> bool {
        let (cursor, head) = (self.member.cursor(), window.head());
        match self.gate {
            Gate::Shut | Gate::Closed => false,
            Gate::After(_) | Gate::Open => cursor < head,
            Gate::CatchUp => {
                let log = self.member.with_catch_up_reader(|reader| reader.log_has_more());
                log.flatten().unwrap_or(cursor == AWAY || cursor < head)
            }
        }
    }

    /// Takes what there is from its cursor to the head, or to `until`, as far as it fits.
    pub(super) fn take(
        &mut self,
        window: &RingBuffer<Slot>,
        until: u64,
        chunk: &mut ChunkBuilder<'_>,
    ) -> Result<(), Fallen> {
        let mut cursor = self.member.cursor();
        for slot in window.since(cursor)? {
            if cursor >= until {
                break;
            }
            let wanted = match slot.item() {
                Item::Event(position, event)
                    if self.wants(slot.place(*position), *position, event) =>
                {
                    Some((*position, event))
                }
                Item::Event(position, event) => {
                    if let Some(last) = self.member.last_event(*position, event) {
                        if last == LastEvent::Here {
                            self.gate = Gate::Closed;
                        }
                        // For others there is more.
                        chunk.is_for_nobody_else();
                        break;
                    }
                    None
                }
                Item::Lost(_) => None,
            };
            if let Some((_, event)) = wanted
                && !chunk.add(event, slot.encoded(chunk.encoder))
            {
                break;
            }
            match wanted {
                Some((position, event)) if !slot.is_followed() => {
                    chunk.is_for_all_but(position, event.member.session);
                }
                _ => chunk.is_for_nobody_else(),
            }
            slot.pass(wanted.is_some());
            cursor += 1;
        }
        self.member.set_cursor(cursor);
        Ok(())
    }

    /// Whether an event is for this member: not its own, and not from before its time.
    fn wants(&mut self, place: Position, written: Position, event: &Event) -> bool {
        let passes = self.gate.pass(place, written);
        if self.gate == Gate::Open {
            self.member.open();
        }
        passes && event.member.session != self.member.session()
    }

    /// The window no longer has what it takes next.
    pub(super) fn fall_behind(&self) {
        if self.member.misses_nothing() {
            self.member.set_cursor(AWAY);
        } else {
            self.member.notify(Notice::TooSlow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    #[test]
    fn a_gate_opens_with_the_first_event_after_the_members_coming() {
        let at = |epoch, seq| Position::new(Epoch(epoch), seq);
        let mut gate = Gate::After(at(2, 45));
        let same = |gate: &mut Gate, at| gate.pass(at, at);
        // The failover before it is yet to be heard of here.
        assert!(same(&mut gate, at(1, 41)));
        for seq in 41..=45 {
            assert!(!same(&mut gate, at(2, seq)), "{seq}");
            assert!(!gate.pass(at(2, seq), at(1, seq)), "{seq}, written before a failover");
            assert!(!gate.pass(at(3, seq), at(2, seq)), "{seq}, read after another one");
        }
        assert!(same(&mut gate.clone(), at(3, 45)), "in the place of what a failover took");
        assert!(same(&mut gate, at(2, 46)));
        assert_eq!(gate, Gate::Open);
        assert!(same(&mut gate, at(3, 1)));
        assert!(!same(&mut Gate::Shut, at(2, 46)));
        assert!(!same(&mut Gate::Closed, at(2, 46)));
    }
}
