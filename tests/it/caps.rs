//! Caps on streams, per peer and per replica, on a room's members, on a replica's rooms, and on what else one
//! address may have.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::harness::{Endpoint, Layout, SOON, eventually, quiet};

on_both_backplanes!(
    a_peer_has_only_so_many_streams,
    a_replica_has_only_so_many_streams,
    refused_claims_do_not_use_up_the_cap,
    streams_that_are_reset_at_once_do_not_use_up_the_cap,
    a_room_has_only_so_many_members,
    a_replica_has_only_so_many_rooms,
    an_address_has_only_so_many_connections,
    an_address_has_only_so_many_rooms_and_members_of_one,
    a_peer_opens_only_so_many_rooms,
    a_peer_comes_and_goes_only_so_often,
);

/// Two addresses of this machine, hence two peers.
const PEER: [u8; 4] = [127, 0, 0, 2];

async fn refused_for_the_cap(endpoint: &Endpoint, cap: &str) {
    let message = endpoint.join("one too many").await.expect_end(Code::ResourceExhausted).await;
    assert!(message.contains(cap), "names the cap: {message:?}");
}

async fn a_peer_has_only_so_many_streams(layout: Layout) {
    let cluster = layout.plan().with("ROOMCAST_LIMITS__STREAMS_PER_PEER", "3").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let greedy = cluster.endpoint(0).coming_from(PEER);
    let mut streams = Vec::new();
    for name in ["one", "two", "three"] {
        streams.push(greedy.enter_seen_by(name, &mut [&mut alice]).await);
    }
    // The cap is the peer's, not the connection's.
    refused_for_the_cap(&greedy, "3").await;
    refused_for_the_cap(&greedy.clone().on_one_connection().await, "3").await;
    // Nobody else is concerned: neither those who are in, nor other peers.
    quiet(&streams[0], &mut [&mut alice]).await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
    // One goes, by whatever way, and one may come.
    for (round, mut stream) in streams.into_iter().enumerate() {
        let name = stream.name().to_owned();
        if round % 2 == 0 {
            stream.half_close();
        } else {
            stream.disconnect();
        }
        alice.expect_system(&format!("{name} left")).await;
    }
    eventually(SOON, "a stream is free again", async || {
        let mut late = greedy.join("late").await;
        let joined = alice.hears("late joined", std::time::Duration::from_millis(500)).await;
        late.half_close();
        joined.then_some(())
    })
    .await;
}

async fn a_replica_has_only_so_many_streams(layout: Layout) {
    let cluster = layout.plan().with("ROOMCAST_LIMITS__STREAMS", "4").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut streams = Vec::new();
    let mut tries = 0;
    // The knocker of `enter` may still be counted for a moment.
    while streams.len() < 3 {
        let name = format!("guest {tries}");
        let stream = cluster.endpoint(0).coming_from(PEER).join(&name).await;
        if alice.hears(&format!("{name} joined"), std::time::Duration::from_millis(500)).await {
            streams.push(stream);
        }
        tries += 1;
        assert!(tries < 20, "{alice:?}");
    }
    refused_for_the_cap(&cluster.endpoint(0), "4").await;
    refused_for_the_cap(&cluster.endpoint(0).coming_from(PEER), "4").await;
    if layout == Layout::Redis {
        let mut far = cluster.endpoint(1).enter_seen_by("far", &mut [&mut alice]).await;
        quiet(&alice, &mut [&mut far]).await;
    }
}

async fn refused_claims_do_not_use_up_the_cap(layout: Layout) {
    let cluster = layout.plan().with("ROOMCAST_LIMITS__STREAMS_PER_PEER", "5").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let peer = cluster.endpoint(0).coming_from(PEER);
    for _ in 0..20 {
        let message = peer.join("alice").await.expect_end(Code::AlreadyExists).await;
        assert_eq!(message, "username \"alice\" is already taken");
    }
    let bob = peer.enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
}

/// Each is opened and reset in one segment, before anybody could have answered it.
async fn streams_that_are_reset_at_once_do_not_use_up_the_cap(layout: Layout) {
    const PONG: [u8; 9] = [0, 0, 8, 6, 1, 0, 0, 0, 0];
    let cluster = layout.plan().with("ROOMCAST_LIMITS__STREAMS_PER_PEER", "3").start().await;
    let addr = cluster.replicas[0].grpc();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a short payload");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let headers: Vec<u8> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/chat.ChatService/ChatStream"),
        (":authority", "replica"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .into_iter()
    // Literals that no table keeps.
    .flat_map(|(name, value)| {
        let length = |text: &str| u8::try_from(text.len()).expect("a short header");
        let (name, value) = ((length(name), name), (length(value), value));
        [&[0, name.0], name.1.as_bytes(), &[value.0], value.1.as_bytes()].concat()
    })
    .collect();
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for stream in (1..20).step_by(2) {
        bytes.extend(frame(1, 4, stream, &headers));
        bytes.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
    }
    bytes.extend(frame(6, 0, 0, &[7; 8]));
    let mut socket = TcpStream::connect(addr).await.expect("the server listens");
    socket.write_all(&bytes).await.expect("the server reads");
    let mut answer = Vec::new();
    while !answer.windows(PONG.len()).any(|it| it == PONG) {
        assert!(socket.read_buf(&mut answer).await.expect("an answer") > 0, "it goes on");
    }
    eventually(SOON, "there is room for another stream", async || {
        let mut alice = cluster.endpoint(0).join("alice").await;
        let mut bob = cluster.endpoint(0).join("bob").await;
        let joined = alice.hears("bob joined", std::time::Duration::from_millis(500)).await;
        alice.half_close();
        bob.half_close();
        joined.then_some(())
    })
    .await;
}

async fn a_room_has_only_so_many_members(layout: Layout) {
    let cluster = layout.plan().with("ROOMCAST_LIMITS__MEMBERS_PER_ROOM", "8").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let mut others = Vec::new();
    for i in 3..=8 {
        others.push(
            cluster.endpoint(0).enter_seen_by(&format!("guest {i}"), &mut [&mut alice]).await,
        );
    }
    for endpoint in [cluster.endpoint(0), cluster.endpoint(1)] {
        refused_for_the_cap(&endpoint, "8 members, its limit (limits.members_per_room)").await;
        let message = endpoint.join("alice").await.expect_end(Code::AlreadyExists).await;
        assert_eq!(message, "username \"alice\" is already taken");
    }
    quiet(&bob, &mut [&mut alice]).await;
    cluster.endpoint(0).into_room("elsewhere").enter("carol").await;

    bob.half_close();
    alice.expect_system("bob left").await;
    let carol = cluster.endpoint(0).enter_seen_by("carol", &mut [&mut alice]).await;
    quiet(&carol, &mut [&mut alice]).await;
}

async fn a_replica_has_only_so_many_rooms(layout: Layout) {
    let cluster = layout.plan().with("ROOMCAST_LIMITS__ROOMS", "2").start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(0).into_room("second").enter("bob").await;
    let third = cluster.endpoint(0).into_room("third");
    refused_for_the_cap(&third, "2 rooms, its limit (limits.rooms)").await;
    // Rooms that are open take more members, and other replicas more rooms.
    let carol = cluster.endpoint(0).enter_seen_by("carol", &mut [&mut alice]).await;
    quiet(&carol, &mut [&mut alice]).await;
    if layout == Layout::Redis {
        cluster.endpoint(1).into_room("third").enter("far").await;
    }

    bob.half_close();
    eventually(SOON, "there is a place for a room again", async || {
        let mut dave = third.join("dave").await;
        let _erin = third.join("erin").await;
        dave.hears("erin joined", std::time::Duration::from_millis(500)).await.then_some(())
    })
    .await;
}

async fn an_address_has_only_so_many_connections(layout: Layout) {
    let plan = layout.plan().with("ROOMCAST_LIMITS__CONNECTIONS_PER_PEER", "3").alone();
    let cluster = plan.start().await;
    let replica = &cluster.replicas[0];
    let mut one = cluster.endpoint(0).coming_from(PEER).enter("one").await;
    replica.until_at_most("roomcast_connections", 1.0).await;
    let mut greedy = vec![];
    for _ in 0..3 {
        greedy.push(TcpStream::connect(replica.grpc()).await.expect("the server listens"));
    }
    let refused = "roomcast_refusals_total{reason=\"connections_per_peer\"}";
    assert!(replica.metric(refused).await < 1.0, "three are allowed");
    let mut further = TcpStream::connect(replica.grpc()).await.expect("the kernel accepts");
    // It is closed without a word, or reset.
    let read = further.read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    replica.until_at_least(refused, 1.0).await;
    // Another address is not concerned, and who goes makes room.
    let two = cluster.endpoint(0).coming_from(PEER).enter_seen_by("two", &mut [&mut one]).await;
    quiet(&two, &mut [&mut one]).await;
    drop(greedy);
    eventually(SOON, "there is room again", async || {
        let mut socket = TcpStream::connect(replica.grpc()).await.expect("the kernel accepts");
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.ok()?;
        socket.read(&mut [0; 1]).await.is_ok_and(|read| read == 1).then_some(())
    })
    .await;
}

async fn an_address_has_only_so_many_rooms_and_members_of_one(layout: Layout) {
    let plan = layout.plan().with("ROOMCAST_LIMITS__ROOMS_PER_PEER", "2");
    let cluster = plan.with("ROOMCAST_LIMITS__ROOM_MEMBERS_PER_PEER", "2").start().await;
    let endpoint = |room: &str| cluster.endpoint(0).coming_from(PEER).into_room(room);
    // Whoever knocks to see them come in would count as well, and may come before them.
    let members = |count| cluster.replicas[0].until_at_least("roomcast_members", count);
    let mut one = cluster.endpoint(0).into_room("a").join("one").await;
    members(1.0).await;
    let two = endpoint("a").enter_seen_by("two", &mut [&mut one]).await;
    let mut three = endpoint("a").enter_seen_by("three", &mut [&mut one]).await;
    refused_for_the_cap(&endpoint("a"), "limits.room_members_per_peer").await;
    let other = endpoint("b").join("other").await;
    members(4.0).await;
    refused_for_the_cap(&endpoint("c"), "limits.rooms_per_peer").await;
    three.half_close();
    one.expect_system("three left").await;
    eventually(SOON, "there is room again", async || {
        let mut late = endpoint("a").join("late").await;
        let joined = one.hears("late joined", std::time::Duration::from_millis(500)).await;
        late.half_close();
        joined.then_some(())
    })
    .await;
    drop((two, other));
}

async fn a_peer_opens_only_so_many_rooms(layout: Layout) {
    let plan = layout.plan().with("ROOMCAST_LIMITS__NEW_ROOM_INTERVAL", "1h");
    let cluster = plan.with("ROOMCAST_LIMITS__NEW_ROOM_BURST", "2").start().await;
    let own = cluster.endpoint(0).coming_from(PEER);
    // Whoever knocks to see the first member come in may come before it, and would have opened the room.
    let members = |count| cluster.replicas[0].until_at_least("roomcast_members", count);
    let mut alice = own.join("alice").await;
    members(1.0).await;
    let _bob = own.enter_seen_by("bob", &mut [&mut alice]).await;
    let mut carol = own.clone().into_room("second").join("carol").await;
    members(3.0).await;
    let _dave = own.clone().into_room("second").enter_seen_by("dave", &mut [&mut carol]).await;
    refused_for_the_cap(&own.clone().into_room("third"), "limits.new_room_interval").await;
    // Rooms that are open take more members, and others open more rooms.
    let _erin = own.enter_seen_by("erin", &mut [&mut alice]).await;
    let _frank = cluster.endpoint(0).into_room("third").join("frank").await;
    members(6.0).await;
}

async fn a_peer_comes_and_goes_only_so_often(layout: Layout) {
    let plan = layout.plan().with("ROOMCAST_LIMITS__SHORT_SESSION_INTERVAL", "1h");
    let cluster = plan.with("ROOMCAST_LIMITS__SHORT_SESSION_BURST", "5").start().await;
    let churning = cluster.endpoint(0).coming_from(PEER);
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut came = 0;
    let refused = loop {
        assert!(came < 100, "it may come as often as it likes");
        let mut churn = churning.join("churn").await;
        churn.half_close();
        let ended = churn.ended(SOON).await;
        if ended.code != Code::Ok {
            break ended;
        }
        came += 1;
    };
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.message.contains("limits.short_session_interval"), "{refused:?}");
    // Not all of them may have been short, on a busy machine.
    assert!(came >= 5, "refused after {came}");
    for _ in 0..came {
        assert!(alice.hears("churn left", SOON).await);
    }
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
}
