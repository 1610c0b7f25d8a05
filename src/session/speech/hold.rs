//! What becomes of what was said when the hold of the name is in doubt.

use futures_util::{FutureExt, Stream, StreamExt, future::ready};
use tracing::{debug, info, warn};

use super::{Answered, Message, Publisher, Waiting};
use crate::{
    hub::{Notice, PutOut, Reacquired},
    session::{Answer, Ending, Input, Refused},
};

impl Publisher<'_> {
    /// Acts on what happened to the hold.
    pub(in crate::session) async fn on_notice(
        &mut self,
        notice: Notice,
        input: &mut (impl Stream<Item = Result<Input, Ending>> + Unpin),
    ) -> Result<(), Ending> {
        if notice == Notice::TooSlow {
            self.hub.metrics().slow_readers_dropped.inc();
            return Err(Ending::TooSlow);
        }
        if notice == Notice::Moved {
            return Err(Ending::Superseded);
        }
        if notice == Notice::Kicked {
            let reason = self.membership.member().kicked().unwrap_or_default();
            return Err(Ending::PutOut(PutOut::Kicked(reason)));
        }
        while let Some(answered) = self.inflight.next().await {
            self.note(answered)?;
        }
        let ended = self.take_ready(input);
        self.reacquire(ended, false).await
    }

    /// Takes the name again and goes on, if that can be. Nothing that was said under a hold that
    /// the room saw end is ever delivered. `ended` tells whether the client has; the membership ends after its `last`
    /// words in any case.
    pub(super) async fn reacquire(
        &mut self,
        ended: Result<(), Ending>,
        last: bool,
    ) -> Result<(), Ending> {
        let messages = self.stale.iter().filter_map(|it| match it {
            Waiting::Message(message) => Some(message.seq),
            Waiting::Later(_) => None,
        });
        let first_missing = messages.min().unwrap_or(self.next_seq).min(self.next_seq);
        let appended = self.find_appended(first_missing - 1).await;
        let first_missing = appended + 1;
        match self.membership.reacquire(appended, last).await {
            Ok(Reacquired::Kept) => {
                self.say_again();
                ended
            }
            Ok(Reacquired::Anew) => {
                info!("the lease had ended; the name was free and is held again");
                self.drop_stale(Refused::HeldAnew);
                self.next_seq = first_missing;
                ended
            }
            Ok(Reacquired::Ended) => {
                info!("the lease had ended, and the room knows; the last words are not delivered");
                let unheard = !self.stale.is_empty() && self.link.is_none();
                self.drop_stale(Refused::Unavailable);
                if unheard { Err(Ending::Unavailable) } else { ended }
            }
            Ok(Reacquired::Moved) => {
                self.forget_stale();
                Err(Ending::Superseded)
            }
            Ok(Reacquired::PutOut(put_out)) => {
                self.forget_stale();
                Err(Ending::PutOut(put_out))
            }
            Ok(Reacquired::Taken) => {
                info!("the lease had ended and somebody else holds the name");
                self.forget_stale();
                Err(Ending::NameLost)
            }
            // A message cannot wait longer; a mere reader can, until the next renewal.
            Err(_) if !self.stale.is_empty() && self.link.is_none() => Err(Ending::Unavailable),
            Err(_) => {
                debug!("the hold cannot be cleared up yet");
                self.drop_stale(Refused::Unavailable);
                ended
            }
        }
    }

    /// Has everything appended that waited, in its order.
    pub(super) fn say_again(&mut self) {
        let hold = self.membership.member().hold();
        for waiting in std::mem::take(&mut self.stale) {
            match waiting {
                Waiting::Message(message) => self.append(hold.clone(), message),
                Waiting::Later(later) => self.inflight.push_back(ready(later).boxed()),
            }
        }
    }

    /// The last client sequence that is in the log, at least `known`: a message that was refused because
    /// no answer came may have arrived all the same. Should the room have seen the hold end, nobody but
    /// the log knows.
    async fn find_appended(&mut self, known: u64) -> u64 {
        let (Some(positions), true) = (self.positions.clone(), self.uncertain > known) else {
            return known;
        };
        let (backplane, hold) = (self.hub.backplane(), self.membership.member().hold());
        let found = positions.find_after(backplane, &hold.room, hold.session, known).await;
        let appended = found.unwrap_or(known);
        self.next_seq = self.next_seq.max(appended + 1);
        // What is there already is only answered.
        for waiting in &mut self.stale {
            if let Waiting::Message(message) = waiting
                && message.seq <= appended
            {
                message.missing = None;
                *waiting = Waiting::Later(Answered::Repeated(message.seq));
            }
        }
        appended
    }

    /// Takes in what has arrived, and sets it aside: it was said under the old hold, and what comes later
    /// may be an answer to the room's hearing of the new one. An error tells how the client ended. Where
    /// messages have numbers, they tell as much.
    pub(super) fn take_ready(
        &mut self,
        input: &mut (impl Stream<Item = Result<Input, Ending>> + Unpin),
    ) -> Result<(), Ending> {
        if self.link.is_some() {
            return Ok(());
        }
        if let Some(say) = self.take_held() {
            let message = self.take_in(say)?;
            self.stale.extend(message.map(Waiting::Message));
        }
        while self.stale.len() < self.limits.inflight
            && let Some(next) = input.next().now_or_never()
        {
            if let Input::Say(say) = next.unwrap_or(Err(Ending::HalfClosed))? {
                let message = self.take_in(say)?;
                self.stale.extend(message.map(Waiting::Message));
            }
        }
        Ok(())
    }

    /// Tells the client that what waited is not in the log; where it cannot be told, the log is.
    fn drop_stale(&mut self, refused: Refused) {
        if self.link.is_none() {
            return self.forget_stale();
        }
        // Nothing is under way: what is answered through there comes in its turn.
        for waiting in std::mem::take(&mut self.stale) {
            let answered = match waiting {
                Waiting::Message(Message { seq, .. }) => {
                    self.next_seq = self.next_seq.min(seq);
                    Answered::Settled(Answer::Nack { client_seq: seq, refused })
                }
                Waiting::Later(later) => later,
            };
            self.inflight.push_back(ready(answered).boxed());
        }
    }

    fn forget_stale(&mut self) {
        let messages = |it: &Waiting| matches!(it, Waiting::Message(_));
        let dropped = std::mem::take(&mut self.stale).iter().filter(|it| messages(it)).count();
        if dropped > 0 {
            warn!(dropped, "messages of the hold that ended are not delivered");
            self.hub.metrics().stale_messages_dropped.inc_by(dropped as u64);
        }
    }
}
