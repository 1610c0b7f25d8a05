//! What a lane sends, and what becomes of the answers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use redis::{ServerError, Value};
use tokio::time::Instant;
use tracing::debug;

use super::Driver;
use crate::{
    backplane::{
        Unavailable,
        redis::{
            address::Endpoint,
            batch::{self, Group},
            link::Commands,
            op::{Op, Work},
            remedy::{self, Redirection, Remedy},
            reply,
            status::Purpose,
            wire::Sent,
        },
    },
    domain::RoomName,
    metrics::Redirected,
};

/// How long a lane waits that was sent from one node to another twice in a row.
const DISAGREEMENT: Duration = Duration::from_millis(50);

impl Driver {
    /// Asks the node that the slot is moving to for what is there already, and puts back what is not.
    pub(super) async fn ask(&mut self, node: &Endpoint) {
        let (mut places, mut ops, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut behind: HashSet<RoomName> = HashSet::new();
        for (place, mut op) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let asks = op.asking.take_if(|asked| asked == node).is_some();
            let room = op.work.room();
            // What comes behind an operation of its room that is not there yet is not there either.
            if asks && room.is_none_or(|room| !behind.contains(room)) {
                places.push(place);
                ops.push(op);
            } else {
                behind.extend(room.cloned());
                rest.push((place, op));
            }
        }
        let again = if ops.is_empty() {
            // All of them come behind others, which the old node is asked for first.
            Vec::new()
        } else {
            match self.connector.commands_at(node, self.link).await {
                Ok(connection) => self.send(connection, ops, true).await.1,
                Err(error) => {
                    self.status.connect_failed(Purpose::Commands, &error, Some(node));
                    self.wait = Some(self.backoff.next_wait());
                    ops.into_iter().enumerate().collect()
                }
            }
        };
        let mut all = rest;
        all.extend(again.into_iter().map(|(index, op)| (places[index], op)));
        all.sort_by_key(|(place, _)| *place);
        self.pending = all.into_iter().map(|(_, op)| op).collect();
    }

    /// Sends all that is pending. Gives the connection back if it is still good.
    pub(super) async fn send_all(&mut self, connection: Commands) -> Option<Commands> {
        let ops: Vec<Op> = self.pending.drain(..).collect();
        connection.pace.sent(Instant::now().into_std(), ops.len());
        let (connection, again) = self.send(connection, ops, false).await;
        self.pending.extend(again.into_iter().map(|(_, op)| op));
        connection
    }

    /// Sends operations in one pipeline, of a slot that is moving there if `asking`. Gives the connection back if it
    /// is still good, and what has to be sent again, which waits: the longer the more often it was in vain.
    async fn send(
        &mut self,
        mut connection: Commands,
        ops: Vec<Op>,
        asking: bool,
    ) -> (Option<Commands>, Vec<(usize, Op)>) {
        let (groups, commands) = batch::build(&ops, &self.scripts, &connection.replid);
        let commands = if asking {
            // For the next command only.
            commands.into_iter().flat_map(|command| [redis::cmd("ASKING"), command]).collect()
        } else {
            commands
        };
        let waits = self.config.replicated && groups.iter().any(Group::is_stored);
        let began = Instant::now();
        let answered = tokio::select! {
            answered = connection.wire.send(commands, waits) => answered,
            () = connection.tenure.over() => {
                // Whatever it answers, the one that is the master now has to be asked.
                return (None, ops.into_iter().enumerate().collect());
            }
        };
        let Sent { mut values, replicas } = match answered {
            Ok(sent) => sent,
            Err(error) => {
                self.status.lost(&error);
                connection.give_up();
                self.connector.look_again();
                self.wait = Some(self.backoff.next_wait());
                return (None, ops.into_iter().enumerate().collect());
            }
        };
        self.status
            .metrics
            .observe_pipeline(began.elapsed(), groups.iter().filter_map(Group::appended));
        let durable = !waits || self.note_replicated(replicas.as_ref());
        if asking {
            values = values.into_iter().skip(1).step_by(2).collect();
        }
        let (remedy, again) = self.distribute(ops, groups, values, durable, &mut connection);
        if remedy == Remedy::Nothing && again.is_empty() {
            self.redirected = false;
            self.backoff.reset();
            return (Some(connection), again);
        }
        if remedy > Remedy::Nothing {
            self.wait = Some(self.backoff.next_wait());
        }
        let connection = match remedy {
            Remedy::Nothing | Remedy::Wait => Some(connection),
            Remedy::Scripts => {
                let loaded = self.scripts.load(&mut connection.connection).await;
                loaded.is_ok().then_some(connection)
            }
            // It is good for other slots. Nodes may disagree for a while.
            Remedy::Elsewhere if connection.node.is_some() => {
                if std::mem::replace(&mut self.redirected, true) {
                    tokio::time::sleep(DISAGREEMENT).await;
                }
                None
            }
            // A new one is tried out, and says what is missing.
            Remedy::Configure | Remedy::Connection | Remedy::Elsewhere => {
                connection.give_up();
                self.connector.look_again();
                None
            }
        };
        (connection, again)
    }

    /// Whether a replica of Redis has what was appended, as `WAIT` answered.
    fn note_replicated(&self, replicas: Option<&Value>) -> bool {
        let replicated = replicas.and_then(reply::as_int).is_some_and(|count| count > 0);
        self.status.replicated(replicated);
        replicated
    }

    /// Hands out the answers. Returns what helps where Redis could not do something for now, and what that was, by
    /// its index. Appends that are not `durable` have failed, whatever came of them.
    fn distribute(
        &mut self,
        ops: Vec<Op>,
        groups: Vec<Group>,
        values: Vec<Value>,
        durable: bool,
        connection: &mut Commands,
    ) -> (Remedy, Vec<(usize, Op)>) {
        let mut ops: Vec<Option<Op>> = ops.into_iter().map(Some).collect();
        let mut again: Vec<usize> = Vec::new();
        let mut worst = Remedy::Nothing;
        let mut refused: HashSet<RoomName> = HashSet::new();
        let mut answered = Vec::new();
        for (mut group, value) in groups.into_iter().zip(values) {
            let parts = group.answered(value, &mut connection.replid);
            let group = Arc::new(group);
            answered.extend(parts.into_iter().map(|(part, value)| (group.clone(), part, value)));
        }
        for (group, part, value) in answered {
            if let Value::ServerError(error) = &value
                && let remedy = Remedy::of_answer(error)
                && remedy > Remedy::Nothing
            {
                let there = (remedy == Remedy::Elsewhere)
                    .then(|| Redirection::read(error, connection.node.as_ref()))
                    .flatten();
                worst = worst.max(self.note_refusal(remedy, error, there.as_ref()));
                let rooms = part.ops.iter().filter_map(|&index| ops[index].as_ref()?.work.room());
                refused.extend(rooms.cloned());
                if let Some(Redirection::Ask(node)) = there {
                    if let Some(canary) = part.ops.first().and_then(|&index| {
                        ops[index].take_if(|op| matches!(op.work, Work::Canary { .. }))
                    }) {
                        // Nobody listens there yet.
                        let _ = canary.reply.send(Err(Unavailable));
                        continue;
                    }
                    for &index in &part.ops {
                        if let Some(op) = &mut ops[index] {
                            op.asking = Some(node.clone());
                        }
                    }
                }
                again.extend(part.ops);
                continue;
            }
            let lost = !durable && group.is_stored();
            let appends = group.is_of_members();
            let replid = &mut connection.replid;
            let mut replies = batch::split(&group, &part, value, replid, &self.status);
            for index in part.ops {
                let reply = replies.next().unwrap_or(Err(Unavailable));
                let stale =
                    appends && reply.as_ref().is_ok_and(|it| it.int(1).is_ok_and(|seq| seq == 0));
                // Perhaps only because what was said before it was refused just now.
                if stale
                    && ops[index]
                        .as_ref()
                        .and_then(|op| op.work.room())
                        .is_some_and(|room| refused.contains(room))
                {
                    again.push(index);
                    worst = worst.max(Remedy::Wait);
                } else if let Some(op) = ops[index].take() {
                    // One that was refused as stale needs no replica.
                    let reply = if lost && !stale { Err(Unavailable) } else { reply };
                    // Nobody waiting is fine: a member that is gone.
                    let _ = op.reply.send(reply);
                }
            }
        }
        again.sort_unstable();
        let again = again.into_iter().filter_map(|index| Some((index, ops[index].take()?)));
        (worst, again.collect())
    }

    /// Takes note of why something was not done, and of where it can be. Returns what helps.
    fn note_refusal(
        &self,
        remedy: Remedy,
        error: &ServerError,
        there: Option<&Redirection>,
    ) -> Remedy {
        let redirections = &self.status.metrics.redis_redirections;
        match (there, self.connector.cluster()) {
            (Some(Redirection::Moved(slot, node)), Some(cluster)) => {
                redirections.of(Redirected::Moved).inc();
                cluster.moved(*slot, node);
                return remedy;
            }
            (Some(Redirection::Ask(_)), Some(_)) => {
                redirections.of(Redirected::Ask).inc();
                // At once, by itself.
                return Remedy::Nothing;
            }
            _ => {}
        }
        match remedy {
            Remedy::Scripts => debug!("redis forgot the scripts; loading them again"),
            // It is on its way to another node.
            Remedy::Wait if error.code() == "TRYAGAIN" => {
                redirections.of(Redirected::TryAgain).inc();
            }
            _ => self.status.refused(&remedy::words(error)),
        }
        remedy
    }
}
