//! Makes one pipeline of many operations, and many answers of its replies.

use std::{collections::HashMap, vec};

use redis::{Cmd, Pipeline, ServerError, Value};

use super::{
    keys,
    op::{Op, Work},
    reply::{self, Reply},
    scripts::{ScriptName, Scripts},
    status::Status,
};
use crate::{
    backplane::{Hold, RENEW_BATCH, Unavailable},
    domain::{HoldToken, RoomName, SessionId},
};

/// The most messages in one call of the append script: a script blocks Redis while it runs.
const APPEND_MESSAGES: usize = 256;

/// The most payload bytes in one call of the append script, unless a single message has more.
const APPEND_BYTES: usize = 64 * 1024;

/// Operations that one command does.
#[derive(Debug)]
pub(super) struct Group {
    /// Which, by index, in order.
    pub(super) ops: Vec<usize>,
    kind: Kind,
    /// How many bytes of payload it appends, or how many leases it extends.
    size: usize,
}

impl Group {
    /// How many messages it appends, if it does.
    pub(super) fn appended(&self) -> Option<usize> {
        (self.kind == Kind::Append).then_some(self.ops.len())
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
}

/// Groups operations and writes the pipeline, one command a group. Operations of one room
/// keep their order, but for extensions of leases.
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
            Work::Script { name, .. } if name.is_read_only() => (Kind::Plain, 0),
            Work::Publish { .. } => (Kind::Plain, 0),
            Work::Script { room, .. } => {
                open.remove(room);
                (Kind::Script, 0)
            }
        };
        groups.push(Group { ops: vec![index], kind, size });
    }
    let mut pipeline = Pipeline::with_capacity(groups.len());
    for group in &groups {
        pipeline.add_command(command(group, ops, scripts, replid));
    }
    (groups, pipeline)
}

fn command(group: &Group, ops: &[Op], scripts: &Scripts, replid: &str) -> Cmd {
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
        Work::Publish { channel, message } => {
            let mut cmd = redis::cmd("PUBLISH");
            cmd.arg(channel).arg(message);
            cmd
        }
    }
}

fn append(group: &Group, ops: &[Op], scripts: &Scripts, replid: &str) -> Cmd {
    let messages: Vec<(&Hold, u64, &[u8])> = group
        .ops
        .iter()
        .filter_map(|&index| match &ops[index].work {
            Work::Append { hold, client_seq, payload } => {
                Some((hold, *client_seq, payload.as_slice()))
            }
            Work::Extend { .. } | Work::Script { .. } | Work::Publish { .. } => None,
        })
        .collect();
    // A session that took its name again within the batch is two senders.
    let mut numbers: HashMap<(SessionId, HoldToken), usize> = HashMap::new();
    let mut senders: Vec<&Hold> = Vec::new();
    let mut numbered = Vec::with_capacity(messages.len());
    for (hold, ..) in &messages {
        let number = numbers.entry((hold.session, hold.token)).or_insert_with(|| {
            senders.push(hold);
            senders.len()
        });
        numbered.push(*number);
    }

    let room = &messages[0].0.room;
    let leases: Vec<String> =
        senders.iter().map(|hold| keys::lease(room, hold.name.skeleton())).collect();
    let mut cmd = scripts.call(ScriptName::Append, room, &leases, replid);
    cmd.arg(senders.len());
    for hold in senders {
        cmd.arg(hold.name.skeleton()).arg(hold.token.to_hex()).arg(hold.session.to_string());
    }
    for ((_, client_seq, payload), sender) in messages.iter().zip(numbered) {
        cmd.arg(sender).arg(*client_seq).arg(*payload);
    }
    cmd
}

/// Whether an error says that the operation should be tried again, perhaps elsewhere: the scripts
/// are not known, it is loading, out of memory, a replica by now.
pub(super) fn is_passing(error: &ServerError) -> bool {
    matches!(
        error.code(),
        "NOSCRIPT"
            | "LOADING"
            | "READONLY"
            | "MASTERDOWN"
            | "CLUSTERDOWN"
            | "TRYAGAIN"
            | "BUSY"
            | "OOM"
            | "MISCONF"
            | "NOREPLICAS"
    )
}

/// The answers of a group's operations, in their order.
pub(super) fn split(
    group: &Group,
    value: Value,
    replid: &mut String,
    status: &Status,
) -> vec::IntoIter<Result<Reply, Unavailable>> {
    let parsed = match group.kind {
        Kind::Plain | Kind::Extend => reply::plain(value),
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
        Kind::Append => reply.each().into_iter().map(Ok).collect::<Vec<_>>().into_iter(),
        Kind::Extend => reply
            .rest
            .into_iter()
            .map(|room| reply::plain(room).map_err(|_| Unavailable))
            .collect::<Vec<_>>()
            .into_iter(),
        Kind::Script | Kind::Plain => vec![Ok(reply)].into_iter(),
    }
}
