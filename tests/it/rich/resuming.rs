//! Back in a session, on whichever replica.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_proto::room::LeftCause;
use tokio::time::interval;
use tonic::Code;

use crate::harness::{Answer, Cluster, RichClient, SOON};

async fn enter(cluster: &Cluster, replica: usize, name: &str) -> RichClient {
    let mut client =
        RichClient::open(&cluster.endpoint(replica), RichClient::asking("den", name)).await;
    client.welcome().await;
    client
}

/// It is more than goes out at once, and nobody says anything that would bring the rest.
#[tokio::test]
async fn what_was_missed_comes_whole_into_a_room_that_has_fallen_silent() {
    for plan in [Cluster::memory(), Cluster::redis(3)] {
        let cluster = plan.start().await;
        let alice = &mut enter(&cluster, 0, "alice").await;
        let mut bob = enter(&cluster, 1, "bob").await;
        alice.say_and_wait(1, "before").await;
        bob.expect_said("alice", "before").await;
        let after = bob.last_position();
        bob.disconnect();
        let missed = |number: u64| format!("{number} {}", "x".repeat(2_000));
        for number in 2..=100 {
            alice.say_and_wait(number, &missed(number)).await;
        }
        let mut back = bob.resume(&cluster.endpoint(2), after).await;
        assert!(back.welcome().await.resumed);
        for number in 2..=100 {
            back.expect_said("alice", &missed(number)).await;
        }
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn a_session_goes_on_elsewhere_and_misses_nothing() {
    for plan in [Cluster::memory(), Cluster::redis(3)] {
        let cluster = plan.start().await;
        let alice = &mut enter(&cluster, 0, "alice").await;
        let mut bob = enter(&cluster, 1, "bob").await;
        alice.expect_joined("bob").await;
        alice.say_and_wait(1, "before").await;
        bob.expect_said("alice", "before").await;
        bob.say_and_wait(1, "mine").await;
        bob.expect_said("bob", "mine").await;
        let after = bob.last_position();
        bob.disconnect();
        for number in 2..=40 {
            alice.say_and_wait(number, &format!("missed {number}")).await;
        }
        let mut back = bob.resume(&cluster.endpoint(2), after).await;
        let welcome = back.welcome().await;
        assert!(welcome.resumed);
        assert_eq!(welcome.last_client_seq, 1);
        alice.say_and_wait(41, "new").await;
        for number in 2..=40 {
            back.expect_said("alice", &format!("missed {number}")).await;
        }
        back.expect_said("alice", "new").await;
        // A message that was sent again, and the next one.
        back.say(1, "mine").await;
        back.say(2, "more").await;
        let answers = back.answers(2).await;
        assert!(
            matches!(&answers[0], Answer::Ack(ack) if ack.duplicate && ack.position.unwrap().seq == 4),
            "{answers:?}"
        );
        assert!(
            matches!(&answers[1], Answer::Ack(ack) if !ack.duplicate && ack.client_seq == 2),
            "{answers:?}"
        );
        // The room has heard nothing of all this.
        alice.expect_said("alice", "before").await;
        alice.expect_said("bob", "mine").await;
        for number in 2..=40 {
            alice.expect_said("alice", &format!("missed {number}")).await;
        }
        alice.expect_said("alice", "new").await;
        alice.expect_said("bob", "more").await;
        back.leave().await;
        alice.expect_left("bob", LeftCause::Asked).await;
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn the_old_stream_is_superseded_at_once() {
    let cluster = Cluster::redis(2).start().await;
    let mut bob = enter(&cluster, 0, "bob").await;
    for replica in [1, 1, 0] {
        let mut next = bob.resume(&cluster.endpoint(replica), None).await;
        assert!(next.welcome().await.resumed);
        assert!(bob.expect_end(Code::Aborted).await.contains("superseded"));
        bob = next;
    }
    bob.say_and_wait(1, "still here").await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_session_lingers_and_then_it_is_over() {
    for plan in [Cluster::memory(), Cluster::redis(2)] {
        let cluster = plan.with("ROOMCAST_NAMES__LINGER", "2s").start().await;
        let alice = &mut enter(&cluster, 0, "alice").await;
        let mut bob = enter(&cluster, 1, "bob").await;
        alice.expect_joined("bob").await;
        bob.half_close();
        bob.expect_end(Code::Ok).await;
        let mut back = bob.resume(&cluster.endpoint(0), None).await;
        assert!(back.welcome().await.resumed);
        back.cancel();
        alice.expect_left("bob", LeftCause::TimedOut).await;
        let late = back.resume(&cluster.endpoint(1), None).await;
        late.expect_end(Code::NotFound).await;
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn a_killed_replica_is_not_noticed_by_the_room() {
    let mut cluster = Cluster::redis(3).with("ROOMCAST_NAMES__LEASE", "4s").start().await;
    let alice = &mut enter(&cluster, 0, "alice").await;
    let mut bob = enter(&cluster, 1, "bob").await;
    alice.expect_joined("bob").await;
    bob.say_and_wait(1, "one").await;
    cluster.replicas[1].kill();
    alice.say_and_wait(1, "while you were away").await;
    let mut back = bob.resume(&cluster.endpoint(2), bob.last_position()).await;
    assert!(back.welcome().await.resumed);
    back.say_and_wait(2, "two").await;
    alice.expect_said("bob", "one").await;
    alice.expect_said("alice", "while you were away").await;
    alice.expect_said("bob", "two").await;
    // For longer than the lease nobody is told that bob went.
    let mut pace = interval(Duration::from_millis(200));
    let until = Instant::now() + Duration::from_secs(6);
    for number in 2.. {
        pace.tick().await;
        alice.say_and_wait(number, "tick").await;
        alice.expect_said("alice", "tick").await;
        if Instant::now() > until {
            break;
        }
    }
}

#[tokio::test]
async fn a_drained_replica_sends_its_clients_away_and_nobody_is_told() {
    let mut cluster = Cluster::redis(2).with("ROOMCAST_DRAIN__DEADLINE", "8s").start().await;
    let mut plain = cluster.endpoint(1).into_room("den").enter("paul").await;
    let mut bob = enter(&cluster, 0, "bob").await;
    plain.expect_system("bob joined").await;
    cluster.replicas[0].signal(Signal::SIGTERM);
    let after = bob.expect_reconnect(SOON).await.after.unwrap();
    assert!(after.seconds <= 2, "{after:?}");
    // It is still served.
    bob.say_and_wait(1, "on my way").await;
    plain.expect_said("bob", "on my way").await;
    let mut back = bob.resume(&cluster.endpoint(1), bob.last_position()).await;
    assert!(back.welcome().await.resumed);
    bob.expect_end(Code::Aborted).await;
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0);
    back.say_and_wait(2, "here").await;
    plain.expect_said("bob", "here").await;
}
