//! What a name may say is the name's, not the session's: coming again makes nobody faster.

use roomcast_proto::room::{NackReason, event::What};
use tonic::Code;

use crate::harness::{Cluster, Layout, RichClient, SOON};

on_both_backplanes!(
    a_plain_client_that_comes_again_says_no_more,
    a_rich_client_that_comes_anew_says_no_more,
);

const INTERVAL: &str = "ROOMCAST_LIMITS__SESSION_INTERVAL";
const BURST: &str = "ROOMCAST_LIMITS__SESSION_BURST";

/// No test lasts that long: what is over the burst is not said.
const NEVER: &str = "1h";

async fn enter(cluster: &Cluster, replica: usize, name: &str) -> RichClient {
    let asking = RichClient::asking("lobby", name);
    let mut client = RichClient::open(&cluster.endpoint(replica), asking).await;
    client.welcome().await;
    client
}

/// How many messages there were until bob left.
async fn said_until_bob_left(witness: &mut RichClient) -> usize {
    let mut said = 0;
    loop {
        let event = witness.next_event().await;
        assert_eq!(event.username, "bob", "{event:?}");
        match event.what {
            Some(What::Said(_)) => said += 1,
            Some(What::Left(_)) => return said,
            Some(What::Joined(_) | What::Moderated(_)) | None => {}
        }
    }
}

/// Two messages at once, by however many streams, on whichever replica, however they end.
async fn a_plain_client_that_comes_again_says_no_more(layout: Layout) {
    let cluster = layout.plan().with(INTERVAL, NEVER).with(BURST, "2").start().await;
    let mut alice = enter(&cluster, 0, "alice").await;
    let mut said = 0;
    for round in 0..12 {
        let mut bob = cluster.endpoint(round).join("bob").await;
        alice.expect_joined("bob").await;
        bob.say("once more").await;
        match round {
            // What it says is taken, so that the stream ends in order.
            0 => {
                bob.half_close();
                bob.expect_end(Code::Ok).await;
            }
            // The second one is taken, too; what comes then waits, until the client goes.
            _ if round % 2 == 0 => bob.cancel(),
            _ => bob.disconnect(),
        }
        said += said_until_bob_left(&mut alice).await;
    }
    // The second message may have been overtaken by the end of its stream.
    assert!((1..=2).contains(&said), "{said} messages");
    // Somebody else may.
    let carol = cluster.endpoint(1).join("carol").await;
    alice.expect_joined("carol").await;
    carol.say("hello").await;
    alice.expect_said("carol", "hello").await;
    cluster.assert_no_errors();
}

/// The same for one who is told, whether the session was left at once or resumed before.
async fn a_rich_client_that_comes_anew_says_no_more(layout: Layout) {
    let cluster = layout.plan().with(INTERVAL, NEVER).with(BURST, "1").start().await;
    let mut alice = enter(&cluster, 0, "alice").await;
    for replica in 0..4 {
        let mut bob = enter(&cluster, replica, "bob").await;
        bob.say(1, "hello").await;
        if replica == 0 {
            bob.expect_ack(1).await;
        } else {
            let nack = bob.expect_nack(1).await;
            assert_eq!(nack.reason(), NackReason::TooFast, "{nack:?}");
        }
        if replica % 2 == 0 {
            bob.leave().await;
            bob.ended(SOON).await;
        } else {
            bob.disconnect();
            come_back_and_leave(&mut bob, &cluster).await;
        }
        said_until_bob_left(&mut alice).await;
    }
    cluster.assert_no_errors();
}

/// Takes the session back, and leaves.
async fn come_back_and_leave(bob: &mut RichClient, cluster: &Cluster) {
    let mut back = bob.resume(&cluster.endpoint(1), bob.last_position()).await;
    back.welcome().await;
    back.leave().await;
    back.ended(SOON).await;
}
