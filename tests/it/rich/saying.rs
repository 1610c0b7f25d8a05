//! What is said, and what is answered.

use std::time::Duration;

use roomcast_proto::room::{NackReason, Position};

use crate::harness::{Answer, Cluster, News, RichClient, SOON};

#[tokio::test]
async fn everybody_gets_every_event_at_one_position_the_speaker_too() {
    for plan in [Cluster::memory(), Cluster::redis(3)] {
        let cluster = plan.start().await;
        let alice =
            &mut RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
        let welcome = alice.welcome().await;
        assert!(!welcome.resumed);
        assert_eq!((&*welcome.username, &*welcome.room), ("alice", "den"));
        assert_eq!(welcome.session_token.len(), 48);
        let bob =
            &mut RichClient::open(&cluster.endpoint(1), RichClient::asking("den", "bob")).await;
        bob.welcome().await;
        let joined = alice.expect_joined("bob").await;
        assert_eq!(joined.seq, welcome.head.unwrap().seq + 1);
        let acked = alice.say_and_wait(1, "hello").await;
        assert_eq!(acked.seq, joined.seq + 1);
        for client in [&mut *alice, &mut *bob] {
            assert_eq!(client.expect_said("alice", "hello").await, acked);
        }
        bob.say(1, "one").await;
        bob.say(2, "two").await;
        let answers = bob.answers(2).await;
        let positions: Vec<Position> = answers
            .iter()
            .map(|answer| match answer {
                Answer::Ack(ack) if !ack.duplicate => ack.position.unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        for client in [&mut *alice, &mut *bob] {
            assert_eq!(client.expect_said("bob", "one").await, positions[0]);
            assert_eq!(client.expect_said("bob", "two").await, positions[1]);
        }
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn what_is_refused_is_answered_and_everything_behind_it() {
    let cluster = Cluster::redis(1).with("ROOMCAST_LIMITS__CONTENT_BYTES", "100").start().await;
    let alice =
        &mut RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    for (seq, text) in [
        (1, "a".to_owned()),
        (2, "b".repeat(101)),
        (3, "c".into()),
        (2, String::new()),
        (2, "d".into()),
        (2, "d".into()),
    ] {
        alice.say(seq, &text).await;
    }
    let answers = alice.answers(6).await;
    let seen: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Ack(ack) => {
                (ack.client_seq, ack.position.map(|it| it.seq), ack.duplicate, None)
            }
            Answer::Nack(nack) => (nack.client_seq, None, false, Some(nack.reason())),
        })
        .collect();
    assert_eq!(
        seen,
        [
            (1, Some(2), false, None),
            (2, None, false, Some(NackReason::TooLarge)),
            (3, None, false, Some(NackReason::OutOfOrder)),
            (2, None, false, Some(NackReason::Empty)),
            (2, Some(3), false, None),
            (2, Some(3), true, None),
        ]
    );
    alice.expect_said("alice", "a").await;
    alice.expect_said("alice", "d").await;
    alice.assert_open();
    cluster.assert_no_errors();
}

#[tokio::test]
async fn history_and_plain_clients_share_the_room() {
    let cluster = Cluster::redis(2).start().await;
    let alice =
        &mut RichClient::open(&cluster.endpoint(0), RichClient::asking("lobby", "alice")).await;
    alice.welcome().await;
    let mut plain = cluster.endpoint(1).join("paul").await;
    alice.expect_joined("paul").await;
    for number in 1..=20 {
        alice.say_and_wait(number, &format!("message {number}")).await;
        plain.expect_said("alice", &format!("message {number}")).await;
    }
    plain.say("from the `chat` protocol").await;
    alice.inbox().wait(SOON, |state| (state.told.len() >= 43).then_some(())).await;
    let mut join = RichClient::asking("lobby", "carol");
    join.since = Some(roomcast_proto::room::join::Since::Latest(3));
    let carol = &mut RichClient::open(&cluster.endpoint(1), join).await;
    let head = carol.welcome().await.head.unwrap();
    plain.expect_system("carol joined").await;
    for text in ["message 19", "message 20"] {
        carol.expect_said("alice", text).await;
    }
    carol.expect_said("paul", "from the `chat` protocol").await;
    assert_eq!(carol.expect_joined("carol").await, head);
    carol.leave().await;
    plain.expect_system("carol left").await;
    assert!(matches!(carol.next_news(Duration::ZERO).await, None | Some(News::Event(_))));
    cluster.assert_no_errors();
}
