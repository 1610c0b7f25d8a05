//! What names owe for what was said under them.

use std::time::Duration;

use super::{Fixture, SHORT, Setup, props::*, replicas};

pub(crate) async fn what_a_name_owes_is_known_everywhere_and_passes(fixture: &impl Fixture) {
    let [a, b] = replicas(fixture, Setup::CALM).await;
    let room = some_room();
    let bob = a.join(&room, "bob").await;
    let nothing = Duration::ZERO;
    assert_eq!(b.backplane.owe(&room, &bob.name, nothing).await, Ok(nothing), "nothing yet");
    let hour = Duration::from_secs(3600);
    assert_eq!(a.backplane.owe(&room, &bob.name, hour).await, Ok(hour));
    let carol = a.join(&room, "carol").await;
    assert_eq!(a.backplane.owe(&room, &carol.name, SHORT).await, Ok(SHORT));
    a.leave(&bob).await;
    a.leave(&carol).await;

    let spelled = b.hold(&room, "BOB").name;
    let left = b.backplane.owe(&room, &spelled, SHORT).await.unwrap();
    assert!(left > hour / 2 && left <= hour, "less does not replace more: {left:?}");
    fixture.pass(2 * SHORT).await;
    assert_eq!(b.backplane.owe(&room, &carol.name, nothing).await, Ok(nothing), "it has passed");
}
