//! What moderators have decided, as far as it concerns who is in a room.

use std::sync::Arc;

use tokio::time::Instant;

use super::Room;
use crate::{
    backplane::{
        Affected, Enforcement, Hold, JoinError, Measure,
        memory::decisions::{Decided, Ends},
    },
    domain::RoomRole,
};

impl Room {
    /// Whether whoever wants to come in may, as far as moderators are concerned.
    pub(super) fn admits(
        &self,
        now: Instant,
        hold: &Hold,
        decided: &Decided,
    ) -> Result<(), JoinError> {
        let kicked = self.left.iter().find_map(|(until, session, reason)| {
            reason.as_ref().filter(|_| *session == hold.session && *until > now)
        });
        if let Some(reason) = kicked {
            return Err(JoinError::Kicked { reason: Arc::clone(reason) });
        }
        if let Some(until) = decided.banned {
            return Err(JoinError::Banned(until));
        }
        if decided.role.unwrap_or(hold.role) == RoomRole::None {
            return Err(JoinError::Forbidden);
        }
        Ok(())
    }

    /// See [`crate::backplane::Backplane::enforce`].
    pub(in super::super) fn enforce(
        &mut self,
        now: Instant,
        enforcement: &Enforcement<'_>,
    ) -> usize {
        let Enforcement { measure, members, otherwise, .. } = enforcement;
        if let Measure::Room(settings) = measure {
            self.settings = *settings;
        }
        let mut done = 0;
        for affected in *members {
            if self.enforce_on(now, measure, affected) {
                done += 1;
            }
        }
        if let (0, Some(event)) = (done, otherwise) {
            self.said = true;
            self.log.push(now, Arc::clone(event));
        }
        self.touch(now);
        done
    }

    fn enforce_on(&mut self, now: Instant, measure: &Measure<'_>, affected: &Affected) -> bool {
        let Affected { skeleton, member, told, left } = affected;
        let seat = self.seats.get_mut(skeleton);
        let Some(seat) = seat.filter(|seat| seat.member.session == member.session) else {
            return false;
        };
        match *measure {
            Measure::Remove { reason } => {
                self.seats.remove(skeleton);
                let reason = Some(Arc::from(reason));
                self.left.push_back((self.known_until(now), member.session, reason));
            }
            Measure::Mute(until) => seat.muted = until.map(|until| Ends::told(until, now)),
            Measure::Role(role) => seat.set_role = role,
            Measure::Room(_) | Measure::Nothing => {}
        }
        self.said = true;
        self.log.push(now, Arc::clone(told));
        if let Some(left) = left {
            self.log.push(now, Arc::clone(left));
        }
        true
    }
}
