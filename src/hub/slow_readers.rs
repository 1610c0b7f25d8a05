//! The slow-reader rule: a reader that takes nothing, or too little, delays nobody else, and what it costs is bounded.
//!
//! | what waits | where | bound |
//! |---|---|---|
//! | for all readers of a room | its window, once | `limits.window_events`, `limits.window_bytes`; of all rooms together `limits.unread_bytes` |
//! | for one that fell off the window (`v1`) | a page of the log | a `PAGE`; of all such readers together `limits.unread_bytes` |
//! | for one stream | HTTP/2 | its client's window, and [`chunk`]s beyond it as far as [`credit`] goes; counted with the pages |
//! | for one connection | its socket | one write; closed once it takes nothing for 30 s (`STALLED` in `transport/connection.rs`) |
//!
//! - A room whose fastest reader has half of the window to take pauses for up to `PAUSE`: what comes next must not push readers
//!   off that would take it. A room that paused in vain does not so again for `PAUSED_IN_VAIN`.
//! - A reader whose place has left the window is slow: in the `chat` protocol its stream ends ([`Notice::TooSlow`]), in
//!   `v1` it becomes a catch-up reader (`catch_up_reader.rs`).
//! - A `v1` client that takes nothing for `server.idle_timeout` is reset, and its session lingers. A stream that has
//!   ended gets [`LAST_CHANCE`] to take the rest.
//!
//! [`Notice::TooSlow`]: super::Notice::TooSlow

use std::time::Duration;

use crate::{
    backplane::PageLimit,
    domain::{Event, EventKind},
};

/// The most that a crowded room pauses: its readers run now, if they run at all.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// How long a room does not pause again after it paused in vain.
pub(super) const PAUSED_IN_VAIN: Duration = Duration::from_secs(1);

/// The part of a window that makes a room crowded once even its fastest reader has to take it.
pub(super) const CROWDED: usize = 2;

/// The part of a window that readers are woken for at once, whatever their room waits for.
pub(super) const PRESSING: usize = 4;

/// So many readers are looked at for every event; where there are more, so many events are kept although
/// all have taken them.
pub(super) const FEW: usize = 64;

/// What an event costs in memory beside its content, about: itself, its frames, its slot.
pub(super) const EVENT_OVERHEAD: usize = 256;

/// How much of the log is read at a time for a catch-up reader. It takes all of it before the next page is read, at its
/// own pace.
const PAGE: PageLimit = PageLimit { events: 256, bytes: 64 * 1024 };

/// The same where readers have much already that they do not take.
const SMALL_PAGE: PageLimit = PageLimit { events: 16, bytes: 4 * 1024 };

/// How much is read at a time for a catch-up reader; `tight` where readers have much already that they do not take.
pub(super) fn page(tight: bool) -> PageLimit {
    if tight { SMALL_PAGE } else { PAGE }
}

/// For how many catch-up readers the log is read at a time; the others wait.
pub(super) const CATCH_UPS: usize = 32;

/// About what an event costs in memory that was read for one reader.
pub(super) fn weight_of_one(event: &Event) -> usize {
    EVENT_OVERHEAD + event.size()
}

/// About what an event of a window costs in memory: its content once as it came, once encoded.
pub(super) fn weight(event: &Event) -> usize {
    EVENT_OVERHEAD
        + match &event.what {
            EventKind::Said { content } => 2 * content.len(),
            EventKind::Moderated(moderation) => 2 * moderation.reason.len(),
            EventKind::Joined | EventKind::Left { .. } | EventKind::Unknown => 0,
        }
}

/// About how many bytes a stream hands to HTTP/2 at a time.
pub fn chunk(tight: bool) -> usize {
    if tight { 4 * 1024 } else { 32 * 1024 }
}

/// So many bytes are handed over before it is asked again whether the client takes them. Asking costs more than
/// sending a message, and what the client does not take waits in HTTP/2.
pub fn credit(tight: bool) -> usize {
    if tight { 4 * 1024 } else { 16 * 1024 }
}

/// What a frame costs in HTTP/2 beside its bytes, about.
pub const FRAME_OVERHEAD: usize = 256;

/// What waits in HTTP/2 is counted for the whole replica from so many bytes of a stream on, and in such steps.
pub const STEP: usize = 8 * 1024;

/// How long a stream that has ended waits for its client to take the rest; then it is reset.
pub const LAST_CHANCE: Duration = Duration::from_secs(60);
