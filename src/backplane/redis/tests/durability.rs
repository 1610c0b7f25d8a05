//! Appends that count only once a replica of Redis has them, with a real replica.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::{SETUP, Server};
use crate::{
    backplane::{AppendError, Unavailable, conformance::props},
    domain::RoomName,
};

impl Server {
    /// A replica of this one, that may not be in step yet.
    fn replica(&self) -> Self {
        Self::start_with(&["--replicaof", "127.0.0.1", &self.port.to_string()])
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// How many events of a room it has.
    async fn events(&self, room: &RoomName) -> usize {
        self.command(&["XLEN", &format!("rc:{{{room}}}:log")]).await
    }

    /// Waits until a replica is in step.
    async fn in_step(&self) {
        let began = Instant::now();
        loop {
            let info: String = self.command(&["INFO", "replication"]).await;
            if info.contains("state=online") {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "no replica comes up: {info}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn an_append_counts_once_a_replica_has_it() {
    let unavailable = Err(AppendError::Unavailable(Unavailable));
    let server = Server::start_with(&["--repl-diskless-sync-delay", "0"]);
    let a = server.attach_with(SETUP, true);
    let local = server.attach(SETUP);
    let room = props::some_room();
    let bob = a.join(&room, "bob").await;
    let carol = local.join(&room, "carol").await;
    assert_eq!(a.try_say(&bob, 1, "alone").await, unavailable, "there is no replica");
    local.say(&carol, 1, "that is enough for me").await;

    let replica = server.replica();
    server.in_step().await;
    let again = a.say(&bob, 1, "alone").await;
    assert!(again.duplicate, "it had taken effect, and has been stored by now");
    for seq in 2..=20 {
        let said = a.say(&bob, seq, "hi").await;
        let kept = replica.events(&room).await;
        assert_eq!(kept as u64, said.position.seq, "the replica has what was answered");
    }

    replica.signal(Signal::SIGSTOP);
    assert_eq!(a.try_say(&bob, 21, "unheard").await, unavailable, "the replica has stopped");
    assert_eq!(a.try_say(&bob, 21, "unheard").await, unavailable, "a duplicate has to wait, too");
    let mut thief = bob.clone();
    thief.token = props::some_token();
    assert_eq!(a.try_say(&thief, 1, "x").await, Err(AppendError::Stale), "a refusal is certain");
    local.say(&carol, 2, "that is enough for me").await;
    replica.signal(Signal::SIGCONT);
    let again = a.say(&bob, 21, "unheard").await;
    assert!(again.duplicate, "it had taken effect, and has been stored by now");
    assert_eq!(replica.events(&room).await as u64, again.position.seq + 1);

    drop(replica);
    assert_eq!(a.try_say(&bob, 22, "alone again").await, unavailable, "the replica is gone");
}
