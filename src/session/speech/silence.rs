//! What becomes of what is said when moderators have its sender be silent, or wait.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answered, Message, Publisher, Waiting};
use crate::{
    backplane::Silenced,
    session::{Answer, Ending, Refused},
};

/// How long a client that cannot be told to wait is held back by a room's slow mode; its stream is ended otherwise.
const SLOW_MODE_PATIENCE: Duration = Duration::from_secs(60);

impl Publisher<'_> {
    /// Whether its client may speak, as far as its token says. A role that was set in the room goes before that, and is
    /// judged with each message.
    pub(super) fn may_speak(&self) -> bool {
        self.speaks || self.membership.member().role_set().is_some()
    }

    /// A moderator has had the client not say this, or not yet.
    pub(super) fn on_silenced(
        &mut self,
        message: Message,
        silenced: Silenced,
    ) -> Result<(), Ending> {
        if self.link.is_some() {
            self.refuse_in_turn(message.seq, silenced.into());
            return Ok(());
        }
        match silenced {
            Silenced::SlowMode(wait) if wait <= SLOW_MODE_PATIENCE => {
                self.slow_until = Some(Instant::now() + wait);
                self.stale.push_back(Waiting::Message(message));
                Ok(())
            }
            Silenced::Muted(until) => Err(Ending::Muted(until)),
            Silenced::Reader | Silenced::ReadOnly | Silenced::SlowMode(_) => {
                Err(Ending::Denied(Refused::from(silenced).to_string()))
            }
        }
    }

    /// A message is not in the log. Its turn to be told so comes after those before it.
    pub(super) fn refuse_in_turn(&mut self, seq: u64, refused: Refused) {
        if self.stale.is_empty() {
            self.refuse(seq, refused);
        } else {
            let nack = Answer::Nack { client_seq: seq, refused };
            self.stale.push_back(Waiting::Later(Answered::Settled(nack)));
        }
    }
}
