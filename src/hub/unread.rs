//! What is on its way to single readers, counted for the whole replica: nobody who takes nothing is to cost much.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes that were taken from a room or its log for one reader, whose client has not taken them yet.
#[derive(Debug)]
pub struct Unread {
    most: usize,
    bytes: AtomicUsize,
}

/// Some of them.
#[derive(Debug)]
pub struct Held {
    of: Arc<Unread>,
    bytes: usize,
}

impl Unread {
    /// None yet.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, bytes: AtomicUsize::new(0) })
    }

    /// Whether there is so much that what comes now is to come in small pieces.
    pub fn is_over(&self) -> bool {
        self.bytes.load(Relaxed) > self.most
    }

    /// So many more, until what is returned is dropped.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.bytes.fetch_add(bytes, Relaxed);
        Held { of: self.clone(), bytes }
    }
}

impl Held {
    /// How many these are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// They are so many by now.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.of.bytes.fetch_add(bytes - self.bytes, Relaxed);
        } else if bytes < self.bytes {
            self.of.bytes.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_dropped() {
        let unread = Unread::new(100);
        let (mut one, two) = (unread.hold(60), unread.hold(40));
        assert!(!unread.is_over());
        one.set(61);
        assert!(unread.is_over());
        drop(two);
        one.set(7);
        assert_eq!((unread.bytes.load(Relaxed), one.bytes()), (7, 7));
        drop(one);
        assert_eq!(unread.bytes.load(Relaxed), 0);
    }
}
