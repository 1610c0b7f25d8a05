//! Attacks by calls of one question and one answer, and by those that only look like such.

use bytes::Bytes;
use roomcast_proto::room::ListEventsRequest;
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;

use super::{
    caller::{Call, Caller, WIDE, said},
    raw::{CHAT, MEMBERS, Raw},
    target::{Target, tell},
};

const EVENTS: &str = "/roomcast.v1.RoomService/ListEvents";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Five hundred questions of one connection, of 4 MiB each but for the last byte.
pub(super) async fn endless_bodies(target: Target) {
    const SIZE: usize = 4 << 20;
    let Some(mut caller) = Caller::connect(target, WIDE).await else { return };
    let mut sending = JoinSet::new();
    for number in 0..target.some(500) {
        let path = [MEMBERS, CHECK, REFLECTION, EVENTS][number % 4];
        let Some(Some(mut call)) = target.until_over(caller.call(path, &[])).await else { break };
        sending.spawn(async move {
            let head = [&[0], &u32::try_from(SIZE).expect("4 MiB").to_be_bytes()[..]].concat();
            let part = Bytes::from_static(&[0; 16 * 1024]);
            let mut taken = 0;
            if call.body.send(head.into()).await {
                while taken + part.len() < SIZE
                    && target.until_over(call.body.send(part.clone())).await == Some(true)
                {
                    taken += part.len();
                }
            }
            target.hold().await;
            taken
        });
    }
    let count = sending.len();
    let taken: usize = sending.join_all().await.into_iter().sum();
    tell(&format!("{count} calls, {} MB taken", taken / 1_000_000));
}

/// Fills a room with so many bytes, in messages of 16,000.
pub(super) async fn fill(target: Target, room: &str, bytes: usize) {
    let Some(mut caller) = Caller::connect(target, WIDE).await else { return };
    let Some(mut call) = caller.chat(room, "filler").await else { return };
    let message = said("", &"x".repeat(16_000));
    for _ in 0..bytes / 16_000 {
        if target.until_over(call.body.send(message.clone())).await != Some(true) {
            return;
        }
    }
    call.body.end();
    // What was said is stored when the stream has ended.
    target.until_over(Call::read(call.answer)).await;
}

fn events(room: &str) -> ListEventsRequest {
    ListEventsRequest { room: room.to_owned(), ..ListEventsRequest::default() }
}

/// A thousand answers of a megabyte each, of which nothing is taken.
pub(super) async fn answers_not_taken(target: Target) {
    fill(target, "filled", 2 << 20).await;
    let Some(mut caller) = Caller::connect(target, 0).await else { return };
    let mut asked = vec![];
    for _ in 0..target.some(1_000) {
        match target.until_over(caller.ask(EVENTS, &events("filled"))).await {
            Some(Some(call)) => asked.push(call),
            _ => break,
        }
    }
    tell(&format!("{} answers", asked.len()));
    target.hold().await;
}

/// Pages of a log, as many as there are to be had.
pub(super) async fn list_events(target: Target) {
    fill(target, "filled", 2 << 20).await;
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let Some(caller) = Caller::connect(target, WIDE).await else { break };
        let mut requests = caller;
        asking.spawn(async move {
            let mut answered = 0;
            while let Some(Some(call)) =
                target.until_over(requests.ask(EVENTS, &events("filled"))).await
            {
                let read = target.until_over(Call::read(call.answer)).await;
                answered += usize::from(read.is_some_and(|read| read > 0));
            }
            answered
        });
    }
    let answered: usize = asking.join_all().await.into_iter().sum();
    tell(&format!("{answered} pages"));
}

/// Requests whose bodies never come, a thousand on each of twenty connections.
async fn bodiless(target: Target, path: &'static str) {
    let mut open = vec![];
    for _ in 0..20 {
        let Some(Ok(mut raw)) = target.until_over(Raw::connect(target)).await else { break };
        for _ in 0..target.some(1_000) {
            let (_, headers) = raw.open(path, &[]);
            if !matches!(target.until_over(raw.write(&headers)).await, Some(Ok(()))) {
                break;
            }
        }
        open.push(raw);
    }
    let streams: u32 = open.iter().map(|raw| raw.streams).sum();
    tell(&format!("{streams} streams"));
    target.hold().await;
}

/// Unary calls without a body.
pub(super) async fn calls_without_bodies(target: Target) {
    bodiless(target, MEMBERS).await;
}

/// Chat streams without a first message.
pub(super) async fn streams_without_messages(target: Target) {
    bodiless(target, CHAT).await;
}

/// Twenty thousand who watch the service's health.
pub(super) async fn health_watches(target: Target) {
    let question = HealthCheckRequest { service: String::new() };
    let (mut callers, mut watches) = (vec![], vec![]);
    for _ in 0..20 {
        let Some(mut caller) = Caller::connect(target, WIDE).await else { break };
        for _ in 0..target.some(1_000) {
            match target.until_over(caller.ask(WATCH, &question)).await {
                Some(Some(call)) => watches.push(call),
                _ => break,
            }
        }
        callers.push(caller);
    }
    tell(&format!("{} watches", watches.len()));
    target.hold().await;
}
