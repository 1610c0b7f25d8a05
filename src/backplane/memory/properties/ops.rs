//! What can happen to a room.

use proptest::prelude::*;

/// One step of a history. Holds are chosen among those asked for so far.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// A new stay asks for a name on a replica; `evict` when it was told who is overdue, which it is if it may reap.
    Join {
        replica: usize,
        name: usize,
        linger: u64,
        may_reap: bool,
        evict: bool,
    },
    /// A join is repeated.
    Repeat {
        hold: prop::sample::Index,
    },
    /// A membership asks for its name again, with a new token and a confirmed position.
    Again {
        hold: prop::sample::Index,
        log_lost: bool,
    },
    /// Another stream asks for a membership's name, as one that has looked it up, or has not.
    Takeover {
        replica: usize,
        hold: prop::sample::Index,
        looked: bool,
    },
    /// A stream drops, and its membership's name lingers.
    Linger {
        hold: prop::sample::Index,
        seconds: u64,
    },
    Say {
        hold: prop::sample::Index,
        client_seq: u64,
    },
    Leave {
        hold: prop::sample::Index,
    },
    Check {
        hold: prop::sample::Index,
    },
    /// A replica renews its lease.
    Renew {
        replica: usize,
    },
    /// It begins another one.
    Renounce {
        replica: usize,
    },
    /// One notes who is overdue, and declares others dead...
    Look {
        replica: usize,
    },
    /// ...and acts on the latest note, perhaps much later.
    Reap,
    Pass {
        seconds: u64,
    },
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let hold = any::<prop::sample::Index>;
    let replica = || 0..super::REPLICAS;
    prop_oneof![
        4 => (replica(), 0..super::NAMES.len(), 0..20_u64, any::<[bool; 2]>()).prop_map(
            |(replica, name, linger, [may_reap, evict])| Op::Join {
                replica,
                name,
                linger: linger.saturating_sub(10),
                may_reap,
                evict,
            }
        ),
        1 => hold().prop_map(|hold| Op::Repeat { hold }),
        2 => (hold(), any::<bool>()).prop_map(|(hold, log_lost)| Op::Again { hold, log_lost }),
        2 => (replica(), hold(), any::<bool>())
            .prop_map(|(replica, hold, looked)| Op::Takeover { replica, hold, looked }),
        2 => (hold(), 0..30_u64).prop_map(|(hold, seconds)| Op::Linger { hold, seconds }),
        6 => (hold(), 0..6_u64).prop_map(|(hold, client_seq)| Op::Say { hold, client_seq }),
        2 => hold().prop_map(|hold| Op::Leave { hold }),
        3 => hold().prop_map(|hold| Op::Check { hold }),
        4 => replica().prop_map(|replica| Op::Renew { replica }),
        1 => replica().prop_map(|replica| Op::Renounce { replica }),
        2 => replica().prop_map(|replica| Op::Look { replica }),
        2 => Just(Op::Reap),
        4 => (1..12_u64).prop_map(|seconds| Op::Pass { seconds }),
    ]
}
