use proptest::prelude::*;

use super::*;
use crate::room::Lost;

const A: Epoch = Epoch(0xa);
const B: Epoch = Epoch(0xb);

fn head(epoch: Epoch, seq: u64, past: &[Position]) -> Head {
    Head { position: Position::new(epoch, seq), past: past.to_vec() }
}

fn page(head: Head, events: &[(u64, u32)]) -> Page<u32> {
    Page { head: Some(head), events: events.to_vec() }
}

fn event(epoch: Epoch, seq: u64, event: u32) -> Item<u32> {
    Item::Event(Position::new(epoch, seq), event)
}

fn started(seq: u64) -> Sequencer<u32> {
    let mut sequencer = Sequencer::opening((8, 8), |_| 1);
    assert_eq!(sequencer.start(Some(head(A, seq, &[]))), Moves::default());
    sequencer
}

#[test]
fn consecutive_events_pass_and_repeated_ones_are_dropped() {
    let mut sequencer = started(4);
    let moves = sequencer.live(A, 5, vec![50, 60]);
    assert_eq!(moves.items, vec![event(A, 5, 50), event(A, 6, 60)]);
    assert_eq!(sequencer.live(A, 5, vec![50, 60]), Moves::default());
    assert_eq!(sequencer.live(A, 6, vec![60, 70]).items, vec![event(A, 7, 70)]);
}

#[test]
fn events_that_come_before_the_start_wait_for_it() {
    let mut sequencer = Sequencer::opening((8, 8), |_| 1);
    assert_eq!(sequencer.live(A, 3, vec![30, 40]), Moves::default());
    assert_eq!(sequencer.start(Some(head(A, 3, &[]))).items, vec![event(A, 4, 40)]);
}

#[test]
fn a_room_without_a_log_begins_with_its_first_event() {
    let mut sequencer = Sequencer::opening((8, 8), |_| 1);
    assert_eq!(sequencer.start(None), Moves::default());
    assert_eq!(sequencer.live(A, 1, vec![10]).items, vec![event(A, 1, 10)]);
}

#[test]
fn a_hole_is_read_from_the_log() {
    let mut sequencer = started(1);
    assert_eq!(sequencer.live(A, 4, vec![40]), Moves { items: vec![], read: Some(1) });
    assert_eq!(sequencer.live(A, 5, vec![50]), Moves::default());
    let moves = sequencer.page(page(head(A, 4, &[]), &[(2, 20), (3, 30), (4, 40)]));
    let all = [(2, 20), (3, 30), (4, 40), (5, 50)];
    assert_eq!(moves.items, all.map(|(seq, e)| event(A, seq, e)));
    assert_eq!(moves.read, None);
}

#[test]
fn a_pause_keeps_what_comes_and_its_order() {
    let mut sequencer = started(1);
    assert!(sequencer.pause());
    assert_eq!(sequencer.live(A, 2, vec![20]), Moves::default());
    assert_eq!(sequencer.live(A, 3, vec![30, 40]), Moves::default());
    assert_eq!(sequencer.head(&head(A, 4, &[])), Moves::default(), "what is parked is not missing");
    let all = [(2, 20), (3, 30), (4, 40)].map(|(seq, e)| event(A, seq, e));
    assert_eq!(sequencer.go_on(), Moves { items: all.to_vec(), read: None });
    assert_eq!(sequencer.go_on(), Moves::default());
    assert_eq!(sequencer.live(A, 5, vec![50]).items, vec![event(A, 5, 50)]);
    // What does not fit, or may have been missed meanwhile, is read from the log.
    assert!(sequencer.pause());
    assert_eq!(sequencer.live(A, 6, (60..66).collect()), Moves::default());
    assert_eq!(sequencer.live(A, 12, (66..70).collect()), Moves::default());
    let moves = sequencer.go_on();
    assert_eq!((moves.items.len(), moves.read), (6, Some(11)));
    assert!(!sequencer.pause(), "a read is under way, which can wait itself");
    let mut sequencer = started(1);
    assert!(sequencer.pause());
    assert_eq!(sequencer.resumed(), Moves::default());
    assert_eq!(sequencer.go_on().read, Some(1));
}

#[test]
fn a_hole_that_the_log_no_longer_has_is_told() {
    let mut sequencer = started(1);
    sequencer.live(A, 9, vec![90]);
    let moves = sequencer.page(page(head(A, 9, &[]), &[(8, 80), (9, 90)]));
    let lost = Lost::Range { from: Position::new(A, 2), to: Position::new(A, 7) };
    assert_eq!(moves.items, vec![Item::Lost(lost), event(A, 8, 80), event(A, 9, 90)]);
}

#[test]
fn a_failover_that_lost_nothing_is_silent() {
    let mut sequencer = started(5);
    assert_eq!(sequencer.live(B, 6, vec![60]).read, Some(5));
    let moves = sequencer.page(page(head(B, 6, &[Position::new(A, 5)]), &[(6, 60)]));
    assert_eq!(moves, Moves { items: vec![event(B, 6, 60)], read: None });
}

#[test]
fn a_failover_that_lost_the_tail_tells_what_was_seen_of_it() {
    let mut sequencer = started(5);
    assert_eq!(sequencer.live(B, 4, vec![44]).read, Some(5));
    let now = head(B, 4, &[Position::new(A, 3)]);
    let moves = sequencer.page(page(now.clone(), &[]));
    let lost = Lost::Range { from: Position::new(A, 4), to: Position::new(A, 5) };
    assert_eq!(moves, Moves { items: vec![Item::Lost(lost)], read: Some(3) });
    assert_eq!(sequencer.page(page(now, &[(4, 44)])).items, vec![event(B, 4, 44)]);
}

#[test]
fn a_log_that_is_gone_is_told_and_the_new_one_read_from_its_start() {
    let mut sequencer = started(5);
    assert_eq!(sequencer.head(&head(B, 2, &[])).read, Some(5));
    let moves = sequencer.page(page(head(B, 2, &[]), &[]));
    let lost = Lost::Log { after: Position::new(A, 5) };
    assert_eq!(moves, Moves { items: vec![Item::Lost(lost)], read: Some(0) });
    let moves = sequencer.page(page(head(B, 2, &[]), &[(1, 10), (2, 20)]));
    assert_eq!(moves.items, vec![event(B, 1, 10), event(B, 2, 20)]);
}

#[test]
fn a_late_batch_of_an_old_epoch_does_not_read_forever() {
    let mut sequencer = started(5);
    assert_eq!(sequencer.live(B, 6, vec![60]).read, Some(5));
    assert_eq!(sequencer.page(page(head(A, 5, &[]), &[])), Moves::default());
}

/// What the simulated room's clients are told, against what is in the log.
#[derive(Debug, Clone)]
enum Step {
    /// Append so many events; the live message arrives, or is lost.
    Append { count: u8, arrives: bool },
    /// The log loses its last events and goes on in a new epoch.
    Failover { lost: u8 },
    /// The log starts over.
    Flush,
    /// The log keeps only so many events.
    Trim { keep: u8 },
    /// The read under way is answered.
    Answer,
    /// The connection came back.
    Resume,
    /// An old live message arrives once more.
    Replay { index: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u8..5, any::<bool>()).prop_map(|(count, arrives)| Step::Append { count, arrives }),
        1 => (0u8..4).prop_map(|lost| Step::Failover { lost }),
        1 => Just(Step::Flush),
        1 => (0u8..8).prop_map(|keep| Step::Trim { keep }),
        4 => Just(Step::Answer),
        1 => Just(Step::Resume),
        1 => any::<u8>().prop_map(|index| Step::Replay { index }),
    ];
    prop::collection::vec(step, 0..60)
}

/// A model of the log behind the feed.
struct Log {
    head: Head,
    events: Vec<(u64, u32)>,
    next_id: u32,
    next_epoch: u64,
    published: Vec<(Epoch, u64, Vec<u32>)>,
}

impl Log {
    fn append(&mut self, count: u8) -> (Epoch, u64, Vec<u32>) {
        let first = self.head.position.seq + 1;
        for _ in 0..count {
            self.head.position.seq += 1;
            self.events.push((self.head.position.seq, self.next_id));
            self.next_id += 1;
        }
        let ids = (self.next_id - u32::from(count)..self.next_id).collect();
        let batch = (self.head.position.epoch, first, ids);
        self.published.push(batch.clone());
        batch
    }

    fn fail_over(&mut self, lost: u8) {
        let end = self.head.position.seq.saturating_sub(u64::from(lost));
        self.events.retain(|&(seq, _)| seq <= end);
        self.next_epoch += 1;
        let mut past = self.head.past.clone();
        for past in &mut past {
            past.seq = past.seq.min(end);
        }
        past.push(Position::new(self.head.position.epoch, end));
        self.head = head(Epoch(self.next_epoch), end, &past);
    }

    fn flush(&mut self) {
        self.events.clear();
        self.next_epoch += 1;
        self.head = head(Epoch(self.next_epoch), 0, &[]);
    }

    fn read(&self, after: u64) -> Page<u32> {
        let events = self.events.iter().filter(|&&(seq, _)| seq > after).take(3).copied();
        Page { head: Some(self.head.clone()), events: events.collect() }
    }
}

proptest! {
    /// Whatever is lost, repeated or rolled back: nobody hears an event twice or out of order,
    /// and in the end everything in the log was heard or told to be lost.
    #[test]
    fn one_gapless_sequence_whatever_happens(steps in steps()) {
        let mut log = Log {
            head: head(Epoch(100), 0, &[]),
            events: Vec::new(), next_id: 0, next_epoch: 100, published: Vec::new(),
        };
        let mut sequencer = started_at(log.head.clone());
        let (mut heard, mut read) = (Vec::new(), None);
        for step in steps {
            let moves = match step {
                Step::Append { count, arrives } => {
                    let (epoch, first, ids) = log.append(count);
                    if arrives { sequencer.live(epoch, first, ids) } else { Moves::default() }
                }
                Step::Failover { lost } => { log.fail_over(lost); Moves::default() }
                Step::Flush => { log.flush(); Moves::default() }
                Step::Trim { keep } => {
                    let drop = log.events.len().saturating_sub(usize::from(keep));
                    log.events.drain(..drop);
                    Moves::default()
                }
                Step::Answer => match read.take() {
                    Some(after) => sequencer.page(log.read(after)),
                    None => Moves::default(),
                },
                Step::Resume => sequencer.resumed(),
                Step::Replay { index } => match log.published.get(usize::from(index)).cloned() {
                    Some((epoch, first, ids)) => sequencer.live(epoch, first, ids),
                    None => Moves::default(),
                },
            };
            prop_assert!(moves.read.is_none() || read.is_none(), "two reads at once");
            read = read.or(moves.read);
            heard.extend(moves.items);
        }
        // Quiet now: a renewal tells the head, and the heals run to their end.
        for _ in 0..1000 {
            let moves = match read.take() {
                Some(after) => sequencer.page(log.read(after)),
                None => sequencer.head(&log.head),
            };
            let done = moves.read.is_none() && moves.items.is_empty();
            read = moves.read;
            heard.extend(moves.items);
            if done { break; }
        }
        prop_assert_eq!(read, None, "the heals do not end");
        check(&log, &heard)?;
    }
}

fn started_at(head: Head) -> Sequencer<u32> {
    let mut sequencer = Sequencer::opening((8, 8), |_| 1);
    sequencer.start(Some(head));
    sequencer
}

fn check(log: &Log, heard: &[Item<u32>]) -> Result<(), TestCaseError> {
    let ids: Vec<u32> = heard
        .iter()
        .filter_map(|item| match item {
            Item::Event(_, id) => Some(*id),
            Item::Lost(_) => None,
        })
        .collect();
    prop_assert!(ids.is_sorted_by(|a, b| a < b), "doubled or swapped: {:?}", ids);
    // Every event that is in the log at the end was heard, or told to be lost while it still
    // had another epoch's number: never skipped in silence.
    for &(seq, id) in &log.events {
        let told = heard.iter().any(|item| match item {
            Item::Lost(Lost::Range { from, to }) => from.seq <= seq && seq <= to.seq,
            Item::Event(..) | Item::Lost(Lost::Log { .. }) => false,
        });
        prop_assert!(ids.contains(&id) || told, "event {} at {} was skipped", id, seq);
    }
    Ok(())
}
