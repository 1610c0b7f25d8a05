//! The bounded stretch of a room's recent items that its readers are served from.

use std::collections::VecDeque;

/// A bounded ring of items, shared by all readers of a room. A reader is a cursor into it: the
/// index of the item it takes next. Indices count from 0 and never repeat, also
/// when the room's log starts over.
#[derive(Debug)]
pub struct RingBuffer<T> {
    slots: VecDeque<(T, usize)>,
    /// The index of the first slot.
    first: u64,
    bytes: usize,
    max_items: usize,
    max_bytes: usize,
}

/// A cursor points to items that the window no longer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the reader has fallen behind the window")]
pub struct Fallen;

impl<T> RingBuffer<T> {
    /// An empty window that keeps at most `max_items` items and `max_bytes` bytes; always at
    /// least one item.
    pub fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { slots: VecDeque::new(), first: 0, bytes: 0, max_items: max_items.max(1), max_bytes }
    }

    /// Adds an item of so many bytes, dropping the oldest ones as the bounds ask.
    pub fn push(&mut self, item: T, bytes: usize) {
        self.slots.push_back((item, bytes));
        self.bytes += bytes;
        while self.slots.len() > self.max_items {
            self.drop_first();
        }
        self.trim(self.max_bytes);
    }

    /// Drops the oldest items beyond so many bytes, but for the last one.
    pub fn trim(&mut self, bytes: usize) {
        while self.bytes > bytes && self.slots.len() > 1 {
            self.drop_first();
        }
    }

    /// Drops what lies before `index`: every reader has taken it.
    pub fn release(&mut self, index: u64) {
        while self.first < index && !self.slots.is_empty() {
            self.drop_first();
        }
        if self.slots.is_empty() {
            self.slots.shrink_to(self.max_items.min(64));
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, bytes)) = self.slots.pop_front() {
            self.first += 1;
            self.bytes -= bytes;
        }
    }

    /// The index of the oldest item there is.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The index that the next item will have: the cursor of a reader that has taken all.
    pub fn head(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The most items and the most bytes that it keeps.
    pub fn bounds(&self) -> (usize, usize) {
        (self.max_items, self.max_bytes)
    }

    /// The bytes of all items.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The items from `cursor` to the head.
    pub fn since(&self, cursor: u64) -> Result<impl DoubleEndedIterator<Item = &T>, Fallen> {
        let skip = cursor.checked_sub(self.first).ok_or(Fallen)?;
        let skip =
            usize::try_from(skip).map_or(self.slots.len(), |skip| skip.min(self.slots.len()));
        Ok(self.slots.range(skip..).map(|(item, _)| item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(window: &RingBuffer<u64>, cursor: u64) -> Result<Vec<u64>, Fallen> {
        window.since(cursor).map(|items| items.copied().collect())
    }

    #[test]
    fn a_cursor_sees_what_comes_after_it() {
        let mut window = RingBuffer::new(3, 100);
        assert_eq!(all(&window, 0), Ok(vec![]));
        for item in 0..3 {
            window.push(item, 1);
        }
        assert_eq!(all(&window, 1), Ok(vec![1, 2]));
        assert_eq!(all(&window, window.head()), Ok(vec![]));
        window.push(3, 1);
        assert_eq!(all(&window, 0), Err(Fallen));
        assert_eq!(all(&window, 1), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn an_item_larger_than_the_window_still_passes() {
        let mut window = RingBuffer::new(3, 10);
        window.push(0, 5);
        window.push(1, 50);
        assert_eq!((all(&window, 1), window.bytes()), (Ok(vec![1]), 50));
    }

    #[test]
    fn released_items_are_gone_and_indices_go_on() {
        let mut window = RingBuffer::new(10, 100);
        (0..5).for_each(|item| window.push(item, 1));
        window.release(3);
        assert_eq!((window.first(), window.head(), window.bytes()), (3, 5, 2));
        window.release(99);
        assert_eq!((window.first(), window.head(), window.bytes()), (5, 5, 0));
    }

    proptest! {
        /// Whatever is pushed: the bounds hold, and a reader gets exactly the items from its
        /// cursor on, or is told that it has fallen.
        #[test]
        fn bounds_hold_and_nothing_is_skipped(sizes in prop::collection::vec(0usize..40, 0..200), cursor in 0u64..200) {
            let mut window = RingBuffer::new(16, 256);
            for (index, &bytes) in sizes.iter().enumerate() {
                window.push(index as u64, bytes);
                prop_assert!(window.head() - window.first() <= 16);
                prop_assert!(window.bytes() <= 256);
            }
            prop_assert_eq!(window.head(), sizes.len() as u64);
            match all(&window, cursor) {
                Ok(items) => prop_assert_eq!(items, (cursor..window.head()).collect::<Vec<_>>()),
                Err(Fallen) => prop_assert!(cursor < window.first()),
            }
        }
    }
}
