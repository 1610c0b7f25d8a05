//! What a reader takes in one go.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use crate::domain::{Event, EventKind, Position, SessionId, TraceParent};

/// What a reader takes in one go.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Encoded events, one after another.
    pub bytes: Bytes,
    /// How many.
    pub events: usize,
    /// There is nothing more until the reader is woken.
    pub all: bool,
    /// When the oldest message among them was accepted, and the trace that it belongs to.
    pub oldest: Option<(Timestamp, Option<TraceParent>)>,
}

/// How many senders' messages a chunk may hold that is shared.
const SENDERS: usize = 128;

/// What a reader of a connection has just taken, for those that have come just as far: they need not ask
/// their room, and no other connection's task touches it.
#[derive(Debug, Default)]
pub struct Shared(Option<SharedChunk>);

#[derive(Debug)]
pub(super) struct SharedChunk {
    /// The number of its room.
    pub(super) room: u64,
    pub(super) encoding: usize,
    /// The first index, and the one after the last.
    pub(super) indices: Range<u64>,
    /// The position of its last event.
    pub(super) last: Position,
    pub(super) bytes: Bytes,
    pub(super) events: usize,
    /// There was nothing more.
    pub(super) all: bool,
    /// Sessions excluded because they authored an event in the chunk.
    pub(super) sessions: Vec<SessionId>,
}

impl SharedChunk {
    pub(super) fn chunk(&self) -> Chunk {
        // The delay of its oldest message counts once for all of them.
        Chunk { bytes: self.bytes.clone(), events: self.events, all: self.all, oldest: None }
    }
}

impl Shared {
    /// Forgets it.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// There may be more by now: who takes it has to ask.
    pub fn age(&mut self) {
        if let Some(chunk) = &mut self.0 {
            chunk.all = false;
        }
    }

    /// What there is for this member at its cursor.
    pub(super) fn at(
        &self,
        room: u64,
        encoding: usize,
        cursor: u64,
        session: SessionId,
    ) -> Option<&SharedChunk> {
        self.0.as_ref().filter(|shared| {
            shared.indices.start == cursor
                && shared.room == room
                && shared.encoding == encoding
                && !shared.sessions.contains(&session)
        })
    }

    pub(super) fn put(&mut self, chunk: SharedChunk) {
        // A copy of its own: counting the clones of a frame that all cores hold is what costs most.
        let bytes = Bytes::copy_from_slice(&chunk.bytes);
        self.0 = Some(SharedChunk { bytes, ..chunk });
    }
}

/// For whom else a chunk is.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Its last event, and who did some of it; `None` once it is for nobody else.
    state: Option<(Option<Position>, Vec<SessionId>)>,
}

impl Sharing {
    /// Nothing yet, where somebody else could take it.
    pub(super) fn new(wanted: bool) -> Self {
        Self { state: wanted.then(|| (None, Vec::new())) }
    }

    /// It holds an event, which is for everybody.
    pub(super) fn add(&mut self, position: Position) {
        if let Some((last, _)) = &mut self.state {
            *last = Some(position);
        }
    }

    /// It holds an event, which is for everybody but whoever did it.
    pub(super) fn add_but_for(&mut self, position: Position, session: SessionId) {
        self.add(position);
        if let Some((_, sessions)) = &mut self.state
            && !sessions.contains(&session)
        {
            sessions.push(session);
            if sessions.len() > SENDERS {
                self.state = None;
            }
        }
    }

    /// It is not what others get, or somebody counts who takes it.
    pub(super) fn spoil(&mut self) {
        self.state = None;
    }

    pub(super) fn into_parts(self) -> Option<(Position, Vec<SessionId>)> {
        let (last, sessions) = self.state?;
        Some((last?, sessions))
    }
}

/// For how many frames there is room at first, at most: many may turn out not to be for this reader.
const EXPECTED: usize = 32;

/// Gathers frames; a single one is shared, not copied.
#[derive(Default)]
pub(super) struct Taken {
    /// About how many events there will be.
    expected: usize,
    one: Bytes,
    many: BytesMut,
    events: usize,
    oldest: Option<(Timestamp, Option<TraceParent>)>,
}

impl Taken {
    pub(super) fn expecting(events: usize) -> Self {
        Self { expected: events, ..Self::default() }
    }

    /// False when it does not fit any more.
    pub(super) fn add(&mut self, event: &Event, frame: &Bytes, max_bytes: usize) -> bool {
        if !self.add_frame(frame, max_bytes) {
            return false;
        }
        // Others may be told long after they happened.
        if let (EventKind::Said { .. }, None, false) = (&event.what, &self.oldest, frame.is_empty())
        {
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
                let two = self.one.len() + frame.len();
                let all = two * self.expected.min(EXPECTED).div_ceil(2);
                self.many.reserve(all.min(max_bytes).max(two));
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
        Chunk { bytes, events: self.events, all: false, oldest: self.oldest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    fn position(seq: u64) -> Position {
        Position::new(Epoch(1), seq)
    }

    #[test]
    fn what_is_shared_is_for_those_who_have_come_as_far_and_did_none_of_it() {
        let [alice, bob] = [1, 2].map(|it| SessionId::from_bytes([it; 16]));
        let mut shared = Shared::default();
        assert!(shared.at(7, 0, 10, bob).is_none());
        shared.put(SharedChunk {
            room: 7,
            encoding: 0,
            indices: 10..13,
            last: position(30),
            bytes: Bytes::from_static(b"hello"),
            events: 3,
            all: true,
            sessions: vec![alice],
        });
        let taken = shared.at(7, 0, 10, bob).expect("it is for bob");
        assert_eq!((&taken.chunk().bytes[..], taken.chunk().events), (&b"hello"[..], 3));
        assert!(taken.chunk().all);
        shared.age();
        assert!(shared.at(7, 0, 10, bob).is_some_and(|taken| !taken.chunk().all));
        assert!(shared.at(7, 0, 10, alice).is_none(), "some of it is her own");
        assert!(shared.at(7, 0, 11, bob).is_none(), "he has come further");
        assert!(shared.at(7, 1, 10, bob).is_none(), "he speaks another dialect");
        assert!(shared.at(8, 0, 10, bob).is_none(), "he is in another room");
        shared.clear();
        assert!(shared.at(7, 0, 10, bob).is_none());
    }

    #[test]
    fn what_many_did_or_nobody_is_not_shared() {
        let mut sharing = Sharing::new(true);
        for at in 0..SENDERS as u64 {
            let session = SessionId::from_bytes([u8::try_from(at).unwrap(); 16]);
            sharing.add_but_for(position(2 * at), session);
            sharing.add_but_for(position(2 * at + 1), session);
        }
        let (last, sessions) = sharing.state.clone().expect("there are not too many");
        assert_eq!((last, sessions.len()), (Some(position(2 * SENDERS as u64 - 1)), SENDERS));
        sharing.add_but_for(position(99), SessionId::from_bytes([255; 16]));
        assert!(sharing.into_parts().is_none());
        assert!(Sharing::new(true).into_parts().is_none(), "there is nothing in it");
        let mut unwanted = Sharing::new(false);
        unwanted.add(position(1));
        assert!(unwanted.into_parts().is_none());
        let mut spoilt = Sharing::new(true);
        spoilt.add(position(1));
        spoilt.spoil();
        spoilt.add(position(2));
        assert!(spoilt.into_parts().is_none());
    }
}
