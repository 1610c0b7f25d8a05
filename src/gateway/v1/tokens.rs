//! Newer tokens that a client shows on a stream.

use std::time::{Duration, Instant};

use crate::{
    backplane::Hold,
    domain::{RoomName, Username},
    gateway::{
        authentication::Authenticator,
        principal::Principal,
        status::{Outcome, status},
        users::UserStream,
    },
    room::{Rate, RateLimiter},
    session::{Ending, Rights},
};

/// How many newer tokens a stream may show: each takes its time to verify.
const TOKENS: Rate = Rate { interval: Duration::from_secs(1), burst: 10 };

/// Whose stream it is, as newer tokens have to say.
pub(super) struct Tokens<'a> {
    authenticator: &'a Authenticator,
    principal: &'a Principal,
    user: Option<&'a UserStream>,
    name: Username,
    room: RoomName,
    /// By the token that counts.
    rights: Rights,
    /// How many it may show yet.
    limiter: RateLimiter,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(
        authenticator: &'a Authenticator,
        principal: &'a Principal,
        user: Option<&'a UserStream>,
        hold: &Hold,
    ) -> Self {
        let limiter = RateLimiter::full(TOKENS, Instant::now());
        let (name, room) = (hold.name.clone(), hold.room.clone());
        let rights = principal.rights(&room);
        Self { authenticator, principal, user, name, room, rights, limiter }
    }

    /// What the token that counts allows.
    pub(super) fn rights(&self) -> Rights {
        self.rights
    }

    /// What a newer token allows, if it is of the same subject and lets it go on as who it is, where it is. One whose
    /// key is not known yet changes nothing.
    pub(super) fn renew(&mut self, token: &str) -> Result<Rights, Ending> {
        if self.limiter.take(Instant::now()).is_err() {
            return Err(Ending::Denied("too many tokens on one stream".to_owned()));
        }
        let newer = match self.authenticator.bearer(token) {
            Err(Outcome::UnknownKey | Outcome::KeysUnavailable) => return Ok(self.rights),
            newer => newer.map_err(ending)?,
        };
        if newer.subject() != self.principal.subject() {
            return Err(Ending::Denied("the newer token is for another subject".to_owned()));
        }
        newer.may_be_called(&self.name).map_err(ending)?;
        self.rights = newer.rights(&self.room);
        if let Some(user) = self.user {
            user.renewed(newer.issued_at());
        }
        Ok(self.rights)
    }
}

/// How a stream ends for it.
fn ending(outcome: Outcome) -> Ending {
    match outcome {
        Outcome::Unauthenticated(why) => Ending::Unauthenticated(why),
        outcome => Ending::Denied(status(&outcome).message().to_owned()),
    }
}
