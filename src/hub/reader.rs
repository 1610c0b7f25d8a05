//! What a member's stream takes of its room.

use std::sync::Arc;

use super::{
    Encoder, Member, RoomRef,
    catch_up_reader::AWAY,
    chunk::{Chunk, ChunkCache},
};
use crate::{domain::Position, room::Fallen};

/// A member's place among the readers of its room. What it has not taken stays in the window for it,
/// within the window's bounds, until the last clone is dropped: that may be after its membership.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Most events need nothing else, so it is not behind the place.
    member: Arc<Member>,
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    key: usize,
    room_ref: RoomRef,
}

impl Reader {
    /// A member's, who is about to be in that room.
    pub(super) fn new(member: Arc<Member>, room_ref: RoomRef) -> Self {
        let key = room_ref.room.add_member(&member);
        Self { member, place: Arc::new(Place { key, room_ref }) }
    }

    /// The room that it reads.
    pub(super) fn room_ref(&self) -> &RoomRef {
        &self.place.room_ref
    }

    /// Its member is in, with the room's head at `position`.
    pub(super) fn admit(&self, position: Position) {
        self.room_ref().room.admit(self.place.key, position);
    }

    /// Whose place it is.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Whether there is something that it has not taken.
    pub fn has_more(&self) -> bool {
        self.room_ref().room.has_more(self.place.key)
    }

    /// The index in the room's sequence up to which it has come here.
    pub fn head(&self) -> u64 {
        self.room_ref().room.head()
    }

    /// Whether it has taken all that its member was there for, up to its `left`.
    pub fn is_at_end(&self) -> bool {
        self.room_ref().room.is_at_end(self.place.key)
    }

    /// Whether it is to take what comes until its member's `left`: it is known where that is, and that
    /// the room's window leads there.
    pub fn goes_on_to_its_end(&self) -> bool {
        self.member.left().is_some() && self.member.cursor() != AWAY
    }

    /// Takes what there is for it from its cursor on, up to the index `until`; about `max_bytes`, at
    /// least one event. An empty chunk when there is nothing. Readers of one connection may take from what
    /// another one has just left in `cache`.
    pub fn take(
        &self,
        encoder: &dyn Encoder,
        until: u64,
        max_bytes: usize,
        cache: Option<&mut ChunkCache>,
    ) -> Result<Chunk, Fallen> {
        let member = &self.member;
        if let (Some(cache), u64::MAX) = (&cache, until)
            && let Some(shared) =
                cache.at(member.room_number(), encoder.index(), member.cursor(), member.session())
            && member.take_shared(shared)
        {
            return Ok(shared.chunk());
        }
        self.room_ref().room.take(self.place.key, encoder, until, max_bytes, cache)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room_ref.room.remove_member(self.key);
    }
}
