//! When each room's leases are renewed, and when it is looked for those that others stopped renewing.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue::Key};

use crate::{backoff::jitter, domain::RoomName};

/// Rooms are renewed at so many moments of a lease, so that those of one moment share calls.
const MOMENTS: u32 = 300;

/// A room in which somebody joined or lingers here, and when the earliest name ends that is known of.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) room: RoomName,
    pub(super) next_deadline: Duration,
    /// Whose deadline it is lingers: it is to be noticed even if nobody else is here.
    pub(super) lingers: bool,
}

/// What falls due in a room.
#[derive(Debug)]
pub(super) enum Due {
    Renew(RoomName),
    Reap(RoomName),
}

/// What was done, and what follows.
pub(super) enum Done {
    Renewed {
        room: RoomName,
        answered: bool,
        next_deadline: Option<Duration>,
    },
    Reaped {
        room: RoomName,
        here: bool,
        next: Option<Duration>,
    },
    /// There is nobody here to renew.
    Empty {
        room: RoomName,
    },
}

/// The timers of one room.
#[derive(Default)]
struct Timers {
    renew: Option<Key>,
    reap: Option<Key>,
    /// How much is being done. What follows of it is about this room yet.
    under_way: usize,
    /// Until when it is looked at for the sake of those who linger, also without members here.
    lingering: Option<Instant>,
}

/// When the leases of each room are to be renewed, and when it is to be looked for the dead.
pub(super) struct LeaseManager {
    began: Instant,
    lease: Duration,
    /// The most rooms that are looked at: those with members here, and as many in which somebody lingers.
    most: usize,
    due: DelayQueue<Due>,
    rooms: HashMap<RoomName, Timers>,
}

impl LeaseManager {
    /// Knows of no room yet. It looks at `most` rooms for the sake of those who linger.
    pub(super) fn new(lease: Duration, most: usize) -> Self {
        let (due, rooms) = (DelayQueue::new(), HashMap::new());
        Self { began: Instant::now(), lease, most, due, rooms }
    }

    /// What is to be done next, once its time has come. `None` when nothing is; then [`LeaseManager::watch`]
    /// has to come first.
    pub(super) async fn next(&mut self) -> Option<Due> {
        let due = self.due.next().await?.into_inner();
        let (Due::Renew(room) | Due::Reap(room)) = &due;
        if let Some(timers) = self.rooms.get_mut(room) {
            timers.under_way += 1;
            match due {
                Due::Renew(_) => timers.renew = None,
                Due::Reap(_) => timers.reap = None,
            }
        }
        Some(due)
    }

    /// Takes note of a room.
    pub(super) fn watch(&mut self, watch: Watch) {
        let Watch { room, next_deadline, lingers } = watch;
        if lingers && self.rooms.len() >= self.most && !self.rooms.contains_key(&room) {
            // Whoever comes into that room next, or is there on another replica, finds it.
            return;
        }
        let (renew_at, now) = (self.after(self.renew_pause()), Instant::now());
        let timers = self.rooms.entry(room.clone()).or_default();
        if lingers {
            let until = now.checked_add(next_deadline + 2 * self.lease);
            timers.lingering = timers.lingering.max(until);
        } else if timers.renew.is_none() {
            // One that is under way leaves it alone.
            timers.renew = Some(self.due.insert_at(Due::Renew(room.clone()), renew_at));
        }
        // Another deadline may be sooner than the one that whoever came or went knows.
        let known = timers.reap.as_ref().map(|key| self.due.deadline(key));
        if known.is_none_or(|known| known > now + next_deadline) {
            self.set_reap(room, Some(next_deadline));
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

    /// Something was done.
    pub(super) fn follow(&mut self, done: Done) {
        let (Done::Renewed { room, .. } | Done::Reaped { room, .. } | Done::Empty { room }) = &done;
        if let Some(timers) = self.rooms.get_mut(room) {
            timers.under_way = timers.under_way.saturating_sub(1);
        }
        match done {
            Done::Renewed { room, answered, next_deadline } => {
                let pause = if answered { self.renew_pause() } else { self.renew_pause() / 4 };
                let at = self.after(pause);
                if let Some(timers) = self.rooms.get_mut(&room)
                    && timers.renew.is_none()
                {
                    timers.renew = Some(self.due.insert_at(Due::Renew(room.clone()), at));
                }
                if answered {
                    self.set_reap(room, next_deadline);
                }
            }
            Done::Reaped { room, here, next } => {
                let until = self.rooms.get(&room).and_then(|timers| timers.lingering);
                let at = next.and_then(|next| Instant::now().checked_add(next));
                let wanted = here || (at.is_some() && at <= until);
                // Whoever came or went meanwhile may have told of an earlier one.
                let known = self.rooms.get(&room).and_then(|timers| timers.reap.as_ref());
                let known = known.map(|key| self.due.deadline(key));
                if known.is_none_or(|known| wanted && at.is_some_and(|at| at < known)) {
                    self.set_reap(room.clone(), next.filter(|_| wanted));
                }
                self.tidy(&room);
            }
            Done::Empty { room } => {
                if let Some(timers) = self.rooms.get_mut(&room)
                    && timers.lingering.is_none()
                    && let Some(key) = timers.reap.take()
                {
                    self.due.try_remove(&key);
                }
                self.tidy(&room);
            }
        }
    }

    /// Forgets a room in which nothing falls due and nothing is being done.
    fn tidy(&mut self, room: &RoomName) {
        let is_idle = |it: &Timers| it.renew.is_none() && it.reap.is_none() && it.under_way == 0;
        if self.rooms.get(room).is_some_and(is_idle) {
            self.rooms.remove(room);
        }
    }

    /// Looks for the dead when the earliest lease has ended, unless a renewal tells before that it
    /// was renewed. The jitter lets one replica do it for all.
    fn set_reap(&mut self, room: RoomName, next_deadline: Option<Duration>) {
        let Some(timers) = self.rooms.get_mut(&room) else { return };
        if let Some(key) = timers.reap.take() {
            self.due.try_remove(&key);
        }
        if let Some(wait) = next_deadline {
            let spread = jitter(Duration::from_millis(400), 0.1, 1.0);
            timers.reap = Some(self.due.insert(Due::Reap(room), wait + spread));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    /// Somebody joins, and the earliest name ends so late.
    fn joined(manager: &mut LeaseManager, next_deadline: Duration) {
        manager.watch(Watch { room: RoomName::lobby(), next_deadline, lingers: false });
    }

    /// One whose lobby is being renewed and looked through.
    async fn busy() -> LeaseManager {
        let mut manager = LeaseManager::new(LEASE, 10);
        joined(&mut manager, LEASE);
        for _ in 0..2 {
            manager.next().await.expect("it renews, and looks for the dead");
        }
        assert!(manager.next().await.is_none(), "both are under way");
        manager
    }

    fn renewed(next_deadline: Option<Duration>) -> Done {
        Done::Renewed { room: RoomName::lobby(), answered: true, next_deadline }
    }

    fn reaped(here: bool, next: Option<Duration>) -> Done {
        Done::Reaped { room: RoomName::lobby(), here, next }
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_is_renewed_again_although_a_look_meanwhile_found_nobody() {
        let mut manager = busy().await;
        manager.follow(reaped(true, None));
        manager.follow(renewed(None));
        assert!(matches!(manager.next().await, Some(Due::Renew(_))));
        manager.follow(Done::Empty { room: RoomName::lobby() });
        assert!(manager.rooms.is_empty(), "in the end it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn who_lingers_is_looked_for_although_nobody_is_here_any_more() {
        let mut manager = busy().await;
        let next_deadline = Duration::from_secs(10);
        manager.watch(Watch { room: RoomName::lobby(), next_deadline, lingers: true });
        assert!(matches!(manager.next().await, Some(Due::Reap(_))));
        manager.follow(reaped(false, None));
        manager.follow(Done::Empty { room: RoomName::lobby() });
        manager.follow(reaped(false, Some(Duration::from_secs(1))));
        assert!(matches!(manager.next().await, Some(Due::Reap(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_that_was_told_during_a_look_is_kept() {
        let mut manager = busy().await;
        joined(&mut manager, Duration::from_secs(1));
        manager.follow(reaped(true, Some(LEASE)));
        let began = Instant::now();
        assert!(matches!(manager.next().await, Some(Due::Reap(_))));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
