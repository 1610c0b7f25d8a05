//! What moderators do, as it stands in the log, and what they decide, as it is kept.

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message;

use super::{CodecError, nanos};
use crate::{
    backplane::BanNote,
    domain::{DisplayName, Moderation, ModerationAction, RoomRole, RoomSettings, Until},
    proto::internal::{
        self,
        moderated::{Action, Limited, Plain},
    },
};

/// What stands for no end at all: the largest number that scripts count exactly.
const FOREVER: i64 = (1 << 53) - 1;

/// When something ends, in milliseconds since the Unix epoch as scripts tell it.
pub(in super::super) fn until(millis: i64) -> Until {
    if millis >= FOREVER { None } else { Timestamp::from_millisecond(millis).ok() }
}

/// The same for scripts.
pub(in super::super) fn until_millis(until: Until) -> i64 {
    until.map_or(FOREVER, |until| until.as_millisecond().clamp(0, FOREVER))
}

pub(super) fn encode(moderation: &Moderation) -> internal::Moderated {
    let limited = |until: Until| Limited {
        until_millis: until.map_or(0, |_| until_millis(until).unsigned_abs()),
    };
    let action = match moderation.action {
        ModerationAction::Kicked => Action::Kicked(Plain {}),
        ModerationAction::Banned(until) => Action::Banned(limited(until)),
        ModerationAction::Unbanned => Action::Unbanned(Plain {}),
        ModerationAction::Muted(until) => Action::Muted(limited(until)),
        ModerationAction::Unmuted => Action::Unmuted(Plain {}),
        ModerationAction::RoleSet(role) => {
            Action::Role(role.map_or_else(String::new, |role| role.letter().to_string()))
        }
        ModerationAction::RoomSet(settings) => Action::Settings(settings.number()),
    };
    internal::Moderated {
        by: moderation.by.to_string(),
        reason: moderation.reason.to_string(),
        action: Some(action),
    }
}

/// `None` for what a later version invents.
pub(super) fn decode(moderated: internal::Moderated) -> Option<Arc<Moderation>> {
    let ends = |limited: Limited| match limited.until_millis {
        0 => None,
        millis => until(i64::try_from(millis).unwrap_or(FOREVER)),
    };
    let action = match moderated.action? {
        Action::Kicked(Plain {}) => ModerationAction::Kicked,
        Action::Banned(limited) => ModerationAction::Banned(ends(limited)),
        Action::Unbanned(Plain {}) => ModerationAction::Unbanned,
        Action::Muted(limited) => ModerationAction::Muted(ends(limited)),
        Action::Unmuted(Plain {}) => ModerationAction::Unmuted,
        Action::Role(letter) => {
            ModerationAction::RoleSet(letter.chars().next().and_then(RoomRole::from_letter))
        }
        Action::Settings(number) => ModerationAction::RoomSet(RoomSettings::from_number(number)),
    };
    let by = DisplayName::from_log(&moderated.by);
    Some(Arc::new(Moderation { action, by, reason: moderated.reason.into() }))
}

/// What is kept with a ban.
pub(in super::super) fn encode_note(note: &BanNote) -> Vec<u8> {
    internal::BanNote {
        username: note.name.as_ref().map_or_else(String::new, ToString::to_string),
        by: note.by.to_string(),
        reason: note.reason.to_string(),
        at_nanos: nanos(note.at),
    }
    .encode_to_vec()
}

/// Reads what is kept with a ban.
pub(in super::super) fn decode_note(note: &[u8]) -> Result<BanNote, CodecError> {
    let note = internal::BanNote::decode(note)?;
    let at = Timestamp::from_nanosecond(note.at_nanos.into());
    Ok(BanNote {
        name: (!note.username.is_empty()).then(|| DisplayName::from_log(&note.username)),
        by: DisplayName::from_log(&note.by),
        reason: note.reason.into(),
        at: at.map_err(|_| CodecError::Field("time"))?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_moderators_do_comes_back_as_it_was() {
        let until = Some(Timestamp::from_millisecond(1_795_519_353_123).unwrap());
        let settings = RoomSettings {
            slow_mode: Duration::from_secs(3),
            read_only: true,
            history_hidden: false,
        };
        for action in [
            ModerationAction::Kicked,
            ModerationAction::Banned(until),
            ModerationAction::Banned(None),
            ModerationAction::Unbanned,
            ModerationAction::Muted(until),
            ModerationAction::Muted(None),
            ModerationAction::Unmuted,
            ModerationAction::RoleSet(Some(RoomRole::Moderator)),
            ModerationAction::RoleSet(None),
            ModerationAction::RoomSet(settings),
        ] {
            let by = DisplayName::from_log("alice");
            let moderation = Moderation { action, by, reason: "spam".into() };
            assert_eq!(decode(encode(&moderation)).as_deref(), Some(&moderation));
        }
        assert_eq!(decode(internal::Moderated::default()), None);
    }
}
