//! What a reader takes in one go.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::slot::Encoder;
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

/// How many authors' messages a chunk may hold that is shared.
const AUTHORS: usize = 128;

/// What a reader of a connection has just taken, for those that have come just as far: they need not ask
/// their room, and no other connection's task touches it.
#[derive(Debug, Default)]
pub struct ChunkCache(Option<SharedChunk>);

/// A chunk, and for whom else it is.
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

impl ChunkCache {
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

/// For how many frames there is room at first, at most: many may turn out not to be for this reader.
const EXPECTED: usize = 32;

/// Gathers what a reader takes, and notes for whom else it is; a single frame is shared, not copied.
pub(super) struct ChunkBuilder<'a> {
    pub(super) encoder: &'a dyn Encoder,
    /// About how many bytes it may have; one event always fits.
    max_bytes: usize,
    /// About how many events there will be.
    expected: usize,
    one: Bytes,
    many: BytesMut,
    events: usize,
    oldest: Option<(Timestamp, Option<TraceParent>)>,
    audience: Option<Audience>,
}

/// For whom a chunk is that others can take.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Audience {
    /// The chunk's last event.
    last: Option<Position>,
    /// Sessions excluded because they authored an event in the chunk.
    authors: Vec<SessionId>,
}

impl<'a> ChunkBuilder<'a> {
    /// Nothing yet; `shared` where somebody else could take it.
    pub(super) fn new(
        encoder: &'a dyn Encoder,
        max_bytes: usize,
        expected: usize,
        shared: bool,
    ) -> Self {
        Self {
            encoder,
            max_bytes,
            expected,
            one: Bytes::new(),
            many: BytesMut::new(),
            events: 0,
            oldest: None,
            audience: shared.then(Audience::default),
        }
    }

    /// False when it does not fit any more.
    pub(super) fn add(&mut self, event: &Event, frame: &Bytes) -> bool {
        if !self.add_frame(frame) {
            return false;
        }
        // Others may be told long after they happened.
        if let (EventKind::Said { .. }, None, false) = (&event.what, &self.oldest, frame.is_empty())
        {
            self.oldest = Some((event.at, event.trace.clone()));
        }
        true
    }

    /// The same of something that is no event, or is told later than it happened.
    pub(super) fn add_frame(&mut self, frame: &Bytes) -> bool {
        if frame.is_empty() {
            return true;
        }
        let size = self.one.len().max(self.many.len());
        if self.events > 0 && size + frame.len() > self.max_bytes {
            return false;
        }
        match self.events {
            0 => self.one = frame.clone(),
            1 => {
                let two = self.one.len() + frame.len();
                let all = two * self.expected.min(EXPECTED).div_ceil(2);
                self.many.reserve(all.min(self.max_bytes).max(two));
                self.many.extend_from_slice(&self.one);
                self.many.extend_from_slice(frame);
            }
            _ => self.many.extend_from_slice(frame),
        }
        self.events += 1;
        true
    }

    /// The event that was added is for everybody.
    pub(super) fn is_for_all(&mut self, position: Position) {
        if let Some(audience) = &mut self.audience {
            audience.last = Some(position);
        }
    }

    /// The event that was added is for everybody but its author.
    pub(super) fn is_for_all_but(&mut self, position: Position, author: SessionId) {
        let Some(audience) = &mut self.audience else { return };
        audience.last = Some(position);
        if !audience.authors.contains(&author) {
            audience.authors.push(author);
            if audience.authors.len() > AUTHORS {
                self.audience = None;
            }
        }
    }

    /// The chunk is not what others get, or somebody counts who takes it.
    pub(super) fn is_for_nobody_else(&mut self) {
        self.audience = None;
    }

    /// What was gathered, and where others can take it, its last event and their authors.
    pub(super) fn finish(self) -> (Chunk, Option<(Position, Vec<SessionId>)>) {
        let bytes = if self.many.is_empty() { self.one } else { self.many.freeze() };
        let audience = self.audience.filter(|_| self.events > 0);
        let audience = audience.and_then(|it| Some((it.last?, it.authors)));
        (Chunk { bytes, events: self.events, all: false, oldest: self.oldest }, audience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Epoch, room::Lost};

    fn position(seq: u64) -> Position {
        Position::new(Epoch(1), seq)
    }

    #[test]
    fn what_is_shared_is_for_those_who_have_come_as_far_and_did_none_of_it() {
        let [alice, bob] = [1, 2].map(|it| SessionId::from_bytes([it; 16]));
        let mut shared = ChunkCache::default();
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

    /// Writes nothing: frames are handed in.
    #[derive(Debug)]
    struct Silent;

    impl Encoder for Silent {
        fn index(&self) -> usize {
            0
        }

        fn encode(&self, _: Position, _: &Event) -> Bytes {
            Bytes::new()
        }

        fn encode_lost(&self, _: &Lost) -> Bytes {
            Bytes::new()
        }
    }

    fn builder(shared: bool) -> ChunkBuilder<'static> {
        let mut builder = ChunkBuilder::new(&Silent, 100, 1, shared);
        assert!(builder.add_frame(&Bytes::from_static(b"x")));
        builder
    }

    #[test]
    fn what_many_did_or_nobody_is_not_shared() {
        let mut many = builder(true);
        for at in 0..AUTHORS as u64 {
            let author = SessionId::from_bytes([u8::try_from(at).unwrap(); 16]);
            many.is_for_all_but(position(2 * at), author);
            many.is_for_all_but(position(2 * at + 1), author);
        }
        let audience = many.audience.clone().expect("there are not too many");
        let last = position(2 * AUTHORS as u64 - 1);
        assert_eq!((audience.last, audience.authors.len()), (Some(last), AUTHORS));
        many.is_for_all_but(position(99), SessionId::from_bytes([255; 16]));
        assert_eq!(many.finish().1, None);
        assert_eq!(builder(true).finish().1, None, "there is no event in it");
        let mut unwanted = builder(false);
        unwanted.is_for_all(position(1));
        assert_eq!(unwanted.finish().1, None);
        let mut own = builder(true);
        own.is_for_all(position(1));
        own.is_for_nobody_else();
        own.is_for_all(position(2));
        assert_eq!(own.finish().1, None);
        let mut empty = ChunkBuilder::new(&Silent, 100, 1, true);
        empty.is_for_all(position(1));
        assert_eq!(empty.finish().1, None);
    }

    #[test]
    fn one_event_always_fits_and_more_only_within_the_bound() {
        let mut chunk = ChunkBuilder::new(&Silent, 5, 3, false);
        assert!(chunk.add_frame(&Bytes::from_static(b"long enough")));
        assert!(!chunk.add_frame(&Bytes::from_static(b"x")));
        let mut chunk = ChunkBuilder::new(&Silent, 5, 3, false);
        for frame in [&b"ab"[..], b"", b"cd", b"e"] {
            assert!(chunk.add_frame(&Bytes::from_static(frame)));
        }
        assert!(!chunk.add_frame(&Bytes::from_static(b"f")));
        let (chunk, _) = chunk.finish();
        assert_eq!((&chunk.bytes[..], chunk.events), (&b"abcde"[..], 3));
    }
}
