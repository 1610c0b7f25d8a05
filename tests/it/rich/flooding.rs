//! Who says more than may be said.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use roomcast_proto::room::{Nack, NackReason, Say, connect_request::Frame};
use tokio::time::sleep;
use tonic::Code;

use crate::harness::{Answer, Cluster, Collector, Dialect, RichClient, SOON, Span};

const SESSION: [&str; 2] = ["ROOMCAST_LIMITS__SESSION_INTERVAL", "ROOMCAST_LIMITS__SESSION_BURST"];
const ROOM: [&str; 2] = ["ROOMCAST_LIMITS__ROOM_INTERVAL", "ROOMCAST_LIMITS__ROOM_BURST"];

/// No test lasts that long, on however busy a machine: what is over the burst is refused.
const NEVER: &str = "1h";

/// What is refused is taken soon, and not before.
const INTERVAL: Duration = Duration::from_millis(200);

async fn enter(cluster: &Cluster, replica: usize, room: &str, name: &str) -> RichClient {
    let mut client =
        RichClient::open(&cluster.endpoint(replica), RichClient::asking(room, name)).await;
    client.welcome().await;
    client
}

/// The next answer must be that this message came too fast; when to say it again.
async fn expect_too_fast(client: &mut RichClient, client_seq: u64) -> Duration {
    let nack = client.expect_nack(client_seq).await;
    assert_eq!(nack.reason(), NackReason::TooFast, "{nack:?}");
    let wait = retry_after(&nack);
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3600), "{nack:?}");
    wait
}

/// Says it until it is taken, each time when the refusal said.
async fn insist(client: &mut RichClient, client_seq: u64, content: &str) {
    for _ in 0..10 {
        client.say(client_seq, content).await;
        match client.next_answer(SOON).await {
            Some(Answer::Ack(ack)) if ack.client_seq == client_seq => return,
            Some(Answer::Nack(nack)) if nack.reason() == NackReason::TooFast => {
                sleep(retry_after(&nack)).await;
            }
            other => panic!("{other:?}: {client:?}"),
        }
    }
    panic!("message {client_seq} is never taken: {client:?}");
}

fn retry_after(nack: &Nack) -> Duration {
    Duration::try_from(nack.retry_after.expect("when to try again")).expect("a time to wait")
}

#[tokio::test]
async fn who_is_too_fast_is_refused_and_others_are_not() {
    let cluster = Cluster::redis(2).with(SESSION[0], NEVER).with(SESSION[1], "3").start().await;
    let mut alice = enter(&cluster, 0, "den", "alice").await;
    let mut bob = enter(&cluster, 1, "den", "bob").await;
    alice.expect_joined("bob").await;
    for number in 1..=6 {
        alice.say(number, &format!("message {number}")).await;
    }
    for number in 1..=3 {
        alice.expect_ack(number).await;
    }
    let wait = expect_too_fast(&mut alice, 4).await;
    for number in [5, 6] {
        let nack = alice.expect_nack(number).await;
        assert_eq!(nack.reason(), NackReason::OutOfOrder, "{nack:?}");
    }
    // To say again what was taken costs nothing, and what is too early changes nothing.
    alice.say(3, "message 3").await;
    assert!(alice.expect_ack(3).await.duplicate);
    alice.say(4, "message 4").await;
    let shorter = expect_too_fast(&mut alice, 4).await;
    assert!(shorter <= wait, "{shorter:?} is more than {wait:?}");
    // Others are not slowed by that.
    bob.say_and_wait(1, "meanwhile").await;
    // Each appears once.
    for client in [&mut alice, &mut bob] {
        for number in 1..=3 {
            client.expect_said("alice", &format!("message {number}")).await;
        }
        client.expect_said("bob", "meanwhile").await;
    }
    alice.leave().await;
    bob.expect_left("alice", roomcast_proto::room::LeftCause::Asked).await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn what_was_refused_is_taken_when_the_refusal_says() {
    const MESSAGES: u64 = 12;
    for limit in [SESSION, ROOM] {
        let plan = Cluster::redis(2).with(limit[0], "200ms").with(limit[1], "3");
        let cluster = plan.start().await;
        let mut alice = enter(&cluster, 0, "den", "alice").await;
        let mut bob = enter(&cluster, 1, "den", "bob").await;
        alice.expect_joined("bob").await;
        let began = Instant::now();
        for number in 1..=MESSAGES {
            insist(&mut alice, number, &format!("message {number}")).await;
        }
        // However slow the machine is, that is the least that it takes.
        let least = INTERVAL * u32::try_from(MESSAGES - 3).expect("few");
        assert!(began.elapsed() >= least, "{:?} for {MESSAGES}", began.elapsed());
        for number in 1..=MESSAGES {
            bob.expect_said("alice", &format!("message {number}")).await;
        }
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn coming_back_makes_nobody_faster() {
    for plan in [Cluster::memory(), Cluster::redis(2)] {
        let cluster = plan.with(SESSION[0], NEVER).with(SESSION[1], "2").start().await;
        let mut alice = enter(&cluster, 0, "den", "alice").await;
        for number in 1..=2 {
            alice.say_and_wait(number, "hello").await;
        }
        for replica in [1, 0, 1] {
            alice.disconnect();
            let mut back = alice.resume(&cluster.endpoint(replica), alice.last_position()).await;
            assert!(back.welcome().await.resumed);
            back.say(3, "at last").await;
            expect_too_fast(&mut back, 3).await;
            alice = back;
        }
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn a_room_has_a_limit_for_all_its_members_together() {
    let cluster = Cluster::redis(1).with(ROOM[0], NEVER).with(ROOM[1], "3").start().await;
    let mut alice = enter(&cluster, 0, "den", "alice").await;
    let mut bob = enter(&cluster, 0, "den", "bob").await;
    let mut carol = enter(&cluster, 0, "attic", "carol").await;
    alice.say_and_wait(1, "one").await;
    alice.say_and_wait(2, "two").await;
    bob.say_and_wait(1, "three").await;
    bob.say(2, "four").await;
    expect_too_fast(&mut bob, 2).await;
    alice.say(3, "five").await;
    expect_too_fast(&mut alice, 3).await;
    for number in 1..=3 {
        carol.say_and_wait(number, "it is quiet here").await;
    }
    carol.say(4, "one more").await;
    expect_too_fast(&mut carol, 4).await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_plain_client_that_is_too_fast_is_slowed_and_loses_nothing() {
    const MESSAGES: u32 = 12;
    const BURST: u32 = 2;
    for limit in [SESSION, ROOM] {
        let plan = Cluster::redis(2).with(limit[0], "200ms").with(limit[1], &BURST.to_string());
        let cluster = plan.start().await;
        let mut witness = enter(&cluster, 0, "den", "witness").await;
        let mut plain =
            cluster.endpoint(1).into_room("den").speaking(Dialect::Typed).join("paul").await;
        witness.expect_joined("paul").await;
        let began = Instant::now();
        for number in 1..=MESSAGES {
            plain.say(&format!("message {number}")).await;
        }
        // What is said before the end is heard before it.
        plain.half_close();
        for number in 1..=MESSAGES {
            witness.expect_said("paul", &format!("message {number}")).await;
            let earliest = INTERVAL * number.saturating_sub(BURST);
            assert!(began.elapsed() >= earliest, "{:?}: message {number}", began.elapsed());
        }
        plain.expect_end(Code::Ok).await;
        witness.expect_left("paul", roomcast_proto::room::LeftCause::Asked).await;
        cluster.assert_no_errors();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_on_with_the_trace_that_it_names() {
    let collector = Collector::start().await;
    let plan = Cluster::redis(2).with("ROOMCAST_TELEMETRY__OTLP_ENDPOINT", &collector.endpoint());
    let cluster = plan.start().await;
    let alice = &mut enter(&cluster, 0, "den", "alice").await;
    let bob = &mut enter(&cluster, 1, "den", "bob").await;
    alice.expect_joined("bob").await;
    for (client_seq, trace) in
        [(1, "0af7651916cd43dd8448eb211c80319c"), (2, "1af7651916cd43dd8448eb211c80319c")]
    {
        let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
        let content = "a message of a trace".to_owned();
        alice.send(Frame::Say(Say { client_seq, content, traceparent })).await;
        assert!(matches!(alice.answers(1).await[0], Answer::Ack(_)), "{alice:?}");
        let of_trace = |span: &Span| span.trace == trace;
        let say = collector.until("room.say", 1, of_trace).await.remove(0);
        assert_eq!((say.kind, say.parent.as_str()), (SpanKind::Producer, "b7ad6b7169203331"));
        // Whoever hears it can go on from there.
        let expected = format!("00-{trace}-{}-01", say.id);
        for client in [&mut *alice, &mut *bob] {
            assert_eq!(client.next_event().await.traceparent, expected);
        }
        // It went out on both replicas.
        let deliveries = collector.until("room.deliver", 2, of_trace).await;
        assert!(deliveries.iter().all(|it| it.parent == say.id), "{deliveries:#?}");
    }
    cluster.assert_no_errors();
}
