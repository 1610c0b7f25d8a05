//! Judges what a client receives: all of it, once, in every sender's order, and in the same
//! order as everybody else.

use std::ops::Range;

use super::Faults;

/// One client's receipts of the load's messages in its room. Senders are numbered within the
/// room, each one's messages from 0.
#[derive(Debug)]
pub(super) struct Receipts {
    /// The next sequence number of each sender.
    next: Vec<u32>,
    /// What was skipped and has not come since.
    skipped: Vec<(u32, Range<u32>)>,
    doubled: u64,
    reordered: u64,
    /// Of all receipts in their order.
    digest: Digest,
    /// The order itself, kept by a room's witness.
    order: Option<Vec<(u32, u32)>>,
}

impl Receipts {
    /// Nothing received yet.
    pub(super) fn new(senders: usize, witness: bool) -> Self {
        Self {
            next: vec![0; senders],
            skipped: Vec::new(),
            doubled: 0,
            reordered: 0,
            digest: Digest::default(),
            order: witness.then(Vec::new),
        }
    }

    /// Takes a message in.
    pub(super) fn take(&mut self, sender: u32, seq: u32) {
        self.digest.add(sender, seq);
        if let Some(order) = &mut self.order {
            order.push((sender, seq));
        }
        let next = &mut self.next[sender as usize];
        if seq == *next {
            *next += 1;
        } else if seq > *next {
            self.skipped.push((sender, *next..seq));
            *next = seq + 1;
        } else if self.fill(sender, seq) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// Removes a message from what was skipped, if it is there.
    fn fill(&mut self, sender: u32, seq: u32) -> bool {
        let holds = |(of, range): &(u32, Range<u32>)| *of == sender && range.contains(&seq);
        let Some(index) = self.skipped.iter().position(holds) else { return false };
        let (_, range) = self.skipped.swap_remove(index);
        for part in [range.start..seq, seq + 1..range.end] {
            if !part.is_empty() {
                self.skipped.push((sender, part));
            }
        }
        true
    }

    /// How many of those that were sent did not come. `own` is the sender that this client is:
    /// nobody receives his own messages.
    fn lost(&self, sent: &[u32], own: Option<usize>) -> u64 {
        let skipped: u64 = self.skipped.iter().map(|(_, range)| range.len() as u64).sum();
        let missing = self.next.iter().zip(sent).enumerate();
        let missing = missing.filter(|(sender, _)| Some(*sender) != own);
        skipped
            + missing.map(|(_, (next, sent))| u64::from(sent.saturating_sub(*next))).sum::<u64>()
    }
}

/// What one client heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard<'a> {
    pub(super) receipts: &'a Receipts,
    /// The sender that it is.
    pub(super) own: Option<usize>,
    /// Whether the server ended its stream, and so told it that it gets no more.
    pub(super) ended: bool,
}

/// Judges the clients of one room, the witness first, against how many messages each sender sent.
/// A client whose stream was ended lost nothing in silence; and how much of what a sender sent before
/// its own end counts is for those to say who heard most of it.
pub(super) fn judge(clients: &[Heard<'_>], sent: &[u32]) -> Faults {
    let mut faults = Faults::default();
    let mut sent = sent.to_vec();
    for Heard { own, .. } in clients.iter().filter(|client| client.ended) {
        let Some(sender) = *own else { continue };
        let heard = clients.iter().map(|client| client.receipts.next[sender]);
        sent[sender] = heard.max().unwrap_or_default();
    }
    let witness = clients.first().and_then(|witness| witness.receipts.order.as_deref());
    let mut complete = true;
    for (index, &Heard { receipts, own, ended }) in clients.iter().enumerate() {
        let lost = if ended { 0 } else { receipts.lost(&sent, own) };
        faults.lost += lost;
        faults.doubled += receipts.doubled;
        faults.reordered += receipts.reordered;
        let sound = !ended && lost + receipts.doubled + receipts.reordered == 0;
        if index == 0 {
            complete = sound;
        }
        if let (true, true, Some(order)) = (complete, sound, witness) {
            faults.disagreeing += u32::from(receipts.digest != Digest::without(order, own));
        }
    }
    faults
}

/// A hash over an order. Not against an adversary: a server does not know it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Digest(u64);

impl Digest {
    fn add(&mut self, sender: u32, seq: u32) {
        let message = u64::from(sender) << 32 | u64::from(seq);
        self.0 = (self.0.rotate_left(5) ^ message).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn without(order: &[(u32, u32)], own: Option<usize>) -> Self {
        let mut digest = Self::default();
        for &(sender, seq) in order {
            if Some(sender as usize) != own {
                digest.add(sender, seq);
            }
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: [u32; 3] = [3, 2, 1];
    const ORDER: [(u32, u32); 6] = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)];

    fn receipts(order: &[(u32, u32)], witness: bool) -> Receipts {
        let mut receipts = Receipts::new(SENT.len(), witness);
        for &(sender, seq) in order {
            receipts.take(sender, seq);
        }
        receipts
    }

    /// Judges a client that received `order` beside a witness that received all.
    fn judged(order: &[(u32, u32)], own: Option<usize>) -> Faults {
        let (witness, receipts) = (receipts(&ORDER, true), receipts(order, false));
        let witness = Heard { receipts: &witness, own: None, ended: false };
        judge(&[witness, Heard { receipts: &receipts, own, ended: false }], &SENT)
    }

    fn own_left_out(own: u32) -> Vec<(u32, u32)> {
        ORDER.into_iter().filter(|(sender, _)| *sender != own).collect()
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(judged(&ORDER, None), Faults::default());
        for own in 0..3 {
            assert_eq!(judged(&own_left_out(own), Some(own as usize)), Faults::default());
        }
    }

    #[test]
    fn losses_are_found_wherever_they_are() {
        for index in 0..ORDER.len() {
            let mut order = ORDER.to_vec();
            order.remove(index);
            assert_eq!(judged(&order, None), Faults { lost: 1, ..Faults::default() }, "{index}");
        }
        assert_eq!(judged(&[], None), Faults { lost: 6, ..Faults::default() });
        assert_eq!(judged(&ORDER[..1], Some(2)), Faults { lost: 4, ..Faults::default() });
    }

    #[test]
    fn doubles_are_found_wherever_they_are() {
        for again in ORDER {
            let order = [&ORDER[..], &[again]].concat();
            let faults = judged(&order, None);
            assert_eq!(faults, Faults { doubled: 1, ..Faults::default() }, "{again:?}");
        }
        let own = own_left_out(1);
        let echoed = [&own[..], &[(1, 0)]].concat();
        assert_eq!(judged(&echoed, Some(1)).disagreeing, 1);
    }

    #[test]
    fn swaps_are_found_within_and_across_senders() {
        let mut order = ORDER;
        order.swap(0, 2);
        assert_eq!(judged(&order, None), Faults { reordered: 1, ..Faults::default() });
        for index in 0..ORDER.len() - 1 {
            let mut order = ORDER;
            order.swap(index, index + 1);
            assert_eq!(judged(&order, None), Faults { disagreeing: 1, ..Faults::default() });
        }
    }

    #[test]
    fn who_was_told_lost_nothing_in_silence() {
        let (all, two) = (receipts(&ORDER, true), receipts(&ORDER[..2], false));
        let heard = |receipts, own, ended| Heard { receipts, own, ended };
        let clients = [heard(&all, None, false), heard(&two, Some(2), true)];
        // Its messages after the first one went nowhere.
        assert_eq!(judge(&clients, &[3, 2, 9]), Faults::default());
        let clients = [heard(&all, None, false), heard(&two, None, false)];
        assert_eq!(judge(&clients, &SENT).lost, 4);
    }

    #[test]
    fn a_hole_is_filled_piece_by_piece() {
        let mut receipts = Receipts::new(1, false);
        for seq in [9, 4, 0, 8, 4] {
            receipts.take(0, seq);
        }
        assert_eq!((receipts.reordered, receipts.doubled), (3, 1));
        assert_eq!(receipts.lost(&[12], None), 6 + 2);
    }
}
