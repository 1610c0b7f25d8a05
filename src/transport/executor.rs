//! Many futures in one task.
//!
//! All streams of a connection run in that connection's task: what they write leaves together,
//! and waking many of them costs one wake-up. `FuturesUnordered` will not do: it yields
//! after two children that woke themselves, which is just what HTTP/2 capacity wake-ups are,
//! and so cuts a batch of a hundred frames into pairs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker, ready},
    time::Instant,
};

use futures_util::task::AtomicWaker;
use slab::Slab;

use super::{
    pending_response::PendingResponse,
    service::{Sender, Service},
    spawner::{Spawned, Spawner, Tasks},
    task_id::{CONNECTION, TaskId},
};
use crate::wakers::Wakers;

/// A future of a connection's task.
enum Job<S: Service> {
    Any(Spawned),
    Answer(Box<PendingResponse<S>>),
    /// What an answer became that is a stream: for every event it is polled, so it is not behind a box.
    Stream(S::Sender),
}

impl<S: Service> Job<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                Self::Stream(sending) => return sending.poll(),
                Self::Any(future) => return future.as_mut().poll(cx),
                Self::Answer(answer) => match ready!(answer.poll(cx)) {
                    Some(sending) => *self = Self::Stream(sending),
                    None => return Poll::Ready(()),
                },
            }
        }
    }
}

/// So many futures are polled before it is asked how late it is.
const A_FEW: usize = 32;

/// Adds answers to a connection's task.
pub(super) struct Answers<S: Service>(Arc<Shared<S>>);

/// What wakers and spawners share with the task.
struct Shared<S: Service> {
    ready: Mutex<Ready<S>>,
    task: AtomicWaker,
}

struct Ready<S: Service> {
    /// The futures that are, each of them once.
    keys: Vec<usize>,
    /// Which ones those are: a bit for each.
    queued: Vec<u64>,
    /// The connection is.
    connection: bool,
    spawned: Vec<Job<S>>,
    /// The connection is over: nothing is spawned any more.
    closed: bool,
    /// The task runs now and will look again before it sleeps.
    running: bool,
}

impl<S: Service> Ready<S> {
    fn new() -> Self {
        let (keys, queued, spawned) = Default::default();
        Self { keys, queued, connection: false, spawned, closed: false, running: false }
    }

    fn add(&mut self, key: usize) {
        if key == CONNECTION {
            self.connection = true;
            return;
        }
        let (word, bit) = (key / 64, 1 << (key % 64));
        if word >= self.queued.len() {
            self.queued.resize(word + 1, 0);
        }
        if self.queued[word] & bit == 0 {
            self.queued[word] |= bit;
            self.keys.push(key);
        }
    }

    /// Moves the ready ones to an empty list. Whoever is woken from then on is ready again.
    fn take(&mut self, batch: &mut Vec<usize>) {
        std::mem::swap(&mut self.keys, batch);
        for key in &*batch {
            self.queued[key / 64] = 0;
        }
    }

    /// Puts back those whose turn did not come. They are the first next time.
    fn put_back(&mut self, keys: impl Iterator<Item = usize>) {
        let mut woken = std::mem::take(&mut self.keys);
        // Whoever was woken again meanwhile is among these.
        for key in &woken {
            self.queued[key / 64] &= !(1 << (key % 64));
        }
        keys.chain(woken.drain(..)).for_each(|key| self.add(key));
    }

    fn is_nobody(&self) -> bool {
        self.keys.is_empty() && !self.connection && self.spawned.is_empty()
    }
}

impl<S: Service> std::fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may be locked by whoever wants to see it.
        let ready = self.ready.try_lock().ok();
        let keys = ready.as_ref().map(|ready| &ready.keys);
        f.debug_struct("Shared").field("keys", &keys).finish_non_exhaustive()
    }
}

impl<S: Service> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Ready<S>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Ready<S>)) {
        let mut ready = self.lock();
        change(&mut ready);
        let asleep = !ready.running;
        drop(ready);
        if asleep {
            self.task.wake();
        }
    }

    fn add(&self, job: Job<S>) {
        let mut job = Some(job);
        self.change(|ready| {
            if !ready.closed {
                ready.spawned.extend(job.take());
            }
        });
        // One that came too late is dropped only here: it may wake somebody, which takes the lock.
        drop(job);
    }
}

/// Woken by a room, all its readers on this connection at once.
impl<S: Service> Wakers for Shared<S> {
    fn wake(&self, readers: &[usize]) {
        self.change(|ready| readers.iter().for_each(|key| ready.add(*key)));
    }
}

impl<S: Service> Tasks for Shared<S> {
    fn spawn(&self, future: Spawned) {
        self.add(Job::Any(future));
    }
}

impl<S: Service> Answers<S> {
    /// Adds the answer to a request; it ends with the connection at the latest.
    pub(super) fn add(&self, answer: PendingResponse<S>) {
        self.0.add(Job::Answer(Box::new(answer)));
    }
}

/// Wakes one future of the task.
struct SlotWaker<S: Service> {
    key: usize,
    shared: Arc<Shared<S>>,
}

impl<S: Service> Wake for SlotWaker<S> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.change(|ready| ready.add(self.key));
    }
}

struct Slot<S: Service> {
    job: Job<S>,
    waker: Waker,
}

/// The futures of a connection's task, and which of them are ready.
pub(crate) struct Executor<S: Service> {
    shared: Arc<Shared<S>>,
    slots: Slab<Slot<S>>,
    connection_waker: Waker,
    /// Taken from the shared list; kept for its capacity.
    batch: Vec<usize>,
}

impl<S: Service> Executor<S> {
    pub(crate) fn new() -> Self {
        let shared = Arc::new(Shared { ready: Mutex::new(Ready::new()), task: AtomicWaker::new() });
        let connection_waker = slot_waker(CONNECTION, &shared);
        // The connection is polled first without anybody having woken it.
        connection_waker.wake_by_ref();
        Self { connection_waker, slots: Slab::new(), batch: Vec::new(), shared }
    }

    pub(crate) fn spawner(&self) -> Spawner {
        Spawner::new(self.shared.clone())
    }

    pub(super) fn answers(&self) -> Answers<S> {
        Answers(self.shared.clone())
    }

    /// Says that the task runs: whoever is woken from now on is seen before it sleeps.
    pub(super) fn begin(&mut self, cx: &Context<'_>) {
        self.shared.task.register(cx.waker());
        self.shared.lock().running = true;
    }

    /// Says that the task is about to sleep. False when there is something to do after all.
    pub(super) fn end(&mut self) -> bool {
        let mut ready = self.shared.lock();
        ready.running = false;
        ready.is_nobody()
    }

    /// Polls whoever is ready, once each, but for those whose turn would come after `until`. `connection` is
    /// polled with its own waker. `None` when nobody was ready.
    pub(super) fn poll_ready<T>(
        &mut self,
        until: Instant,
        connection: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Option<Poll<T>> {
        let mut ready = self.shared.lock();
        if ready.is_nobody() {
            return None;
        }
        ready.take(&mut self.batch);
        let spawned = std::mem::take(&mut ready.spawned);
        drop(ready);
        for job in spawned {
            let entry = self.slots.vacant_entry();
            let waker = slot_waker(entry.key(), &self.shared);
            self.batch.push(entry.key());
            entry.insert(Slot { job, waker });
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.touch(&batch);
        for start in (0..batch.len()).step_by(A_FEW) {
            if start > 0 && Instant::now() >= until {
                self.shared.lock().put_back(batch.drain(start..));
                break;
            }
            batch[start..].iter().take(A_FEW).for_each(|key| self.poll_slot(*key));
        }
        batch.clear();
        self.batch = batch;
        // The connection comes last: it sends what the streams have just written.
        if !std::mem::take(&mut self.shared.lock().connection) {
            return Some(Poll::Pending);
        }
        Some(connection(&mut Context::from_waker(&self.connection_waker)))
    }

    /// Whether there is no future, nor one to come.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.shared.lock().spawned.is_empty()
    }

    /// Makes the connection ready.
    pub(super) fn wake_connection(&self) {
        self.connection_waker.wake_by_ref();
    }

    /// Looks at what the streams are about to look at. They are cold by now, and a core fetches many
    /// lines at a time when nothing hangs on them, as taking a lock does.
    fn touch(&self, keys: &[usize]) {
        let touch = |key: &usize| match self.slots.get(*key) {
            Some(Slot { job: Job::Stream(sending), .. }) => sending.touch(),
            _ => 0,
        };
        std::hint::black_box(keys.iter().map(touch).fold(0, |all, it| all ^ it));
    }

    fn poll_slot(&mut self, key: usize) {
        // A waker may outlive its future.
        let Some(slot) = self.slots.get_mut(key) else { return };
        TaskId(key).begin();
        if slot.job.poll(&mut Context::from_waker(&slot.waker)).is_ready() {
            drop(self.slots.remove(key));
        }
    }
}

impl<S: Service> Drop for Executor<S> {
    /// Jobs hold spawners: those that never ran would keep themselves alive.
    fn drop(&mut self) {
        let mut ready = self.shared.lock();
        ready.closed = true;
        let spawned = std::mem::take(&mut ready.spawned);
        drop(ready);
        drop(spawned);
    }
}

fn slot_waker<S: Service>(key: usize, shared: &Arc<Shared<S>>) -> Waker {
    Waker::from(Arc::new(SlotWaker { key, shared: shared.clone() }))
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use super::*;
    use crate::transport::service::tests::Silent;

    fn later() -> Instant {
        Instant::now() + std::time::Duration::from_secs(60)
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn run(tasks: &mut Executor<Silent>) -> usize {
        let mut rounds = 0;
        while tasks.poll_ready(later(), |_| Poll::<()>::Pending).is_some() {
            rounds += 1;
            assert!(rounds < 1000, "never at rest");
        }
        rounds
    }

    #[test]
    fn a_future_is_polled_when_it_is_woken_and_only_then() {
        let mut tasks = Executor::new();
        tasks.begin(&context());
        let (polls, waker) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicWaker::new()));
        let (counted, registered) = (polls.clone(), waker.clone());
        tasks.spawner().spawn(poll_fn(move |cx| {
            registered.register(cx.waker());
            if counted.fetch_add(1, Ordering::Relaxed) == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        run(&mut tasks);
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        assert!(tasks.end());
        for expected in [2, 3, 3] {
            tasks.begin(&context());
            waker.wake();
            run(&mut tasks);
            assert_eq!(polls.load(Ordering::Relaxed), expected);
        }
        assert!(tasks.slots.is_empty());
    }

    #[test]
    fn a_wake_up_while_it_runs_is_not_lost_and_wakes_nobody() {
        let mut tasks = Executor::new();
        tasks.begin(&context());
        run(&mut tasks);
        tasks.wake_connection();
        assert!(!tasks.end(), "something is ready");
        let polled = tasks.poll_ready(later(), |_| Poll::Ready(7));
        assert!(polled.is_some_and(|polled| polled.is_ready()));
    }

    #[test]
    fn those_who_did_not_have_their_turn_are_the_first_next_time() {
        const ALL: usize = 3 * A_FEW;
        let mut tasks = Executor::<Silent>::new();
        tasks.begin(&context());
        let polled = Arc::new(Mutex::new(Vec::new()));
        for number in 0..ALL {
            let polled = polled.clone();
            tasks.spawner().spawn(poll_fn(move |cx| {
                polled.lock().unwrap().push(number);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
        }
        for _ in 0..6 {
            let over = Instant::now();
            assert!(tasks.poll_ready(over, |_| Poll::<()>::Pending).is_some());
        }
        let expected: Vec<_> = (0..ALL).chain(0..ALL).collect();
        assert_eq!(*polled.lock().unwrap(), expected, "each in turn");
    }

    #[test]
    fn a_future_that_comes_too_late_may_wake_others_when_it_is_dropped() {
        struct Wakes(Waker);
        impl Drop for Wakes {
            fn drop(&mut self) {
                self.0.wake_by_ref();
            }
        }
        let tasks = Executor::<Silent>::new();
        let (spawner, wakes) = (tasks.spawner(), Wakes(tasks.connection_waker.clone()));
        drop(tasks);
        spawner.spawn(async move {
            let _wakes = wakes;
            std::future::pending::<()>().await;
        });
    }

    #[test]
    fn futures_may_spawn_futures() {
        let mut tasks = Executor::<Silent>::new();
        tasks.begin(&context());
        let spawner = tasks.spawner();
        let ran = Arc::new(AtomicBool::new(false));
        let inner = ran.clone();
        tasks.spawner().spawn(async move {
            spawner.spawn(async move { inner.store(true, Ordering::Relaxed) });
        });
        run(&mut tasks);
        assert!(ran.load(Ordering::Relaxed));
    }
}
