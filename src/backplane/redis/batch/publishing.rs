//! How messages of services are appended, many in one command.

use redis::{Cmd, Value};

use super::Part;
use crate::backplane::redis::{
    op::{Op, Work},
    reply::{self, Reply, ReplyError},
    scripts::Scripts,
};

/// The command that appends the messages of these rooms.
pub(super) fn command(rooms: &[Part], ops: &[Op], scripts: &Scripts, replid: &str) -> Cmd {
    let mut keys = Vec::with_capacity(4 * rooms.len());
    for part in rooms {
        for (nth, work) in works(part, ops).enumerate() {
            let Work::Publish { room, key, .. } = work else { continue };
            if nth == 0 {
                let partition = scripts.keys.partition(room);
                keys.extend([scripts.keys.room(room), scripts.keys.log(room)]);
                keys.push(scripts.keys.rooms(partition));
            }
            keys.extend(key.iter().map(|it| scripts.keys.published(room, it.as_str())));
        }
    }
    let mut cmd = scripts.publish(&keys, replid);
    for part in rooms {
        for (nth, work) in works(part, ops).enumerate() {
            let Work::Publish { room, skeleton, key, payload } = work else { continue };
            if nth == 0 {
                cmd.arg(scripts.keys.channel(room)).arg(part.ops.len());
            }
            let digest = key.as_ref().map_or(&[][..], |it| it.digest());
            cmd.arg(skeleton).arg(digest).arg(payload);
        }
    }
    cmd
}

fn works<'a>(part: &'a Part, ops: &'a [Op]) -> impl Iterator<Item = &'a Work> {
    part.ops.iter().map(|&index| &ops[index].work)
}

/// The answer of each message, as [`answer`] has it, from what the script says of a room.
pub(super) fn answers(rest: &[Value]) -> Vec<Result<Reply, ReplyError>> {
    let Some((epoch, messages)) = rest.split_first() else { return Vec::new() };
    messages.iter().map(|message| answer(epoch, message)).collect()
}

/// Epoch and seq of a message, then 1 if it was appended before.
fn answer(epoch: &Value, message: &Value) -> Result<Reply, ReplyError> {
    let rest = match message {
        Value::Array(known) => {
            let (Some(epoch), Some(seq)) = (known.first(), known.get(1).and_then(reply::as_int))
            else {
                return Err(ReplyError::Unexpected("where a message is"));
            };
            vec![epoch.clone(), Value::Int(seq), Value::Int(1)]
        }
        seq => match reply::as_int(seq) {
            Some(seq) => vec![epoch.clone(), Value::Int(seq), Value::Int(0)],
            None => return Err(ReplyError::Unexpected("where a message is")),
        },
    };
    Ok(Reply { head: None, rest })
}
