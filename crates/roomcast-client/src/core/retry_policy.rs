//! When to try again, and when not to.

use std::time::Duration;

use roomcast_proto::room::ErrorReason;
use tokio::time::Instant;
use tonic::Code;

use crate::update::Reason;

/// The bound of the first wait between attempts.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait between attempts.
const LONGEST: Duration = Duration::from_secs(5);
/// A stream that lasted for so long was a good one: the next loss is a new one.
const GOOD: Duration = Duration::from_secs(5);
/// How long our own name may be held by a session of ours that is lost, where the server does not say: a
/// lease's time, and more.
const HELD: Duration = Duration::from_secs(30);
/// A second stream that takes the session within this time is not one of ours that was late.
const CONTESTED: Duration = Duration::from_secs(60);

/// What the attempt or the stream was that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// We are not in the room and have never been.
    Coming,
    /// We want back into a session.
    Resuming,
    /// The session is lost; we want into the room again.
    Returning,
    /// We were in the room.
    Within,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Try the same again.
    Again,
    /// There is no session any more: come in anew.
    Anew,
    /// Give up: the server will not have us.
    Refused,
    /// Give up: somebody else has the session.
    Superseded,
}

/// The history of failures that decides what the next one means.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryPolicy {
    /// Attempts in a row that came to nothing much.
    failures: u32,
    /// When the stream in use began.
    since: Option<Instant>,
    /// When our session was last taken by another stream.
    superseded: Option<Instant>,
    /// Since when our name is held, by an earlier self as we think.
    held: Option<Instant>,
    /// The answer to a join did not come: it may have got the name.
    astray: bool,
}

impl RetryPolicy {
    /// How long to wait before the next attempt. `chance` is from 0 to 1.
    ///
    /// Full jitter, with a bound that doubles: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
    pub(crate) fn wait(&mut self, chance: f64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        bound.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// A join was sent whose answer did not come.
    pub(crate) fn went_astray(&mut self) {
        self.astray = true;
    }

    /// We are in the room.
    pub(crate) fn welcomed(&mut self, now: Instant) {
        self.since = Some(now);
        self.held = None;
        self.astray = false;
    }

    /// A stream or an attempt ended.
    pub(crate) fn judge(&mut self, stage: Stage, reason: &Reason, now: Instant) -> Next {
        if self.since.take().is_some_and(|since| now.duration_since(since) >= GOOD) {
            self.failures = 0;
        }
        let Reason::Ended { code, details, .. } = reason else { return Next::Again };
        match code {
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::FailedPrecondition => Next::Refused,
            Code::ResourceExhausted
                if stage == Stage::Coming && details.is_final != Some(false) =>
            {
                Next::Refused
            }
            Code::AlreadyExists => self.name_is_held(stage, details.retry_after, now),
            Code::NotFound if stage == Stage::Resuming => Next::Anew,
            Code::Aborted if details.known() == Some(ErrorReason::Superseded) => {
                let before = self.superseded.replace(now);
                match before {
                    Some(at) if now.duration_since(at) < CONTESTED => Next::Superseded,
                    _ => Next::Again,
                }
            }
            Code::Aborted => Next::Anew,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => {
                // Unless the server says that it was not let in, a join may have been carried out: its replica
                // may have been killed behind it, or the answer of the store lost.
                let known = details.known();
                self.astray |= known.is_none_or(|it| it == ErrorReason::StoreUnavailable);
                Next::Again
            }
        }
    }

    /// `at_most`: after so long whoever has it and is gone has lost it, if the server says so.
    fn name_is_held(&mut self, stage: Stage, at_most: Option<Duration>, now: Instant) -> Next {
        if stage == Stage::Coming && !self.astray {
            return Next::Refused;
        }
        let since = *self.held.get_or_insert(now);
        let held = now.duration_since(since);
        if held < at_most.unwrap_or(HELD) { Next::Again } else { Next::Refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::details::Details;

    fn ended(code: Code) -> Reason {
        Reason::Ended { code, message: String::new(), details: Details::default() }
    }

    fn because(code: Code, reason: ErrorReason, is_final: bool) -> Reason {
        let reason = reason.as_str_name().to_owned();
        let details = Details { reason, is_final: Some(is_final), ..Details::default() };
        Reason::Ended { code, message: String::new(), details }
    }

    #[test]
    fn waits_grow_to_a_bound_and_start_over_after_a_good_stream() {
        let mut policy = RetryPolicy::default();
        let bounds: Vec<_> = (0..8).map(|_| policy.wait(1.0).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(policy.wait(0.0), Duration::ZERO);
        let now = Instant::now();
        policy.welcomed(now);
        let broken = Reason::Broken { what: "x".to_owned() };
        assert_eq!(policy.judge(Stage::Within, &broken, now + GOOD / 2), Next::Again);
        assert_eq!(policy.wait(1.0), LONGEST, "it was no good");
        policy.welcomed(now);
        policy.judge(Stage::Within, &broken, now + GOOD);
        assert_eq!(policy.wait(0.5), FIRST / 2);
    }

    #[test]
    fn every_status_has_its_meaning() {
        use Next::{Again, Anew, Refused};
        let table = [
            (Code::Ok, [Again; 4]),
            (Code::Cancelled, [Again; 4]),
            (Code::Unknown, [Again; 4]),
            (Code::InvalidArgument, [Refused; 4]),
            (Code::DeadlineExceeded, [Again; 4]),
            (Code::NotFound, [Again, Anew, Again, Again]),
            (Code::AlreadyExists, [Refused, Again, Again, Again]),
            (Code::PermissionDenied, [Refused; 4]),
            (Code::ResourceExhausted, [Refused, Again, Again, Again]),
            (Code::FailedPrecondition, [Refused; 4]),
            (Code::Aborted, [Anew; 4]),
            (Code::OutOfRange, [Again; 4]),
            (Code::Unimplemented, [Refused; 4]),
            (Code::Internal, [Again; 4]),
            (Code::Unavailable, [Again; 4]),
            (Code::DataLoss, [Again; 4]),
            (Code::Unauthenticated, [Refused; 4]),
        ];
        for (code, expected) in table {
            let stages = [Stage::Coming, Stage::Resuming, Stage::Returning, Stage::Within];
            let judged = stages
                .map(|stage| RetryPolicy::default().judge(stage, &ended(code), Instant::now()));
            assert_eq!(judged, expected, "{code:?}");
        }
        let lost = Reason::Lost { to: "a:1".to_owned(), cause: "reset".to_owned() };
        assert_eq!(RetryPolicy::default().judge(Stage::Coming, &lost, Instant::now()), Again);
    }

    #[test]
    fn a_limit_of_one_replica_is_not_everybodys() {
        let judge = |reason, is_final| {
            let refused = because(Code::ResourceExhausted, reason, is_final);
            RetryPolicy::default().judge(Stage::Coming, &refused, Instant::now())
        };
        assert_eq!(judge(ErrorReason::TooManyStreams, false), Next::Again);
        assert_eq!(judge(ErrorReason::RoomFull, true), Next::Refused);
    }

    #[test]
    fn a_session_that_is_taken_twice_is_given_up() {
        let (mut policy, now) = (RetryPolicy::default(), Instant::now());
        let taken = because(Code::Aborted, ErrorReason::Superseded, true);
        assert_eq!(policy.judge(Stage::Within, &taken, now), Next::Again);
        let later = now + CONTESTED;
        assert_eq!(policy.judge(Stage::Within, &taken, later), Next::Again);
        assert_eq!(policy.judge(Stage::Within, &taken, later + FIRST), Next::Superseded);
    }

    #[test]
    fn a_name_that_an_earlier_self_holds_is_waited_for() {
        let (mut policy, now) = (RetryPolicy::default(), Instant::now());
        let held = ended(Code::AlreadyExists);
        assert_eq!(policy.judge(Stage::Returning, &held, now), Next::Again);
        assert_eq!(policy.judge(Stage::Returning, &held, now + HELD / 2), Next::Again);
        assert_eq!(policy.judge(Stage::Returning, &held, now + HELD), Next::Refused);
        // A server that says how long that may take is believed.
        let hour = Duration::from_secs(3600);
        let details = Details { retry_after: Some(hour), ..Details::default() };
        let message = String::new();
        let held_long = Reason::Ended { code: Code::AlreadyExists, message, details };
        let mut policy = RetryPolicy::default();
        assert_eq!(policy.judge(Stage::Returning, &held_long, now), Next::Again);
        assert_eq!(policy.judge(Stage::Returning, &held_long, now + hour - HELD), Next::Again);
        assert_eq!(policy.judge(Stage::Returning, &held_long, now + hour), Next::Refused);
        assert_eq!(RetryPolicy::default().judge(Stage::Coming, &held_long, now), Next::Refused);
        let mut policy = RetryPolicy::default();
        policy.went_astray();
        assert_eq!(policy.judge(Stage::Coming, &held, now), Next::Again, "it may be our own join");
        // Whatever a proxy says for a replica that was killed behind a join.
        let unanswered = |reason| because(Code::Unavailable, reason, false);
        for (answer, then) in [
            (ended(Code::Unavailable), Next::Again),
            (ended(Code::Cancelled), Next::Again),
            (unanswered(ErrorReason::StoreUnavailable), Next::Again),
            (unanswered(ErrorReason::ShuttingDown), Next::Refused),
            (ended(Code::ResourceExhausted), Next::Refused),
        ] {
            let mut policy = RetryPolicy::default();
            let _ = policy.judge(Stage::Coming, &answer, now);
            assert_eq!(policy.judge(Stage::Coming, &held, now), then, "{answer:?}");
        }
    }
}
