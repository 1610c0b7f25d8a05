//! Everything that may break breaks, in a seeded random order, while everybody talks.

mod checker;
mod record;
