//! What clients have sent and the log does not have yet: counted for each connection, each address and the
//! replica, and bounded for each of them.
//!
//! Whoever is below their share of a bound is always served: when the replica, or an address, is full, those
//! who have more than a fair part give up the streams that hold most, and of those that hold as much the ones whose
//! messages have been waiting for the longest.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::session::Unstored;

/// What a stream may always hold: small messages get through whatever else is held up.
pub(super) const RESERVE: usize = 2 * 1024;

/// From here on streams of a connection that have something under way are not read.
const BUSY: usize = 1024 * 1024;

/// How many large messages are received at a time, on this replica and from one address. Those that get no place
/// wait in their streams' windows.
const LARGE: usize = 32;
const LARGE_OF_ADDRESS: usize = 8;

/// The most bytes that are received and not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntakeLimits {
    /// On this replica.
    pub replica: usize,
    /// From one address.
    pub peer: usize,
    /// On one connection.
    pub connection: usize,
}

/// The replica's.
#[derive(Debug)]
pub(super) struct Total {
    limits: IntakeLimits,
    bytes: AtomicUsize,
    addresses: AtomicUsize,
    large: Arc<Semaphore>,
}

/// One address's.
#[derive(Debug)]
pub(super) struct OfAddress {
    bytes: AtomicUsize,
    connections: AtomicUsize,
    large: Arc<Semaphore>,
    total: Arc<Total>,
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Intake {
    bytes: AtomicUsize,
    /// What streams hold that are given up and do not know it yet.
    leaving: AtomicUsize,
    address: Arc<OfAddress>,
    unread: Mutex<Unread>,
}

/// Streams that hold more than the reserve, by when they began to.
#[derive(Debug, Default)]
struct Unread {
    streams: BTreeMap<u64, Arc<Ticket>>,
    next: u64,
}

/// One of them.
#[derive(Debug)]
struct Ticket {
    bytes: AtomicUsize,
    given_up: AtomicBool,
    stream: Waker,
}

/// A place among the large messages that are received, or the way to one.
#[derive(Debug)]
pub(super) struct Place {
    /// Those of its address, then all: who waits for the former keeps none of the latter from others.
    places: [PollSemaphore; 2],
    had: Vec<OwnedSemaphorePermit>,
}

/// The place of a stream among those that hold more than the reserve. Given back when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    intake: Arc<Intake>,
    number: u64,
    ticket: Arc<Ticket>,
}

impl Total {
    pub(super) fn new(limits: IntakeLimits) -> Arc<Self> {
        let (bytes, addresses) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { limits, bytes, addresses, large: Arc::new(Semaphore::new(LARGE)) })
    }
}

impl OfAddress {
    pub(super) fn new(total: &Arc<Total>) -> Arc<Self> {
        total.addresses.fetch_add(1, Relaxed);
        let (bytes, connections) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let large = Arc::new(Semaphore::new(LARGE_OF_ADDRESS));
        Arc::new(Self { bytes, connections, large, total: total.clone() })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        self.total.addresses.fetch_sub(1, Relaxed);
    }
}

impl Intake {
    /// That of a new connection.
    pub(super) fn new(address: Arc<OfAddress>) -> Arc<Self> {
        address.connections.fetch_add(1, Relaxed);
        let (bytes, leaving) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { bytes, leaving, address, unread: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to a place for a large message.
    pub(super) fn place(&self) -> Place {
        let places = [&self.address.large, &self.address.total.large];
        Place { places: places.map(|it| PollSemaphore::new(it.clone())), had: Vec::new() }
    }

    /// What is counted of this connection.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Whether this connection has to give something up: a bound is passed, and not by others alone.
    pub(super) fn is_over(&self) -> bool {
        let (address, total) = (&*self.address, &*self.address.total);
        let limits = total.limits;
        let leaving = self.leaving.load(Relaxed);
        let held = |bytes: &AtomicUsize| bytes.load(Relaxed).saturating_sub(leaving);
        let own = held(&self.bytes);
        if own > limits.connection {
            return true;
        }
        let share = limits.replica / total.addresses.load(Relaxed).max(1);
        let replica_is_full = held(&total.bytes) > limits.replica;
        let of_address = if replica_is_full { share.min(limits.peer) } else { limits.peer };
        held(&address.bytes) > of_address
            && own > of_address / address.connections.load(Relaxed).max(1)
    }

    /// Gives up streams, those first that hold most, until this connection may keep the rest.
    pub(super) fn relieve(&self) {
        while self.is_over() {
            let Some(ticket) = self.lock().pop_largest() else { return };
            self.leaving.fetch_add(ticket.bytes.load(Relaxed), Relaxed);
            ticket.given_up.store(true, Relaxed);
            ticket.stream.wake_by_ref();
        }
    }
}

impl Unread {
    /// The one that holds most; the oldest of those that hold as much, to a power of two.
    fn pop_largest(&mut self) -> Option<Arc<Ticket>> {
        let size = |ticket: &Ticket| ticket.bytes.load(Relaxed).checked_ilog2();
        let largest = self.streams.iter().max_by_key(|(number, it)| (size(it), Reverse(**number)));
        let number = *largest?.0;
        self.streams.remove(&number)
    }
}

impl Unstored for Intake {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.address.bytes.fetch_add(bytes, Relaxed);
        self.address.total.bytes.fetch_add(bytes, Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.address.bytes.fetch_sub(bytes, Relaxed);
        self.address.total.bytes.fetch_sub(bytes, Relaxed);
    }

    fn is_busy(&self) -> bool {
        self.bytes.load(Relaxed) > BUSY
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.address.connections.fetch_sub(1, Relaxed);
    }
}

impl Place {
    /// Ready when it is had, and from then on.
    pub(super) fn poll_had(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(places) = self.places.get_mut(self.had.len()) {
            // They are never closed.
            self.had.extend(ready!(places.poll_acquire(cx)));
        }
        Poll::Ready(())
    }
}

impl Waiting {
    /// The last one in the queue, of a stream that holds so much and is woken when it is given up.
    pub(super) fn new(intake: &Arc<Intake>, bytes: usize, stream: Waker) -> Self {
        let (bytes, given_up) = (AtomicUsize::new(bytes), AtomicBool::new(false));
        let ticket = Arc::new(Ticket { bytes, given_up, stream });
        let mut unread = intake.lock();
        let number = unread.next;
        unread.next += 1;
        unread.streams.insert(number, ticket.clone());
        drop(unread);
        Self { intake: intake.clone(), number, ticket }
    }

    /// The stream has got on: it goes to the end of the queue.
    pub(super) fn renewed(self, bytes: usize) -> Self {
        Self::new(&self.intake, bytes, self.ticket.stream.clone())
    }

    /// The stream holds so much by now.
    pub(super) fn holds(&self, bytes: usize) {
        if !self.is_given_up() {
            self.ticket.bytes.store(bytes, Relaxed);
        }
    }

    /// Whether the stream has to go.
    pub(super) fn is_given_up(&self) -> bool {
        self.ticket.given_up.load(Relaxed)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.intake.lock().streams.remove(&self.number).is_none() {
            self.intake.leaving.fetch_sub(self.ticket.bytes.load(Relaxed), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: IntakeLimits = IntakeLimits { replica: 1000, peer: 600, connection: 300 };

    fn waiting(intake: &Arc<Intake>, bytes: usize) -> Waiting {
        intake.add(bytes);
        Waiting::new(intake, bytes, Waker::noop().clone())
    }

    #[test]
    fn a_connection_gives_up_what_waited_for_the_longest() {
        let intake = Intake::new(OfAddress::new(&Total::new(LIMITS)));
        let (first, second) = (waiting(&intake, 150), waiting(&intake, 150));
        let first = first.renewed(150);
        intake.relieve();
        assert!(!intake.is_over() && !first.is_given_up() && !second.is_given_up());
        intake.add(1);
        assert!(intake.is_over());
        intake.relieve();
        assert!(second.is_given_up() && !first.is_given_up(), "only as much as it takes");
        assert!(!intake.is_over(), "what is about to go is not counted");
        intake.sub(150);
        drop(second);
        assert!(!intake.is_over());
        intake.add(149);
        assert!(!intake.is_over());
        intake.add(1);
        assert!(intake.is_over());
    }

    #[test]
    fn who_holds_most_goes_first() {
        let intake = Intake::new(OfAddress::new(&Total::new(LIMITS)));
        let held = [10, 200, 80].map(|bytes| waiting(&intake, bytes));
        intake.add(50);
        intake.relieve();
        assert_eq!(held.map(|it| it.is_given_up()), [false, true, false]);
    }

    #[test]
    fn a_full_address_serves_its_other_connections() {
        let address = OfAddress::new(&Total::new(LIMITS));
        let greedy = [(); 3].map(|()| Intake::new(address.clone()));
        for it in &greedy {
            it.add(210);
        }
        assert!(greedy[0].is_over());
        let modest = Intake::new(address);
        modest.add(150);
        assert!(!modest.is_over(), "a quarter is its share");
        modest.add(1);
        assert!(modest.is_over());
    }

    #[test]
    fn a_full_replica_serves_other_addresses() {
        let total = Total::new(LIMITS);
        let greedy = [(); 2].map(|()| Intake::new(OfAddress::new(&total)));
        for it in &greedy {
            it.add(300);
        }
        let more = [0, 1].map(|it| Intake::new(greedy[it].address.clone()));
        for it in &more {
            it.add(260);
        }
        assert!(greedy.iter().chain(&more).all(|it| it.is_over()), "the replica is full");
        let modest = Intake::new(OfAddress::new(&total));
        modest.add(300);
        assert!(!modest.is_over(), "a third is its share");
        drop((greedy, more));
    }

    #[test]
    fn whoever_leaves_leaves_nothing_behind() {
        let total = Total::new(LIMITS);
        {
            let intake = Intake::new(OfAddress::new(&total));
            let held = waiting(&intake, 400);
            intake.relieve();
            assert!(held.is_given_up());
            intake.sub(400);
            drop(held);
            assert_eq!(intake.leaving.load(Relaxed), 0);
            assert!(intake.lock().streams.is_empty());
        }
        assert_eq!((total.bytes.load(Relaxed), total.addresses.load(Relaxed)), (0, 0));
    }

    #[test]
    fn an_address_has_only_some_of_the_places_for_large_messages() {
        let total = Total::new(LIMITS);
        let addresses = [(); 4].map(|()| Intake::new(OfAddress::new(&total)));
        let mut cx = Context::from_waker(Waker::noop());
        let mut had = vec![];
        let mut take = |intake: &Arc<Intake>| {
            let mut place = intake.place();
            let is_had = place.poll_had(&mut cx).is_ready();
            had.push(place);
            is_had
        };
        for _ in 0..LARGE_OF_ADDRESS {
            assert!(take(&addresses[0]));
        }
        for _ in 0..LARGE {
            assert!(!take(&addresses[0]), "others wait");
        }
        for address in &addresses[1..] {
            assert!(take(address), "and keep none from another address");
        }
        had.remove(0);
        assert!(had[LARGE_OF_ADDRESS - 1].poll_had(&mut cx).is_ready(), "the next one's turn");
        assert!(had[LARGE_OF_ADDRESS].poll_had(&mut cx).is_pending());
    }
}
