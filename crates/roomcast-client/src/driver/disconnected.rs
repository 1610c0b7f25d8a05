//! Coming in, and coming back.

use std::{pin::pin, time::Duration};

use roomcast_proto::room::{ErrorReason, Welcome};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::{Driver, Stop, until};
use crate::{
    CONNECT_TIMEOUT,
    connector::Way,
    core::retry_policy::Next,
    error::Error,
    stream::{Entry, Stream},
    update::Reason,
};

/// The most that a server's word on when to try again counts for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How an attempt failed.
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// The join may have arrived all the same.
    pub(super) astray: bool,
}

impl Driver {
    /// Tries until there is a stream, for as long as it may. `why`: what the last one ended with.
    pub(super) async fn arrive(&mut self, mut why: Reason) -> Result<Stream, Stop> {
        let first = !self.was_in;
        let patience = match self.options.join_within.filter(|_| first) {
            Some(patience) => Some(patience),
            None => self.options.give_up_after,
        };
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut at_once = if first { self.connector.ways() } else { 0 };
        loop {
            if at_once > 0 {
                at_once -= 1;
            } else {
                let wait = self.policy.wait(rand::random()).max(key_comes(&why));
                // A name that an earlier attempt of ours may have got is waited for, in bounded time.
                let held = Code::AlreadyExists;
                let held = matches!(&why, Reason::Ended { code, .. } if *code == held);
                let late = deadline.is_some_and(|deadline| Instant::now() + wait >= deadline);
                if late && !held {
                    return Err(Stop::Failed(Error::GaveUp { reason: why }));
                }
                self.meanwhile(sleep(wait)).await?;
            }
            if let Err(reason) = self.obtain_token().await? {
                why = reason;
                continue;
            }
            let (way, entry) = (self.connector.next_way(), self.entry());
            let failure = match self.meanwhile(enter(way, entry)).await? {
                Ok((stream, welcome)) => {
                    let resumed = welcome.resumed;
                    match self.welcomed(welcome, &stream.channel) {
                        Ok(()) => {
                            if !first {
                                self.notices.back(resumed);
                            }
                            return Ok(stream);
                        }
                        Err(violation) => {
                            Failure { reason: Reason::Broken { what: violation.0 }, astray: true }
                        }
                    }
                }
                Err(failure) => failure,
            };
            let resuming = self.session.is_some();
            why = self.failed(failure)?;
            if resuming && self.session.is_none() {
                // The name is ours to take again: nothing to wait for.
                at_once = 1;
            }
        }
    }

    /// What a failed attempt means. Goes on, or stops.
    fn failed(&mut self, failure: Failure) -> Result<Reason, Stop> {
        let Failure { reason, astray } = failure;
        if astray {
            self.policy.went_astray();
        }
        match self.judge(self.stage(), &reason) {
            // The session has ended, which is what whoever leaves wants.
            Ok(Next::Anew) if self.has_said_all() => {
                return Err(Stop::Left);
            }
            Ok(Next::Anew) => self.session = None,
            Ok(_) => {}
            Err(error) => return Err(Stop::Failed(error)),
        }
        Ok(reason)
    }

    /// Whether whoever leaves has said everything.
    pub(super) fn has_said_all(&self) -> bool {
        self.said_all && self.outbox.is_empty()
    }

    /// Does this, and takes in what there is to say meanwhile.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = pin!(work);
        loop {
            let deadline = self.leaving.as_ref().map(|leaving| leaving.deadline);
            let room = self.outbox.has_room();
            let news = !self.notices.is_empty(false);
            if let Some(place) = self.place.take_if(|_| news)
                && let Some(update) = self.notices.next(false)
            {
                place.send(Ok(update));
                continue;
            }
            let updates = self.ends.updates.clone();
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(command) = self.ends.says.recv(), if room => self.take(command),
                Some(leave) = self.ends.leaves.recv() => self.begin_to_leave(leave),
                place = updates.reserve_owned(), if news && !self.deaf => match place {
                    Ok(place) => self.place = Some(place),
                    Err(_) => self.deaf = true,
                },
                () = until(deadline) => return Err(Stop::Left),
            }
        }
    }
}

/// In how long a server may know the key of the token that it has refused, if that is what it lacks.
fn key_comes(reason: &Reason) -> Duration {
    match reason {
        Reason::Ended { details, .. } if details.known() == Some(ErrorReason::InvalidToken) => {
            details.retry_after.unwrap_or_default().min(LONGEST_WAIT)
        }
        _ => Duration::ZERO,
    }
}

/// One attempt to come in this way, in bounded time.
async fn enter(way: Way, entry: Entry) -> Result<(Stream, Welcome), Failure> {
    let to = way.name();
    let began = Instant::now();
    let channel = match timeout(CONNECT_TIMEOUT, way.channel()).await {
        Ok(channel) => channel.map_err(|reason| Failure { reason, astray: false })?,
        Err(_) => return Err(Failure { reason: Reason::Silent { to }, astray: false }),
    };
    let open = Stream::open(channel, to.clone(), entry);
    match timeout(CONNECT_TIMEOUT.saturating_sub(began.elapsed()), open).await {
        Ok(Err(reason)) => {
            let astray = !matches!(reason, Reason::Ended { .. });
            Err(Failure { reason, astray })
        }
        Ok(Ok(entered)) => Ok(entered),
        Err(_) => Err(Failure { reason: Reason::Silent { to }, astray: true }),
    }
}
