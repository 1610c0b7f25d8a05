//! How much one address may ask of rooms and their logs beside its streams, and of what it has said before.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ADDRESSES;
use crate::{
    backplane::Unavailable,
    domain::Page,
    room::{Rate, RateLimiter, RateLimiters},
    session::Repeats,
};

/// An answer of more bytes counts as often as this fits into it.
const PORTION: usize = 64 * 1024;

/// How many calls of one address, and of one connection, are worked on at a time. Others wait.
const OF_ADDRESS: usize = 16;
const OF_CONNECTION: usize = 4;

/// How often one address, and one connection, may say what it has said before: sessions do so when they come back,
/// with what was under way, and thousands may share an address.
const REPEATS_OF_ADDRESS: Rate = Rate { interval: Duration::from_micros(200), burst: 32_768 };
const REPEATS_OF_CONNECTION: Rate = Rate { interval: Duration::from_millis(1), burst: 8192 };

/// A page that is read for a message that was said before counts as so many of them.
const PAGE: u32 = 16;

/// How often each address may still ask, whether or not it is there: coming again makes nobody faster.
#[derive(Debug)]
pub(super) struct Allowances(Mutex<RateLimiters<IpAddr>>);

/// What one address asks.
#[derive(Debug)]
pub(super) struct OfAddress {
    peer: IpAddr,
    allowances: Arc<Allowances>,
    repeats: Mutex<RateLimiter>,
    slots: Arc<Semaphore>,
}

/// What one connection asks.
#[derive(Debug)]
pub(super) struct Asking {
    address: Arc<OfAddress>,
    repeats: Mutex<RateLimiter>,
    slots: Arc<Semaphore>,
}

/// A call that is worked on, or whose answer is being sent.
#[derive(Debug)]
pub(super) struct Call {
    address: Arc<OfAddress>,
    _slots: [Option<OwnedSemaphorePermit>; 2],
}

impl Allowances {
    pub(super) fn new(rate: Rate) -> Arc<Self> {
        Arc::new(Self(Mutex::new(RateLimiters::new(rate, ADDRESSES))))
    }
}

impl OfAddress {
    pub(super) fn new(peer: IpAddr, allowances: &Arc<Allowances>) -> Arc<Self> {
        let (allowances, repeats) = (allowances.clone(), full(REPEATS_OF_ADDRESS));
        Arc::new(Self { peer, allowances, repeats, slots: Arc::new(Semaphore::new(OF_ADDRESS)) })
    }
}

impl Asking {
    pub(super) fn new(address: Arc<OfAddress>) -> Self {
        let repeats = full(REPEATS_OF_CONNECTION);
        Self { address, repeats, slots: Arc::new(Semaphore::new(OF_CONNECTION)) }
    }

    /// Begins a call when its turn comes. An error tells when the address may ask again.
    pub(super) async fn begin(&self) -> Result<Call, Duration> {
        let OfAddress { peer, allowances, .. } = &*self.address;
        count(&allowances.0, |all, now| all.take(*peer, now))?;
        Ok(Call { address: self.address.clone(), _slots: self.slots().await })
    }

    async fn slots(&self) -> [Option<OwnedSemaphorePermit>; 2] {
        // They are never closed.
        let own = self.slots.clone().acquire_owned().await.ok();
        [own, self.address.slots.clone().acquire_owned().await.ok()]
    }

    fn repeats(&self) -> [&Mutex<RateLimiter>; 2] {
        [&self.repeats, &self.address.repeats]
    }
}

impl Repeats for Asking {
    fn count(&self) -> Duration {
        let [own, all] = self.repeats().map(|it| count(it, RateLimiter::reserve));
        own.max(all)
    }

    fn read<'a>(
        &'a self,
        page: BoxFuture<'a, Result<Page, Unavailable>>,
    ) -> BoxFuture<'a, Result<Page, Unavailable>> {
        Box::pin(async move {
            for repeats in self.repeats() {
                count(repeats, |bucket, now| bucket.charge(PAGE, now));
            }
            let _slots = self.slots().await;
            page.await
        })
    }
}

fn full(rate: Rate) -> Mutex<RateLimiter> {
    Mutex::new(RateLimiter::full(rate, Instant::now()))
}

fn count<B, T>(bucket: &Mutex<B>, count: impl FnOnce(&mut B, Instant) -> T) -> T {
    count(&mut bucket.lock().unwrap_or_else(PoisonError::into_inner), Instant::now())
}

impl Call {
    /// Counts the answer, of so many bytes.
    pub(super) fn answered(&self, bytes: usize) {
        let portions = u32::try_from(bytes / PORTION).unwrap_or(u32::MAX);
        let OfAddress { peer, allowances, .. } = &*self.address;
        count(&allowances.0, |all, now| all.charge(*peer, portions, now));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn address(rate: Rate) -> Arc<OfAddress> {
        OfAddress::new(PEER, &Allowances::new(rate))
    }

    #[tokio::test]
    async fn an_address_asks_so_often_and_so_much_and_so_many_at_a_time() {
        let rate = Rate { interval: Duration::from_secs(10), burst: 20 };
        let address = address(rate);
        let [one, other] = [(); 2].map(|()| Asking::new(address.clone()));
        let mut calls = vec![];
        for _ in 0..OF_CONNECTION {
            calls.push(one.begin().now_or_never().expect("at once").expect("the first"));
        }
        assert!(one.begin().now_or_never().is_none(), "it waits");
        calls[0].answered(10 * PORTION);
        assert!(one.begin().now_or_never().is_none(), "until the answer is sent");
        calls.remove(0);
        let next = other.begin().now_or_never().expect("at once");
        drop(next.expect("another connection"));
        while let Some(begun) = one.begin().now_or_never() {
            let Err(wait) = begun.map(drop) else { continue };
            assert!(wait > Duration::from_secs(5), "{wait:?}");
            return;
        }
        panic!("a slot is free");
    }

    #[test]
    fn what_was_said_before_is_said_so_often() {
        let address = address(Rate { interval: Duration::ZERO, burst: 1 });
        let one = Asking::new(address.clone());
        let burst = REPEATS_OF_CONNECTION.burst;
        for _ in 0..burst {
            assert_eq!(one.count(), Duration::ZERO);
        }
        let began = Instant::now();
        let waits: Vec<_> = (0..burst).map(|_| one.count()).collect();
        let least = REPEATS_OF_CONNECTION.interval * burst / 2;
        let last = waits.last().expect("there are some");
        assert!(*last + began.elapsed() >= least, "each waits for those before it: {last:?}");
        let mut others = std::iter::repeat_with(|| Asking::new(address.clone()));
        let waits = others.find_map(|other| {
            let waits = (0..burst).map(|_| other.count()).find(|wait| !wait.is_zero());
            waits.filter(|wait| *wait < REPEATS_OF_CONNECTION.interval)
        });
        assert!(waits.is_some(), "the address has a bound of its own");
    }

    #[tokio::test]
    async fn logs_are_read_for_so_many_at_a_time() {
        let asking = Asking::new(address(Rate { interval: Duration::ZERO, burst: 1 }));
        let never = || Box::pin(std::future::pending());
        let mut reading: Vec<_> = (0..OF_CONNECTION).map(|_| asking.read(never())).collect();
        for read in &mut reading {
            assert!(read.now_or_never().is_none());
        }
        let at_once = || Box::pin(std::future::ready(Err(Unavailable)));
        let mut next = asking.read(at_once());
        assert!((&mut next).now_or_never().is_none(), "it waits");
        drop(reading.remove(0));
        assert!(next.now_or_never().is_some(), "it is its turn");
    }
}
