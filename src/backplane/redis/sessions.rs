//! Operations on names that only look, or only let them linger.

use std::time::Duration;

use redis::Value;

use super::{
    Redis, codec,
    operations::{departure_keys, identity, text},
    reply::{self, ReplyError},
    script_name::ScriptName,
    scripts::millis,
};
use crate::{
    backplane::{
        Hold, MEMBERS_PAGE, Members, MembersCursor, MembersPage, Present, Seated, Unavailable,
    },
    domain::{RoomName, StreamId, Username},
};

impl Redis {
    pub(super) async fn run_linger(
        &self,
        hold: &Hold,
        time: Duration,
    ) -> Result<bool, Unavailable> {
        let keys = departure_keys(self.keys(), hold);
        let mut args = identity(hold).to_vec();
        args.extend([text(millis(time)), text(millis(self.lease))]);
        // In order with joins of the same hold.
        let lane = self.lane(&hold.room);
        self.script(
            lane,
            ScriptName::Linger,
            &hold.room,
            keys,
            args,
            |reply| Ok(reply.int(0)? == 1),
        )
        .await
    }

    pub(super) async fn run_owe(
        &self,
        room: &RoomName,
        name: &Username,
        time: Duration,
    ) -> Result<Duration, Unavailable> {
        let keys = vec![self.keys().owes(room, name.skeleton())];
        let args = vec![text(millis(time))];
        // In order with the leave that follows.
        self.script(self.lane(room), ScriptName::Owe, room, keys, args, |reply| {
            Ok(Duration::from_millis(u64::try_from(reply.int(0)?).unwrap_or(0)))
        })
        .await
    }

    pub(super) async fn run_lookup(
        &self,
        room: &RoomName,
        name: &Username,
    ) -> Result<Option<Seated>, Unavailable> {
        let skeleton = name.skeleton();
        let keys = vec![self.keys().lease(room, skeleton)];
        let args = vec![skeleton.as_bytes().to_vec()];
        self.script(&self.upkeep, ScriptName::Lookup, room, keys, args, |reply| {
            if reply.rest.is_empty() {
                return Ok(None);
            }
            let stream = read_stream(reply.bytes(1)?)?;
            let seated = codec::decode_entry(reply.bytes(0)?).and_then(|it| it.seated(stream));
            seated.map(Some).map_err(|_| ReplyError::Unexpected("an entry of a roster"))
        })
        .await
    }

    pub(super) async fn run_members(
        &self,
        room: &RoomName,
        page: MembersPage,
    ) -> Result<Members, Unavailable> {
        let cursor = page.cursor.map_or(0, |MembersCursor(cursor)| cursor);
        let args = vec![text(cursor), text(page.limit.clamp(1, MEMBERS_PAGE))];
        self.script(&self.upkeep, ScriptName::Members, room, Vec::new(), args, |reply| {
            // It is as large as a number gets.
            let next = std::str::from_utf8(reply.bytes(0)?).ok().and_then(|it| it.parse().ok());
            let next: u64 = next.ok_or(ReplyError::Unexpected("a cursor"))?;
            let members = reply.array(2)?.chunks_exact(2).map(|pair| read_present(&pair[1]));
            Ok(Members {
                members: members.collect::<Result<_, _>>()?,
                next: (next != 0).then_some(MembersCursor(next)),
                total: usize::try_from(reply.int(1)?).unwrap_or(0),
            })
        })
        .await
    }
}

/// 16 digits, or nothing when no stream has the lease.
fn read_stream(digits: &[u8]) -> Result<Option<StreamId>, ReplyError> {
    if digits.is_empty() {
        return Ok(None);
    }
    let stream = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    stream.map(Some).ok_or(ReplyError::Unexpected("a stream"))
}

fn read_present(entry: &Value) -> Result<Present, ReplyError> {
    let entry = reply::as_bytes(entry).and_then(|entry| codec::decode_entry(entry).ok());
    let present = entry.and_then(|entry| entry.present().ok());
    present.ok_or(ReplyError::Unexpected("an entry of a roster"))
}
