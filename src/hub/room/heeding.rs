//! What moderators do to members, who hear of it by the room's events.

use std::sync::Arc;

use slab::Slab;

use super::reading::Reading;
use crate::domain::{Event, EventKind, LeftCause, ModerationAction, Position};

/// Tells members what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Heeding {
    /// Why somebody is put out: the `left` of it comes next.
    reason: Arc<str>,
}

impl Heeding {
    /// An event of the room that comes next.
    pub(super) fn heed(&mut self, position: Position, event: &Event, readings: &Slab<Reading>) {
        let here = || {
            let session = event.member.session;
            readings.iter().map(|(_, it)| &it.member).filter(move |it| it.session() == session)
        };
        match &event.what {
            EventKind::Moderated(moderation) => {
                self.reason = Arc::clone(&moderation.reason);
                if let ModerationAction::RoleSet(role) = moderation.action {
                    here().for_each(|member| member.set_role(role));
                }
            }
            EventKind::Left { cause: LeftCause::Kicked } => {
                here().for_each(|member| member.kick(position, Arc::clone(&self.reason)));
            }
            EventKind::Said { .. }
            | EventKind::Joined
            | EventKind::Left { .. }
            | EventKind::Unknown => {}
        }
    }
}
