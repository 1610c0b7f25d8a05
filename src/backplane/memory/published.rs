//! What idempotency keys stand for.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::leases::later;
use crate::{
    backplane::{IdempotencyKey, KEY_LIFETIME, PublishError, Published},
    domain::{Position, RoomName},
};

/// The most keys that are known. With more, the oldest ones are forgotten before their time.
const MOST: usize = 100_000;

/// Keys and what was published under them, as long as they are known.
#[derive(Debug, Default)]
pub(super) struct PublishedKeys {
    by_key: HashMap<Place, Known>,
    /// In the order in which they are forgotten.
    due: VecDeque<(Instant, Place)>,
}

/// A key of a room.
type Place = (RoomName, std::sync::Arc<str>);

#[derive(Debug)]
struct Known {
    digest: [u8; 16],
    position: Position,
}

impl PublishedKeys {
    /// What was published in a room under a key, if anything was.
    pub(super) fn find(
        &mut self,
        room: &RoomName,
        key: &IdempotencyKey,
        now: Instant,
    ) -> Option<Result<Published, PublishError>> {
        while self.due.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
        let known = self.by_key.get(&place(room, key))?;
        Some(if known.digest == *key.digest() {
            Ok(Published { position: known.position, duplicate: true })
        } else {
            Err(PublishError::KeyReused)
        })
    }

    /// A message was published under a key that was not known.
    pub(super) fn remember(
        &mut self,
        room: &RoomName,
        key: &IdempotencyKey,
        position: Position,
        now: Instant,
    ) {
        if self.due.len() >= MOST {
            self.forget_oldest();
        }
        let place = place(room, key);
        self.by_key.insert(place.clone(), Known { digest: *key.digest(), position });
        self.due.push_back((later(now, KEY_LIFETIME), place));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, place)) = self.due.pop_front() {
            self.by_key.remove(&place);
        }
    }
}

fn place(room: &RoomName, key: &IdempotencyKey) -> Place {
    (room.clone(), key.shared())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    #[tokio::test(start_paused = true)]
    async fn keys_are_bounded_in_time_and_number() {
        let (room, mut keys) = (RoomName::lobby(), PublishedKeys::default());
        let key = |number: usize| IdempotencyKey::new(&number.to_string(), [0; 16]);
        let at = Position::new(Epoch(1), 1);
        let began = Instant::now();
        for number in 0..=MOST {
            keys.remember(&room, &key(number), at, began);
        }
        assert_eq!((keys.by_key.len(), keys.due.len()), (MOST, MOST));
        assert!(keys.find(&room, &key(0), began).is_none(), "the oldest one went");
        assert!(keys.find(&room, &key(MOST), began).is_some());
        assert!(keys.find(&room, &key(MOST), began + KEY_LIFETIME).is_none());
        assert!(keys.by_key.is_empty() && keys.due.is_empty());
    }
}
