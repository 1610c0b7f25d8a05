//! When a room is asked for where it stands, and what that means for its members.

use std::time::Duration;

use tokio::time::Instant;

use super::Room;
use crate::{backplane::RoomHead, domain::Epoch, hub::look::Whom};

impl Room {
    /// Whether to ask now where it stands. Gives up on readers that do not come to what is traced.
    pub(in crate::hub) fn is_look_due(&self, now: Instant) -> bool {
        let mut state = self.lock();
        for slot in state.window.since(state.window.first()).into_iter().flatten() {
            slot.end_overdue_delivery();
        }
        let epoch = state.sequencer.place().position().map(|at| at.epoch);
        let happened = state.window.head();
        state.look.is_due(now, happened, epoch)
    }

    /// Whether a member is here whose name is to be kept: others only watch.
    pub(in crate::hub) fn has_members(&self) -> bool {
        self.lock().readings.iter().any(|(_, reading)| reading.member.is_held())
    }

    /// Something may have been missed.
    pub(in crate::hub) fn look_again(&self) {
        self.lock().look.again(Instant::now());
    }

    /// Members may have lost their holds: they are to be checked after so long.
    pub(in crate::hub) fn doubt(&self, after: Duration) {
        self.lock().look.doubt(Instant::now() + after);
    }

    /// A member has joined in this epoch, when there had been so many takeovers.
    pub(in crate::hub) fn note_joined(&self, epoch: Epoch, takeovers: u64) {
        self.lock().look.joined(epoch, takeovers);
    }

    /// Who is to be checked, now that the room stands there.
    pub(in crate::hub) fn whom_to_check(&self, head: &RoomHead) -> Whom {
        let mut state = self.lock();
        let whom = state.look.judge(head.log.position.epoch, head.takeovers);
        if whom == Whom::All {
            state.look.clear_doubt();
        }
        whom
    }

    /// All members were checked as far as that was needed, with the room standing there.
    pub(in crate::hub) fn note_confirmed(&self, head: &RoomHead) {
        self.lock().look.confirmed(head.log.position.epoch, head.takeovers);
    }
}
