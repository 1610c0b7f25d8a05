//! What members cost who only are there: a crowd that joins and then neither says nor takes anything.
//!
//! Its streams have no window, so the room's notices of all who join stay where they are but for a
//! first chunk: a hundred thousand clients in one room would get five thousand million of them.

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::{
    SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::Request;
use roomcast_testkit as testkit;
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::sleep};

use super::{
    setup::Setup,
    stage::{Load, Pace},
};
use crate::{Error, wire};

/// How many may join at a time.
const WAVE: u32 = 2000;
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(50);
/// How long nobody may join before it is over.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a server takes of a core at the most once it is done with those who came, and how long it is
/// waited for that. If it takes more then, that is what the members cost.
const QUIET: f64 = 0.2;
const QUIET_PATIENCE: Duration = Duration::from_secs(60);
/// How much longer it is measured than other loads: leases are extended only now and then.
const LONGER: u32 = 6;

/// Lets a crowd join, and measures it. Says which percentage of one core Redis took, and the server.
pub(super) async fn measure(setup: &Setup, load: Load, pace: Pace) -> Result<[f64; 2], Error> {
    let untold = || Error::Start("only roomcast tells how many members it has".to_owned());
    let (addr, admin) = (setup.addrs()[0], setup.admin().ok_or_else(untold)?);
    let mut crowd = JoinSet::new();
    let (admit, admitted) = watch::channel(0);
    for connection in 0..load.connections {
        crowd.spawn(connect(addr, load, connection, admitted.clone()));
    }
    let mut seen = (0, Instant::now());
    loop {
        // A server that is busy may answer late.
        let members = members(admin).await.unwrap_or(seen.0);
        if members == load.clients {
            break;
        }
        if members > seen.0 {
            seen = (members, Instant::now());
        }
        if let Some(ended) = crowd.try_join_next() {
            let reason = ended.unwrap_or_else(|error| error.to_string());
            return Err(Error::NotJoined(reason));
        }
        if seen.1.elapsed() > PATIENCE {
            let waited = PATIENCE;
            return Err(Error::JoinTimeout { joined: members, clients: load.clients, waited });
        }
        admit.send_replace(members.saturating_add(WAVE).min(load.clients));
        sleep(LOOK).await;
    }
    let mut measured = pace.measured;
    if !pace.quick {
        until_quiet(setup).await?;
        measured *= LONGER;
    }
    let [redis, server] = shares(setup, measured).await?;
    Ok([redis * 100.0, server * 100.0])
}

/// Waits until the server has nothing left to do for those who came.
async fn until_quiet(setup: &Setup) -> Result<(), Error> {
    let begun = Instant::now();
    while begun.elapsed() < QUIET_PATIENCE {
        let [_, server] = shares(setup, Duration::from_secs(1)).await?;
        if server < QUIET {
            break;
        }
    }
    Ok(())
}

/// Which part of a core Redis takes for so long, and which the server.
async fn shares(setup: &Setup, measured: Duration) -> Result<[f64; 2], Error> {
    let (before, begun) = (setup.usages()?, Instant::now());
    sleep(measured).await;
    let (after, seconds) = (setup.usages()?, begun.elapsed().as_secs_f64());
    Ok([1, 0].map(|at| (after[at].cpu - before[at].cpu) / seconds))
}

/// How many members the server says that it has, if it does.
async fn members(admin: SocketAddr) -> Option<u32> {
    let (_, text) = testkit::get(admin, "/metrics").await.ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("roomcast_members "))?;
    value.trim().parse().ok()
}

/// Joins the members of a connection when they are admitted; comes back only when it is lost.
async fn connect(
    addr: SocketAddr,
    load: Load,
    connection: u32,
    admitted: watch::Receiver<u32>,
) -> String {
    let driven = async {
        let socket = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        let handshake = Builder::new().initial_window_size(0).handshake::<_, Bytes>(socket);
        let (requests, driver) = handshake.await.map_err(|error| error.to_string())?;
        let members = (connection..load.clients).step_by(load.connections as usize);
        let mut streams: FuturesUnordered<_> = members
            .map(|member| stay(requests.clone(), addr, load, member, admitted.clone()))
            .collect();
        tokio::select! {
            ended = driver => ended.map_err(|error| error.to_string()),
            Some(never) = streams.next() => match never {},
        }
    };
    driven.await.err().unwrap_or_else(|| "the connection was closed".to_owned())
}

/// Joins once it is admitted, and again whenever the server ends the stream, as it does with those who
/// come when it is too busy.
async fn stay(
    requests: SendRequest<Bytes>,
    addr: SocketAddr,
    load: Load,
    member: u32,
    mut admitted: watch::Receiver<u32>,
) -> Infallible {
    let _ = admitted.wait_for(|&below| member < below).await;
    loop {
        if let Ok((response, _outgoing)) = join(requests.clone(), addr, load, member).await
            && let Ok(response) = response.await
        {
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.data().await {}
        }
        sleep(LOOK).await;
    }
}

async fn join(
    requests: SendRequest<Bytes>,
    addr: SocketAddr,
    load: Load,
    member: u32,
) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let mut request = Request::post(format!("http://{addr}/chat.ChatService/ChatStream"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if load.rooms > 1 {
        request = request.header("chat-room", format!("idle-{}", member % load.rooms));
    }
    let request = request.body(()).expect("all its parts are well-formed");
    let (response, mut outgoing) = requests.ready().await?.send_request(request, false)?;
    outgoing.send_data(wire::frame(format!("idle-{member}"), String::new()), false)?;
    Ok((response, outgoing))
}
