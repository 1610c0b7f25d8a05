//! How scripts are told what moderators decide, and how they tell it.

use std::{sync::Arc, time::Duration};

use redis::Value;

use super::{
    arguments::text,
    codec::{self, moderation::until_millis},
    reply::{self, Reply, ReplyError},
    scripts::millis,
};
use crate::{
    backplane::{Ban, Bans, Decision, Enforcement, Measure, MembersCursor, Silenced, Standing},
    domain::{Identity, RoomRole, RoomSettings, Until},
};

/// How many digits tell when something ends that is kept.
const ENDS: usize = 16;

/// Field, milliseconds and note of `decide.lua`.
pub(super) fn decision(decision: Decision<'_>) -> (Vec<u8>, i64, Vec<u8>) {
    let field = |kind: char, identity: &Identity| format!("{kind}{}", identity.key()).into_bytes();
    let letter = |role: RoomRole| role.letter().to_string().into_bytes();
    match decision {
        Decision::Ban(identity, time, note) => {
            (field('b', identity), lasts(time), codec::moderation::encode_note(note))
        }
        Decision::Unban(identity) => (field('b', identity), 0, Vec::new()),
        Decision::Mute(identity, time) => (field('m', identity), lasts(time), Vec::new()),
        Decision::Unmute(identity) => (field('m', identity), 0, Vec::new()),
        Decision::Role(identity, None) => (field('r', identity), 0, Vec::new()),
        Decision::Role(identity, Some(role)) => (field('r', identity), lasts(None), letter(role)),
        Decision::Room(settings) => {
            let number = settings.number();
            (b"room".to_vec(), if number == 0 { 0 } else { lasts(None) }, text(number))
        }
    }
}

/// Milliseconds, at least one; negative for ever.
fn lasts(time: Option<Duration>) -> i64 {
    time.map_or(-1, |time| i64::try_from(millis(time).max(1)).unwrap_or(-1))
}

/// The arguments of `enforce.lua`.
pub(super) fn enforcement(enforcement: &Enforcement<'_>) -> Vec<Vec<u8>> {
    let Enforcement { measure, members, otherwise, .. } = enforcement;
    let (what, value): (&str, Vec<u8>) = match measure {
        Measure::Remove { reason } => ("remove", reason.as_bytes().to_vec()),
        Measure::Mute(None) => ("mute", text(0)),
        Measure::Mute(Some(until)) => ("mute", text(until_millis(*until))),
        Measure::Role(role) => ("role", text(role.map_or('-', RoomRole::letter))),
        Measure::Room(settings) => ("room", text(settings.number())),
        Measure::Nothing => ("nothing", Vec::new()),
    };
    let mut args = vec![what.as_bytes().to_vec(), value];
    args.push(otherwise.map_or_else(Vec::new, |event| codec::encode(event)));
    for member in *members {
        args.push(member.skeleton.clone().into_bytes());
        args.push(text(member.member.session));
        args.push(codec::encode(&member.told));
        args.push(member.left.as_ref().map_or_else(Vec::new, |event| codec::encode(event)));
    }
    args
}

/// Why a message was not appended, if its sender may not speak.
pub(super) fn read_silenced(reply: &Reply) -> Option<Silenced> {
    let millis = reply.int(2).unwrap_or(0);
    Some(match reply.rest.get(1).and_then(reply::as_bytes)? {
        b"muted" => Silenced::Muted(codec::moderation::until(millis)),
        b"reader" => Silenced::Reader,
        b"read-only" => Silenced::ReadOnly,
        b"slow" => Silenced::SlowMode(Duration::from_millis(millis.unsigned_abs().max(1))),
        _ => return None,
    })
}

/// What `standing.lua` answers.
pub(super) fn read_standing(reply: &Reply) -> Result<Standing, ReplyError> {
    let (now, found) = (reply.int(0)?, reply.array(1)?);
    let held = |index| found.get(index).and_then(reply::as_bytes).and_then(|it| holds(it, now));
    let settings = held(0).and_then(|(_, number)| std::str::from_utf8(number).ok()?.parse().ok());
    Ok(Standing {
        settings: RoomSettings::from_number(settings.unwrap_or(0)),
        banned: held(1).map(|(until, _)| until),
        muted: held(2).map(|(until, _)| until),
        role: held(3).and_then(|(_, letter)| codec::set_role(*letter.first()?)),
    })
}

/// What `bans.lua` answers. A ban that cannot be read holds all the same, and is not told.
pub(super) fn read_bans(reply: &Reply) -> Result<Bans, ReplyError> {
    let next = std::str::from_utf8(reply.bytes(0)?).ok().and_then(|it| it.parse().ok());
    let next: u64 = next.ok_or(ReplyError::Unexpected("a cursor"))?;
    let now = reply.int(1)?;
    let bans = reply.array(2)?.chunks_exact(2).filter_map(|pair| read_ban(&pair[0], &pair[1], now));
    Ok(Bans { bans: bans.collect(), next: (next != 0).then_some(MembersCursor(next)) })
}

fn read_ban(field: &Value, value: &Value, now: i64) -> Option<Ban> {
    let (until, note) = holds(reply::as_bytes(value)?, now)?;
    let key = std::str::from_utf8(reply::as_bytes(field)?).ok()?;
    let identity = if let Some(subject) = key.strip_prefix("bs") {
        Identity::Subject(Arc::from(subject))
    } else {
        Identity::Name(Arc::from(key.strip_prefix("bn")?))
    };
    Some(Ban { identity, until, note: codec::moderation::decode_note(note).ok()? })
}

/// Until when something holds that is kept, and what stands behind that; `None` where it does not any more.
fn holds(value: &[u8], now: i64) -> Option<(Until, &[u8])> {
    let (ends, rest) = value.split_at_checked(ENDS)?;
    let ends: i64 = std::str::from_utf8(ends).ok()?.parse().ok()?;
    (ends > now).then(|| (codec::moderation::until(ends), rest))
}
