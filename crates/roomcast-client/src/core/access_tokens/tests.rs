use tonic::Code;

use super::*;
use crate::details::Details;

const MINUTE: Duration = Duration::from_secs(60);

fn token(text: &str) -> AccessToken {
    AccessToken::parse(text).unwrap()
}

fn ended(reason: ErrorReason, retry_after: Option<Duration>) -> Reason {
    let reason = reason.as_str_name().to_owned();
    let details = Details { reason, retry_after, ..Details::default() };
    Reason::Ended { code: Code::Unauthenticated, message: String::new(), details }
}

fn invalid() -> Reason {
    ended(ErrorReason::InvalidToken, None)
}

fn expired() -> Reason {
    ended(ErrorReason::TokenExpired, None)
}

/// With a first token, which no server has seen; from a source that has more.
fn renewable() -> AccessTokens {
    let mut tokens = AccessTokens::new(true);
    assert!(tokens.is_wanted(Instant::now()));
    tokens.take(token("a"), Instant::now()).unwrap();
    tokens
}

/// The same, once a server has let us in by it.
fn accepted() -> AccessTokens {
    let mut tokens = renewable();
    assert_eq!(tokens.for_attempt(), Some(token("a")));
    tokens.welcomed();
    tokens
}

#[test]
fn a_newer_one_is_asked_for_in_time_and_shown_once() {
    let (mut tokens, now) = (accepted(), Instant::now());
    assert_eq!((tokens.due(), tokens.show(now)), (None, None));
    tokens.expires_in(MINUTE, now, 0.5);
    assert_eq!(tokens.due(), Some(now + MINUTE / 4));
    assert!(!tokens.is_wanted(now) && tokens.is_wanted(now + MINUTE));
    tokens.take(token("b"), now).unwrap();
    assert_eq!((tokens.due(), tokens.is_unshown()), (None, true));
    assert_eq!(tokens.show(now), Some(token("b")));
    assert_eq!(tokens.show(now), None);
    // One that has no time at all is replaced at the pace that servers allow.
    tokens.expires_in(Duration::ZERO, now, 0.0);
    assert_eq!(tokens.due(), Some(now + PACE));
    // A stream that was opened by a newer one need not be shown it.
    tokens.take(token("c"), now).unwrap();
    assert_eq!(tokens.for_attempt(), Some(token("c")));
    tokens.welcomed();
    assert_eq!(tokens.show(now), None);
}

#[test]
fn calls_that_fail_are_made_again_with_growing_waits() {
    let (mut tokens, now) = (accepted(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..6 {
        tokens.failed(now, 1.0);
        waits.push((tokens.due().unwrap() - now).as_millis());
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000]);
    tokens.failed(now, 0.0);
    assert_eq!(tokens.due(), Some(now));
    assert_eq!(tokens.take(token("a"), now), Err(SameToken));
    tokens.take(token("b"), now).unwrap();
    tokens.failed(now, 1.0);
    assert_eq!(tokens.due(), Some(now + FIRST), "a token came meanwhile");
}

#[test]
fn one_that_has_expired_is_replaced_where_there_may_be_another() {
    let (mut tokens, now) = (accepted(), Instant::now());
    assert_eq!(tokens.judge(Stage::Within, &expired(), now), TokenVerdict::Again);
    assert!(tokens.is_wanted(now));
    assert_eq!(tokens.take(token("a"), now), Err(SameToken));
    tokens.take(token("b"), now).unwrap();
    assert!(!tokens.is_wanted(now));

    let mut fixed = AccessTokens::new(false);
    assert!(fixed.is_wanted(now));
    fixed.take(token("a"), now).unwrap();
    fixed.expires_in(Duration::ZERO, now, 0.5);
    assert_eq!((fixed.due(), fixed.is_wanted(now)), (None, false));
    assert_eq!(fixed.judge(Stage::Within, &expired(), now), TokenVerdict::Expired);
    assert_eq!(fixed.judge(Stage::Resuming, &invalid(), now), TokenVerdict::Expired);
}

#[test]
fn one_that_was_good_or_is_old_may_have_expired_and_a_new_one_that_is_bad_is_the_last() {
    let now = Instant::now();
    let mut new = renewable();
    new.for_attempt();
    assert_eq!(new.judge(Stage::Coming, &invalid(), now), TokenVerdict::Invalid);

    let mut was_good = accepted();
    assert_eq!(was_good.judge(Stage::Resuming, &invalid(), now), TokenVerdict::Again);
    assert_eq!(was_good.take(token("a"), now), Err(SameToken));

    // Servers were out of reach when it was new.
    let mut old = renewable();
    old.for_attempt();
    old.for_attempt();
    assert_eq!(old.judge(Stage::Coming, &invalid(), now), TokenVerdict::Again);
    assert!(old.is_wanted(now));
    old.take(token("a"), now).unwrap();
    old.for_attempt();
    assert_eq!(old.judge(Stage::Coming, &invalid(), now), TokenVerdict::Invalid);

    let mut shown = accepted();
    shown.take(token("b"), now).unwrap();
    shown.show(now);
    assert_eq!(shown.judge(Stage::Within, &invalid(), now), TokenVerdict::Invalid);
    let mut none = AccessTokens::new(false);
    assert_eq!(none.judge(Stage::Coming, &invalid(), now), TokenVerdict::Invalid);
}

#[test]
fn a_key_that_is_not_known_is_waited_for() {
    let now = Instant::now();
    let unknown = ended(ErrorReason::InvalidToken, Some(Duration::from_secs(2)));
    for renewable in [true, false] {
        let mut tokens = AccessTokens::new(renewable);
        tokens.take(token("a"), now).unwrap();
        let mut judged = |at| {
            tokens.for_attempt();
            let verdict = tokens.judge(Stage::Coming, &unknown, at);
            let same = tokens.is_wanted(at).then(|| tokens.take(token("a"), at));
            assert_eq!(same.unwrap_or(Ok(())), Ok(()), "it may still be good");
            verdict
        };
        assert_eq!(judged(now), TokenVerdict::Again);
        assert_eq!(judged(now + KEY_COMES / 2), TokenVerdict::Again);
        assert_eq!(judged(now + KEY_COMES), TokenVerdict::Invalid);
    }
}

#[test]
fn what_a_token_gives_no_right_to_is_final() {
    let now = Instant::now();
    let mut tokens = accepted();
    let forbidden = ended(ErrorReason::Forbidden, None);
    assert_eq!(tokens.judge(Stage::Within, &forbidden, now), TokenVerdict::Forbidden);
    let other = ended(ErrorReason::InvalidSessionToken, None);
    assert_eq!(tokens.judge(Stage::Resuming, &other, now), TokenVerdict::Unrelated);
    tokens.take(token("b"), now).unwrap();
    assert_eq!(tokens.judge(Stage::Resuming, &other, now), TokenVerdict::OtherSubject);
    assert_eq!(tokens.judge(Stage::Coming, &other, now), TokenVerdict::Unrelated);
    let lost = Reason::Silent { to: "a:1".to_owned() };
    assert_eq!(tokens.judge(Stage::Within, &lost, now), TokenVerdict::Unrelated);
}
