//! Messages on their way into the log.

use std::{collections::VecDeque, time::Duration};

use roomcast_common::Position;
use roomcast_proto::room::NackReason;
use tokio::time::Instant;

use super::Violation;

/// How long to wait with a message whose refusal does not say it.
const RETRY: Duration = Duration::from_secs(1);

/// Messages that have no answer yet, in order; `T` is whom to tell.
///
/// The number of a message is `base` and its place behind the first one, so that giving one up
/// renumbers the rest. Within a session a number thus never names two messages that both may be in
/// the log: what was sent behind a refused message is refused, too.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    items: VecDeque<Item<T>>,
    /// The number of the first one.
    base: u64,
    /// How many of them were sent on this stream and have no answer.
    sent: usize,
    /// How many answers are still to come to what was sent behind a refused message.
    due: usize,
    /// When to send again.
    hold: Option<Instant>,
    /// The highest number that may be in the log: what was sent in this session, on any stream.
    high: u64,
    /// The server's bound on messages without an answer.
    window: usize,
    /// The session is another one, and it is still to be found out which messages the log has.
    settling: bool,
    /// There is a stream.
    open: bool,
}

#[derive(Debug)]
struct Item<T> {
    content: String,
    /// Where it was seen in the log.
    seen: Option<Position>,
    whom: T,
}

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    InLog { position: Option<Position>, duplicate: bool },
    Refused { reason: NackReason, detail: String },
}

/// Outcomes, and whom to tell.
pub(crate) type Resolved<T> = Vec<(T, Outcome)>;

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) number: u64,
    pub(crate) reason: NackReason,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) detail: String,
}

impl<T> Outbox<T> {
    /// Without messages, and without a stream.
    pub(crate) fn new() -> Self {
        Self {
            items: VecDeque::new(),
            base: 1,
            sent: 0,
            due: 0,
            hold: None,
            high: 0,
            window: 1,
            settling: false,
            open: false,
        }
    }

    /// Whether one more message may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.items.len() < self.window
    }

    /// Whether each message has its answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether some message may be in the log without our knowing.
    pub(crate) fn in_doubt(&self) -> bool {
        !self.items.is_empty() && self.high >= self.base
    }

    /// Adds a message.
    pub(crate) fn push(&mut self, content: String, whom: T) {
        self.items.push_back(Item { content, seen: None, whom });
    }

    /// Whether there is something to send now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        let waits = self.settling || self.due > 0 || self.hold.is_some_and(|until| now < until);
        self.open && !waits && self.sent < self.items.len().min(self.window)
    }

    /// When there will be, if that is a matter of time.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.hold.filter(|_| self.open && self.due == 0 && !self.settling && !self.is_empty())
    }

    /// The next message to send, with its number.
    pub(crate) fn send_next(&mut self, now: Instant) -> Option<(u64, &str)> {
        if !self.is_ready(now) {
            return None;
        }
        self.hold = None;
        let number = self.base + self.sent as u64;
        self.high = self.high.max(number);
        self.sent += 1;
        self.items.get(self.sent - 1).map(|item| (number, item.content.as_str()))
    }

    /// A message is in the log, and with it each one before.
    pub(crate) fn ack(
        &mut self,
        number: u64,
        position: Option<Position>,
        duplicate: bool,
    ) -> Result<Resolved<T>, Violation> {
        let behind = self.due > 0;
        let expected = if behind { self.high + 1 } else { self.base + self.sent as u64 };
        if number < self.base || number >= expected {
            return Err(Violation(format!("an ack for {number}, which waits for none")));
        }
        let count = usize::try_from(number - self.base).map_or(usize::MAX, |before| before + 1);
        if behind {
            self.due -= 1;
        } else {
            self.sent -= count;
        }
        self.base = number + 1;
        let done = self.items.drain(..count.min(self.items.len()));
        let mut resolved: Resolved<T> = done
            .map(|item| (item.whom, Outcome::InLog { position: item.seen, duplicate: true }))
            .collect();
        if let Some((_, outcome)) = resolved.last_mut() {
            *outcome = Outcome::InLog { position, duplicate };
        }
        Ok(resolved)
    }

    /// A message is not in the log. It is sent again, or given up.
    pub(crate) fn nack(
        &mut self,
        refusal: Refusal,
        now: Instant,
    ) -> Result<Resolved<T>, Violation> {
        let Refusal { number, reason, retry_after, detail } = refusal;
        if self.due > 0 {
            self.due -= 1;
            return Ok(Vec::new());
        }
        if self.sent == 0 || number != self.base || reason == NackReason::OutOfOrder {
            return Err(Violation(format!("message {number} was refused out of order")));
        }
        self.due = self.sent - 1;
        self.sent = 0;
        let wait = match reason {
            NackReason::Empty
            | NackReason::TooLarge
            | NackReason::Forbidden
            | NackReason::Muted => None,
            NackReason::TooFast | NackReason::Unavailable => Some(retry_after.unwrap_or(RETRY)),
            NackReason::Unspecified | NackReason::OutOfOrder => retry_after,
        };
        if let Some(wait) = wait {
            self.hold = Some(now + wait);
            return Ok(Vec::new());
        }
        self.high = self.base - 1;
        let given_up = self.items.pop_front();
        Ok(given_up
            .map(|item| (item.whom, Outcome::Refused { reason, detail }))
            .into_iter()
            .collect())
    }

    /// The stream is gone, and with it the answers.
    pub(crate) fn lost(&mut self) {
        self.open = false;
        self.sent = 0;
        self.due = 0;
    }

    /// A stream is there: all that has no answer is sent again. Of this session the log has the
    /// messages up to `last`; the answers to those say where.
    pub(crate) fn welcomed(
        &mut self,
        resumed: bool,
        last: u64,
        window: u32,
    ) -> Result<(), Violation> {
        self.lost();
        self.window = usize::try_from(window).unwrap_or(usize::MAX).max(1);
        if !resumed && self.in_doubt() {
            self.settling = true;
        }
        if !resumed && !self.settling {
            self.base = 1;
            self.high = 0;
        }
        if resumed && !self.settling {
            if last > self.high {
                return Err(Violation(format!("the session has {last} messages, we sent fewer")));
            }
            if last + 1 < self.base {
                // The log was rolled back behind what it had acknowledged.
                self.base = last + 1;
                self.high = last;
            }
        }
        self.open = true;
        Ok(())
    }

    /// A message was seen in the log. False if this cannot be that message.
    pub(crate) fn seen(&mut self, number: u64, at: Position, content: &str) -> bool {
        let Some(place) = number.checked_sub(self.base) else { return true };
        let item = usize::try_from(place).ok().and_then(|place| self.items.get_mut(place));
        match item {
            Some(item) if number <= self.high && item.content == content => {
                item.seen = Some(at);
                true
            }
            _ => false,
        }
    }

    /// All of the session before has been seen: what of it is in the log is done, and the rest is sent
    /// in this session.
    pub(crate) fn settle(&mut self) -> Resolved<T> {
        self.settling = false;
        self.base = 1;
        self.high = 0;
        let count = self.items.iter().rposition(|item| item.seen.is_some()).map_or(0, |at| at + 1);
        self.items
            .drain(..count)
            .map(|item| (item.whom, Outcome::InLog { position: item.seen, duplicate: true }))
            .collect()
    }

    /// Takes all messages out: nobody will send them. Says of each whether it may be in the log.
    pub(crate) fn abandon(&mut self) -> Vec<(T, bool)> {
        let (base, high) = (self.base, self.high);
        let items = self.items.drain(..).enumerate();
        items.map(|(place, item)| (item.whom, base + place as u64 <= high)).collect()
    }
}

#[cfg(test)]
mod tests;
