//! What can happen to a room.

use proptest::prelude::*;

/// One step of a history. Holds are chosen among those asked for so far.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// A new stay asks for a name; `evict` when it was told who is overdue, which it is if it may reap.
    Join {
        name: usize,
        linger: u64,
        may_reap: bool,
        reap_first: bool,
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
    Renew {
        hold: prop::sample::Index,
    },
    /// Somebody notes who is overdue...
    Look,
    /// ...and acts on the latest note, perhaps much later.
    Reap,
    Pass {
        seconds: u64,
    },
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let hold = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..super::NAMES.len(), 0..20_u64, any::<[bool; 3]>()).prop_map(
            |(name, linger, [may_reap, reap_first, evict])| Op::Join {
                name,
                linger: linger.saturating_sub(10),
                may_reap,
                reap_first,
                evict,
            }
        ),
        1 => hold().prop_map(|hold| Op::Repeat { hold }),
        2 => (hold(), any::<bool>()).prop_map(|(hold, log_lost)| Op::Again { hold, log_lost }),
        2 => (hold(), any::<bool>()).prop_map(|(hold, looked)| Op::Takeover { hold, looked }),
        2 => (hold(), 0..30_u64).prop_map(|(hold, seconds)| Op::Linger { hold, seconds }),
        6 => (hold(), 0..6_u64).prop_map(|(hold, client_seq)| Op::Say { hold, client_seq }),
        2 => hold().prop_map(|hold| Op::Leave { hold }),
        4 => hold().prop_map(|hold| Op::Renew { hold }),
        2 => Just(Op::Look),
        2 => Just(Op::Reap),
        4 => (1..12_u64).prop_map(|seconds| Op::Pass { seconds }),
    ]
}
