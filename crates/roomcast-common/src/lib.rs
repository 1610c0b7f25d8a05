//! What roomcast's server and its client library share: positions in a room's log, and which text can be shown
//! as it is. No I/O, no protocol.

mod position;
pub mod text;

pub use position::{Epoch, Position};
