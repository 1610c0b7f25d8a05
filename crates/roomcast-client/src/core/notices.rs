//! What is to be told of the way to the server while the application does not listen.

use crate::update::{Reason, Update};

/// News that wait for room in the application's buffer; they say the same when some are put together,
/// so that they never are more than two.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// The client went away.
    away: Option<Reason>,
    /// It came back since, and whether each session was resumed.
    back: Option<bool>,
    /// Whether `away` has been told.
    told_away: bool,
}

impl Notices {
    /// The stream is lost.
    pub(crate) fn away(&mut self, reason: Reason) {
        if self.back.is_some() && (self.away.is_some() || self.told_away) {
            // Nobody heard that it was back. What was told before stands.
            return;
        }
        self.away = Some(reason);
    }

    /// A stream is there again.
    pub(crate) fn back(&mut self, resumed: bool) {
        self.back = Some(resumed && self.back.unwrap_or(true));
    }

    /// The next one to tell. `is_here`: whether the client is in the room now.
    pub(crate) fn next(&mut self, is_here: bool) -> Option<Update> {
        if let Some(reason) = self.away.take() {
            self.told_away = true;
            return Some(Update::Disconnected { reason });
        }
        let resumed = if is_here { self.back.take()? } else { return None };
        self.told_away = false;
        Some(Update::Reconnected { resumed })
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self, is_here: bool) -> bool {
        self.away.is_none() && !(is_here && self.back.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(what: &str) -> Reason {
        Reason::Broken { what: what.to_owned() }
    }

    fn all(notices: &mut Notices) -> Vec<Update> {
        let told: Vec<_> = std::iter::from_fn(|| notices.next(true)).collect();
        assert!(notices.is_empty(true));
        told
    }

    #[test]
    fn each_is_told_when_somebody_listens() {
        let mut notices = Notices::default();
        assert!(notices.is_empty(true));
        notices.away(reason("a"));
        assert_eq!(notices.next(false), Some(Update::Disconnected { reason: reason("a") }));
        assert_eq!(notices.next(false), None);
        notices.back(true);
        assert_eq!(all(&mut notices), [Update::Reconnected { resumed: true }]);
        notices.away(reason("b"));
        notices.back(false);
        let told =
            [Update::Disconnected { reason: reason("b") }, Update::Reconnected { resumed: false }];
        assert_eq!(all(&mut notices), told);
    }

    #[test]
    fn many_are_put_together() {
        let mut notices = Notices::default();
        notices.away(reason("a"));
        notices.back(false);
        notices.away(reason("b"));
        assert_eq!(notices.next(false), Some(Update::Disconnected { reason: reason("a") }));
        assert_eq!(notices.next(false), None, "still away");
        notices.back(true);
        assert_eq!(all(&mut notices), [Update::Reconnected { resumed: false }]);
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut notices = Notices::default();
        notices.away(reason("a"));
        assert!(notices.next(false).is_some());
        notices.back(true);
        notices.away(reason("b"));
        assert!(notices.is_empty(false));
        notices.back(true);
        assert_eq!(all(&mut notices), [Update::Reconnected { resumed: true }]);
    }
}
