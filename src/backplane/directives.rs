//! What all replicas are told about subjects.

use std::sync::Arc;

use super::Unavailable;
use crate::domain::Directive;

/// The most directives at a time. Those that have served make room for others.
pub const DIRECTIVES: usize = 100_000;

/// All that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directives {
    /// Stands for this state: another one has another number.
    pub version: u64,
    /// Each with the subject that it is about, in no order.
    pub all: Vec<(Arc<str>, Directive)>,
}

/// Why a directive is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DirectError {
    /// There are [`DIRECTIVES`] already.
    #[error("there are {DIRECTIVES} revocations already")]
    Full,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
