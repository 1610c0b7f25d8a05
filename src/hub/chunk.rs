//! What a reader takes in one go.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use crate::domain::{Event, TraceParent, What};

/// What a reader takes in one go.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Encoded events, one after another.
    pub bytes: Bytes,
    /// How many.
    pub events: usize,
    /// When the oldest message among them was accepted, and the trace that it belongs to.
    pub oldest: Option<(Timestamp, Option<TraceParent>)>,
}

/// Gathers frames; a single one is shared, not copied.
#[derive(Default)]
pub(super) struct Taken {
    one: Bytes,
    many: BytesMut,
    events: usize,
    oldest: Option<(Timestamp, Option<TraceParent>)>,
}

impl Taken {
    /// False when it does not fit any more.
    pub(super) fn add(&mut self, event: &Event, frame: &Bytes, max_bytes: usize) -> bool {
        if !self.add_frame(frame, max_bytes) {
            return false;
        }
        // Others may be told long after they happened.
        if let (What::Said { .. }, None, false) = (&event.what, &self.oldest, frame.is_empty()) {
            self.oldest = Some((event.at, event.trace.clone()));
        }
        true
    }

    /// The same of something that is no event.
    pub(super) fn add_frame(&mut self, frame: &Bytes, max_bytes: usize) -> bool {
        if frame.is_empty() {
            return true;
        }
        let size = self.one.len().max(self.many.len());
        if self.events > 0 && size + frame.len() > max_bytes {
            return false;
        }
        match self.events {
            0 => self.one = frame.clone(),
            1 => {
                self.many.reserve(self.one.len() + frame.len());
                self.many.extend_from_slice(&self.one);
                self.many.extend_from_slice(frame);
            }
            _ => self.many.extend_from_slice(frame),
        }
        self.events += 1;
        true
    }

    pub(super) fn into_chunk(self) -> Chunk {
        let bytes = if self.many.is_empty() { self.one } else { self.many.freeze() };
        Chunk { bytes, events: self.events, oldest: self.oldest }
    }
}
