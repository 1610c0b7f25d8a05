//! Which replica is meant.

/// Names one attached replica within one memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct OutletId(pub(super) u64);
