//! When the lease of each partition is renewed, and when it is looked for members whose time has passed.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue::Key};

use crate::{backoff::jitter, backplane::Partition};

/// Partitions are renewed at so many moments of a lease, so that those of one moment share calls.
const MOMENTS: u32 = 60;

/// A partition in which somebody joined here, or in which a session of this replica lingers for so long.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) partition: Partition,
    pub(super) lingers: Option<Duration>,
}

/// What falls due in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Renew(Partition),
    Reap(Partition),
}

/// What was done, and what follows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done {
    /// A renewal that began then, whether it was answered, and when the earliest lease of others ends.
    Renewed {
        partition: Partition,
        began: Instant,
        answered: bool,
        next_deadline: Option<Duration>,
    },
    /// When to look again.
    Reaped { partition: Partition, next: Option<Duration> },
}

impl Done {
    pub(super) fn partition(self) -> Partition {
        let (Self::Renewed { partition, .. } | Self::Reaped { partition, .. }) = self;
        partition
    }
}

/// The timers of one partition, which are kept for as long as the replica lives: others may have members there.
#[derive(Default)]
struct Timers {
    renew: Option<Key>,
    reap: Option<Key>,
    /// When the lease was last renewed.
    renewed: Option<Instant>,
    /// When the first session ends that lingers and that a renewal may not know of.
    lingering: Option<Instant>,
}

/// When what is to be done in which partition.
pub(super) struct LeaseManager {
    began: Instant,
    lease: Duration,
    due: DelayQueue<Due>,
    partitions: HashMap<Partition, Timers>,
}

impl LeaseManager {
    /// Knows of no partition yet.
    pub(super) fn new(lease: Duration) -> Self {
        let (due, partitions) = (DelayQueue::new(), HashMap::new());
        Self { began: Instant::now(), lease, due, partitions }
    }

    /// What is to be done next, once its time has come. `None` when nothing is; then [`LeaseManager::watch`]
    /// has to come first.
    pub(super) async fn next(&mut self) -> Option<Due> {
        let due = self.due.next().await?.into_inner();
        let (Due::Renew(partition) | Due::Reap(partition)) = due;
        if let Some(timers) = self.partitions.get_mut(&partition) {
            match due {
                Due::Renew(_) => timers.renew = None,
                Due::Reap(_) => timers.reap = None,
            }
        }
        Some(due)
    }

    /// Takes note of a partition. One that is new is renewed at once, which tells of others' leases.
    pub(super) fn watch(&mut self, Watch { partition, lingers }: Watch) {
        let due = &mut self.due;
        let timers = self.partitions.entry(partition).or_insert_with(|| Timers {
            renew: Some(due.insert(Due::Renew(partition), Duration::ZERO)),
            ..Timers::default()
        });
        let Some(ends) = lingers.and_then(|time| Instant::now().checked_add(time)) else { return };
        timers.lingering = Some(timers.lingering.map_or(ends, |known| known.min(ends)));
        let known = timers.reap.as_ref().map(|key| self.due.deadline(key));
        if known.is_none_or(|known| known > ends) {
            self.set_reap(partition, lingers);
        }
    }

    /// A third of a lease, so that two renewals may fail.
    fn renew_pause(&self) -> Duration {
        jitter(self.lease / 3, 0.8, 1.0)
    }

    /// The last moment within this time.
    fn after(&self, pause: Duration) -> Instant {
        let until = (self.began.elapsed() + pause).as_micros();
        let moment = (self.lease / MOMENTS).as_micros().max(1);
        let late = u64::try_from(until % moment).unwrap_or(0);
        Instant::now() + pause.saturating_sub(Duration::from_micros(late))
    }

    /// Something was done. False when a renewal came so late that the lease may have ended before it.
    pub(super) fn follow(&mut self, done: Done) -> bool {
        match done {
            Done::Renewed { partition, began, answered, next_deadline } => {
                let pause = self.renew_pause();
                let at = self.after(if answered { pause } else { pause / 4 });
                let renew = self.due.insert_at(Due::Renew(partition), at);
                let Some(timers) = self.partitions.get_mut(&partition) else { return true };
                timers.renew = Some(renew);
                if !answered {
                    return true;
                }
                let before = timers.renewed.replace(began);
                self.set_reap(partition, next_deadline);
                before.is_none_or(|before| before.elapsed() < self.lease)
            }
            Done::Reaped { partition, next } => {
                let Some(timers) = self.partitions.get_mut(&partition) else { return true };
                timers.lingering = timers.lingering.filter(|ends| *ends > Instant::now());
                // A renewal, or whoever went meanwhile, may have told of an earlier one.
                let known = timers.reap.as_ref().map(|key| self.due.deadline(key));
                let at = next.and_then(|next| Instant::now().checked_add(next));
                if known.is_none_or(|known| at.is_some_and(|at| at < known)) {
                    self.set_reap(partition, next);
                }
                true
            }
        }
    }

    /// Looks for the dead when the earliest lease has ended, unless a renewal tells before that it
    /// was renewed. The jitter lets one replica do it for all.
    fn set_reap(&mut self, partition: Partition, next_deadline: Option<Duration>) {
        let Some(timers) = self.partitions.get_mut(&partition) else { return };
        if let Some(key) = timers.reap.take() {
            self.due.try_remove(&key);
        }
        let lingering = timers.lingering.map(|ends| ends.saturating_duration_since(Instant::now()));
        if let Some(wait) = next_deadline.into_iter().chain(lingering).min() {
            let spread = jitter(Duration::from_millis(400), 0.1, 1.0);
            timers.reap = Some(self.due.insert(Due::Reap(partition), wait + spread));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);
    const HERE: Partition = Partition(7);

    fn watch(manager: &mut LeaseManager, lingers: Option<Duration>) {
        manager.watch(Watch { partition: HERE, lingers });
    }

    fn renewed(next_deadline: Option<Duration>) -> Done {
        let (partition, began) = (HERE, Instant::now());
        Done::Renewed { partition, began, answered: true, next_deadline }
    }

    fn reaped(next: Option<Duration>) -> Done {
        Done::Reaped { partition: HERE, next }
    }

    /// What is due next, and after how many seconds.
    async fn next(manager: &mut LeaseManager) -> (Due, u64) {
        let began = Instant::now();
        let due = manager.next().await.expect("something is due");
        (due, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_renewed_at_once_and_then_every_third_of_a_lease() {
        let mut manager = LeaseManager::new(LEASE);
        assert!(manager.next().await.is_none(), "nothing is watched");
        watch(&mut manager, None);
        assert_eq!(next(&mut manager).await, (Due::Renew(HERE), 0));
        watch(&mut manager, None);
        for _ in 0..10 {
            assert!(manager.follow(renewed(None)));
            let (due, after) = next(&mut manager).await;
            assert!(due == Due::Renew(HERE) && (3..5).contains(&after), "{due:?} {after}");
        }
        let (partition, began, next_deadline) = (HERE, Instant::now(), None);
        manager.follow(Done::Renewed { partition, began, answered: false, next_deadline });
        let (due, after) = next(&mut manager).await;
        assert!(due == Due::Renew(HERE) && after <= 1, "sooner where it failed: {due:?} {after}");
        tokio::time::sleep(LEASE).await;
        assert!(!manager.follow(renewed(None)), "the lease may have ended");
    }

    #[tokio::test(start_paused = true)]
    async fn who_lingers_is_looked_for_whatever_a_renewal_knows() {
        let mut manager = LeaseManager::new(LEASE);
        watch(&mut manager, None);
        next(&mut manager).await;
        watch(&mut manager, Some(Duration::from_secs(2)));
        // It was asked before.
        manager.follow(renewed(None));
        assert_eq!(next(&mut manager).await, (Due::Reap(HERE), 2));
        manager.follow(reaped(None));
        assert!(matches!(next(&mut manager).await, (Due::Renew(HERE), _)), "nobody lingers now");
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_that_was_told_during_a_look_is_kept() {
        let mut manager = LeaseManager::new(LEASE);
        watch(&mut manager, None);
        next(&mut manager).await;
        manager.follow(renewed(Some(Duration::ZERO)));
        assert_eq!(next(&mut manager).await, (Due::Reap(HERE), 0));
        watch(&mut manager, Some(Duration::from_secs(1)));
        manager.follow(reaped(Some(LEASE)));
        assert_eq!(next(&mut manager).await, (Due::Reap(HERE), 1));
    }
}
