//! Deployments on one Redis that know nothing of each other: by prefix, or by database.

use super::{RedisConfig, SETUP, Server, Topology};
use crate::{
    backplane::{
        Signal,
        conformance::{Replica, props},
    },
    domain::{ReplicaId, RoomName},
};

/// All that a replica hears of any deployment, until a canary of its own that is sent now.
async fn heard(replica: &mut Replica, canary: u64) -> Vec<Signal> {
    replica.backplane.canary(canary).await.expect("redis answers");
    let mut heard = Vec::new();
    loop {
        match replica.signals.recv().await.expect("signals end only with the backplane") {
            Signal::Canary(number) if number == canary => return heard,
            signal => heard.push(signal),
        }
    }
}

/// One comes, speaks and is taken over, which is everything that is published.
async fn do_all(replica: &Replica, room: &RoomName) {
    let bob = replica.join(room, "bob").await;
    replica.say(&bob, 1, "hi").await;
    replica.take_over(&bob).await;
}

#[tokio::test]
async fn deployments_never_hear_each_other() {
    let (server, id) = (Server::start().await, ReplicaId::from_bytes([7; 16]));
    let url = server.0.url();
    let numbered = Topology::One(format!("{url}/3"));
    let plain = RedisConfig { topology: Topology::One(url), ..server.config(SETUP) };
    let prefixed = RedisConfig { prefix: "other".to_owned(), ..plain.clone() };
    let numbered = RedisConfig { topology: numbered, ..plain.clone() };
    for others in [[&plain, &prefixed], [&plain, &numbered], [&prefixed, &numbered]] {
        let [mut a, mut b] = others.map(|config| Server::attach_to(config, id));
        let room = props::some_room();
        a.subscribe(&room).await;
        b.subscribe(&room).await;
        for (speaker, listener) in [(0, 1), (1, 0)] {
            let both = [&mut a, &mut b];
            do_all(both[speaker], &room).await;
            // Their ids are the same, and their canaries are apart all the same.
            both[speaker].backplane.canary(1).await.expect("redis answers");
            let foreign = heard(both[listener], 2).await;
            assert!(foreign.is_empty(), "of {others:?}: {foreign:?}");
            let own = heard(both[speaker], 3).await;
            assert_eq!(own.len(), 4, "joined, said, moved and a canary: {own:?}");
        }
        // Nor do they share names: both have a bob.
        assert_eq!(a.story(&room).await, b.story(&room).await);
    }
}
