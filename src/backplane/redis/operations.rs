//! What each operation of the backplane sends to Redis, and how it reads the answer.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::time::Instant;

use super::{
    Redis, codec,
    keys::Keys,
    lane::Pipeline,
    op::Work,
    reply::{self, Reply, ReplyError},
    script_name::ScriptName,
    scripts::millis,
};
use crate::{
    backplane::{
        AppendError, Appended, Eviction, Hold, Join, JoinError, Joined, Overdue, PageLimit,
        REAP_BATCH, Reaped, Renewal, Takeover, Unavailable, Verdict,
    },
    domain::{Contact, Event, Page, Position, RoomName},
};

impl Redis {
    /// Runs a script and reads its reply.
    pub(super) async fn script<T>(
        &self,
        lane: &Pipeline,
        name: ScriptName,
        room: &RoomName,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
        read: impl FnOnce(&Reply) -> Result<T, ReplyError>,
    ) -> Result<T, Unavailable> {
        let work = Work::Script { name, room: room.clone(), keys, args };
        let reply = lane.submit(work, Instant::now() + self.timeout).await?;
        read(&reply).map_err(|error| {
            self.status.misunderstood(&error);
            Unavailable
        })
    }

    pub(super) async fn run_join(&self, join: Join<'_>) -> Result<Joined, JoinError> {
        let hold = join.hold;
        let mut keys = departure_keys(self.keys(), hold);
        let mut args = vec![text(millis(self.lease))];
        args.extend(identity(hold));
        args.extend([codec::encode_member(hold), codec::encode(&join.event)]);
        args.extend(confirmed(hold));
        args.extend([text(u8::from(join.reap_first)), text(REAP_BATCH), text(join.appended)]);
        args.extend([takeover(join.takeover), text(self.members_per_room)]);
        args.extend([codec::attempt(hold.attempt).into_bytes(), text(codec::linger_millis(hold))]);
        args.extend(contact(join.contact));
        args.push(text(u8::from(join.silent)));
        add_evictions(self.keys(), &hold.room, join.evict, &mut keys, &mut args);
        let lane = self.lane(&hold.room);
        self.script(lane, ScriptName::Join, &hold.room, keys, args, |reply| {
            read_joined(reply, self.members_per_room)
        })
        .await?
    }

    pub(super) async fn run_append(
        &self,
        hold: &Hold,
        client_seq: u64,
        event: Arc<Event>,
    ) -> Result<Appended, AppendError> {
        let payload = codec::encode(&event);
        let work = Work::Append { hold: hold.clone(), client_seq, payload };
        let reply = self.lane(&hold.room).submit(work, Instant::now() + self.timeout).await?;
        let (Ok(head), Ok(seq)) = (reply.head(), reply.int(0)) else {
            return Err(Unavailable.into());
        };
        if seq == 0 {
            return Err(AppendError::Stale);
        }
        let duplicate = seq < 0;
        let later = if duplicate { reply.int(1).ok() } else { Some(0) };
        let later = later.and_then(|later| u64::try_from(later).ok()).ok_or(Unavailable)?;
        let seq = seq.unsigned_abs() - u64::from(duplicate);
        let position = Position::new(head.position.epoch, seq);
        Ok(Appended { position, client_seq: client_seq + later, duplicate })
    }

    pub(super) async fn run_leave(
        &self,
        hold: &Hold,
        event: Arc<Event>,
    ) -> Result<Option<Position>, Unavailable> {
        let keys = departure_keys(self.keys(), hold);
        let mut args = identity(hold).to_vec();
        args.push(codec::encode(&event));
        args.extend(confirmed(hold));
        args.push(text(millis(self.lease)));
        let lane = self.lane(&hold.room);
        self.script(lane, ScriptName::Leave, &hold.room, keys, args, |reply| {
            let seq = reply.int(0)?.unsigned_abs();
            Ok((seq > 0).then_some(Position::new(reply.head()?.position.epoch, seq)))
        })
        .await
    }

    pub(super) async fn run_renew(
        &self,
        room: &RoomName,
        holds: &[Hold],
    ) -> Result<Renewal, Unavailable> {
        // It may be asked for twice.
        let renewed = tokio::time::timeout(self.timeout, self.extend_or_renew(room, holds));
        renewed.await.unwrap_or(Err(Unavailable))
    }

    async fn extend_or_renew(
        &self,
        room: &RoomName,
        holds: &[Hold],
    ) -> Result<Renewal, Unavailable> {
        if let Some(renewal) = self.extend(room, holds).await? {
            return Ok(renewal);
        }
        let keys = leases(self.keys(), room, holds);
        let mut args = vec![text(millis(self.lease))];
        for hold in holds {
            args.extend(identity(hold));
            args.push(codec::attempt(hold.attempt).into_bytes());
        }
        self.script(&self.upkeep, ScriptName::Renew, room, keys, args, |reply| {
            let verdicts =
                reply.array(1)?.iter().map(read_verdict).collect::<Result<Vec<_>, _>>()?;
            if verdicts.len() != holds.len() {
                return Err(ReplyError::Unexpected("one verdict for each hold"));
            }
            let next_deadline = read_deadline(reply.int(0)?);
            Ok(Renewal { verdicts, head: reply.head()?.clone(), next_deadline })
        })
        .await
    }

    /// Renews leases where all is as it was. Nothing was decided if it is not.
    async fn extend(
        &self,
        room: &RoomName,
        holds: &[Hold],
    ) -> Result<Option<Renewal>, Unavailable> {
        if holds.is_empty() {
            return Ok(None);
        }
        let work = Work::Extend {
            room: room.clone(),
            leases: leases(self.keys(), room, holds),
            names: holds.iter().flat_map(kept_name).collect(),
            tokens: holds.iter().map(|hold| hold.token.to_hex()).collect(),
        };
        let reply = self.upkeep.submit(work, Instant::now() + self.timeout).await?;
        if reply.rest.is_empty() {
            return Ok(None);
        }
        let head = reply::head(&mut reply.rest.iter().take(3).cloned());
        let renewal = head.and_then(|head| {
            let next_deadline = read_deadline(reply.int(3)?);
            Ok(Renewal { verdicts: vec![Verdict::Held; holds.len()], head, next_deadline })
        });
        renewal.map(Some).map_err(|error| {
            self.status.misunderstood(&error);
            Unavailable
        })
    }

    pub(super) async fn run_overdue(&self, room: &RoomName) -> Result<Vec<Overdue>, Unavailable> {
        let args = vec![text(REAP_BATCH)];
        self.script(&self.upkeep, ScriptName::Overdue, room, Vec::new(), args, |reply| {
            read_overdue(reply.array(0)?)
        })
        .await
    }

    pub(super) async fn run_reap(
        &self,
        room: &RoomName,
        seen: Contact,
        evict: &[Eviction],
    ) -> Result<Reaped, Unavailable> {
        let (mut keys, mut args) = (Vec::new(), vec![text(millis(self.lease))]);
        args.extend(contact(Some(seen)));
        add_evictions(self.keys(), room, evict, &mut keys, &mut args);
        self.script(&self.upkeep, ScriptName::Reap, room, keys, args, |reply| {
            let count = usize::try_from(reply.int(0)?).unwrap_or(0);
            Ok(Reaped { count, next_deadline: read_deadline(reply.int(1)?) })
        })
        .await
    }

    pub(super) async fn run_canary(&self, number: u64) -> Result<(), Unavailable> {
        let work = Work::Canary { replica: self.replica, number };
        self.canaries.submit(work, Instant::now() + self.timeout).await?;
        self.status.accepted();
        self.subscriptions.canary_sent(number);
        Ok(())
    }

    pub(super) async fn run_clock(&self) -> Result<Duration, Unavailable> {
        let work = Work::Contact { key: self.keys().contact(self.replica) };
        let reply = self.upkeep.submit(work, Instant::now() + self.timeout).await?;
        let number = |index| u64::try_from(reply.int(index).ok()?).ok();
        let (Some(seconds), Some(micros)) = (number(0), number(1)) else { return Err(Unavailable) };
        Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
    }

    pub(super) async fn run_read(
        &self,
        room: &RoomName,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, Unavailable> {
        let args = vec![text(after), text(limit.events), text(limit.bytes)];
        self.script(&self.reads, ScriptName::Read, room, Vec::new(), args, |reply| {
            if reply.rest.is_empty() {
                return Ok(Page { head: None, events: Vec::new() });
            }
            let head = reply::head(&mut reply.rest.iter().take(3).cloned())?;
            let events = reply.array(3)?.chunks_exact(2).map(|pair| {
                let entry = read_entry(&pair[0], &pair[1]);
                entry.ok_or(ReplyError::Unexpected("entries of a log"))
            });
            Ok(Page { head: Some(head), events: events.collect::<Result<_, _>>()? })
        })
        .await
    }
}

/// An argument as Redis takes it.
pub(super) fn text(value: impl ToString + Copy) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The lease of each hold.
fn leases(keys: &Keys, room: &RoomName, holds: &[Hold]) -> Vec<String> {
    holds.iter().map(|hold| keys.lease(room, hold.name.skeleton())).collect()
}

/// A hold's lease, and what says that its session has left.
pub(super) fn departure_keys(keys: &Keys, hold: &Hold) -> Vec<String> {
    let lease = keys.lease(&hold.room, hold.name.skeleton());
    vec![lease, keys.ended(&hold.room, hold.session)]
}

/// Epoch and seq at which a hold was last confirmed; an empty epoch when it never was.
fn confirmed(hold: &Hold) -> [Vec<u8>; 2] {
    match hold.confirmed {
        Some(at) => [text(at.epoch), text(at.seq)],
        None => [Vec::new(), text(0)],
    }
}

/// How long a hold's session may linger, and its skeleton.
fn kept_name(hold: &Hold) -> [String; 2] {
    [codec::linger_millis(hold).to_string(), hold.name.skeleton().to_owned()]
}

/// Since when and until when contact counts, in milliseconds; zero when there is none.
fn contact(contact: Option<Contact>) -> [Vec<u8>; 2] {
    let contact = contact.map_or([0; 2], |it| [it.since, it.until].map(millis));
    contact.map(text)
}

/// The stream that is taken over from, a dash for none; nothing when nothing is taken over.
fn takeover(takeover: Option<Takeover>) -> Vec<u8> {
    match takeover {
        Some(Takeover { from: Some(stream) }) => stream.to_string().into_bytes(),
        Some(Takeover { from: None }) => b"-".to_vec(),
        None => Vec::new(),
    }
}

/// Skeleton, token and session: who a hold belongs to.
pub(super) fn identity(hold: &Hold) -> [Vec<u8>; 3] {
    [hold.name.skeleton().to_owned(), hold.token.to_hex(), hold.session.to_string()]
        .map(String::into_bytes)
}

fn add_evictions(
    names: &Keys,
    room: &RoomName,
    evict: &[Eviction],
    keys: &mut Vec<String>,
    args: &mut Vec<Vec<u8>>,
) {
    for Eviction { overdue, event } in evict {
        keys.push(names.lease(room, &overdue.skeleton));
        args.push(overdue.skeleton.clone().into_bytes());
        args.push(overdue.member.session.to_string().into_bytes());
        args.push(codec::encode(event));
    }
}

fn read_joined(reply: &Reply, max: usize) -> Result<Result<Joined, JoinError>, ReplyError> {
    Ok(match reply.bytes(0)? {
        b"joined" => {
            let epoch = reply.head()?.position.epoch;
            Ok(Joined {
                position: Position::new(epoch, reply.int(1)?.unsigned_abs()),
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

fn read_overdue(values: &[Value]) -> Result<Vec<Overdue>, ReplyError> {
    let entries = values.chunks_exact(2).map(|pair| {
        let (skeleton, entry) = (reply::as_bytes(&pair[0])?, reply::as_bytes(&pair[1])?);
        codec::decode_entry(entry).ok().map(|entry| entry.overdue(skeleton))
    });
    entries.collect::<Option<_>>().ok_or(ReplyError::Unexpected("entries of a roster"))
}

fn read_entry(id: &Value, payload: &Value) -> Option<(u64, Arc<Event>)> {
    let id = std::str::from_utf8(reply::as_bytes(id)?).ok()?;
    let seq = id.strip_suffix("-0")?.parse().ok()?;
    let events = codec::decode(reply::as_bytes(payload)?).unwrap_or_default();
    let event = events.into_iter().next().unwrap_or_else(|| Arc::new(codec::unknown()));
    Some((seq, event))
}

fn read_verdict(value: &Value) -> Result<Verdict, ReplyError> {
    match reply::as_int(value) {
        Some(1) => Ok(Verdict::Held),
        Some(2) => Ok(Verdict::Gone),
        Some(3) => Ok(Verdict::Taken),
        Some(4) => Ok(Verdict::Moved),
        _ => Err(ReplyError::Unexpected("a verdict")),
    }
}

/// Milliseconds; negative when nobody is there.
fn read_deadline(millis: i64) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}
