//! Makes one pipeline of many operations, and many answers of its replies.

mod publishing;

use std::{collections::HashMap, vec};

use redis::{Cmd, Value};

use super::{
    incarnations::Incarnation,
    op::{Op, Work},
    reply::{self, Reply, ReplyError},
    scripts::Scripts,
    status::Status,
};
use crate::{
    backplane::{Hold, Unavailable},
    domain::{FencingToken, RoomName, SessionId},
};

/// The most partitions in one call of the renewal script.
const RENEWALS: usize = 64;

/// The most messages in one call of the append script: a script blocks Redis while it runs.
const APPEND_MESSAGES: usize = 256;

/// The most rooms in one.
const APPEND_ROOMS: usize = 64;

/// The most payload bytes in one call of the append script, unless a single message has more.
const APPEND_BYTES: usize = 64 * 1024;

/// Operations that one command does.
#[derive(Debug)]
pub(super) struct Group {
    kind: Kind,
    /// Those of one room each, if they append; else all of them.
    parts: Vec<Part>,
    /// How many messages it appends, or how many leases it renews.
    count: usize,
    /// How many bytes of payload it appends.
    bytes: usize,
}

/// Operations that are answered together, or refused together.
#[derive(Debug)]
pub(super) struct Part {
    /// Which, by index, in the order of their answers.
    pub(super) ops: Vec<usize>,
    /// If they append: how many messages each run has.
    runs: Vec<usize>,
}

impl Group {
    fn of(kind: Kind, op: usize, count: usize, bytes: usize) -> Self {
        Self { kind, parts: vec![Part { ops: vec![op], runs: Vec::new() }], count, bytes }
    }

    /// How many messages it appends, if it does.
    pub(super) fn appended(&self) -> Option<usize> {
        matches!(self.kind, Kind::Append | Kind::Publish).then_some(self.count)
    }

    /// Whether it appends what members say, which may be refused for what became of a message before it.
    pub(super) fn is_of_members(&self) -> bool {
        self.kind == Kind::Append
    }

    /// Whether it counts only once a replica of Redis has it, where anything does.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.kind, Kind::Append | Kind::Publish | Kind::Canary)
    }

    /// Each part with its own part of the answer.
    pub(super) fn answered(&mut self, value: Value, replid: &mut String) -> Vec<(Part, Value)> {
        let parts = std::mem::take(&mut self.parts);
        let values = match value {
            Value::Array(mut values)
                if self.appended().is_some() && values.len() == parts.len() + 1 =>
            {
                reply::take_over(&values.remove(0), replid);
                values
            }
            value => vec![value; parts.len()],
        };
        parts.into_iter().zip(values).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Append,
    /// Append what services say.
    Publish,
    Renew,
    /// A script whose reply begins with where the log stands.
    Script,
    /// A reply that is handed on as it is.
    Plain,
    /// The same, of what is written as messages are.
    Canary,
}

/// What one sender says one after another: the client sequences follow on each other.
struct Run<'a> {
    hold: &'a Hold,
    incarnation: Incarnation,
    first: u64,
    /// Which operations, by index.
    ops: Vec<usize>,
    payloads: Vec<&'a [u8]>,
}

/// Groups operations and writes their commands, one a group. Operations of one room
/// keep their order, but for messages of different senders that are appended by one command.
pub(super) fn build(ops: &[Op], scripts: &Scripts, replid: &str) -> (Vec<Group>, Vec<Cmd>) {
    let mut groups: Vec<Group> = Vec::new();
    let (mut appending, mut publishing) =
        (Appending::of(Kind::Append), Appending::of(Kind::Publish));
    let mut renewing: Option<usize> = None;
    for (index, op) in ops.iter().enumerate() {
        let group = match &op.work {
            Work::Append { hold, payload, .. } => {
                appending.add(&mut groups, &hold.room, index, payload.len());
                continue;
            }
            Work::Publish { room, payload, .. } => {
                publishing.add(&mut groups, room, index, payload.len());
                continue;
            }
            Work::Renew { .. } => {
                if let Some(at) = renewing
                    && groups[at].count < RENEWALS
                {
                    groups[at].parts[0].ops.push(index);
                    groups[at].count += 1;
                    continue;
                }
                renewing = Some(groups.len());
                Group::of(Kind::Renew, index, 1, 0)
            }
            Work::Script { name, .. } if name.is_apart() => Group::of(Kind::Plain, index, 1, 0),
            Work::Upkeep { .. } | Work::Contact { .. } => Group::of(Kind::Plain, index, 1, 0),
            Work::Canary { .. } => Group::of(Kind::Canary, index, 1, 0),
            Work::Script { room, .. } => {
                appending.closed.insert(room, groups.len());
                publishing.closed.insert(room, groups.len());
                Group::of(Kind::Script, index, 1, 0)
            }
        };
        groups.push(group);
    }
    let commands = groups.iter_mut().map(|it| command(it, ops, scripts, replid)).collect();
    (groups, commands)
}

/// Which command appends what.
struct Appending<'a> {
    kind: Kind,
    /// The command that the next message goes into, and which part of it each room has.
    group: Option<usize>,
    parts: HashMap<&'a RoomName, usize>,
    /// The last other command on each room, which what follows must not overtake.
    closed: HashMap<&'a RoomName, usize>,
}

impl<'a> Appending<'a> {
    fn of(kind: Kind) -> Self {
        Self { kind, group: None, parts: HashMap::new(), closed: HashMap::new() }
    }

    fn add(&mut self, groups: &mut Vec<Group>, room: &'a RoomName, op: usize, bytes: usize) {
        let closed = self.closed.get(room);
        if let Some(at) = self.group
            && closed.is_none_or(|closed| *closed < at)
            && let group = &mut groups[at]
            && group.count < APPEND_MESSAGES
            && group.bytes + bytes <= APPEND_BYTES
            && (self.parts.len() < APPEND_ROOMS || self.parts.contains_key(room))
        {
            group.count += 1;
            group.bytes += bytes;
            let part = *self.parts.entry(room).or_insert(group.parts.len());
            match group.parts.get_mut(part) {
                Some(part) => part.ops.push(op),
                None => group.parts.push(Part { ops: vec![op], runs: Vec::new() }),
            }
            return;
        }
        self.group = Some(groups.len());
        self.parts = HashMap::from([(room, 0)]);
        groups.push(Group::of(self.kind, op, 1, bytes));
    }
}

fn command(group: &mut Group, ops: &[Op], scripts: &Scripts, replid: &str) -> Cmd {
    match &ops[group.parts[0].ops[0]].work {
        Work::Append { .. } => append(&mut group.parts, ops, scripts, replid),
        Work::Publish { .. } => publishing::command(&group.parts, ops, scripts, replid),
        Work::Renew { .. } => {
            scripts.renew(group.parts[0].ops.iter().map(|&index| &ops[index].work))
        }
        Work::Upkeep { name, keys, args } => {
            let mut cmd = scripts.call_on_partition(*name, keys, replid);
            cmd.arg(args);
            cmd
        }
        Work::Script { name, room, keys, args, .. } => {
            let mut cmd = scripts.call(*name, room, keys, replid);
            cmd.arg(args);
            cmd
        }
        Work::Contact { key } => scripts.contact(key),
        Work::Canary { partition, replica, number } => {
            scripts.canary(*partition, *replica, *number)
        }
    }
}

/// The command that appends the messages of these rooms, which are ordered by sender.
fn append(rooms: &mut [Part], ops: &[Op], scripts: &Scripts, replid: &str) -> Cmd {
    let each: Vec<Vec<Run<'_>>> = rooms.iter().map(|room| runs(&room.ops, ops)).collect();
    let mut keys = Vec::new();
    for runs in &each {
        let room = &runs[0].hold.room;
        let partition = scripts.keys.partition(room);
        keys.extend([scripts.keys.room(room), scripts.keys.log(room)]);
        keys.extend([scripts.keys.rooms(partition), scripts.keys.replicas(partition)]);
    }
    let mut cmd = scripts.append(&keys, replid);
    for (part, runs) in rooms.iter_mut().zip(&each) {
        cmd.arg(scripts.keys.channel(&runs[0].hold.room)).arg(runs.len());
        for Run { hold, incarnation, first, ops, .. } in runs {
            let held = format!("{}{}{incarnation}", hold.session, hold.token.to_hex());
            cmd.arg(hold.name.skeleton()).arg(held).arg(*first).arg(ops.len());
        }
        for payload in runs.iter().flat_map(|run| &run.payloads) {
            cmd.arg(*payload);
        }
        part.ops = runs.iter().flat_map(|run| &run.ops).copied().collect();
        part.runs = runs.iter().map(|run| run.ops.len()).collect();
    }
    cmd
}

fn runs<'a>(group: &[usize], ops: &'a [Op]) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    // The last one of each sender. A session that took its name again within the batch is two.
    let mut last: HashMap<(SessionId, FencingToken, Incarnation), usize> = HashMap::new();
    for &index in group {
        let Work::Append { hold, incarnation, client_seq, payload } = &ops[index].work else {
            continue;
        };
        let sender = (hold.session, hold.token, *incarnation);
        let last = last.entry(sender).or_insert(usize::MAX);
        match runs.get_mut(*last) {
            Some(run) if run.first + run.ops.len() as u64 == *client_seq => {
                run.ops.push(index);
                run.payloads.push(payload);
            }
            _ => {
                *last = runs.len();
                runs.push(Run {
                    hold,
                    incarnation: *incarnation,
                    first: *client_seq,
                    ops: vec![index],
                    payloads: vec![payload],
                });
            }
        }
    }
    runs
}

/// The answers of the operations of a part, in their order.
pub(super) fn split(
    group: &Group,
    part: &Part,
    value: Value,
    replid: &mut String,
    status: &Status,
) -> vec::IntoIter<Result<Reply, Unavailable>> {
    let parsed = match group.kind {
        Kind::Plain | Kind::Canary | Kind::Renew | Kind::Append | Kind::Publish => {
            reply::plain(value)
        }
        Kind::Script => reply::stamped(value, replid),
    };
    let reply = match parsed {
        Ok(reply) => reply,
        Err(error) => {
            status.misunderstood(&error);
            return vec![Err(Unavailable); part.ops.len()].into_iter();
        }
    };
    match group.kind {
        Kind::Append => {
            let Some((epoch, runs)) = reply.rest.split_first() else {
                return vec![Err(Unavailable); part.ops.len()].into_iter();
            };
            let each = runs.iter().zip(&part.runs).flat_map(|(run, &messages)| {
                (0..messages).map(|nth| message(epoch, run, nth).map_err(|_| Unavailable))
            });
            each.collect::<Vec<_>>().into_iter()
        }
        Kind::Publish => {
            let each = publishing::answers(&reply.rest).into_iter();
            each.map(|answer| answer.map_err(|_| Unavailable)).collect::<Vec<_>>().into_iter()
        }
        Kind::Renew => reply
            .rest
            .chunks_exact(2)
            .map(|partition| {
                let mut rest = partition.to_vec();
                rest.push(Value::BulkString(replid.clone().into_bytes()));
                Ok(Reply { head: None, rest })
            })
            .collect::<Vec<_>>()
            .into_iter(),
        Kind::Script | Kind::Plain | Kind::Canary => vec![Ok(reply)].into_iter(),
    }
}

/// The answer of a run's nth message: the epoch, and its seq, or 0; or what the script says of one that was
/// appended before; or why it was refused, and a time.
fn message(epoch: &Value, run: &Value, nth: usize) -> Result<Reply, ReplyError> {
    let nth = i64::try_from(nth).map_err(|_| ReplyError::Unexpected("fewer messages"))?;
    let (epoch, rest) = match run {
        Value::Array(refused) if refused.first().and_then(reply::as_bytes).is_some() => {
            let number = |index| refused.get(index).and_then(reply::as_int);
            let (Some(why), Some(first), Some(count), Some(time)) =
                (refused.first(), number(1), number(2), refused.get(3))
            else {
                return Err(ReplyError::Unexpected("why messages are refused"));
            };
            if nth >= count {
                let rest = vec![epoch.clone(), why.clone(), time.clone()];
                return Ok(Reply { head: None, rest });
            }
            (epoch, vec![first + nth])
        }
        Value::Array(known) => {
            let number = |index| known.get(index).and_then(reply::as_int);
            let (Some(last), Some(later), Some(next), Some(written)) =
                (number(0), number(1), number(2), known.get(3))
            else {
                return Err(ReplyError::Unexpected("where messages are"));
            };
            let later = later - nth;
            if later >= 0 { (written, vec![last, later]) } else { (epoch, vec![next - later - 1]) }
        }
        first => match reply::as_int(first) {
            Some(0) => (epoch, vec![0]),
            Some(first) => (epoch, vec![first + nth]),
            None => return Err(ReplyError::Unexpected("where messages are")),
        },
    };
    let rest = std::iter::once(epoch.clone()).chain(rest.into_iter().map(Value::Int));
    Ok(Reply { head: None, rest: rest.collect() })
}
