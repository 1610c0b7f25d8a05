//! What a reader takes that misses nothing.

use super::{Room, State};
use crate::hub::{
    Chunk, Encoder, Member,
    chunk::Taken,
    follower::{AWAY, Follower, Judged},
    slot::{add, encode},
};

impl Room {
    /// Takes what comes next for a reader that misses nothing, from the window or from what was read
    /// for it; about `max_bytes` at the most, and at least one event. When there is nothing, either
    /// nothing is new or a page of the log is asked for.
    pub(in crate::hub) fn follow(
        &self,
        member: &Member,
        follower: &mut Follower,
        encoder: &dyn Encoder,
        max_bytes: usize,
    ) -> Chunk {
        let state = self.lock();
        let mut taken = Taken::default();
        loop {
            if let Some(items) = follower.read_items() {
                while let Some(item) = items.front() {
                    // It is told later than it happened, and nobody is to blame.
                    if !taken.add_frame(&encode(item, encoder), max_bytes) {
                        return taken.into_chunk();
                    }
                    items.pop_front();
                }
                let Some(cursor) = follower.put_at_window(&state.window, state.feed.place()) else {
                    break;
                };
                member.set_cursor(cursor);
            }
            if state.take_at_window(member, follower, &mut taken, encoder, max_bytes) {
                return taken.into_chunk();
            }
            follower.leave_window();
            member.set_cursor(AWAY);
        }
        if follower.ask() {
            member.wake_log_reader();
        }
        taken.into_chunk()
    }
}

impl State {
    /// False when the log has to tell how it goes on.
    fn take_at_window(
        &self,
        member: &Member,
        follower: &mut Follower,
        taken: &mut Taken,
        encoder: &dyn Encoder,
        max_bytes: usize,
    ) -> bool {
        let mut cursor = member.cursor();
        if cursor == AWAY {
            return false;
        }
        let Ok(slots) = self.window.since(cursor) else { return false };
        for slot in slots {
            match follower.judge(slot.item()) {
                Judged::Skip => slot.pass(false),
                Judged::Ask => return false,
                Judged::Take => {
                    if !add(taken, slot.item(), slot.encoded(encoder), max_bytes) {
                        break;
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
}
