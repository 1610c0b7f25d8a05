//! Who has streams here, by the subjects of their tokens: how many, how much they say together, and how all of them are
//! ended at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{
    admission::Full,
    authentication::{Authenticator, REVOKED, Revoked},
    principal::Principal,
};
use crate::{
    domain::Directive,
    room::{Rate, RateLimiter},
    session::Ending,
};

/// How many subjects may be known before those are forgotten that have no streams and owe nothing.
const KNOWN: usize = 1024;

/// All of them.
#[derive(Debug)]
pub struct Users {
    authenticator: Arc<Authenticator>,
    /// The most streams of one.
    most: usize,
    /// How much one may say.
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<Arc<str>, User>,
    /// How many subjects may be known before it is looked which are to be forgotten.
    most_known: usize,
    last_number: u64,
}

#[derive(Debug)]
struct User {
    rate: Arc<Mutex<RateLimiter>>,
    streams: HashMap<u64, Handle>,
}

/// A stream that can be ended.
#[derive(Debug)]
struct Handle {
    began: Timestamp,
    issued: Option<Timestamp>,
    end: Arc<End>,
}

/// How a stream is to end, once it is.
#[derive(Debug, Default)]
struct End {
    why: OnceLock<Ending>,
    told: CancellationToken,
}

impl End {
    fn tell(&self, ending: Ending) {
        let _ = self.why.set(ending);
        self.told.cancel();
    }
}

/// A stream of somebody whom a token names. Counted until it is dropped.
#[derive(Debug)]
pub(super) struct UserStream {
    users: Arc<Users>,
    subject: Arc<str>,
    number: u64,
    rate: Arc<Mutex<RateLimiter>>,
    end: Arc<End>,
}

impl Users {
    /// Those who show tokens to this; one of them may have so many streams, and say so much.
    pub fn new(authenticator: Arc<Authenticator>, most: usize, rate: Rate) -> Arc<Self> {
        let state = State { most_known: KNOWN, ..State::default() };
        Arc::new(Self { authenticator, most, rate, state: Mutex::new(state) })
    }

    /// Finds out who they are.
    pub(super) fn authenticator(&self) -> &Arc<Authenticator> {
        &self.authenticator
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more stream; `None` of those who show no token.
    pub(super) fn enter(
        self: &Arc<Self>,
        principal: &Principal,
    ) -> Result<Option<UserStream>, Full> {
        let Some(subject) = principal.subject() else { return Ok(None) };
        let mut state = self.lock();
        state.forget(Instant::now());
        state.last_number += 1;
        let number = state.last_number;
        let subject: Arc<str> = Arc::from(subject);
        let user = state.users.entry(Arc::clone(&subject)).or_insert_with(|| User {
            rate: Arc::new(Mutex::new(RateLimiter::full(self.rate, Instant::now()))),
            streams: HashMap::new(),
        });
        if user.streams.len() >= self.most {
            return Err(Full::StreamsPerUser { max: self.most });
        }
        let end = Arc::<End>::default();
        let (began, issued) = (Timestamp::now(), principal.issued_at());
        user.streams.insert(number, Handle { began, issued, end: Arc::clone(&end) });
        let (users, rate) = (Arc::clone(self), Arc::clone(&user.rate));
        Ok(Some(UserStream { users, subject, number, rate, end }))
    }

    /// Does what all replicas are told about subjects.
    pub fn heed(&self, directives: &[(Arc<str>, Directive)]) {
        let mut revoked = Revoked::new();
        for (subject, directive) in directives {
            if let Directive::Revoke { issued_before } = directive {
                revoked.insert(Arc::clone(subject), *issued_before);
            }
        }
        // First nobody comes any more, then those go who are there.
        self.authenticator.revoke(revoked);
        let state = self.lock();
        for (subject, directive) in directives {
            let Some(user) = state.users.get(subject) else { continue };
            for handle in user.streams.values() {
                if let Some(ending) = handle.ending(directive) {
                    handle.end.tell(ending);
                }
            }
        }
    }
}

impl Handle {
    /// How it ends by a directive, if it does.
    fn ending(&self, directive: &Directive) -> Option<Ending> {
        match directive {
            Directive::Revoke { issued_before } => {
                let revoked = self.issued.is_none_or(|issued| issued < *issued_before);
                revoked.then(|| Ending::Unauthenticated(REVOKED.to_owned()))
            }
            Directive::Disconnect { at, may_return, reason } => {
                let (may_return, reason) = (*may_return, Arc::clone(reason));
                (self.began <= *at).then_some(Ending::Dismissed { may_return, reason })
            }
        }
    }
}

impl State {
    /// Forgets subjects that have no streams and owe nothing, where there are many.
    fn forget(&mut self, now: Instant) {
        if self.users.len() < self.most_known {
            return;
        }
        self.users.retain(|_, user| {
            let rate = user.rate.lock().unwrap_or_else(PoisonError::into_inner);
            !user.streams.is_empty() || !rate.is_full(now)
        });
        self.most_known = (2 * self.users.len()).max(KNOWN);
    }
}

impl UserStream {
    /// How much all streams of its subject may say together.
    pub(super) fn rate(&self) -> &Mutex<RateLimiter> {
        &self.rate
    }

    /// Its client has shown a newer token.
    pub(super) fn renewed(&self, issued: Option<Timestamp>) {
        let mut state = self.users.lock();
        let user = state.users.get_mut(&self.subject);
        if let Some(handle) = user.and_then(|user| user.streams.get_mut(&self.number)) {
            handle.issued = issued;
        }
    }

    /// How it is to end, once it is.
    pub(super) async fn ended(&self) -> Ending {
        self.end.told.cancelled().await;
        // It is told after it was set.
        self.end.why.get().cloned().unwrap_or(Ending::Disconnected)
    }
}

impl Drop for UserStream {
    fn drop(&mut self) {
        let mut state = self.users.lock();
        if let Some(user) = state.users.get_mut(&self.subject) {
            user.streams.remove(&self.number);
        }
    }
}
