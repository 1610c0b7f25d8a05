//! How a stream ends, what the room hears of it, and what its client still gets.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use nix::sys::signal::Signal;
use prost::Message as _;
use roomcast_proto::room::{
    ConnectRequest, Event, Join, Leave, LeftCause, Ping, connect_request::Frame, event::What,
};
use tonic::Code;

use crate::harness::{Answer, ChatClient, Cluster, News, RawCall, RichClient, SOON};

/// How bob's stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Leave,
    HalfClose,
    Cancel,
    BadFrame,
    /// He has said it all with his first bytes.
    OneShot,
    /// The same, with something that is not allowed behind it.
    BadAtOnce,
}

/// Frames as they are on the wire.
fn framed(frames: &[Frame]) -> Bytes {
    let mut bytes = Vec::new();
    for frame in frames {
        let frame = ConnectRequest { frame: Some(frame.clone()) }.encode_to_vec();
        bytes.push(0);
        bytes.extend(u32::try_from(frame.len()).expect("a short frame").to_be_bytes());
        bytes.extend(frame);
    }
    bytes.into()
}

async fn one_shot(to: SocketAddr, frames: &[Frame]) {
    let path = "/roomcast.v1.RoomService/Connect";
    let mut call = RawCall::begin(to, "POST", path, "application/grpc").await;
    assert!(call.write(framed(frames), true));
    call.read_to_end().await;
}

fn join(linger: Duration) -> Join {
    let linger = Some(linger.try_into().expect("a short time"));
    Join { linger, ..RichClient::asking("den", "bob") }
}

async fn come_and_go(cluster: &Cluster, end: End, linger: Duration) {
    let (join, addr) = (join(linger), cluster.replicas[1 % cluster.replicas.len()].grpc());
    match end {
        End::OneShot => return one_shot(addr, &[Frame::Join(join)]).await,
        End::BadAtOnce => {
            return one_shot(addr, &[Frame::Join(join.clone()), Frame::Join(join)]).await;
        }
        End::Leave | End::HalfClose | End::Cancel | End::BadFrame => {}
    }
    let mut bob = RichClient::open(&cluster.endpoint(1), join.clone()).await;
    bob.welcome().await;
    match end {
        End::Leave => bob.leave().await,
        End::HalfClose => {
            bob.half_close();
            bob.expect_end(Code::Ok).await;
        }
        End::Cancel => bob.cancel(),
        End::BadFrame => {
            bob.send(Frame::Join(join)).await;
            bob.expect_end(Code::InvalidArgument).await;
        }
        End::OneShot | End::BadAtOnce => unreachable!("it is over"),
    }
}

#[tokio::test]
async fn the_room_hears_what_the_table_says() {
    for plan in [Cluster::memory(), Cluster::redis(2)] {
        let cluster = plan.start().await;
        let mut alice =
            RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
        alice.welcome().await;
        let linger = Duration::from_secs(1);
        for (end, without, with) in [
            (End::Leave, LeftCause::Asked, LeftCause::Asked),
            (End::HalfClose, LeftCause::Asked, LeftCause::TimedOut),
            (End::OneShot, LeftCause::Asked, LeftCause::TimedOut),
            (End::Cancel, LeftCause::Disconnected, LeftCause::TimedOut),
            (End::BadFrame, LeftCause::Ended, LeftCause::TimedOut),
            (End::BadAtOnce, LeftCause::Ended, LeftCause::TimedOut),
        ] {
            for (linger, cause) in [(Duration::ZERO, without), (linger, with)] {
                println!("{end:?} {linger:?}");
                come_and_go(&cluster, end, linger).await;
                alice.expect_joined("bob").await;
                alice.expect_left("bob", cause).await;
            }
        }
        cluster.assert_no_errors();
    }
}

#[tokio::test]
async fn a_member_without_linger_is_told_to_have_gone_with_its_replica() {
    let cluster = Cluster::redis(2).with("ROOMCAST_DRAIN__DEADLINE", "4s").start().await;
    let mut alice =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let mut bob = RichClient::open(&cluster.endpoint(1), join(Duration::ZERO)).await;
    bob.welcome().await;
    alice.expect_joined("bob").await;
    cluster.replicas[1].signal(Signal::SIGTERM);
    alice.expect_left("bob", LeftCause::Shutdown).await;
    bob.expect_end(Code::Unavailable).await;
}

#[tokio::test]
async fn a_leave_is_confirmed_once_it_is_stored() {
    let plan = Cluster::durable_redis(1).with("ROOMCAST_REDIS__TIMEOUT", "1s");
    let mut cluster = plan.start().await;
    let mut alice =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let mut bob = RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "bob")).await;
    bob.welcome().await;
    alice.expect_joined("bob").await;
    cluster.shared().kill();
    cluster.until_unready(SOON).await;
    bob.send(Frame::Leave(Leave {})).await;
    bob.expect_end(Code::Unavailable).await;
    cluster.shared().restart().await;
    alice.expect_left("bob", LeftCause::Asked).await;
}

#[tokio::test]
async fn frames_that_are_not_known_are_passed_over_before_the_join_too() {
    let cluster = Cluster::memory().start().await;
    let mut alice =
        RichClient::open(&cluster.endpoint(0), RichClient::asking("den", "alice")).await;
    alice.welcome().await;
    let path = "/roomcast.v1.RoomService/Connect";
    let addr = cluster.replicas[0].grpc();
    let mut call = RawCall::begin(addr, "POST", path, "application/grpc").await;
    // An empty one, one with a field of a later version, and the join.
    call.send(&[]);
    call.send(&[0xfa, 0x01, 0x02, 0x08, 0x01]);
    call.write(framed(&[Frame::Join(join(Duration::ZERO)), Frame::Ping(Ping { nonce: 1 })]), false);
    alice.expect_joined("bob").await;
}

/// Alice says numbers until she is stopped by dropping this.
async fn talk(alice: &mut RichClient) {
    for number in 1.. {
        alice.say(number, &number.to_string()).await;
        if number > 32 {
            let answer = alice.next_answer(SOON).await;
            assert!(matches!(answer, Some(Answer::Ack(_))), "{answer:?}");
        }
    }
}

/// What was said between bob's last coming and his going, as somebody else heard it, and the place of that.
async fn between(carol: &mut RichClient) -> (Vec<String>, u64) {
    let mut said = Vec::new();
    loop {
        let Some(News::Event(Event { what: Some(what), username, position, .. })) =
            carol.next_news(SOON).await
        else {
            panic!("bob did not go: {carol:?}");
        };
        match what {
            What::Joined(_) if username == "bob" => said.clear(),
            What::Left(_) if username == "bob" => return (said, position.expect("a place").seq),
            What::Said(it) => said.push(it.content),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_gets_what_stands_between_its_joined_and_its_left() {
    for plan in [Cluster::memory(), Cluster::redis(2)] {
        let cluster = plan.start().await;
        let enter = async |name| {
            let mut client =
                RichClient::open(&cluster.endpoint(0), RichClient::asking("lobby", name)).await;
            client.welcome().await;
            client
        };
        let (mut alice, mut carol) = (enter("alice").await, enter("carol").await);
        let watched = async {
            for round in 0..20 {
                if round % 2 == 0 {
                    let mut bob: ChatClient = cluster.endpoint(1).join("bob").await;
                    for _ in 0..5 {
                        assert!(bob.next(SOON).await.is_some());
                    }
                    bob.half_close();
                    bob.expect_end(Code::Ok).await;
                    let (said, _) = between(&mut carol).await;
                    let state = bob.record().state();
                    let got: Vec<_> = state.heard.iter().map(|it| it.content.clone()).collect();
                    assert_eq!(got, said, "round {round}");
                } else {
                    let join = RichClient::asking("lobby", "bob");
                    let mut bob = RichClient::open(&cluster.endpoint(1), join).await;
                    bob.welcome().await;
                    for _ in 0..5 {
                        bob.next_event().await;
                    }
                    bob.leave().await;
                    let (_, left) = between(&mut carol).await;
                    let last = bob.last_position().expect("it got some").seq;
                    assert_eq!(last, left - 1, "round {round}");
                }
            }
        };
        tokio::select! {
            () = watched => {}
            () = talk(&mut alice) => unreachable!("she goes on"),
        }
    }
}
