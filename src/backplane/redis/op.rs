//! What a lane is asked to do.

use tokio::{sync::oneshot, time::Instant};

use super::{address::Endpoint, incarnations::Incarnation, reply::Reply, script_name::ScriptName};
use crate::{
    backplane::{Hold, IdempotencyKey, Unavailable},
    domain::{ReplicaId, RoomName},
};

/// About what it takes to ask for a lease's renewal.
const RENEW_BYTES: usize = 200;

/// The same of a canary.
const CANARY_BYTES: usize = 200;

/// One thing to do, and where to put the answer.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) work: Work,
    /// After this nobody waits for it any more, and it is not begun.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Reply, Unavailable>>,
    /// The node of the cluster that has to be asked next, where the slot is moving to it.
    pub(super) asking: Option<Endpoint>,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Append a message; joined with others of its room into one script call.
    Append { hold: Hold, incarnation: Incarnation, client_seq: u64, payload: Vec<u8> },
    /// Append a message of a service; joined with others into one script call.
    Publish {
        room: RoomName,
        /// Of the name that no member may have; empty for the server's own.
        skeleton: String,
        key: Option<IdempotencyKey>,
        payload: Vec<u8>,
    },
    /// Renew the lease of a partition; joined with those of others into one script call, in no order with anything else.
    Renew { partition: usize, incarnation: Option<Incarnation> },
    /// Run a script on a partition, in no order with anything else.
    Upkeep {
        name: ScriptName,
        keys: Vec<String>,
        /// The arguments after the common ones.
        args: Vec<Vec<u8>>,
    },
    /// Run a script.
    Script {
        name: ScriptName,
        room: RoomName,
        /// Of the member who asks; empty where that is nobody.
        skeleton: String,
        /// The keys after the common ones.
        keys: Vec<String>,
        /// The arguments after the common ones.
        args: Vec<Vec<u8>>,
    },
    /// Ask the server that keeps a partition for the time, writing to this key.
    Contact { key: String },
    /// Publish a canary by the way that events of a partition take.
    Canary { partition: usize, replica: ReplicaId, number: u64 },
}

impl Work {
    /// The room that it is in order with, if there is one.
    pub(super) fn room(&self) -> Option<&RoomName> {
        match self {
            Self::Append { hold, .. } => Some(&hold.room),
            Self::Script { room, .. } | Self::Publish { room, .. } => Some(room),
            Self::Renew { .. }
            | Self::Upkeep { .. }
            | Self::Contact { .. }
            | Self::Canary { .. } => None,
        }
    }

    /// About how many bytes it takes to ask for it.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Append { payload, .. } | Self::Publish { payload, .. } => payload.len(),
            Self::Renew { .. } => RENEW_BYTES,
            Self::Script { args, .. } | Self::Upkeep { args, .. } => {
                args.iter().map(Vec::len).sum()
            }
            Self::Contact { key } => key.len(),
            Self::Canary { .. } => CANARY_BYTES,
        }
    }
}
