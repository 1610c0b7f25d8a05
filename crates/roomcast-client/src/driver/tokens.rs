//! Getting access tokens: before an attempt, and while a stream is open.

use tokio::time::Instant;

use super::{Driver, Stop};
use crate::{
    access_token::AccessToken, core::access_tokens::SameToken, token_request::TokenRequests,
    update::Reason,
};

impl Driver {
    /// Gets a token where the next attempt needs one. If there is none, says why: then there is nothing to try.
    pub(super) async fn obtain_token(&mut self) -> Result<Result<(), Reason>, Stop> {
        let wanted = self.tokens.is_wanted(Instant::now());
        let Some(mut requests) = self.requests.take_if(|_| wanted) else { return Ok(Ok(())) };
        requests.begin();
        let outcome = self.meanwhile(requests.outcome()).await;
        self.requests = Some(requests);
        Ok(self.gotten(outcome?))
    }

    /// Asks for a newer token when it is time. The stream goes on meanwhile.
    pub(super) fn renew_token(&mut self, now: Instant) {
        if let Some(requests) = &mut self.requests
            && self.tokens.due().is_some_and(|due| now >= due)
        {
            requests.begin();
        }
    }

    /// When a newer token is to be asked for, unless that has been done.
    pub(super) fn token_due(&self) -> Option<Instant> {
        let idle = self.requests.as_ref().is_some_and(|requests| !requests.is_under_way());
        self.tokens.due().filter(|_| idle)
    }

    /// Takes in what a call came to.
    pub(super) fn gotten(&mut self, outcome: Result<AccessToken, String>) -> Result<(), Reason> {
        let now = Instant::now();
        let taken = outcome.and_then(|token| {
            let same = |SameToken| "it is the one that was to be replaced".to_owned();
            self.tokens.take(token, now).map_err(same)
        });
        if let Err(cause) = taken {
            self.tokens.failed(now, rand::random());
            return Err(Reason::NoToken { cause });
        }
        let newer = self.tokens.current().cloned();
        self.ends.here.send_if_modified(|here| match here {
            Some(here) => {
                here.access_token = newer;
                true
            }
            None => false,
        });
        Ok(())
    }
}

/// What the call under way comes to; never, where there is none.
pub(super) async fn outcome(requests: Option<&mut TokenRequests>) -> Result<AccessToken, String> {
    match requests {
        Some(requests) => requests.outcome().await,
        None => std::future::pending().await,
    }
}
