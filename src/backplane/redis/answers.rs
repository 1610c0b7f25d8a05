//! How the answers of scripts are read.

use std::{sync::Arc, time::Duration};

use redis::Value;

use super::{
    codec,
    reply::{self, Reply, ReplyError},
};
use crate::{
    backplane::{JoinError, Joined, Overdue, Present, Verdict},
    domain::{Event, Position, StreamId},
};

pub(super) fn read_joined(
    reply: &Reply,
    max: usize,
) -> Result<Result<Joined, JoinError>, ReplyError> {
    Ok(match reply.bytes(0)? {
        b"joined" => {
            let (head, seq) = (reply.head()?, reply.int(1)?.unsigned_abs());
            Ok(Joined {
                position: Position::new(head.position.epoch, seq),
                written: head.written_at(seq),
                told: reply.int(2)? == 1,
                client_seq: reply.int(4)?.unsigned_abs(),
                next_deadline: read_deadline(reply.int(3)?).unwrap_or_default(),
            })
        }
        b"taken" => Err(JoinError::Taken),
        b"ended" => Err(JoinError::Ended),
        b"moved" => Err(JoinError::Moved),
        b"overtaken" => Err(JoinError::Overtaken { seen: reply.int(1)?.unsigned_abs() }),
        b"full" => Err(JoinError::Full { max }),
        b"overdue" => Err(JoinError::Overdue(read_overdue(reply.array(1)?)?)),
        _ => return Err(ReplyError::Unexpected("what a join comes to")),
    })
}

pub(super) fn read_overdue(values: &[Value]) -> Result<Vec<Overdue>, ReplyError> {
    let entries = values.chunks_exact(2).map(|pair| {
        let (skeleton, entry) = (reply::as_bytes(&pair[0])?, reply::as_bytes(&pair[1])?);
        codec::decode_entry(entry).ok().map(|entry| entry.overdue(skeleton))
    });
    entries.collect::<Option<_>>().ok_or(ReplyError::Unexpected("entries of a roster"))
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

/// 16 digits, or nothing when no stream has the lease.
pub(super) fn read_stream(digits: &[u8]) -> Result<Option<StreamId>, ReplyError> {
    if digits.is_empty() {
        return Ok(None);
    }
    let stream = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    stream.map(Some).ok_or(ReplyError::Unexpected("a stream"))
}

pub(super) fn read_present(entry: &Value) -> Result<Present, ReplyError> {
    let entry = reply::as_bytes(entry).and_then(|entry| codec::decode_entry(entry).ok());
    let present = entry.and_then(|entry| entry.present().ok());
    present.ok_or(ReplyError::Unexpected("an entry of a roster"))
}
