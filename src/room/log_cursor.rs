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
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// The room had no log when the reader began: everything in it is new.
    Unborn,
    /// The last position that was passed on, or skipped because it came before the reader began.
    Position(Position),
}

impl LogCursor {
    /// Before everything, in a room without a log.
    pub fn unborn() -> Self {
        Self { at: At::Unborn, from_oldest: false }
    }

    /// What comes after this position is next.
    pub fn after(position: Position) -> Self {
        Self { at: At::Position(position), from_oldest: false }
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
        Self { at: At::Position(Position::new(position.epoch, seq)), from_oldest: true }
    }

    /// The last position; `None` where there was no log.
    pub fn position(&self) -> Option<Position> {
        match self.at {
            At::Unborn => None,
            At::Position(at) => Some(at),
        }
    }

    /// The sequence number of the last position, after which the log is to be read.
    pub fn seq(&self) -> u64 {
        self.position().map_or(0, |at| at.seq)
    }

    /// Goes on to this position, which was passed on.
    pub fn advance(&mut self, position: Position) {
        *self = Self::after(position);
    }

    /// Whether a log that ends there has more for this reader, or is another one.
    pub fn is_behind(&self, head: Position) -> bool {
        match self.at {
            At::Unborn => head.seq > 0,
            At::Position(at) => at.epoch != head.epoch || at.seq < head.seq,
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
            self.at = At::Position(Position::new(end.epoch, oldest - 1));
        } else if page.events.is_empty() && asked < end.seq {
            // All of it fell out of the log already.
            self.lose(Position::new(end.epoch, asked + 1), end, items);
        }
        for (seq, event) in page.events {
            self.pass(Position::new(end.epoch, seq), event, items);
        }
        (self.seq() < end.seq).then_some(end)
    }

    /// Passes one event on unless it was passed before; what lies between is lost.
    pub fn pass<E>(&mut self, position: Position, event: E, items: &mut Vec<Item<E>>) {
        let next = self.seq() + 1;
        if position.seq < next {
            return;
        }
        if position.seq > next {
            let to = Position::new(position.epoch, position.seq - 1);
            self.lose(Position::new(position.epoch, next), to, items);
        }
        self.at = At::Position(position);
        items.push(Item::Event(position, event));
    }

    /// Goes over to the log that `head` belongs to. True when the reading place moved.
    fn move_to<E>(&mut self, head: &Head, items: &mut Vec<Item<E>>) -> bool {
        let epoch = head.position.epoch;
        let At::Position(at) = self.at else {
            self.at = At::Position(Position::new(epoch, 0));
            return false;
        };
        if at.epoch == epoch {
            return false;
        }
        let good = head.past.iter().find(|end| end.epoch == at.epoch);
        let seq = match good {
            Some(end) if at.seq <= end.seq => at.seq,
            Some(end) => {
                let from = Position::new(at.epoch, end.seq + 1);
                items.push(Item::Lost(Lost::Range { from, to: at }));
                end.seq
            }
            None => {
                items.push(Item::Lost(Lost::Log { after: at }));
                0
            }
        };
        self.at = At::Position(Position::new(epoch, seq));
        seq != at.seq
    }

    fn lose<E>(&mut self, from: Position, to: Position, items: &mut Vec<Item<E>>) {
        items.push(Item::Lost(Lost::Range { from, to }));
        self.at = At::Position(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    const A: Epoch = Epoch(0xa);
    const B: Epoch = Epoch(0xb);

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
    fn a_place_in_a_log_that_is_gone_reads_the_new_one() {
        let mut place = LogCursor::after(at(A, 2));
        let (items, more) = read(&mut place, page(at(B, 3), &[], 3..=3));
        assert_eq!(items, [Item::Lost(Lost::Log { after: at(A, 2) })]);
        assert_eq!((place.seq(), more), (0, Some(at(B, 3))));
    }
}
