//! The pure core of a room on one replica: what to deliver, in which order, and what is missing.
//!
//! No I/O, no clock, no chance: events and instants come in as arguments, decisions go out.

mod coalescer;
mod item;
mod log_cursor;
mod rate_limiter;
mod rate_limiters;
mod reap_guard;
mod ring_buffer;
mod sequencer;

pub use coalescer::Coalescer;
pub use item::{Item, Lost};
pub use log_cursor::LogCursor;
pub use rate_limiter::{Rate, RateLimiter};
pub use rate_limiters::RateLimiters;
pub use reap_guard::ReapGuard;
pub use ring_buffer::{Fallen, RingBuffer};
pub use sequencer::{Moves, Sequencer};
