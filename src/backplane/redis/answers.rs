//! How the answers of scripts are read.

use std::{sync::Arc, time::Duration};

use redis::Value;

use super::{
    codec,
    reply::{self, Reply, ReplyError},
};
use crate::{
    backplane::{
        Hold, JoinError, Joined, Overdue, Present, PublishError, Published, RoomHead, Verdict,
    },
    domain::{Event, Position, RoomName, RoomSettings},
};

/// What a join came to; `None` where the incarnation is lost.
pub(super) fn read_joined(
    reply: &Reply,
    hold: &Hold,
    max: usize,
) -> Result<Option<Result<Joined, JoinError>>, ReplyError> {
    Ok(Some(match reply.bytes(0)? {
        b"lost" => return Ok(None),
        b"joined" => {
            let (head, seq) = (reply.head()?, reply.int(1)?.unsigned_abs());
            Ok(Joined {
                position: Position::new(head.position.epoch, seq),
                written: head.written_at(seq),
                told: reply.int(2)? == 1,
                client_seq: reply.int(3)?.unsigned_abs(),
                takeovers: reply.int(4)?.unsigned_abs(),
                set_role: reply.bytes(5)?.first().and_then(|letter| codec::set_role(*letter)),
                settings: RoomSettings::from_number(reply.int(6)?.unsigned_abs()),
                began: reply.int(7)?.unsigned_abs(),
            })
        }
        b"taken" => Err(JoinError::Taken),
        b"ended" => Err(JoinError::Ended),
        b"moved" => Err(JoinError::Moved),
        b"overtaken" => Err(JoinError::Overtaken { seen: reply.int(1)?.unsigned_abs() }),
        b"kicked" => {
            Err(JoinError::Kicked { reason: String::from_utf8_lossy(reply.bytes(1)?).into() })
        }
        b"banned" => Err(JoinError::Banned(codec::moderation::until(reply.int(1)?))),
        b"forbidden" => Err(JoinError::Forbidden),
        b"full" => Err(JoinError::Full { max, overdue: reply.int(1)? == 1 }),
        b"overdue" => {
            let skeleton = hold.name.skeleton().as_bytes();
            let overdue = codec::decode_entry(reply.bytes(1)?)
                .map(|entry| entry.overdue(hold.room.clone(), skeleton));
            let overdue = overdue.map_err(|_| ReplyError::Unexpected("an entry of a roster"))?;
            Err(JoinError::Overdue(Box::new(overdue)))
        }
        _ => return Err(ReplyError::Unexpected("what a join comes to")),
    }))
}

/// Skeletons and entries of a room. One that cannot be read is nobody's to reap.
pub(super) fn read_overdue(room: &RoomName, values: &[Value]) -> Vec<Overdue> {
    let entries = values.chunks_exact(2).filter_map(|pair| {
        let (skeleton, entry) = (reply::as_bytes(&pair[0])?, reply::as_bytes(&pair[1])?);
        codec::decode_entry(entry).ok().map(|entry| entry.overdue(room.clone(), skeleton))
    });
    entries.collect()
}

/// Where a room stands; `None` where it was forgotten.
pub(super) fn read_head(value: &Value) -> Result<Option<RoomHead>, ReplyError> {
    let unexpected = ReplyError::Unexpected("where a room stands");
    let Value::Array(values) = value else { return Err(unexpected) };
    let Some(takeovers) = values.get(3) else { return Ok(None) };
    let takeovers = reply::as_int(takeovers).ok_or(unexpected)?.unsigned_abs();
    let log = reply::head(&mut values.iter().take(3).cloned())?;
    Ok(Some(RoomHead { log, takeovers }))
}

pub(super) fn read_entry(id: &Value, payload: &Value) -> Option<(u64, Arc<Event>)> {
    let id = std::str::from_utf8(reply::as_bytes(id)?).ok()?;
    let seq = id.strip_suffix("-0")?.parse().ok()?;
    let events = codec::decode(reply::as_bytes(payload)?).unwrap_or_default();
    let event = events.into_iter().next().unwrap_or_else(|| Arc::new(codec::unknown()));
    Some((seq, event))
}

pub(super) fn read_verdict(value: &Value) -> Result<Verdict, ReplyError> {
    match reply::as_int(value) {
        Some(1) => Ok(Verdict::Held),
        Some(2) => Ok(Verdict::Gone),
        Some(3) => Ok(Verdict::Taken),
        Some(4) => Ok(Verdict::Moved),
        _ => Err(ReplyError::Unexpected("a verdict")),
    }
}

/// Milliseconds; negative when nobody is there.
pub(super) fn read_deadline(millis: i64) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}

pub(super) fn read_present(entry: &Value) -> Result<Present, ReplyError> {
    let entry = reply::as_bytes(entry).and_then(|entry| codec::decode_entry(entry).ok());
    let present = entry.and_then(|entry| entry.present().ok());
    present.ok_or(ReplyError::Unexpected("an entry of a roster"))
}

/// What a publish came to.
pub(super) fn read_published(reply: &Reply) -> Result<Result<Published, PublishError>, ReplyError> {
    Ok(match reply.int(1)? {
        0 => Err(PublishError::NameTaken),
        -1 => Err(PublishError::KeyReused),
        seq => Ok(Published {
            position: Position::new(reply.epoch(0)?, seq.unsigned_abs()),
            duplicate: reply.int(2)? == 1,
        }),
    })
}
