//! How far a room's readers have come, and what that means for its window.

use super::{Looked, State};
use crate::hub::{
    catch_up_reader::AWAY,
    slow_readers::{CROWDED, FEW, PRESSING},
};

impl State {
    /// Whether so much is new that it has to go out, before the room is crowded.
    pub(super) fn is_pressing(&self) -> bool {
        let (max_events, max_bytes) = self.window.bounds();
        self.fresh.events > max_events / PRESSING || self.fresh.bytes > max_bytes / PRESSING
    }

    /// Whether much of the window is still to be taken, by everybody.
    pub(super) fn is_crowded(&self) -> bool {
        let (max_events, max_bytes) = self.window.bounds();
        let (first, head) = (self.window.first(), self.window.head());
        let count = |events: u64| usize::try_from(events).unwrap_or(usize::MAX);
        let kept = count(head - first).max(1);
        if kept <= max_events / CROWDED && self.window.bytes() <= max_bytes / CROWDED {
            return false;
        }
        let cursors = self.readings.iter().map(|(_, reading)| reading.member.cursor());
        let fastest = cursors.filter(|cursor| *cursor != AWAY).max();
        fastest.is_some_and(|cursor| {
            let waiting = count(head - cursor).min(kept);
            waiting > max_events / CROWDED
                || self.window.bytes() / kept * waiting > max_bytes / CROWDED
        })
    }

    /// Looks how far all readers have come, now and then or when that may matter to one of them: tells
    /// those that fell off the window, and forgets what all have taken.
    pub(super) fn look_at_readers(&mut self) {
        let looked = self.looked;
        let (first, head) = (self.window.first(), self.window.head());
        if self.readings.len() > FEW && first == looked.start && head - looked.end < FEW as u64 {
            return;
        }
        let mut lowest = head;
        for (_, reading) in &self.readings {
            let cursor = reading.member.cursor();
            if cursor < first {
                reading.fall_behind();
            } else {
                lowest = lowest.min(cursor);
            }
        }
        self.window.release(lowest);
        self.looked = Looked { start: self.window.first(), end: head };
    }
}
