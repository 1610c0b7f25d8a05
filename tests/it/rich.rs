//! The `v1` protocol, as its protocol says: sessions, acknowledgements, events without holes.

mod asking;
mod endings;
mod flooding;
mod losing;
mod python;
mod resuming;
mod saying;
mod slow;
mod tokens;
