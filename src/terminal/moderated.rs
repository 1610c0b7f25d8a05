//! What moderators do, in words.

use roomcast_client::{Moderation, ModerationAction};
use roomcast_common::text::sanitise;

use super::style::timestamp;

/// What was done to whom: "bob was muted until …, by alice: spam". `None` for what this version does not know.
pub(super) fn words(name: &str, moderation: &Moderation) -> Option<String> {
    let whom = if name.is_empty() { "somebody" } else { name };
    let until = |until: &Option<_>| {
        until.map_or_else(String::new, |until| format!(" until {:.0}", timestamp(until)))
    };
    let what = match &moderation.action {
        ModerationAction::Kicked => format!("{whom} was kicked"),
        ModerationAction::Banned(ends) => format!("{whom} was banned{}", until(ends)),
        ModerationAction::Unbanned => format!("{whom} may come in again"),
        ModerationAction::Muted(ends) => format!("{whom} was muted{}", until(ends)),
        ModerationAction::Unmuted => format!("{whom} may speak again"),
        ModerationAction::RoleSet(role) if role.is_empty() => {
            format!("{whom} has the role of its token again")
        }
        ModerationAction::RoleSet(role) => format!("{whom} has the role {} now", sanitise(role)),
        ModerationAction::RoomSet => "the room's settings were changed".to_owned(),
        _ => return None,
    };
    let (by, reason) = (sanitise(&moderation.by), sanitise(&moderation.reason));
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Some(format!("{what}, by {by}{why}"))
}
