//! What a chaos leaves behind: the record of every client, the rooms' logs, and the faults.

use std::{collections::BTreeMap, time::Duration};

use roomcast_proto::room::LeftCause;

/// A moment, since the beginning of the test. Replicas and clients share one machine's clock.
pub(super) type At = Duration;

/// Where an event is in its room's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

/// What happened in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum EventKind {
    Said(String),
    Joined,
    Left(LeftCause),
}

/// One event of a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub(super) position: Position,
    /// By the clock of the replica that took it in.
    pub(super) at: At,
    pub(super) username: String,
    pub(super) what: EventKind,
}

impl Event {
    /// What was said, if something was.
    pub(super) fn content(&self) -> Option<&str> {
        match &self.what {
            EventKind::Said(content) => Some(content),
            EventKind::Joined | EventKind::Left(_) => None,
        }
    }
}

/// What a client did or was told.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Entry {
    /// It asks to come in, anew.
    Tries,
    /// It is in, and the room is told so at this position. Sessions of one record are told apart by
    /// their number.
    In { session: u64, head: Position },
    /// It has a stream again, of the session that it had.
    Resumed { session: u64 },
    /// It is in again, under another session: the last one had ended. It is told what it missed all
    /// the same, but for its own coming.
    Again { session: u64 },
    /// It was told of an event.
    Event(Event),
    /// It was told that what lies between these, both included, is gone; or everything.
    Gap(Option<(Position, Position)>),
    /// It wants to say this, and no other client of its room ever says the same.
    Asks(String),
    /// It was told that this is in the log.
    Acked { content: String, position: Option<Position> },
    /// The last stream that it opened was ended for another one of its session, or refused for one.
    Ousted(String),
    /// Its stream has ended.
    Away,
    /// It asks to leave.
    Leaves,
    /// The server did what the protocol does not allow.
    Broken(String),
}

/// All that became of one client, in order.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) room: String,
    pub(super) name: String,
    pub(super) entries: Vec<(At, Entry)>,
}

impl Record {
    /// The times in which it had a stream; the last one is open if it stayed.
    pub(super) fn lives(&self) -> Vec<(At, Option<At>)> {
        let mut lives: Vec<(At, Option<At>)> = vec![];
        for (at, entry) in &self.entries {
            match entry {
                Entry::In { .. } | Entry::Resumed { .. } | Entry::Again { .. } => {
                    lives.push((*at, None));
                }
                Entry::Away | Entry::Leaves => {
                    if let Some((_, end @ None)) = lives.last_mut() {
                        *end = Some(*at);
                    }
                }
                _ => {}
            }
        }
        lives
    }

    /// Whether it has a stream in the end.
    pub(super) fn stayed(&self) -> bool {
        self.lives().last().is_some_and(|(_, end)| end.is_none())
    }

    /// Whether it had a stream at any time between these.
    pub(super) fn was_in(&self, from: At, to: At) -> bool {
        self.lives().iter().any(|(begun, end)| *begun < to && end.is_none_or(|end| end > from))
    }

    /// Whether it asked to come in meanwhile, whatever became of that.
    pub(super) fn tried(&self, from: At, to: At) -> bool {
        let mut tries = self.entries.iter().filter(|(_, entry)| *entry == Entry::Tries);
        tries.any(|(at, _)| (from..to).contains(at))
    }
}

/// What was done to the service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Fault {
    /// A replica was killed.
    Kill,
    /// A replica was stopped, and went on some seconds later.
    Pause,
    /// A replica was told to stop, and was replaced.
    Drain,
    /// Every client's connection was cut.
    CutClients,
    /// The connections of all subscribers were closed by Redis.
    KillSubscribers,
    /// All connections to Redis were cut, for some time.
    CutRedis,
    /// Redis stood still, for some time.
    StopRedis,
    /// Redis was killed, and came back with its data.
    RestartRedis,
    /// Redis was killed, and came back with nothing.
    LoseRedis,
    /// Redis heard nothing that replicas said, for some time.
    RedisUnheard,
    /// Replicas heard nothing that Redis said, for some time.
    RedisUnanswered,
    /// Redis was far away, for some time.
    SlowRedis,
    /// Clients came to a replica that could not reach Redis, on ways that went half open, and gave up.
    GivenUp,
    /// The master, or one of a cluster, was replaced although nothing was wrong with it.
    FailOver,
    /// The master, or one of a cluster, was killed and replaced, and came back as a replica.
    KillMaster,
    /// Slots of a cluster were moved to another master.
    MoveSlots,
    /// A cluster got another master, which took some slots.
    AddNode,
    /// Another master gave its slots away and left.
    RemoveNode,
}

impl Fault {
    /// Whether a replica may be taken for lost after it.
    pub(super) fn loses_replicas(self) -> bool {
        !matches!(
            self,
            Self::Drain
                | Self::CutClients
                | Self::KillSubscribers
                | Self::SlowRedis
                | Self::MoveSlots
                | Self::AddNode
                | Self::RemoveNode
        )
    }

    /// Whether another server takes over from a master, which may have had something that it has not.
    pub(super) fn rolls_back(self) -> bool {
        matches!(self, Self::FailOver | Self::KillMaster)
    }

    /// Whether one replica cannot do anything, and does not know it, while others can: its members are told
    /// gone once their leases and their time to linger are over, and come anew when it can.
    pub(super) fn keeps_one_replica_away(self) -> bool {
        matches!(self, Self::Pause | Self::GivenUp)
    }

    /// Whether no replica can do without Redis what it does with it, for as long as it takes.
    pub(super) fn keeps_redis_away(self) -> bool {
        match self {
            Self::FailOver
            | Self::KillMaster
            | Self::CutRedis
            | Self::StopRedis
            | Self::RestartRedis
            | Self::LoseRedis
            | Self::RedisUnheard
            | Self::RedisUnanswered
            | Self::SlowRedis => true,
            Self::Kill
            | Self::Pause
            | Self::Drain
            | Self::CutClients
            | Self::KillSubscribers
            | Self::GivenUp
            | Self::MoveSlots
            | Self::AddNode
            | Self::RemoveNode => false,
        }
    }
}

/// Everything that is known in the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) records: Vec<Record>,
    /// What each room's log has in the end.
    pub(super) logs: BTreeMap<String, Vec<Event>>,
    pub(super) faults: Vec<(At, Fault)>,
}

/// What was promised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long a session outlives its stream.
    pub(super) linger: Duration,
    /// How long a name outlives its silent replica.
    pub(super) lease: Duration,
    /// How late a client or a replica may notice that a stream has ended.
    pub(super) tolerance: Duration,
    /// How long a fault may last.
    pub(super) outage: Duration,
}
