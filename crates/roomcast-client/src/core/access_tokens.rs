//! Which access token is shown to servers, and when a newer one is wanted.

use std::time::Duration;

use roomcast_proto::room::ErrorReason;
use tokio::time::Instant;

use super::retry_policy::Stage;
use crate::{access_token::AccessToken, update::Reason};

/// The least time between two tokens on a stream: a server takes ten at once, then one in so long.
const PACE: Duration = Duration::from_secs(1);
/// The bound of the first wait after a call that gave no token, while a stream is open.
const FIRST: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST: Duration = Duration::from_secs(10);
/// How long servers may take to learn of the key that a token names: they ask for new keys every 30 s.
const KEY_COMES: Duration = Duration::from_secs(120);

/// The token in use, and what is known of it.
#[derive(Debug)]
pub(crate) struct AccessTokens {
    /// There may be a newer one.
    renewable: bool,
    current: Option<Current>,
    /// It is still to be shown on the stream that is open.
    unshown: bool,
    /// When a newer one was last shown on a stream.
    shown: Option<Instant>,
    /// When a newer one is to be asked for, while a stream is open.
    due: Option<Instant>,
    /// Calls in a row that gave none.
    failures: u32,
    /// Since when servers do not know the key that the token names.
    key_unknown: Option<Instant>,
}

#[derive(Debug)]
struct Current {
    token: AccessToken,
    /// How often it was shown.
    uses: u32,
    /// A server has let us in by it.
    accepted: bool,
    /// When it expires, once a server has said that.
    expires: Option<Instant>,
    /// A server did not take it, or does so no more.
    outdated: bool,
}

/// What the end of a stream or of an attempt says about the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenVerdict {
    /// Nothing: it ended for another reason.
    Unrelated,
    /// Try again: by a newer token, where one is wanted.
    Again,
    /// Give up: it is not good, or there is none.
    Invalid,
    /// Give up: it has expired, and there is no newer one.
    Expired,
    /// Give up: it gives no right to this.
    Forbidden,
    /// Give up: the session is another subject's.
    OtherSubject,
}

/// A source gave the token again that was to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SameToken;

impl AccessTokens {
    /// No token yet. `renewable`: whether there is a source that may have more than one.
    pub(crate) fn new(renewable: bool) -> Self {
        Self {
            renewable,
            current: None,
            unshown: false,
            shown: None,
            due: None,
            failures: 0,
            key_unknown: None,
        }
    }

    /// The token in use.
    pub(crate) fn current(&self) -> Option<&AccessToken> {
        self.current.as_ref().map(|current| &current.token)
    }

    /// The token for the next attempt.
    pub(crate) fn for_attempt(&mut self) -> Option<AccessToken> {
        let current = self.current.as_mut()?;
        current.uses += 1;
        Some(current.token.clone())
    }

    /// Whether the next attempt is to wait for a newer one, where there is a source.
    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        match &self.current {
            None => true,
            Some(current) => self.renewable && (current.outdated || current.has_expired(now)),
        }
    }

    /// When a newer one is to be asked for while a stream is open.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The server has said in how long the token expires. A newer one is asked for within the first half of that,
    /// by chance, so that not all clients ask at once. `chance` is from 0 to 1.
    pub(crate) fn expires_in(&mut self, left: Duration, now: Instant, chance: f64) {
        if let Some(current) = &mut self.current {
            current.expires = now.checked_add(left);
        }
        if !self.renewable {
            return;
        }
        let Some(at) = now.checked_add(left.mul_f64(chance.clamp(0.0, 1.0) / 2.0)) else { return };
        let at = self.shown.map_or(at, |shown| at.max(shown + PACE));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// A call gave this token.
    pub(crate) fn take(&mut self, token: AccessToken, now: Instant) -> Result<(), SameToken> {
        match &mut self.current {
            Some(current) if current.token == token => {
                if current.accepted || !current.outdated || current.has_expired(now) {
                    return Err(SameToken);
                }
                // No server has ever taken it. What the next one says is the last word.
                (current.uses, current.outdated) = (0, false);
            }
            current => {
                *current = Some(Current {
                    token,
                    uses: 0,
                    accepted: false,
                    expires: None,
                    outdated: false,
                });
                self.unshown = true;
            }
        }
        self.due = None;
        self.failures = 0;
        Ok(())
    }

    /// A call gave none, or the same: it is made again after a random wait. `chance` is from 0 to 1.
    pub(crate) fn failed(&mut self, now: Instant, chance: f64) {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        self.due = Some(now + bound.mul_f64(chance.clamp(0.0, 1.0)));
    }

    /// We are in, by the token of the attempt.
    pub(crate) fn welcomed(&mut self) {
        if let Some(current) = &mut self.current {
            current.accepted = true;
        }
        self.unshown = false;
        self.key_unknown = None;
    }

    /// Whether a newer token is to be shown on the stream.
    pub(crate) fn is_unshown(&self) -> bool {
        self.unshown
    }

    /// The token to show on the stream now.
    pub(crate) fn show(&mut self, now: Instant) -> Option<AccessToken> {
        if !std::mem::take(&mut self.unshown) {
            return None;
        }
        self.shown = Some(now);
        self.for_attempt()
    }

    /// A stream or an attempt ended.
    pub(crate) fn judge(&mut self, stage: Stage, reason: &Reason, now: Instant) -> TokenVerdict {
        let Reason::Ended { details, .. } = reason else { return TokenVerdict::Unrelated };
        match details.known() {
            Some(ErrorReason::TokenExpired) => self.outdated(TokenVerdict::Expired),
            Some(ErrorReason::InvalidToken) if details.retry_after.is_some() => {
                let since = *self.key_unknown.get_or_insert(now);
                if now.duration_since(since) >= KEY_COMES {
                    return TokenVerdict::Invalid;
                }
                self.outdated(TokenVerdict::Again)
            }
            Some(ErrorReason::InvalidToken) => match &self.current {
                Some(current) if current.has_expired(now) => self.outdated(TokenVerdict::Expired),
                // It may have expired since it was gotten.
                Some(current) if current.accepted || current.uses > 1 => {
                    self.outdated(TokenVerdict::Invalid)
                }
                Some(_) | None => TokenVerdict::Invalid,
            },
            Some(ErrorReason::Forbidden) => TokenVerdict::Forbidden,
            Some(ErrorReason::InvalidSessionToken)
                if stage == Stage::Resuming
                    && self.current.as_ref().is_some_and(|current| !current.accepted) =>
            {
                TokenVerdict::OtherSubject
            }
            _ => TokenVerdict::Unrelated,
        }
    }

    /// The token is of no use any more. `alone`: what that means where there is no newer one.
    fn outdated(&mut self, alone: TokenVerdict) -> TokenVerdict {
        if !self.renewable {
            return alone;
        }
        if let Some(current) = &mut self.current {
            current.outdated = true;
        }
        TokenVerdict::Again
    }
}

impl Current {
    fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

#[cfg(test)]
mod tests;
