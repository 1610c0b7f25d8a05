//! The words of the problem: names, positions, events. No I/O, no clock, no chance.
//!
//! Everything here is parsed once, where it comes in, and stays typed from then on.

mod address;
mod contact;
mod directive;
mod event;
mod ids;
mod log;
mod moderation;
mod room_name;
mod secret;
mod username;

pub use address::{Network, NetworkError, forwarded_for, origin};
pub use contact::Contact;
pub use directive::Directive;
pub use event::{Event, EventKind, LeftCause, Member, TraceParent};
pub use ids::{FencingToken, ReplicaId, SessionId, StreamId};
pub use log::{Head, PAST_EPOCHS, Page};
pub use moderation::{Identity, Moderation, ModerationAction, RoomRole, RoomSettings, Until};
pub use room_name::{RoomName, RoomNameError};
pub use roomcast_common::{Epoch, Position};
pub use secret::SecretHash;
pub use username::{DisplayName, Username, UsernameError, UsernameLimits};
