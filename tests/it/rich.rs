//! The rich door, as its protocol says: sessions, acknowledgements, events without holes.

mod resuming;
mod saying;
mod tokens;
