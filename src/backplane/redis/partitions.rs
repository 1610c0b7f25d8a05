//! What is done for whole partitions: renewing leases, asking where rooms stand, and looking for the dead.

use std::{collections::VecDeque, hash::BuildHasher};

use super::{
    Redis,
    answers::{read_deadline, read_head, read_overdue},
    arguments::{contact, evictions, text},
    op::Work,
    reply::{self, Reply, ReplyError},
    script_name::ScriptName,
    scripts::millis,
};
use crate::{
    backplane::{
        Eviction, MembersCursor, Partition, REAP_BATCH, ReapStep, Renewal, RoomHead, RoomsCursor,
        Survey, Unavailable,
    },
    domain::{Contact, RoomName},
};

/// The most rooms that are looked through in one call.
const ROOMS: usize = 64;

impl Redis {
    /// See [`crate::backplane::Backplane::renew`].
    pub(super) async fn renew_lease(
        &self,
        Partition(partition): Partition,
    ) -> Result<Renewal, Unavailable> {
        let incarnation = self.incarnations.established(partition);
        let read = |reply: &Reply| {
            let server = self.hasher.hash_one(reply.bytes(2)?);
            Ok((reply.int(0)? == 1, read_deadline(reply.int(1)?), server))
        };
        let work = Work::Renew { partition, incarnation };
        let (held, next_deadline, server) = self.ask(self.upkeep(partition), work, read).await?;
        if let Some(incarnation) = incarnation.filter(|_| !held) {
            self.incarnations.lose(partition, incarnation);
        }
        Ok(Renewal { held: !self.incarnations.take_lost(partition), next_deadline, server })
    }

    /// See [`crate::backplane::Backplane::heads`].
    pub(super) async fn heads_of(
        &self,
        rooms: &[RoomName],
    ) -> Result<Vec<Option<RoomHead>>, Unavailable> {
        let Some(first) = rooms.first() else { return Ok(Vec::new()) };
        let partition = self.keys().partition(first);
        let mut keys = vec![self.keys().rooms(partition)];
        keys.extend(rooms.iter().flat_map(|room| [self.keys().room(room), self.keys().log(room)]));
        self.on_partition(partition, ScriptName::Heads, keys, Vec::new(), |reply| {
            if reply.rest.len() != rooms.len() {
                return Err(ReplyError::Unexpected("an answer for each room"));
            }
            reply.rest.iter().map(read_head).collect()
        })
        .await
    }

    /// Declares replicas dead, and names those who may have lingered for too long.
    pub(super) async fn begin_survey(
        &self,
        Partition(partition): Partition,
        seen: Contact,
        now: bool,
    ) -> Result<Survey, Unavailable> {
        let names = self.keys();
        let keys =
            vec![names.replicas(partition), names.dead(partition), names.lingering(partition)];
        let (incarnation, _) = self.incarnations.current(partition);
        let mut args = vec![text(millis(self.lease)), text(incarnation)];
        args.extend(contact(Some(seen)));
        args.extend([text(REAP_BATCH), text(u8::from(now))]);
        let (next_deadline, places, dead) = self
            .on_partition(partition, ScriptName::Overdue, keys, args, |reply| {
                let deadline = read_deadline(reply.int(0)?);
                Ok((deadline, texts(reply.array(1)?)?, texts(reply.array(2)?)?))
            })
            .await?;
        let dead: Vec<_> = dead.into_iter().map(|incarnation| (incarnation, false)).collect();
        let begins = RoomsCursor {
            rooms: VecDeque::new(),
            next: (!dead.is_empty()).then_some(MembersCursor(0)),
            dead,
        };
        let mut overdue = Vec::new();
        if !places.is_empty() {
            let places = places.iter().filter_map(|place| {
                let (room, skeleton) = place.split_once(' ')?;
                Some((RoomName::parse(room).ok()?, format!(":{skeleton}")))
            });
            let places: Vec<_> = places.collect();
            let looked = self.look_through(partition, &places, None, &[]).await?;
            overdue = looked.rooms.into_iter().flat_map(|(_, overdue)| overdue).collect();
        }
        let next = begins.next.is_some().then_some(ReapStep::Rooms(begins));
        Ok(Survey { overdue, next, next_deadline })
    }

    /// Looks some rooms through for members of the dead.
    pub(super) async fn survey(
        &self,
        Partition(partition): Partition,
        mut cursor: RoomsCursor,
    ) -> Result<Survey, Unavailable> {
        let places: Vec<_> = cursor
            .rooms
            .iter()
            .take(ROOMS)
            .map(|(room, MembersCursor(at))| (room.clone(), at.to_string()))
            .collect();
        let more = cursor.next.filter(|_| places.is_empty());
        let dead: Vec<_> = cursor.dead.iter().map(|(incarnation, _)| incarnation.clone()).collect();
        let looked = self.look_through(partition, &places, more, &dead).await?;
        let mut found = Vec::new();
        for (at, overdue) in looked.rooms {
            let room = cursor.rooms.pop_front();
            if let Some((room, _)) = room.filter(|_| at != MembersCursor(0)) {
                cursor.rooms.push_front((room, at));
            }
            found.extend(overdue);
        }
        if more.is_some() {
            cursor.rooms.extend(looked.more.into_iter().map(|room| (room, MembersCursor(0))));
            cursor.next = (looked.next != MembersCursor(0)).then_some(looked.next);
        }
        if !found.is_empty() {
            // Of which of them is not told. Where some are found, all are looked for once more.
            cursor.dead.iter_mut().for_each(|(_, found)| *found = true);
        }
        let next = if cursor.rooms.is_empty() && cursor.next.is_none() {
            let buried: Vec<_> =
                cursor.dead.iter().filter(|(_, found)| !found).map(|(it, _)| it.clone()).collect();
            if !buried.is_empty() {
                let keys = vec![self.keys().dead(partition)];
                let args = buried.into_iter().map(String::into_bytes).collect();
                self.on_partition(partition, ScriptName::Bury, keys, args, |_| Ok(())).await?;
            }
            None
        } else {
            Some(ReapStep::Rooms(cursor))
        };
        Ok(Survey { overdue: found, next, next_deadline: None })
    }

    /// Looks at these rooms, or members, and asks for more rooms.
    async fn look_through(
        &self,
        partition: usize,
        places: &[(RoomName, String)],
        more: Option<MembersCursor>,
        dead: &[String],
    ) -> Result<Looked, Unavailable> {
        let mut keys = self.keys().shared(partition).to_vec();
        keys.extend(places.iter().map(|(room, _)| self.keys().room(room)));
        let mut args = vec![text(millis(self.lease))];
        args.push(more.map_or_else(Vec::new, |MembersCursor(at)| text(at)));
        args.push(text(dead.len()));
        args.extend(dead.iter().map(|it| it.clone().into_bytes()));
        args.extend(places.iter().map(|(_, at)| at.clone().into_bytes()));
        self.on_partition(partition, ScriptName::Survey, keys, args, |reply| {
            let next = cursor(reply.bytes(0)?)?;
            let more = texts(reply.array(1)?)?;
            let more = more.iter().filter_map(|room| RoomName::parse(room).ok()).collect();
            let rooms = places.iter().zip(reply.rest[2..].chunks_exact(2));
            let rooms = rooms.enumerate().map(|(nth, ((room, _), answer))| {
                let at = cursor(reply::as_bytes(&answer[0]).unwrap_or_default())?;
                Ok((at, read_overdue(room, reply.array(3 + 2 * nth)?)))
            });
            Ok(Looked { next, more, rooms: rooms.collect::<Result<_, ReplyError>>()? })
        })
        .await
    }

    /// See [`crate::backplane::Backplane::reap`].
    pub(super) async fn remove(
        &self,
        Partition(partition): Partition,
        seen: Contact,
        evict: &[Eviction],
    ) -> Result<usize, Unavailable> {
        if evict.is_empty() {
            return Ok(0);
        }
        let mut keys = self.keys().shared(partition).to_vec();
        let mut args = vec![text(millis(self.lease))];
        args.extend(contact(Some(seen)));
        let (rooms, members) = evictions(self.keys(), evict);
        keys.extend(rooms);
        args.extend(members);
        let count = |reply: &Reply| Ok(usize::try_from(reply.int(0)?).unwrap_or(0));
        self.on_partition(partition, ScriptName::Reap, keys, args, count).await
    }

    async fn on_partition<T>(
        &self,
        partition: usize,
        name: ScriptName,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
        read: impl FnOnce(&Reply) -> Result<T, ReplyError>,
    ) -> Result<T, Unavailable> {
        self.ask(self.upkeep(partition), Work::Upkeep { name, keys, args }, read).await
    }
}

/// What `survey.lua` answers.
struct Looked {
    next: MembersCursor,
    more: Vec<RoomName>,
    /// Of each room that was looked at: where to go on, and who is overdue.
    rooms: Vec<(MembersCursor, Vec<crate::backplane::Overdue>)>,
}

fn texts(values: &[redis::Value]) -> Result<Vec<String>, ReplyError> {
    let text = |value| String::from_utf8(reply::as_bytes(value)?.to_vec()).ok();
    values.iter().map(text).collect::<Option<_>>().ok_or(ReplyError::Unexpected("strings"))
}

fn cursor(digits: &[u8]) -> Result<MembersCursor, ReplyError> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.map(MembersCursor).ok_or(ReplyError::Unexpected("a cursor"))
}
