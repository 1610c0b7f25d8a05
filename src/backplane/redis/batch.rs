//! Makes one pipeline of many operations, and many answers of its replies.

use std::{collections::HashMap, vec};

use redis::{Cmd, Pipeline, Value};

use super::{
    op::{Op, Work},
    reply::{self, Reply, ReplyError},
    script_name::ScriptName,
    scripts::Scripts,
    status::Status,
};
use crate::{
    backplane::{Hold, RENEW_BATCH, Unavailable},
    domain::{FencingToken, RoomName, SessionId},
};

/// The most messages in one call of the append script: a script blocks Redis while it runs.
const APPEND_MESSAGES: usize = 256;

/// The most payload bytes in one call of the append script, unless a single message has more.
const APPEND_BYTES: usize = 64 * 1024;

/// Operations that one command does.
#[derive(Debug)]
pub(super) struct Group {
    /// Which, by index, in the order of their answers.
    pub(super) ops: Vec<usize>,
    kind: Kind,
    /// If it appends: how many messages each run has.
    runs: Vec<usize>,
    /// How many bytes of payload it appends, or how many leases it extends.
    size: usize,
}

impl Group {
    /// How many messages it appends, if it does.
    pub(super) fn appended(&self) -> Option<usize> {
        (self.kind == Kind::Append).then_some(self.ops.len())
    }

    /// Whether it counts only once a replica of Redis has it, where anything does.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.kind, Kind::Append | Kind::Canary)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Append,
    Extend,
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
    first: u64,
    /// Which operations, by index.
    ops: Vec<usize>,
    payloads: Vec<&'a [u8]>,
}

/// Groups operations and writes the pipeline, one command a group. Operations of one room
/// keep their order, but for extensions of leases, and for messages of different senders that are
/// appended by one command.
pub(super) fn build(ops: &[Op], scripts: &Scripts, replid: &str) -> (Vec<Group>, Pipeline) {
    let mut groups: Vec<Group> = Vec::new();
    let mut open: HashMap<&RoomName, usize> = HashMap::new();
    let mut extending: Option<usize> = None;
    for (index, op) in ops.iter().enumerate() {
        let (kind, size) = match &op.work {
            Work::Append { hold, payload, .. } => {
                if let Some(&at) = open.get(&hold.room) {
                    let group = &mut groups[at];
                    if group.ops.len() < APPEND_MESSAGES
                        && group.size + payload.len() <= APPEND_BYTES
                    {
                        group.ops.push(index);
                        group.size += payload.len();
                        continue;
                    }
                }
                open.insert(&hold.room, groups.len());
                (Kind::Append, payload.len())
            }
            Work::Extend { leases, .. } => {
                if let Some(at) = extending
                    && groups[at].size + leases.len() <= RENEW_BATCH
                {
                    groups[at].ops.push(index);
                    groups[at].size += leases.len();
                    continue;
                }
                extending = Some(groups.len());
                (Kind::Extend, leases.len())
            }
            Work::Script { name, .. } if name.is_apart() => (Kind::Plain, 0),
            Work::Contact { .. } => (Kind::Plain, 0),
            Work::Canary { .. } => (Kind::Canary, 0),
            Work::Script { room, .. } => {
                open.remove(room);
                (Kind::Script, 0)
            }
        };
        groups.push(Group { ops: vec![index], kind, runs: Vec::new(), size });
    }
    let mut pipeline = Pipeline::with_capacity(groups.len());
    for group in &mut groups {
        pipeline.add_command(command(group, ops, scripts, replid));
    }
    (groups, pipeline)
}

fn command(group: &mut Group, ops: &[Op], scripts: &Scripts, replid: &str) -> Cmd {
    match &ops[group.ops[0]].work {
        Work::Append { .. } => append(group, ops, scripts, replid),
        Work::Extend { .. } => {
            scripts.extend(group.ops.iter().map(|&index| &ops[index].work), replid)
        }
        Work::Script { name, room, keys, args } => {
            let mut cmd = scripts.call(*name, room, keys, replid);
            cmd.arg(args);
            cmd
        }
        Work::Contact { key } => scripts.contact(key),
        Work::Canary { replica, number } => scripts.canary(*replica, *number),
    }
}

/// The command that appends a group's messages, which are ordered by sender.
fn append(group: &mut Group, ops: &[Op], scripts: &Scripts, replid: &str) -> Cmd {
    let runs = runs(&group.ops, ops);
    let room = &runs[0].hold.room;
    let leases: Vec<String> =
        runs.iter().map(|run| scripts.keys.lease(room, run.hold.name.skeleton())).collect();
    let mut cmd = scripts.call(ScriptName::Append, room, &leases, replid);
    cmd.arg(runs.len());
    for Run { hold, first, ops, .. } in &runs {
        cmd.arg(hold.name.skeleton()).arg(hold.token.to_hex()).arg(hold.session.to_string());
        cmd.arg(*first).arg(ops.len());
    }
    for payload in runs.iter().flat_map(|run| &run.payloads) {
        cmd.arg(*payload);
    }
    group.ops = runs.iter().flat_map(|run| &run.ops).copied().collect();
    group.runs = runs.iter().map(|run| run.ops.len()).collect();
    cmd
}

fn runs<'a>(group: &[usize], ops: &'a [Op]) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    // The last one of each sender. A session that took its name again within the batch is two.
    let mut last: HashMap<(SessionId, FencingToken), usize> = HashMap::new();
    for &index in group {
        let Work::Append { hold, client_seq, payload } = &ops[index].work else { continue };
        let last = last.entry((hold.session, hold.token)).or_insert(usize::MAX);
        match runs.get_mut(*last) {
            Some(run) if run.first + run.ops.len() as u64 == *client_seq => {
                run.ops.push(index);
                run.payloads.push(payload);
            }
            _ => {
                *last = runs.len();
                runs.push(Run {
                    hold,
                    first: *client_seq,
                    ops: vec![index],
                    payloads: vec![payload],
                });
            }
        }
    }
    runs
}

/// The answers of a group's operations, in their order.
pub(super) fn split(
    group: &Group,
    value: Value,
    replid: &mut String,
    status: &Status,
) -> vec::IntoIter<Result<Reply, Unavailable>> {
    let parsed = match group.kind {
        Kind::Plain | Kind::Canary | Kind::Extend => reply::plain(value),
        Kind::Script | Kind::Append => reply::stamped(value, replid),
    };
    let reply = match parsed {
        Ok(reply) => reply,
        // Perhaps for the sake of one room: each is judged apart.
        Err(_) if group.kind == Kind::Extend => {
            let undecided = || Ok(Reply { head: None, rest: Vec::new() });
            return group.ops.iter().map(|_| undecided()).collect::<Vec<_>>().into_iter();
        }
        Err(error) => {
            status.misunderstood(&error);
            return vec![Err(Unavailable); group.ops.len()].into_iter();
        }
    };
    match group.kind {
        Kind::Append => {
            let runs = reply.each();
            let each = runs.iter().zip(&group.runs).flat_map(|(run, &messages)| {
                (0..messages).map(|nth| message(run, nth).map_err(|_| Unavailable))
            });
            each.collect::<Vec<_>>().into_iter()
        }
        Kind::Extend => reply
            .rest
            .into_iter()
            .map(|room| reply::plain(room).map_err(|_| Unavailable))
            .collect::<Vec<_>>()
            .into_iter(),
        Kind::Script | Kind::Plain | Kind::Canary => vec![Ok(reply)].into_iter(),
    }
}

/// The answer of a run's nth message: its seq, or 0; or what the script says of one that was appended
/// before.
fn message(run: &Reply, nth: usize) -> Result<Reply, ReplyError> {
    let nth = i64::try_from(nth).map_err(|_| ReplyError::Unexpected("fewer messages"))?;
    let rest = match (run.int(0)?, nth) {
        (0, _) => vec![0],
        (first, nth) if first > 0 => vec![first + nth],
        (last, nth) => {
            let later = run.int(1)? - nth;
            if later >= 0 { vec![last, later] } else { vec![run.int(2)? - later - 1] }
        }
    };
    Ok(Reply { head: run.head.clone(), rest: rest.into_iter().map(Value::Int).collect() })
}
