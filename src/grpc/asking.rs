//! How much one address may ask of rooms and their logs beside its streams.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::room::{Bucket, Rate};

/// An answer of more bytes counts as often as this fits into it.
const PORTION: usize = 64 * 1024;

/// How many calls of one address, and of one connection, are worked on at a time. Others wait.
const OF_ADDRESS: usize = 16;
const OF_CONNECTION: usize = 4;

/// What one address asks.
#[derive(Debug)]
pub(super) struct OfAddress {
    allowance: Mutex<Bucket>,
    slots: Arc<Semaphore>,
}

/// What one connection asks.
#[derive(Debug)]
pub(super) struct Asking {
    address: Arc<OfAddress>,
    slots: Arc<Semaphore>,
}

/// A call that is worked on.
#[derive(Debug)]
pub(super) struct Call<'a> {
    address: &'a OfAddress,
    _slots: [Option<OwnedSemaphorePermit>; 2],
}

impl OfAddress {
    pub(super) fn new(rate: Rate) -> Arc<Self> {
        let allowance = Mutex::new(Bucket::full(rate, Instant::now()));
        Arc::new(Self { allowance, slots: Arc::new(Semaphore::new(OF_ADDRESS)) })
    }
}

impl Asking {
    pub(super) fn new(address: Arc<OfAddress>) -> Self {
        Self { address, slots: Arc::new(Semaphore::new(OF_CONNECTION)) }
    }

    /// Begins a call when its turn comes. An error tells when the address may ask again.
    pub(super) async fn begin(&self) -> Result<Call<'_>, Duration> {
        self.address.count(Bucket::take)?;
        // They are never closed.
        let own = self.slots.clone().acquire_owned().await.ok();
        let all = self.address.slots.clone().acquire_owned().await.ok();
        Ok(Call { address: &self.address, _slots: [own, all] })
    }
}

impl OfAddress {
    fn count<T>(&self, count: impl FnOnce(&mut Bucket, Instant) -> T) -> T {
        count(&mut self.allowance.lock().unwrap_or_else(PoisonError::into_inner), Instant::now())
    }
}

impl Call<'_> {
    /// Counts the answer, of so many bytes.
    pub(super) fn answered(self, bytes: usize) {
        let portions = u32::try_from(bytes / PORTION).unwrap_or(u32::MAX);
        self.address.count(|allowance, now| allowance.charge(portions, now));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_address_asks_so_often_and_so_much_and_so_many_at_a_time() {
        let rate = Rate { interval: Duration::from_secs(10), burst: 20 };
        let address = OfAddress::new(rate);
        let [one, other] = [(); 2].map(|()| Asking::new(address.clone()));
        let mut calls = vec![];
        for _ in 0..OF_CONNECTION {
            calls.push(one.begin().now_or_never().expect("at once").expect("the first"));
        }
        assert!(one.begin().now_or_never().is_none(), "it waits");
        calls.remove(0).answered(10 * PORTION);
        let next = other.begin().now_or_never().expect("at once");
        drop(next.expect("another connection"));
        while let Some(begun) = one.begin().now_or_never() {
            let Err(wait) = begun.map(drop) else { continue };
            assert!(wait > Duration::from_secs(5), "{wait:?}");
            return;
        }
        panic!("a slot is free");
    }
}
