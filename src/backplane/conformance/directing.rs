//! What all replicas are told about subjects.

use std::time::Duration;

use jiff::Timestamp;

use super::{Fixture, Setup, replicas};
use crate::domain::Directive;

pub(crate) async fn what_holds_of_a_subject_is_known_everywhere(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    // Others share the server with this test.
    let own: u64 = rand::random();
    let at = |millis: i64| Timestamp::from_millisecond(1_795_519_353_000 + millis).unwrap();
    let [one, two] = ["one", "two words"].map(|sub| format!("{own} {sub}"));
    let known = b.backplane.directives(u64::MAX).await.unwrap().map_or(0, |it| it.version);
    let revoke = Directive::Revoke { issued_before: at(1) };
    a.backplane.direct(&one, &revoke).await.unwrap();
    let reason = "a reason: 1 2".into();
    let disconnect = Directive::Disconnect { at: at(2), may_return: true, reason };
    a.backplane.direct(&one, &disconnect).await.unwrap();
    a.backplane.direct(&two, &revoke).await.unwrap();
    // The later one of a kind counts.
    let later = Directive::Revoke { issued_before: at(3) };
    a.backplane.direct(&two, &later).await.unwrap();

    let told = b.backplane.directives(known).await.unwrap().expect("it has changed");
    assert_ne!(told.version, known);
    let mut all = told.all;
    all.retain(|(subject, _)| subject.starts_with(&own.to_string()));
    all.sort_by_key(|(subject, it)| (subject.clone(), matches!(it, Directive::Disconnect { .. })));
    let expected =
        [(&one, revoke), (&one, disconnect), (&two, later)].map(|(sub, it)| ((**sub).into(), it));
    assert_eq!(all, expected);
}

pub(crate) async fn what_has_not_changed_is_not_told(fixture: &impl Fixture) {
    let [a] = replicas(fixture, Setup::CALM).await;
    let directive = Directive::Revoke { issued_before: Timestamp::UNIX_EPOCH };
    a.backplane.direct(&format!("{:x}", rand::random::<u64>()), &directive).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    // Unless another test has changed it just now.
    loop {
        let version = a.backplane.directives(0).await.unwrap().expect("there is one").version;
        if a.backplane.directives(version).await.unwrap().is_none() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "it changes all the time");
    }
}
