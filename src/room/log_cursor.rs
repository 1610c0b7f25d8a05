//! A reader's place in a room's sequence of events, and what it is told on its way through the log.

use super::{Item, Lost};
use crate::domain::{Epoch, Head, Page, Position};

/// How far a reader has come. Whoever reads the log, for a whole room or for one client, goes on from
/// here page by page, and is told each event once and whatever is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogCursor {
    at: At,
    /// What the log no longer has at its beginning is not missed.
    from_oldest: bool,
    /// Where the epochs before this one ended, the latest last, as the log said that it was in. A log that knows
    /// nothing of this epoch, since the server that wrote it was replaced by one that never had it, may know those.
    ancestors: Ancestors,
}

/// How many epochs a reader remembers that its own went on from.
const ANCESTORS: usize = 4;

type Ancestors = [Option<Position>; ANCESTORS];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// The room had no log when the reader began: everything in it is new.
    Unborn,
    /// The last position that was passed on, or skipped because it came before the reader began.
    Position {
        /// In the log as it is now.
        at: Position,
        /// In which epoch the event there was written.
        written: Epoch,
    },
}

impl At {
    fn written(position: Position) -> Self {
        Self::Position { at: position, written: position.epoch }
    }
}

impl LogCursor {
    /// Before everything, in a room without a log.
    pub fn unborn() -> Self {
        Self { at: At::Unborn, from_oldest: false, ancestors: Ancestors::default() }
    }

    /// What comes after this position is next.
    pub fn after(position: Position) -> Self {
        Self { at: At::written(position), ..Self::unborn() }
    }

    /// After everything in the log that ends there.
    pub fn at_head(head: &Head) -> Self {
        Self { ancestors: ancestors(head), ..Self::after(head.position) }
    }

    /// Where a reader says that it is. Sequence number 0 of epoch 0 names no log: whatever there is
    /// is new to it.
    pub fn claimed(position: Position) -> Self {
        if position == Position::new(Epoch(0), 0) { Self::unborn() } else { Self::after(position) }
    }

    /// So many events up to this position, the last one included, are next; fewer where the log has no
    /// more of them.
    pub fn latest(position: Position, events: u64) -> Self {
        let seq = position.seq.saturating_sub(events);
        let at = At::written(Position::new(position.epoch, seq));
        Self { at, from_oldest: true, ..Self::unborn() }
    }

    /// The last position; `None` where there was no log.
    pub fn position(&self) -> Option<Position> {
        match self.at {
            At::Unborn => None,
            At::Position { at, .. } => Some(at),
        }
    }

    /// The sequence number of the last position, after which the log is to be read.
    pub fn seq(&self) -> u64 {
        self.position().map_or(0, |at| at.seq)
    }

    /// The place is as it was, and what was written there was written in the log's own epoch.
    pub fn settle(&mut self) {
        if let At::Position { at, .. } = self.at {
            self.at = At::written(at);
        }
    }

    /// Whether a log that ends there has more for this reader, or is another one.
    pub fn is_behind(&self, head: Position) -> bool {
        match self.at {
            At::Unborn => head.seq > 0,
            At::Position { at, .. } => at.epoch != head.epoch || at.seq < head.seq,
        }
    }

    /// Takes in what was read from the log after [`LogCursor::seq`]. Returns the head up to which the
    /// reading is not done yet; `None` when it is, or when there is no log.
    pub fn page<E>(&mut self, page: Page<E>, items: &mut Vec<Item<E>>) -> Option<Position> {
        let head = page.head?;
        let end = head.position;
        if self.move_to(&head, items) {
            // The page was read from the wrong place.
            return Some(end);
        }
        let asked = self.seq();
        let oldest = page.events.first().map_or(end.seq + 1, |(seq, _)| *seq);
        if std::mem::take(&mut self.from_oldest) && oldest > asked + 1 {
            self.at = At::written(Position::new(end.epoch, oldest - 1));
        } else if page.events.is_empty() && asked < end.seq {
            // All of it fell out of the log already.
            self.lose(&head, end.seq, items);
        }
        for (seq, event) in page.events {
            if seq > self.seq() + 1 {
                self.lose(&head, seq - 1, items);
            }
            if seq == self.seq() + 1 {
                self.pass_on(end.epoch, head.written_at(seq), event, items);
            }
        }
        (self.seq() < end.seq).then_some(end)
    }

    /// Passes on an event as it happens, if it is the next one.
    pub fn pass<E>(&mut self, position: Position, event: E, items: &mut Vec<Item<E>>) {
        if position.seq == self.seq() + 1 {
            self.pass_on(position.epoch, position, event, items);
        }
    }

    fn pass_on<E>(&mut self, log: Epoch, position: Position, event: E, items: &mut Vec<Item<E>>) {
        self.at = At::Position { at: Position::new(log, position.seq), written: position.epoch };
        items.push(Item::Event(position, event));
    }

    /// Goes over to the log that `head` belongs to. True when the reading place moved.
    fn move_to<E>(&mut self, head: &Head, items: &mut Vec<Item<E>>) -> bool {
        let epoch = head.position.epoch;
        let At::Position { at, written } = self.at else {
            self.at = At::written(Position::new(epoch, 0));
            self.ancestors = ancestors(head);
            return false;
        };
        if at.epoch == epoch {
            self.ancestors = ancestors(head);
            return false;
        }
        let before = std::mem::replace(&mut self.ancestors, ancestors(head));
        let ended = |epoch| head.past.iter().find(|end| end.epoch == epoch);
        // Of an epoch in which nothing was written since, nothing may be known any more.
        let good = ended(at.epoch).or_else(|| ended(written));
        let seq = match good {
            Some(end) if at.seq <= end.seq => at.seq,
            Some(end) => {
                let named = |seq| Position::new(written, seq);
                let (from, to) = (named(end.seq + 1), named(at.seq));
                items.push(Item::Lost(Lost::Range { from, to }));
                end.seq
            }
            None => match common(&before, head) {
                Some(last) => {
                    let to = Position::new(written, at.seq);
                    let from = first_after(&before, last, written);
                    if last.seq < at.seq {
                        items.push(Item::Lost(Lost::Range { from, to }));
                    }
                    last.seq.min(at.seq)
                }
                None => {
                    items.push(Item::Lost(Lost::Log { after: at }));
                    0
                }
            },
        };
        // What is kept was written when it was written.
        let written = if seq == at.seq { written } else { head.written_at(seq).epoch };
        self.at = At::Position { at: Position::new(epoch, seq), written };
        seq != at.seq
    }

    /// What comes next is gone, up to this sequence number: a range for each epoch in which it was written.
    fn lose<E>(&mut self, head: &Head, last: u64, items: &mut Vec<Item<E>>) {
        while self.seq() < last {
            let from = head.written_at(self.seq() + 1);
            let end = head.past.iter().find(|end| end.epoch == from.epoch);
            let to = Position::new(from.epoch, end.map_or(last, |end| end.seq.min(last)));
            items.push(Item::Lost(Lost::Range { from, to }));
            let at = Position::new(head.position.epoch, to.seq);
            self.at = At::Position { at, written: to.epoch };
        }
    }
}

/// Where the last epochs before this log's own ended.
fn ancestors(head: &Head) -> Ancestors {
    let mut latest = head.past.iter().rev().copied();
    let mut ancestors: Ancestors = std::array::from_fn(|_| latest.next());
    ancestors.reverse();
    ancestors
}

/// The last position that was before a reader's own epoch and is part of this log.
fn common(ancestors: &Ancestors, head: &Head) -> Option<Position> {
    let ends = || head.past.iter().chain([&head.position]);
    ancestors.iter().rev().flatten().find_map(|ancestor| {
        let end = ends().find(|end| end.epoch == ancestor.epoch)?;
        Some(Position::new(ancestor.epoch, ancestor.seq.min(end.seq)))
    })
}

/// What came next after that position in the log of this epoch with these ancestors.
fn first_after(ancestors: &Ancestors, last: Position, epoch: Epoch) -> Position {
    let seq = last.seq + 1;
    let epoch = ancestors.iter().flatten().find(|end| seq <= end.seq).map_or(epoch, |it| it.epoch);
    Position::new(epoch, seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    const A: Epoch = Epoch(0xa);
    const B: Epoch = Epoch(0xb);
    const C: Epoch = Epoch(0xc);

    fn at(epoch: Epoch, seq: u64) -> Position {
        Position::new(epoch, seq)
    }

    fn page(
        position: Position,
        past: &[Position],
        seqs: impl IntoIterator<Item = u64>,
    ) -> Page<u64> {
        let head = Head { position, past: past.to_vec() };
        Page { head: Some(head), events: seqs.into_iter().map(|seq| (seq, seq)).collect() }
    }

    fn read(place: &mut LogCursor, page: Page<u64>) -> (Vec<Item<u64>>, Option<Position>) {
        let mut items = Vec::new();
        let more = place.page(page, &mut items);
        (items, more)
    }

    fn event(epoch: Epoch, seq: u64) -> Item<u64> {
        Item::Event(at(epoch, seq), seq)
    }

    #[test]
    fn reads_on_page_by_page() {
        let mut place = LogCursor::after(at(A, 3));
        let (items, more) = read(&mut place, page(at(A, 6), &[], 4..=5));
        assert_eq!((items, more), (vec![event(A, 4), event(A, 5)], Some(at(A, 6))));
        let (items, more) = read(&mut place, page(at(A, 6), &[], 6..=6));
        assert_eq!((items, more), (vec![event(A, 6)], None));
        assert_eq!(place.position(), Some(at(A, 6)));
    }

    #[test]
    fn the_latest_are_as_many_as_there_are() {
        for (wanted, oldest, first) in [(3, 1, 8), (3, 9, 9), (3, 11, 11), (20, 1, 1), (20, 5, 5)] {
            let mut place = LogCursor::latest(at(A, 10), wanted);
            let begin = oldest.max(place.seq() + 1);
            let (items, more) = read(&mut place, page(at(A, 10), &[], begin..=10));
            assert_eq!(items, (first..=10).map(|seq| event(A, seq)).collect::<Vec<_>>());
            assert_eq!((place.position(), more), (Some(at(A, 10)), None), "{wanted} {oldest}");
        }
    }

    #[test]
    fn what_falls_out_later_is_told_to_whoever_wants_the_latest_too() {
        let mut place = LogCursor::latest(at(A, 10), 4);
        read(&mut place, page(at(A, 12), &[], 7..=8));
        let (items, _) = read(&mut place, page(at(A, 12), &[], 11..=12));
        let lost = Lost::Range { from: at(A, 9), to: at(A, 10) };
        assert_eq!(items, [Item::Lost(lost), event(A, 11), event(A, 12)]);
    }

    #[test]
    fn a_place_in_a_log_that_was_cut_is_told_what_was_cut() {
        let mut place = LogCursor::after(at(A, 9));
        let (items, more) = read(&mut place, page(at(B, 8), &[at(A, 6)], []));
        let lost = Lost::Range { from: at(A, 7), to: at(A, 9) };
        assert_eq!((items, more), (vec![Item::Lost(lost)], Some(at(B, 8))));
        assert_eq!(place.seq(), 6, "it reads again from there");
        let (items, more) = read(&mut place, page(at(B, 8), &[at(A, 6)], 7..=8));
        assert_eq!((items, more), (vec![event(B, 7), event(B, 8)], None));
    }

    #[test]
    fn an_event_is_told_under_the_epoch_in_which_it_was_written() {
        let mut place = LogCursor::after(at(A, 1));
        let (items, more) = read(&mut place, page(at(B, 5), &[at(A, 3)], 2..=5));
        let expected = [event(A, 2), event(A, 3), event(B, 4), event(B, 5)];
        assert_eq!((items, more), (expected.to_vec(), None));
        let (items, _) = read(&mut place, page(at(C, 8), &[at(A, 3), at(B, 5)], 8..=8));
        let lost = Lost::Range { from: at(C, 6), to: at(C, 7) };
        assert_eq!(items, [Item::Lost(lost), event(C, 8)]);
        // A log that went over to B, in which nothing was said, and was lost again.
        let mut place = LogCursor::after(at(A, 3));
        read(&mut place, page(at(B, 3), &[at(A, 3)], []));
        assert_eq!(read(&mut place, page(at(C, 3), &[at(A, 3)], [])), (vec![], None));
        // Each range is of one epoch.
        let mut place = LogCursor::after(at(A, 1));
        let (items, more) = read(&mut place, page(at(C, 8), &[at(A, 3), at(B, 5)], []));
        let ranges = [(A, 2, 3), (B, 4, 5), (C, 6, 8)].map(|(epoch, from, to)| {
            Item::Lost(Lost::Range { from: at(epoch, from), to: at(epoch, to) })
        });
        assert_eq!((items, more), (ranges.to_vec(), None));
        // What nobody has heard since the log went over to B was written in A.
        let mut place = LogCursor::after(at(A, 3));
        assert_eq!(read(&mut place, page(at(B, 3), &[at(A, 3)], [])), (vec![], None));
        assert!(!place.is_behind(at(B, 3)), "and it is level with the log");
        let (items, _) = read(&mut place, page(at(C, 2), &[at(A, 2), at(B, 2)], []));
        assert_eq!(items, [Item::Lost(Lost::Range { from: at(A, 3), to: at(A, 3) })]);
    }

    #[test]
    fn a_place_in_an_epoch_that_was_never_there_goes_back_to_where_that_began() {
        const D: Epoch = Epoch(0xd);
        let lost = |from, to| Item::Lost(Lost::Range { from, to });
        // The log went over from A to B at 3, on a server that was replaced by one that has more of A, and went on in C.
        let mut place = LogCursor::after(at(A, 2));
        read(&mut place, page(at(B, 5), &[at(A, 3)], 3..=5));
        let (items, more) = read(&mut place, page(at(C, 6), &[at(A, 4)], []));
        assert_eq!((items, more), (vec![lost(at(B, 4), at(B, 5))], Some(at(C, 6))));
        let (items, more) = read(&mut place, page(at(C, 6), &[at(A, 4)], 4..=6));
        assert_eq!((items, more), (vec![event(A, 4), event(C, 5), event(C, 6)], None));
        // One that is in A itself, and has less of it.
        let mut place = LogCursor::at_head(&Head { position: at(B, 5), past: vec![at(A, 3)] });
        let (items, _) = read(&mut place, page(at(A, 2), &[], []));
        assert_eq!((items, place.seq()), (vec![lost(at(A, 3), at(B, 5))], 2));
        // Two epochs that were never there.
        let past = vec![at(A, 3), at(B, 5)];
        let mut place = LogCursor::at_head(&Head { position: at(C, 7), past });
        let (items, _) = read(&mut place, page(at(D, 9), &[at(A, 8)], []));
        assert_eq!((items, place.seq()), (vec![lost(at(B, 4), at(C, 7))], 3));
        // One in which nothing was said.
        let mut place = LogCursor::at_head(&Head { position: at(B, 3), past: vec![at(A, 3)] });
        assert_eq!(read(&mut place, page(at(C, 4), &[at(A, 3)], 4..=4)), (vec![event(C, 4)], None));
    }

    #[test]
    fn a_place_in_a_log_that_is_gone_reads_the_new_one() {
        let mut place = LogCursor::after(at(A, 2));
        let (items, more) = read(&mut place, page(at(B, 3), &[], 3..=3));
        assert_eq!(items, [Item::Lost(Lost::Log { after: at(A, 2) })]);
        assert_eq!((place.seq(), more), (0, Some(at(B, 3))));
    }
}
