//! Which rooms there are, over all partitions, and how they stand.

use std::collections::BTreeMap;

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use redis::Value;
use tokio::time::timeout;

use super::{
    Redis,
    arguments::text,
    op::Work,
    reply::{self, Reply, ReplyError},
    script_name::ScriptName,
};
use crate::{
    backplane::{Deletion, LIST_BATCH, ListError, ListPage, RoomNames, RoomSummary, Unavailable},
    domain::RoomName,
};

/// How many partitions are asked at a time, at most, where most have few rooms; and how often that is done for one page.
const AHEAD: usize = 32;
const ROUNDS: usize = 64;

/// How many rooms are asked for in one call.
const STANDINGS: usize = 128;

/// Where a list goes on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Place {
    partition: usize,
    /// Where the partition is scanned from.
    cursor: u64,
    /// What was told already of what Redis gives there.
    told: Option<Told>,
}

/// A part of what Redis gives at once, and cannot be asked for in parts.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    /// Where that ends.
    next: u64,
    /// Names were told in their order, up to this one.
    last: RoomName,
}

impl Place {
    fn write(&self) -> String {
        let Self { partition, cursor, told } = self;
        match told {
            None => format!("{partition:x}.{cursor:x}"),
            Some(Told { next, last }) => format!("{partition:x}.{cursor:x}.{next:x}.{last}"),
        }
    }

    fn read(text: &str, partitions: usize) -> Option<Self> {
        let number = |digits: Option<&str>| u64::from_str_radix(digits?, 16).ok();
        let mut parts = text.splitn(4, '.');
        let partition = usize::try_from(number(parts.next())?).ok()?;
        let cursor = number(parts.next())?;
        let told = match parts.next() {
            None => None,
            next => Some(Told { next: number(next)?, last: RoomName::parse(parts.next()?).ok()? }),
        };
        (partition < partitions).then_some(Self { partition, cursor, told })
    }
}

/// What Redis gives of a partition at once.
struct Scanned {
    next: u64,
    names: Vec<RoomName>,
}

/// A page that is being filled.
struct Filling {
    names: Vec<RoomName>,
    limit: usize,
    place: Place,
}

impl Filling {
    /// Takes what was scanned from its place. False when no more fits, or it is to be scanned on in that partition.
    fn take(&mut self, scanned: Scanned) -> bool {
        let Scanned { next, names: mut found } = scanned;
        // What ends elsewhere than before may have others in it.
        let told = self.place.told.take().filter(|told| told.next == next);
        if let Some(told) = &told {
            found.retain(|name| *name > told.last);
        }
        let room = self.limit - self.names.len();
        if found.len() > room {
            found.sort_unstable();
            found.truncate(room);
            self.place.told = found.last().map(|last| Told { next, last: last.clone() }).or(told);
            self.names.extend(found);
            return false;
        }
        self.names.extend(found);
        let Place { partition, cursor, .. } = &mut self.place;
        (*partition, *cursor) = if next == 0 { (*partition + 1, 0) } else { (*partition, next) };
        next == 0
    }

    fn is_full(&self) -> bool {
        self.names.len() >= self.limit
    }
}

impl Redis {
    /// See [`crate::backplane::Backplane::room_names`].
    pub(super) async fn list(&self, page: ListPage<'_>) -> Result<RoomNames, ListError> {
        let partitions = self.keys().partitions();
        let place = match page.from {
            None => Place::default(),
            Some(from) => Place::read(from, partitions).ok_or(ListError::Place)?,
        };
        let limit = page.limit.clamp(1, LIST_BATCH);
        let mut filling = Filling { names: Vec::new(), limit, place };
        let filled = timeout(self.timeout, self.fill(&mut filling, page.prefix)).await;
        filled.unwrap_or(Err(Unavailable))?;
        let Filling { names, place, .. } = filling;
        let next = (place.partition < partitions).then(|| place.write());
        Ok(RoomNames { names, next })
    }

    async fn fill(&self, filling: &mut Filling, prefix: &str) -> Result<(), Unavailable> {
        let mut ahead = 1;
        for _ in 0..ROUNDS {
            let Place { partition: first, cursor, .. } = filling.place;
            let partitions = first..(first + ahead).min(self.keys().partitions());
            let scan =
                |at| self.scan(at, if at == first { cursor } else { 0 }, prefix, filling.limit);
            let scanned = join_all(partitions.map(scan).collect::<Vec<_>>()).await;
            if scanned.is_empty() {
                return Ok(());
            }
            for scanned in scanned {
                if filling.is_full() || !filling.take(scanned?) {
                    break;
                }
            }
            if filling.is_full() {
                return Ok(());
            }
            ahead = (2 * ahead).min(AHEAD);
        }
        Ok(())
    }

    async fn scan(
        &self,
        partition: usize,
        cursor: u64,
        prefix: &str,
        count: usize,
    ) -> Result<Scanned, Unavailable> {
        let keys = vec![self.keys().rooms(partition)];
        let args = vec![text(cursor), text(count), prefix.as_bytes().to_vec()];
        let work = Work::Upkeep { name: ScriptName::Rooms, keys, args };
        self.ask(self.upkeep(partition), work, |reply| {
            let next = std::str::from_utf8(reply.bytes(0)?).ok().and_then(|it| it.parse().ok());
            let next = next.ok_or(ReplyError::Unexpected("a cursor"))?;
            let names = reply.rest[1..].iter().filter_map(|name| {
                let name = std::str::from_utf8(reply::as_bytes(name)?).ok()?;
                RoomName::parse(name).ok()
            });
            Ok(Scanned { next, names: names.collect() })
        })
        .await
    }

    /// See [`crate::backplane::Backplane::summaries`].
    pub(super) async fn standings_of(
        &self,
        rooms: &[RoomName],
    ) -> Result<Vec<Option<RoomSummary>>, Unavailable> {
        let mut by_partition: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, room) in rooms.iter().enumerate() {
            by_partition.entry(self.keys().partition(room)).or_default().push(at);
        }
        let calls = by_partition.iter().flat_map(|(&partition, all)| {
            all.chunks(STANDINGS).map(move |some| async move {
                let of = |at: &usize| [self.keys().room(&rooms[*at]), self.keys().log(&rooms[*at])];
                let keys = some.iter().flat_map(of).collect();
                let work = Work::Upkeep { name: ScriptName::Summaries, keys, args: Vec::new() };
                let read = |reply: &Reply| reply.rest.iter().map(read_summary).collect();
                let summaries: Vec<_> = self.ask(self.upkeep(partition), work, read).await?;
                Ok(some.iter().copied().zip(summaries).collect::<Vec<_>>())
            })
        });
        let mut found = vec![None; rooms.len()];
        for (at, standing) in try_join_all(calls).await?.into_iter().flatten() {
            found[at] = standing;
        }
        Ok(found)
    }

    /// See [`crate::backplane::Backplane::delete_room`].
    pub(super) async fn delete(&self, room: &RoomName) -> Result<Deletion, Unavailable> {
        let args = vec![room.as_str().as_bytes().to_vec()];
        self.script(self.lane(room), ScriptName::Delete, room, Vec::new(), args, |reply| {
            Ok(match reply.int(0)? {
                0 => Deletion::NotThere,
                members @ ..0 => Deletion::Occupied(
                    usize::try_from(members.unsigned_abs()).unwrap_or(usize::MAX),
                ),
                1.. => Deletion::Deleted,
            })
        })
        .await
    }
}

/// How a room stands; `None` where it is not there.
fn read_summary(value: &Value) -> Result<Option<RoomSummary>, ReplyError> {
    let unexpected = || ReplyError::Unexpected("how a room stands");
    let Value::Array(values) = value else { return Err(unexpected()) };
    let [_, _, _, members, at] = values.as_slice() else { return Ok(None) };
    let members = reply::as_int(members).and_then(|it| usize::try_from(it).ok());
    let at = reply::as_int(at).ok_or_else(unexpected)?;
    Ok(Some(RoomSummary {
        members: members.ok_or_else(unexpected)?,
        head: reply::head(&mut values.iter().take(3).cloned())?,
        last_activity: (at >= 0).then(|| Timestamp::from_millisecond(at).ok()).flatten(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        let told = Some(Told { next: u64::MAX, last: room("a.b-1.c") });
        for place in [
            Place::default(),
            Place { partition: 255, cursor: u64::MAX, told: None },
            Place { partition: 3, cursor: 0, told },
        ] {
            assert_eq!(Place::read(&place.write(), 256), Some(place));
        }
        for rubbish in
            ["", ".", "1", "x.1", "1.x", "100.0", "1.1.1", "1.1.x.a", "1.1.1.a b", "1.1.1."]
        {
            assert_eq!(Place::read(rubbish, 256), None, "{rubbish:?}");
        }
    }

    #[test]
    fn what_does_not_fit_comes_with_the_next_page() {
        let scanned = |next, names: &[&str]| Scanned {
            next,
            names: names.iter().map(|it| room(it)).collect(),
        };
        let mut told = Vec::new();
        let mut place = Place::default();
        for _ in 0..3 {
            let mut filling = Filling { names: Vec::new(), limit: 2, place };
            while !filling.is_full() && filling.place.partition == 0 {
                filling.take(scanned(0, &["d", "a", "c", "b", "e"]));
            }
            told.extend(filling.names.iter().map(ToString::to_string));
            place = filling.place;
        }
        assert_eq!(
            (told.concat().as_str(), place),
            ("abcde", Place { partition: 1, ..Place::default() })
        );
        // What was told is not known any more.
        let told = Some(Told { next: 7, last: room("c") });
        let mut filling =
            Filling { names: Vec::new(), limit: 9, place: Place { told, ..Place::default() } };
        assert!(!filling.take(scanned(9, &["d", "a"])), "it goes on there");
        assert_eq!((filling.names.len(), filling.place.cursor), (2, 9));
    }
}
