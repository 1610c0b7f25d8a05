//! Appends that count only once a replica of Redis has them, with a real replica.

use roomcast_testkit as testkit;

use super::{SETUP, Server, keys};
use crate::{
    backplane::{AppendError, Unavailable, conformance::props},
    domain::RoomName,
};

impl Server {
    /// A replica of this one, that may not be in step yet.
    pub(super) async fn replica(&self) -> Self {
        let port = self.0.port().to_string();
        Self::start_with(&["--replicaof", "127.0.0.1", &port]).await
    }

    /// How many events of a room it has.
    pub(super) async fn events(&self, room: &RoomName) -> usize {
        self.command(&["XLEN", &keys().log(room)]).await
    }

    /// Waits until a replica is in step.
    pub(super) async fn in_step(&self) {
        testkit::eventually(2 * testkit::SOON, "a replica is in step", async || {
            let info: String = self.command(&["INFO", "replication"]).await;
            info.contains("state=online").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_append_counts_once_a_replica_has_it() {
    let unavailable = Err(AppendError::Unavailable(Unavailable));
    let server = Server::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let a = server.attach_with(SETUP, true);
    let local = server.attach(SETUP);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let carol = local.join(&room, "carol").await;
    assert_eq!(a.try_say(&bob, 1, "alone").await, unavailable, "there is no replica");
    local.say(&carol, 1, "that is enough for me").await;

    let replica = server.replica().await;
    server.in_step().await;
    let again = a.say(&bob, 1, "alone").await;
    assert!(again.duplicate, "it had taken effect, and has been stored by now");
    for seq in 2..=20 {
        let said = a.say(&bob, seq, "hi").await;
        let kept = replica.events(&room).await;
        assert_eq!(kept as u64, said.position.seq, "the replica has what was answered");
    }

    replica.0.pause();
    assert_eq!(a.try_say(&bob, 21, "unheard").await, unavailable, "the replica has stopped");
    assert_eq!(a.try_say(&bob, 21, "unheard").await, unavailable, "a duplicate has to wait, too");
    let mut thief = bob.clone();
    thief.token = props::some_token();
    assert_eq!(a.try_say(&thief, 1, "x").await, Err(AppendError::Stale), "a refusal is certain");
    local.say(&carol, 2, "that is enough for me").await;
    replica.0.resume();
    let again = a.say(&bob, 21, "unheard").await;
    assert!(again.duplicate, "it had taken effect, and has been stored by now");
    assert_eq!(replica.events(&room).await as u64, again.position.seq + 1);

    drop(replica);
    assert_eq!(a.try_say(&bob, 22, "alone again").await, unavailable, "the replica is gone");
}
