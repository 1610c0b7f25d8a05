use std::sync::Mutex;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

const A: Epoch = Epoch(0xa);
const B: Epoch = Epoch(0xb);
const C: Epoch = Epoch(0xc);

/// An event that is nothing but its number and its weight.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Heavy(u64, usize);

impl Weigh for Heavy {
    fn weight(&self) -> usize {
        self.1
    }
}

/// A log as it is read, over and over again until the next one takes its place.
#[derive(Clone, Debug)]
struct Fake {
    head: Option<Head>,
    events: Vec<Heavy>,
}

impl Fake {
    fn new(position: Position, past: &[Position], kept: std::ops::Range<u64>) -> Self {
        let head = Some(Head { position, past: past.to_vec() });
        Self { head, events: kept.map(|seq| Heavy(seq, 10)).collect() }
    }

    fn none() -> Self {
        Self { head: None, events: Vec::new() }
    }

    /// A log that never saw a failover, with events of these weights from `oldest` on.
    fn weighing(oldest: u64, weights: &[usize]) -> Self {
        let events: Vec<_> = (oldest..).zip(weights).map(|(seq, it)| Heavy(seq, *it)).collect();
        let end = oldest + weights.len() as u64 - 1;
        Self { head: Some(Head { position: at(A, end), past: Vec::new() }), events }
    }

    fn read(&self, after: u64, limit: PageLimit) -> Page<Heavy> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in self.events.iter().filter(|it| it.0 > after).take(limit.events) {
            if bytes >= limit.bytes || (!events.is_empty() && bytes + event.1 > limit.bytes) {
                break;
            }
            bytes += event.1;
            events.push((event.0, *event));
        }
        Page { head: self.head.clone(), events }
    }
}

/// What is read, one log after the other; the last one stays.
struct Reads {
    logs: Mutex<Vec<Fake>>,
    count: Mutex<usize>,
}

impl Reads {
    fn of(logs: impl IntoIterator<Item = Fake>) -> Self {
        let mut logs: Vec<_> = logs.into_iter().collect();
        logs.reverse();
        Self { logs: Mutex::new(logs), count: Mutex::new(0) }
    }
}

impl Log<Heavy> for Reads {
    fn read(
        &self,
        after: u64,
        limit: PageLimit,
    ) -> impl Future<Output = Result<Page<Heavy>, Unavailable>> + Send {
        *self.count.lock().unwrap() += 1;
        let mut logs = self.logs.lock().unwrap();
        let log = if logs.len() > 1 { logs.pop().unwrap() } else { logs[0].clone() };
        std::future::ready(Ok(log.read(after, limit)))
    }
}

fn at(epoch: Epoch, seq: u64) -> Position {
    Position::new(epoch, seq)
}

fn lost(from: Position, to: Position) -> Lost {
    Lost::Range { from, to }
}

type Answer = Result<Found<Heavy>, Unavailable>;

fn after(log: &Reads, position: Position, events: usize, bytes: usize) -> Answer {
    let history = History { log, limit: PageLimit { events, bytes } };
    history.after(position).now_or_never().expect("nothing waits")
}

fn before(log: &Reads, position: Option<Position>, events: usize, bytes: usize) -> Answer {
    let history = History { log, limit: PageLimit { events, bytes } };
    history.before(position).now_or_never().expect("nothing waits")
}

/// Where a page's events are, and what is gone.
fn page(answer: Answer) -> (Vec<(Epoch, u64)>, Option<Lost>) {
    let Found { events, lost, .. } = answer.expect("the log is there");
    for (position, event) in &events {
        assert_eq!(position.seq, event.0);
    }
    (events.iter().map(|(position, _)| (position.epoch, position.seq)).collect(), lost)
}

fn seqs(epoch: Epoch, seqs: std::ops::Range<u64>) -> Vec<(Epoch, u64)> {
    seqs.map(|seq| (epoch, seq)).collect()
}

/// The log B that goes on from A at 6 and from C at 3.
fn went_on(seqs: std::ops::Range<u64>) -> Vec<(Epoch, u64)> {
    let written = |seq| {
        if seq <= 3 {
            C
        } else if seq <= 6 {
            A
        } else {
            B
        }
    };
    seqs.map(|seq| (written(seq), seq)).collect()
}

#[test]
fn forwards_what_is_gone_is_told() {
    // It has 5 to 9.
    let log = || Reads::of([Fake::new(at(B, 9), &[at(C, 3), at(A, 6)], 5..10)]);
    for (asked, first, gap) in [
        (at(B, 4), 5, None),
        (at(B, 7), 8, None),
        (at(B, 9), 10, None),
        (at(B, 99), 10, None),
        (at(B, 2), 5, Some(lost(at(C, 3), at(A, 4)))),
        (at(A, 5), 6, None),
        (at(A, 6), 7, None),
        // These had been got, and are in the log no more.
        (at(A, 8), 7, Some(lost(at(A, 7), at(A, 8)))),
        // And those after them have fallen out of it.
        (at(C, 4), 5, Some(lost(at(C, 4), at(A, 4)))),
        (at(Epoch(0xdead), 7), 5, Some(Lost::Log { after: at(Epoch(0xdead), 7) })),
        (at(Epoch(0), 0), 5, Some(lost(at(C, 1), at(A, 4)))),
    ] {
        assert_eq!(page(after(&log(), asked, 50, 1000)), (went_on(first..10), gap), "{asked}");
        let end = 10.min(first + 2);
        assert_eq!(page(after(&log(), asked, 2, 1000)), (went_on(first..end), gap), "{asked}");
    }
}

#[test]
fn backwards_what_is_gone_is_told() {
    let log = || Reads::of([Fake::new(at(B, 9), &[at(C, 3), at(A, 6)], 5..10)]);
    for (asked, end, gap) in [
        (None, 10, None),
        (Some(at(B, 10)), 10, None),
        (Some(at(B, 99)), 10, None),
        (Some(at(B, 8)), 8, None),
        (Some(at(B, 6)), 6, None),
        (Some(at(A, 7)), 7, None),
        (Some(at(A, 9)), 7, Some(lost(at(A, 7), at(A, 8)))),
        // There are none any more.
        (Some(at(B, 5)), 5, Some(lost(at(C, 1), at(A, 4)))),
        (Some(at(B, 2)), 5, Some(lost(at(C, 1), at(C, 1)))),
        (Some(at(C, 6)), 5, Some(lost(at(C, 1), at(C, 5)))),
        (Some(at(Epoch(0xdead), 7)), 5, Some(Lost::Log { after: at(Epoch(0xdead), 7) })),
        // There never were any.
        (Some(at(B, 1)), 5, None),
        (Some(at(B, 0)), 5, None),
        (Some(at(Epoch(0xdead), 1)), 5, None),
    ] {
        assert_eq!(page(before(&log(), asked, 50, 1000)), (went_on(5..end), gap), "{asked:?}");
        let first = 5.max(end - 2);
        assert_eq!(page(before(&log(), asked, 2, 1000)), (went_on(first..end), gap), "{asked:?}");
    }
}

#[test]
fn without_a_log_what_was_known_is_gone() {
    let none = || Reads::of([Fake::none()]);
    let gone = |after| Found { events: vec![], head: None, lost: Some(Lost::Log { after }) };
    let nothing = Found { events: vec![], head: None, lost: None };
    assert_eq!(after(&none(), at(A, 3), 5, 100), Ok(gone(at(A, 3))));
    assert_eq!(after(&none(), at(Epoch(0), 0), 5, 100).as_ref(), Ok(&nothing));
    assert_eq!(before(&none(), Some(at(A, 3)), 5, 100), Ok(gone(at(A, 3))));
    assert_eq!(before(&none(), Some(at(A, 1)), 5, 100).as_ref(), Ok(&nothing));
    assert_eq!(before(&none(), None, 5, 100), Ok(nothing));
}

#[test]
fn an_empty_log_has_nothing() {
    let empty = || Reads::of([Fake::new(at(A, 0), &[], 1..1)]);
    let trimmed = || Reads::of([Fake::new(at(A, 4), &[], 5..5)]);
    assert_eq!(page(after(&empty(), at(A, 0), 5, 100)), (vec![], None));
    assert_eq!(page(before(&empty(), None, 5, 100)), (vec![], None));
    assert_eq!(page(after(&trimmed(), at(A, 1), 5, 100)), (vec![], Some(lost(at(A, 2), at(A, 4)))));
    assert_eq!(page(after(&trimmed(), at(A, 4), 5, 100)), (vec![], None));
    assert_eq!(page(before(&trimmed(), None, 5, 100)), (vec![], None));
}

#[test]
fn a_failover_in_between_begins_the_page_anew() {
    // What is read after the failover is judged by the head that came with it.
    let (old, new) = (Fake::new(at(A, 9), &[], 1..10), Fake::new(at(B, 7), &[at(A, 6)], 1..8));
    let log = Reads::of([old.clone(), new.clone()]);
    assert_eq!(page(before(&log, Some(at(A, 9)), 3, 1000)), {
        (seqs(A, 4..7), Some(lost(at(A, 7), at(A, 8))))
    });
    let log = Reads::of([old.clone(), Fake::none()]);
    let gone = Found { events: vec![], head: None, lost: Some(Lost::Log { after: at(A, 9) }) };
    assert_eq!(before(&log, Some(at(A, 9)), 3, 1000), Ok(gone));
    // One that never comes to rest.
    let log = Reads::of((0..99).flat_map(|_| [old.clone(), new.clone()]));
    assert_eq!(before(&log, None, 3, 1000), Err(Unavailable));
}

#[test]
fn a_page_that_bytes_cut_short_lacks_the_oldest() {
    let log = |weights: &[usize]| Reads::of([Fake::weighing(1, weights)]);
    let got = |weights: &[usize]| page(before(&log(weights), None, 10, 100)).0;
    assert_eq!(got(&[10, 10, 500]), seqs(A, 3..4), "one there is, however large");
    assert_eq!(got(&[500, 10, 10]), seqs(A, 2..4));
    assert_eq!(got(&[500, 500, 100]), seqs(A, 3..4));
    assert_eq!(got(&[60, 60, 30, 30]), seqs(A, 3..5));
    assert_eq!(got(&[10; 10]), seqs(A, 1..11));
    assert_eq!(got(&[10; 12]), seqs(A, 3..13));
}

proptest! {
    /// Page by page, all that the log has comes once and in order, from either end, and no page is
    /// larger than it may be.
    #[test]
    fn pages_make_up_the_log(
        oldest in 1u64..50,
        weights in prop::collection::vec(1usize..120, 1..120),
        events in 1usize..40,
        bytes in 1usize..400,
    ) {
        let log = Reads::of([Fake::weighing(oldest, &weights)]);
        let whole = seqs(A, oldest..oldest + weights.len() as u64);
        let fits = |page: &[(Epoch, u64)]| {
            let weight = |seq: u64| weights[usize::try_from(seq - oldest).unwrap()];
            let sum: usize = page.iter().map(|(_, seq)| weight(*seq)).sum();
            page.len() <= events && (sum <= bytes || page.len() == 1)
        };

        let mut forwards = Vec::new();
        let mut place = at(A, 0);
        loop {
            let (page, gap) = page(after(&log, place, events, bytes));
            let gone = place.seq == 0 && oldest > 1;
            prop_assert_eq!(gap, gone.then(|| lost(at(A, 1), at(A, oldest - 1))));
            prop_assert!(fits(&page), "{page:?}");
            let Some((_, last)) = page.last() else { break };
            place = at(A, *last);
            forwards.extend(page);
        }
        prop_assert_eq!(&forwards, &whole);

        let mut backwards = Vec::new();
        let mut place = None;
        loop {
            *log.count.lock().unwrap() = 0;
            let (mut page, gap) = page(before(&log, place, events, bytes));
            prop_assert!(fits(&page), "{page:?}");
            prop_assert!(*log.count.lock().unwrap() <= 24, "a page takes too many reads");
            let Some((_, first)) = page.first() else {
                prop_assert_eq!(gap.is_some(), oldest > 1);
                break;
            };
            prop_assert_eq!(gap, None);
            prop_assert!(place.is_none_or(|it| page.last() == Some(&(A, it.seq - 1))));
            place = Some(at(A, *first));
            page.extend(backwards);
            backwards = page;
        }
        prop_assert_eq!(&backwards, &whole);
    }
}
