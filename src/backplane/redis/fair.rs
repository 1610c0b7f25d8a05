//! Which of the operations that wait for a lane goes next: those first whose sender has had the least, and of
//! those the smallest. So whoever says little is served at once, whatever others have waiting (weighted fair
//! queueing).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::{BuildHasher, RandomState},
};

use super::op::{Op, Work};
use crate::domain::RoomName;

/// What an operation costs beside its bytes.
const COST: u64 = 256;

/// The most operations that wait, and about the most bytes of them.
const MOST: usize = 65_536;
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// So many senders are remembered for what they had; then only those that have something waiting.
const REMEMBERED: usize = 4096;

/// What waits. Operations of one name in one room keep their order.
#[derive(Debug, Default)]
pub(super) struct Fair {
    waiting: BinaryHeap<Reverse<Waiting>>,
    senders: HashMap<u64, Sender>,
    /// A clock that counts the bytes that one sender would have had of all those that share.
    now: u64,
    arrived: u64,
    bytes: usize,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Sender {
    /// When it will have had all that it asked for.
    finish: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Waiting {
    /// When it is done, and which one it is.
    order: (u64, u64),
    cost: u64,
    sender: u64,
    op: Op,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl Fair {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST && self.bytes < MOST_BYTES
    }

    pub(super) fn push(&mut self, op: Op) {
        let size = op.work.size();
        let cost = COST + size as u64;
        let key = self.hasher.hash_one(sender(&op.work));
        let sender = self.senders.entry(key).or_default();
        sender.finish = cost + sender.finish.max(self.now);
        sender.waiting += 1;
        let order = (sender.finish, self.arrived);
        self.arrived += 1;
        self.bytes += size;
        self.waiting.push(Reverse(Waiting { order, cost, sender: key, op }));
        if self.senders.len() > REMEMBERED + self.waiting.len() {
            self.senders.retain(|_, sender| sender.waiting > 0);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Op> {
        let Reverse(Waiting { order: (finish, _), cost, sender, op }) = self.waiting.pop()?;
        self.now = self.now.max(finish - cost);
        self.bytes -= op.work.size();
        if let Some(sender) = self.senders.get_mut(&sender) {
            sender.waiting -= 1;
        }
        if self.waiting.is_empty() {
            // Nobody has to wait for anybody, and what a burst has taken is given back.
            (self.senders, self.waiting) = (HashMap::new(), BinaryHeap::new());
        }
        Some(op)
    }
}

/// Who asks: a name in a room, where it is one.
fn sender(work: &Work) -> (Option<&RoomName>, &str) {
    match work {
        Work::Append { hold, .. } => (Some(&hold.room), hold.name.skeleton()),
        Work::Script { room, skeleton, .. } | Work::Publish { room, skeleton, .. } => {
            (Some(room), skeleton)
        }
        Work::Renew { .. } | Work::Upkeep { .. } | Work::Canary { .. } | Work::Contact { .. } => {
            (None, "")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{sync::oneshot, time::Instant};

    use super::*;
    use crate::{backplane::redis::script_name::ScriptName, domain::RoomName};

    fn op(sender: usize, number: usize, size: usize) -> Op {
        let room = RoomName::parse("a").unwrap();
        let (skeleton, keys) = (sender.to_string(), Vec::new());
        let args = vec![number.to_string().into_bytes(), vec![0; size]];
        let work = Work::Script { name: ScriptName::Leave, room, skeleton, keys, args };
        Op { work, deadline: Instant::now(), reply: oneshot::channel().0, asking: None }
    }

    fn read(op: Op) -> (usize, usize) {
        let Work::Script { skeleton, args, .. } = op.work else { panic!("a script") };
        (skeleton.parse().unwrap(), std::str::from_utf8(&args[0]).unwrap().parse().unwrap())
    }

    fn drain(fair: &mut Fair) -> Vec<(usize, usize)> {
        std::iter::from_fn(|| fair.pop()).map(read).collect()
    }

    #[tokio::test]
    async fn whoever_says_little_waits_for_nobody() {
        let mut fair = Fair::default();
        for number in 0..64 {
            (0..100).for_each(|sender| fair.push(op(sender, number, 16 * 1024)));
        }
        for bystander in 1000..1010 {
            for _ in 0..50 {
                fair.pop().unwrap();
            }
            fair.push(op(bystander, 0, 100));
            assert_eq!(fair.pop().map(read), Some((bystander, 0)));
        }
    }

    #[tokio::test]
    async fn whoever_says_much_has_as_much_as_others() {
        let mut fair = Fair::default();
        (0..100).for_each(|number| fair.push(op(0, number, 10_000)));
        (0..100).for_each(|number| fair.push(op(1, number, 1_000)));
        let served = drain(&mut fair);
        let first = |sender, count| served.iter().take(count).filter(|it| it.0 == sender).count();
        assert!((7..=10).contains(&(88 - first(1, 88))), "bytes are shared: {served:?}");
    }

    #[tokio::test]
    async fn nothing_is_remembered_for_ever() {
        let mut fair = Fair::default();
        fair.push(op(0, 0, 0));
        for sender in 1..50_000 {
            fair.push(op(sender, 0, 0));
            fair.pop().unwrap();
        }
        assert!(fair.senders.len() <= REMEMBERED + 10, "{}", fair.senders.len());
        drain(&mut fair);
        assert!(fair.senders.is_empty() && fair.bytes == 0);
    }

    proptest! {
        #[test]
        fn all_are_served_and_each_sender_in_order(
            steps in prop::collection::vec((0usize..5, 0usize..20_000, any::<bool>()), 0..200),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _entered = runtime.enter();
            let (mut fair, mut served) = (Fair::default(), Vec::new());
            let mut said = [0; 5];
            for (sender, size, pops) in &steps {
                fair.push(op(*sender, said[*sender], *size));
                said[*sender] += 1;
                if *pops {
                    served.extend(fair.pop().map(read));
                }
            }
            served.extend(drain(&mut fair));
            for (sender, said) in said.iter().enumerate() {
                let own: Vec<_> = served.iter().filter(|it| it.0 == sender).map(|it| it.1).collect();
                prop_assert_eq!(own, (0..*said).collect::<Vec<_>>());
            }
        }
    }
}
