//! A reader that misses nothing: where its room's window does not reach, it is served from the log.

use std::{collections::VecDeque, sync::Arc};

use super::{slot::Slot, unread::Held};
use crate::{
    domain::{Event, Page, Position},
    room::{Item, LogCursor, Lost, RingBuffer},
};

/// A cursor that points nowhere: its reader is not at the window.
pub(super) const AWAY: u64 = u64::MAX;

/// How far a reader has come, and from where it is served.
#[derive(Debug)]
pub(super) struct CatchUpReader {
    /// Up to where it was served from the window, or the log was read for it.
    place: LogCursor,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// It takes from the window what comes next there.
    Window(Footing),
    /// It takes what was read from the log for it.
    Log {
        items: VecDeque<Item<Arc<Event>>>,
        /// Where they are counted, until all of them are taken.
        held: Option<Held>,
        reading: Reading,
    },
}

impl Mode {
    fn log() -> Self {
        Self::Log { items: VecDeque::new(), held: None, reading: Reading::No }
    }
}

/// How a reader at the window stands to what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Footing {
    /// It has come just as far as the window's sequence before its cursor.
    Level,
    /// It has come further than the room on this replica: what it knows already is skipped.
    Ahead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    /// Nothing is asked for.
    No,
    /// The next page is to be read.
    Asked,
    /// It is being read.
    UnderWay,
}

/// What a reader makes of an item of the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// It has it already.
    Skip,
    /// It comes next.
    Take,
    /// It does not follow: the log has to tell what comes next.
    Ask,
}

impl CatchUpReader {
    /// A reader that begins there. It is served once it was [put](CatchUpReader::put_at_window) at the
    /// window, or found out that the log has to be read.
    pub(super) fn new(place: LogCursor) -> Self {
        Self { place, mode: Mode::log() }
    }

    /// Has it served from the log from now on.
    pub(super) fn leave_window(&mut self) {
        self.mode = Mode::log();
    }

    /// Finds its place in a window whose sequence has come to `room`. Returns the cursor there.
    pub(super) fn put_at_window(
        &mut self,
        window: &RingBuffer<Slot>,
        room: LogCursor,
    ) -> Option<u64> {
        let (cursor, footing) = match (self.place.position(), room.position()) {
            (own, room) if own == room => (window.head(), Footing::Level),
            (Some(_), None) => (window.head(), Footing::Ahead),
            (Some(own), Some(room)) if own.epoch == room.epoch && own.seq > room.seq => {
                (window.head(), Footing::Ahead)
            }
            (Some(own), Some(_)) => (index_after(window, own)?, Footing::Level),
            (None, _) => return None,
        };
        self.mode = Mode::Window(footing);
        Some(cursor)
    }

    /// What the next item of the window is to it.
    pub(super) fn judge(&mut self, item: &Item<Arc<Event>>) -> Judged {
        let Mode::Window(footing) = &mut self.mode else { return Judged::Ask };
        if *footing == Footing::Level {
            return Judged::Take;
        }
        match (item, self.place.position()) {
            (Item::Event(position, _), Some(own)) if position.epoch == own.epoch => {
                match position.seq.cmp(&own.seq) {
                    std::cmp::Ordering::Less => Judged::Skip,
                    std::cmp::Ordering::Equal => {
                        *footing = Footing::Level;
                        Judged::Skip
                    }
                    std::cmp::Ordering::Greater => Judged::Ask,
                }
            }
            _ => Judged::Ask,
        }
    }

    /// It has taken an item of the window.
    pub(super) fn took(&mut self, item: &Item<Arc<Event>>) {
        self.place = match item {
            Item::Event(position, _) => LogCursor::after(*position),
            Item::Lost(Lost::Range { from, to }) => {
                // Cut off by a failover, or else fallen out of the log.
                let cut = self.place.position().is_some_and(|own| own.seq >= from.seq);
                let before = Position::new(from.epoch, from.seq - 1);
                LogCursor::after(if cut { before } else { *to })
            }
            Item::Lost(Lost::Log { .. }) => LogCursor::unborn(),
        };
    }

    /// It takes what another reader at its cursor has taken of the window, up to this position. False when
    /// something else may come next for it.
    pub(super) fn take_shared(&mut self, last: Position) -> bool {
        let level = matches!(self.mode, Mode::Window(Footing::Level));
        if level {
            self.place = LogCursor::after(last);
        }
        level
    }

    /// What was read for it, in order.
    pub(super) fn read_items(&mut self) -> Option<&mut VecDeque<Item<Arc<Event>>>> {
        match &mut self.mode {
            Mode::Log { items, .. } => Some(items),
            Mode::Window(_) => None,
        }
    }

    /// Whether there is something to take that was read for it, or it has yet to look where it is. `None`
    /// at the window.
    pub(super) fn log_has_more(&self) -> Option<bool> {
        match &self.mode {
            Mode::Log { items, reading, .. } => Some(!items.is_empty() || *reading == Reading::No),
            Mode::Window(_) => None,
        }
    }

    /// Whether there is something that was read for it and is not taken.
    pub(super) fn has_read(&self) -> bool {
        matches!(&self.mode, Mode::Log { items, .. } if !items.is_empty())
    }

    /// Asks for the next page of the log. True when nobody had asked yet.
    pub(super) fn ask(&mut self) -> bool {
        match &mut self.mode {
            Mode::Log { reading: reading @ Reading::No, held, .. } => {
                *held = None;
                *reading = Reading::Asked;
                true
            }
            Mode::Log { .. } | Mode::Window(_) => false,
        }
    }

    /// Whether a page is asked for.
    pub(super) fn is_asking(&self) -> bool {
        matches!(&self.mode, Mode::Log { reading: Reading::Asked, .. })
    }

    /// Somebody reads the page that is asked for: after which sequence number.
    pub(super) fn begin_reading(&mut self) -> Option<u64> {
        match &mut self.mode {
            Mode::Log { reading: reading @ Reading::Asked, .. } => {
                *reading = Reading::UnderWay;
                Some(self.place.seq())
            }
            Mode::Log { .. } | Mode::Window(_) => None,
        }
    }

    /// The page that was read, or `None` when that could not be done. Returns whether there was
    /// anything new in it.
    pub(super) fn end_reading(&mut self, page: Option<Page>, page_held: Held) -> bool {
        let Mode::Log { items, held, reading } = &mut self.mode else { return false };
        // It found its way, and lost it again, while this was read.
        if *reading != Reading::UnderWay {
            return false;
        }
        *reading = Reading::No;
        let Some(page) = page else { return false };
        let (before, mut read) = (self.place, Vec::new());
        self.place.page(page, &mut read);
        items.extend(read);
        *held = Some(page_held);
        self.place != before
    }
}

/// The index in the window of what comes after `own`, if the event there, or the next one, is in it.
fn index_after(window: &RingBuffer<Slot>, own: Position) -> Option<u64> {
    let mut index = window.head();
    let mut slots = window.since(window.first()).ok()?;
    let position = |slot: &Slot| match slot.item() {
        Item::Event(position, _) => Some(*position),
        Item::Lost(_) => None,
    };
    // Most often the window begins long after it.
    let oldest = window.since(window.first()).ok()?.next().and_then(position)?;
    if oldest.epoch == own.epoch && oldest.seq > own.seq + 1 {
        return None;
    }
    while let Some(slot) = slots.next_back() {
        let position = position(slot).filter(|position| position.epoch == own.epoch)?;
        if position.seq <= own.seq {
            return (position.seq == own.seq).then_some(index);
        }
        index -= 1;
        if position.seq == own.seq + 1 {
            return Some(index);
        }
    }
    None
}
