//! What comes in on a connection, judged by the heads of its frames.
//!
//! h2 sums up what is suspicious over a connection's life, and a load balancer's connection carries
//! hundreds of clients for days. So those sums are switched off, and floods are known by their rate: frames
//! that carry nothing, far more of them than anything that was sent could be the reason for.
//!
//! Source: <https://www.rfc-editor.org/rfc/rfc9113#section-4.1>.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The bytes with which every HTTP/2 client begins.
pub(super) const PREFACE: usize = 24;

/// What a frame that carries nothing costs: 40,000 of them a second may come in for ever. One thread of an
/// Envoy passes on half as many resets, however many its clients send.
const COST: Duration = Duration::from_micros(25);

/// What may come at once, after a pause of this process for example: 120,000 frames.
const BURST: Duration = Duration::from_secs(3);

/// What is sent pays for window updates and the like, one for so many bytes.
const BYTES_PER_FRAME: u32 = 128;

/// How many frames may come in while the socket takes nothing. Each of them may be the reason for another
/// one that waits to be sent.
const UNANSWERED: usize = 1_000;

/// So much of a request's head every connection may have unfinished.
const BLOCK: usize = 16 * 1024;

/// What is unfinished beyond that, on all connections of a replica together.
const BEYOND: usize = 16 * 1024 * 1024;

const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What large heads of requests take up on a replica that are not finished.
#[derive(Clone, Debug, Default)]
pub(super) struct LargeHeads(Arc<AtomicUsize>);

/// One connection's.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The head that is being read, and how much of it is there.
    head: [u8; HEAD],
    have: usize,
    /// How much of a frame is to come behind its head.
    body: usize,
    /// Since when the head of a request has been coming in.
    block: Option<Instant>,
    /// Its last frame has begun.
    block_ends: bool,
    /// How much of it was announced, and how much of that is counted with other connections' large heads.
    block_bytes: usize,
    beyond: usize,
    large_heads: LargeHeads,
    /// There was no room for more of it.
    too_large: bool,
    /// What resets have cost, and what other frames have that carry nothing.
    resets: Duration,
    others: Duration,
    /// As of when.
    at: Instant,
    /// Frames since the socket took something.
    unanswered: usize,
}

impl Inbound {
    pub(super) fn new(large_heads: LargeHeads) -> Self {
        Self {
            head: [0; HEAD],
            have: 0,
            body: PREFACE,
            block: None,
            block_ends: false,
            block_bytes: 0,
            beyond: 0,
            large_heads,
            too_large: false,
            resets: Duration::ZERO,
            others: Duration::ZERO,
            at: Instant::now(),
            unanswered: 0,
        }
    }

    /// Since when the head of a request has been coming in, if one is.
    pub(super) fn block(&self) -> Option<Instant> {
        self.block
    }

    /// So many bytes have left, and there may be more.
    pub(super) fn sent(&mut self, bytes: usize) {
        if !self.others.is_zero() {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.others = self.others.saturating_sub(COST.saturating_mul(bytes) / BYTES_PER_FRAME);
        }
        self.unanswered = self.unanswered.saturating_sub(bytes / HEAD + 1);
    }

    /// All that there was has left.
    pub(super) fn sent_all(&mut self) {
        self.unanswered = 0;
    }

    /// Whether nothing more is to be read before the socket takes something, where it takes nothing.
    pub(super) fn is_ahead(&self) -> bool {
        self.unanswered >= UNANSWERED
    }

    /// These bytes have come in.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.resets = self.resets.saturating_sub(passed);
        self.others = self.others.saturating_sub(passed);
        self.at = now;
        while !bytes.is_empty() {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            bytes = &bytes[skipped..];
            if self.body == 0 && self.block_ends {
                self.end_block();
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..][..taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.have = 0;
                self.begin(now);
            }
        }
    }

    /// A frame begins, of which the head is known.
    fn begin(&mut self, now: Instant) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.body = u32::from_be_bytes([0, a, b, c]) as usize;
        self.unanswered += 1;
        match kind {
            DATA if self.body > 0 || flags & END_STREAM != 0 => {}
            RST_STREAM => self.resets += COST,
            _ => self.others += COST,
        }
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block.get_or_insert(now);
            self.block_ends = flags & END_HEADERS != 0;
            self.block_bytes += self.body;
            let more = self.block_bytes.saturating_sub(BLOCK + self.beyond);
            if more > 0 {
                self.beyond += more;
                self.too_large |= self.large_heads.0.fetch_add(more, Relaxed) + more > BEYOND;
            }
            if self.block_ends && self.body == 0 {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        (self.block, self.block_ends, self.block_bytes) = (None, false, 0);
        self.large_heads.0.fetch_sub(std::mem::take(&mut self.beyond), Relaxed);
    }

    /// Whether more has come in that carries nothing than any client has a reason for, or more of the head of a
    /// request than there is room for.
    pub(super) fn is_flooded(&self) -> bool {
        self.resets > BURST || self.others > BURST || self.too_large
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.end_block();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&size[1..], &[kind, flags, 0, 0, 0, 1], body].concat()
    }

    /// One that has read the preface.
    fn begun() -> Inbound {
        begun_among(&LargeHeads::default())
    }

    /// One of several.
    fn begun_among(large_heads: &LargeHeads) -> Inbound {
        let mut inbound = Inbound::new(large_heads.clone());
        inbound.read(&[b'x'; PREFACE], Instant::now());
        inbound
    }

    /// How many of these come in at this pace before it is a flood, if it ever is.
    fn floods_after(frame: &[u8], a_second: u32, sent: usize) -> Option<u32> {
        let (mut inbound, began) = (begun(), Instant::now());
        (0..1_000_000).find(|number| {
            inbound.read(frame, began + Duration::from_secs(1) * *number / a_second);
            inbound.sent(sent);
            inbound.is_flooded()
        })
    }

    #[test]
    fn floods_are_known_by_their_rate_and_never_by_their_sum() {
        let reset = frame(RST_STREAM, 0, &[0; 4]);
        for empty in [reset.clone(), frame(6, 0, &[0; 8]), frame(4, 0, &[]), frame(DATA, 0, &[])] {
            assert_eq!(floods_after(&empty, 39_000, 0), None);
            let at = floods_after(&empty, 1_000_000, 0).expect("a flood");
            assert!((120_000..130_000).contains(&at), "{at}");
        }
        assert_eq!(floods_after(&frame(DATA, 0, b"x"), 1_000_000, 0), None);
        // A reader of small messages may open its windows for each of them, but not reset streams.
        assert_eq!(floods_after(&frame(8, 0, &[0; 4]), 1_000_000, 128), None);
        assert!(floods_after(&reset, 1_000_000, 128).is_some());
    }

    #[test]
    fn heads_are_found_however_they_are_cut() {
        let frames = [
            frame(4, 0, &[7; 12]),
            frame(HEADERS, 0, &[1; 5]),
            frame(CONTINUATION, END_HEADERS, &[2; 30]),
            frame(DATA, 0, &[3; 300]),
        ];
        let bytes = [vec![b'x'; PREFACE], frames.concat()].concat();
        let now = Instant::now();
        for size in 1..bytes.len() {
            let mut inbound = Inbound::new(LargeHeads::default());
            let mut open = 0;
            for part in bytes.chunks(size) {
                inbound.read(part, now);
                open += usize::from(inbound.block().is_some());
            }
            assert_eq!(inbound.unanswered, 4, "in parts of {size}");
            assert_eq!(inbound.others, 3 * COST);
            assert!(inbound.block().is_none());
            assert!(size > 20 || open > 0, "in parts of {size}");
        }
    }

    #[test]
    fn the_head_of_a_request_is_open_until_its_last_byte() {
        let (mut inbound, now) = (begun(), Instant::now());
        inbound.read(&frame(HEADERS, END_HEADERS, &[1; 5])[..13], now);
        assert_eq!(inbound.block(), Some(now));
        inbound.read(&[1], now + COST);
        assert_eq!(inbound.block(), None);
        inbound.read(&frame(HEADERS, 0, &[]), now);
        inbound.read(&frame(CONTINUATION, 0, &[1]), now + COST);
        assert_eq!(inbound.block(), Some(now), "a byte more does not begin it anew");
        inbound.read(&frame(CONTINUATION, END_HEADERS, &[]), now + COST);
        assert_eq!(inbound.block(), None);
    }

    #[test]
    fn large_heads_have_a_bound_together() {
        const PART: usize = 16 * 1024;
        let (large_heads, now) = (LargeHeads::default(), Instant::now());
        let begin = frame(HEADERS, 0, &[1; PART]);
        let [goes_on, ends] = [0, END_HEADERS].map(|flags| frame(CONTINUATION, flags, &[1; PART]));
        let mut small: Vec<_> = (0..2000).map(|_| begun_among(&large_heads)).collect();
        for it in &mut small {
            it.read(&begin, now);
        }
        assert!(!small.iter().any(Inbound::is_flooded), "a part of each is free");
        let mut large: Vec<_> = (0..257).map(|_| begun_among(&large_heads)).collect();
        for it in &mut large {
            it.read(&[&begin[..], &goes_on.repeat(4)].concat(), now);
        }
        let too_much: Vec<_> = large.iter().map(Inbound::is_flooded).collect();
        assert!(!too_much[255] && too_much[256], "256 of 64 KiB more are 16 MiB");
        large.truncate(256);
        large[0].read(&ends, now);
        let mut next = begun_among(&large_heads);
        next.read(&[&begin[..], &goes_on.repeat(4)].concat(), now);
        assert!(!next.is_flooded(), "one has ended");
        drop((small, large, next));
        assert_eq!(large_heads.0.load(Relaxed), 0);
    }

    #[test]
    fn who_takes_nothing_is_read_only_so_far() {
        let (mut inbound, now) = (begun(), Instant::now());
        let data = frame(DATA, 0, b"late");
        for _ in 0..UNANSWERED {
            assert!(!inbound.is_ahead());
            inbound.read(&data, now);
        }
        assert!(inbound.is_ahead());
        inbound.sent(HEAD);
        assert!(!inbound.is_ahead());
        inbound.read(&data.repeat(5), now);
        assert!(inbound.is_ahead());
        inbound.sent_all();
        assert!(!inbound.is_ahead());
    }
}
