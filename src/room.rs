//! The pure core of a room on one replica: what to deliver, in which order, and what is missing.
//!
//! No I/O, no clock, no chance: events and instants come in as arguments, decisions go out.

mod bucket;
mod buckets;
mod feed;
mod gather;
mod item;
mod place;
mod steady;
mod window;

pub use bucket::{Bucket, Rate};
pub use buckets::Buckets;
pub use feed::{Feed, Moves};
pub use gather::Gather;
pub use item::{Item, Lost};
pub use place::Place;
pub use steady::Steady;
pub use window::{Fallen, Window};
