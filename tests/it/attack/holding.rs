//! Attacks by what is sent and not to be used yet, and by what is not taken.

use bytes::Bytes;
use roomcast_proto::room::{Join, Position, join::Since};
use tokio::task::JoinSet;

use super::{
    caller::{Body, Caller, WIDE, said},
    raw::{CHAT, DATA, Raw},
    target::{Target, tell},
    unary::fill,
};
use crate::harness::frame;

/// Unfinished messages on a thousand streams of each of twenty connections, so many bytes each.
async fn unfinished(target: Target, size: usize) {
    let mut connections = JoinSet::new();
    for _ in 0..20 {
        connections.spawn(async move {
            let Some(mut caller) = Caller::connect(target, WIDE).await else { return 0 };
            let mut calls = vec![];
            let claimed = u32::try_from(size + 1_000).expect("a message").to_be_bytes();
            let bytes: Bytes = [&[0], &claimed[..], &vec![b'x'; size]].concat().into();
            for _ in 0..target.some(1_000) {
                let call = target.until_over(caller.call(CHAT, &[])).await;
                let Some(Some(mut call)) = call else { break };
                // It may never be taken whole.
                let patience = std::time::Duration::from_millis(2);
                let _ = tokio::time::timeout(patience, call.body.send(bytes.clone())).await;
                calls.push(call);
            }
            target.hold().await;
            calls.len()
        });
    }
    let streams: usize = connections.join_all().await.into_iter().sum();
    tell(&format!("{streams} streams"));
}

/// Of 64 KB.
pub(super) async fn unfinished_messages(target: Target) {
    unfinished(target, 64_000).await;
}

/// Of 130 KB.
pub(super) async fn large_unfinished_messages(target: Target) {
    unfinished(target, 130_000).await;
}

/// A hundred and twenty thousand frames of one byte on each of twenty connections, on streams whose
/// messages are large and wait to be received.
pub(super) async fn unread_frames(target: Target) {
    let mut connections = JoinSet::new();
    for _ in 0..20 {
        connections.spawn(async move {
            let Some(Ok(mut raw)) = target.until_over(Raw::connect(target)).await else { return 0 };
            let mut frames = 0;
            for _ in 0..10 {
                let (stream, mut bytes) = raw.open(CHAT, &[]);
                bytes.extend(frame(DATA, 0, stream, &[0, 0, 3, 0, 0]));
                let many = target.some(12_000);
                bytes.extend(frame(DATA, 0, stream, b"x").repeat(many));
                if !matches!(target.until_over(raw.write(&bytes)).await, Some(Ok(()))) {
                    break;
                }
                frames += many;
            }
            target.hold().await;
            frames
        });
    }
    let frames: usize = connections.join_all().await.into_iter().sum();
    tell(&format!("{frames} frames"));
}

/// Everything that a room ever heard, from the beginning of an epoch that never was.
fn all(room: &str, name: String) -> Join {
    let since = Some(Since::After(Position { epoch: 1, seq: 0 }));
    Join { room: room.to_owned(), username: name, since, ..Join::default() }
}

/// Two hundred readers of a room with a long history that take nothing.
pub(super) async fn readers_that_take_nothing(target: Target) {
    fill(target, "long", 4 << 20).await;
    let Some(mut caller) = Caller::connect(target, 0).await else { return };
    let mut readers = vec![];
    for number in 0..target.some(200).max(100) {
        let latest = Join { since: Some(Since::Latest(100)), ..all("long", format!("r{number}")) };
        match target.until_over(caller.join(latest)).await {
            Some(Some(call)) => readers.push(call),
            _ => break,
        }
    }
    tell(&format!("{} readers", readers.len()));
    target.hold().await;
}

/// Fifty rooms, in each of which somebody speaks as fast as it goes to one who takes nothing.
pub(super) async fn rooms_with_stalled_readers(target: Target) {
    let Some(mut stalled) = Caller::connect(target, 0).await else { return };
    let Some(mut speaking) = Caller::connect(target, WIDE).await else { return };
    let (mut readers, mut answers) = (vec![], vec![]);
    let mut speakers = JoinSet::new();
    for number in 0..target.some(50) {
        let room = format!("stalled-{number}");
        let reader = target.until_over(stalled.chat(&room, "reader")).await;
        let speaker = target.until_over(speaking.chat(&room, "speaker")).await;
        let (Some(Some(reader)), Some(Some(speaker))) = (reader, speaker) else { break };
        readers.push(reader);
        speakers.spawn(speak(target, speaker.body, 1_000));
        answers.push(speaker.answer);
    }
    let said: usize = speakers.join_all().await.into_iter().sum();
    tell(&format!("{} rooms, {said} messages", readers.len()));
}

/// Says messages of this size as fast as they are taken; how many.
pub(super) async fn speak(target: Target, mut body: Body, size: usize) -> usize {
    let message = said("", &"s".repeat(size));
    let mut count = 0;
    while target.until_over(body.send(message.clone())).await == Some(true) {
        count += 1;
    }
    count
}
